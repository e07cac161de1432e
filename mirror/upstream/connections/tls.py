"""TLS contexts: the system's authorities or those that variables name, the index's ``ca-file``, a
client certificate.

Invariant: certificates are always verified; the client certificate is shown to the index's own
origin only.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from mirror.config import IndexConfig
from mirror.errors import ConfigError

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "REQUESTS_CA_BUNDLE")
"""Files or folders of authorities that are trusted instead of the system's; all that are set
count.
"""


def create_tls_context(
    index: IndexConfig, *, env: Mapping[str, str], is_own: bool
) -> ssl.SSLContext:
    """Return the context for the index's own origin, or for foreign ones; blocking (it reads
    files).

    Raises ``ConfigError`` that names the key or variable whose file can't be used.
    """
    context = _with_authorities(env)
    where = f"index {index.name!r}"
    if index.ca_file is not None:
        # In addition to the usual ones: the index may be signed privately while its object store is
        # not.
        try:
            context.load_verify_locations(cafile=str(index.ca_file))
        except (OSError, ssl.SSLError) as exc:
            _refuse(f"{where}: ca-file", index.ca_file, exc)
    if is_own and index.client_cert is not None:
        try:
            # Without a callback OpenSSL would ask for the key's passphrase on the terminal.
            context.load_cert_chain(index.client_cert, index.client_key, password=lambda: "")
        except (OSError, ssl.SSLError) as exc:
            _refuse(f"{where}: client-cert, client-key", index.client_cert, exc)
    return context


def _with_authorities(env: Mapping[str, str]) -> ssl.SSLContext:
    named = [(name, path) for name in _VARIABLES if (path := env.get(name))]
    context: ssl.SSLContext | None = None
    for name, path in named:
        file, folder = (None, path) if Path(path).is_dir() else (path, None)
        try:
            if context is None:
                context = ssl.create_default_context(cafile=file, capath=folder)
            else:
                context.load_verify_locations(cafile=file, capath=folder)
        except (OSError, ssl.SSLError) as exc:
            _refuse(f"${name}", path, exc)
    return context or ssl.create_default_context()


def _refuse(where: str, path: str | Path | None, exc: OSError) -> NoReturn:
    cause = exc.reason if isinstance(exc, ssl.SSLError) else exc.strerror
    raise ConfigError(
        where=where,
        problem=f"{path} can't be used: {cause or 'not a certificate or key in PEM form'}",
    )
