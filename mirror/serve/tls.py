"""TLS: certificate and key, read again when their files change.

Invariant: a certificate that can't be read never replaces one that works.
"""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Final

from mirror.errors import ConfigError
from mirror.logs import get_logger

_LOOK_EVERY_S: Final = 1.0
_Signature = tuple[tuple[int, int, int], ...]

_log = get_logger(__name__)


class Certificate:
    """The server's certificate with its key."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both files. Raises ``ConfigError``."""
        self._certificate, self._key = certificate, key
        self._seen = self._signature()
        try:
            self._context = self._load()
        except (OSError, ssl.SSLError) as exc:
            problem = f"{certificate} and {key} are no usable certificate and key: {_words(exc)}"
            raise ConfigError(where="serve.certificate", problem=problem) from exc
        self._looked_s = time.monotonic()

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            self.refresh()
        return self._context

    def refresh(self) -> None:
        """Read the files again where they changed; log an error and keep the old ones on failure."""
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._context = self._load()
        except (OSError, ssl.SSLError) as exc:
            advice = "the old certificate stays in use"
            _log.error("certificate.refused", problem=_words(exc), advice=advice)
        else:
            _log.info("certificate.loaded")

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        # Without a password callback OpenSSL would ask the terminal for one.
        context.load_cert_chain(self._certificate, self._key, password=lambda: "")
        return context

    def _signature(self) -> _Signature:
        found = []
        for path in (self._certificate, self._key):
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)
