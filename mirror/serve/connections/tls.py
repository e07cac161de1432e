"""TLS: certificate and key, read again when their files change.

Invariant: a certificate that can't be read never replaces one that works.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from mirror.errors import ConfigError
from mirror.serve.access.watched import Watched


class Certificate:
    """The server's certificate with its key."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both files. Raises ``ConfigError``."""
        try:
            self._context = Watched(
                [certificate, key],
                lambda: _load(certificate, key),
                noun="certificate",
                words=_words,
            )
        except (OSError, ValueError) as exc:
            problem = f"{certificate} and {key} are no usable certificate and key: {_words(exc)}"
            raise ConfigError(where="serve.certificate", problem=problem) from exc

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        return self._context.current()

    def refresh(self, *, always: bool = False) -> None:
        """Read the files again where they changed; log an error and keep the old ones on
        failure.
        """
        self._context.refresh(always=always)


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    # Without a password callback OpenSSL would ask the terminal for one.
    context.load_cert_chain(certificate, key, password=lambda: "")
    return context


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)
