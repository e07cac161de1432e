"""All communication with indexes; aiohttp's client is used here only, and its exceptions end here.

Read in this order: ``session`` (one index: redirects, credentials, limits), ``index`` (its pages),
``download`` (its files), ``credentials``. This package returns values of ``core.model`` and bytes,
and raises ``errors.UpstreamError``.
"""

import os
import sys

_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def _import_aiohttp() -> None:
    """Import aiohttp without the system's certificates, which it reads twice for contexts of its own: 45 ms.

    Nothing here uses those: each TLS connection gets a context of ``tls``.
    """
    given = {name: os.environ.get(name) for name in _AUTHORITIES}
    os.environ.update(dict.fromkeys(_AUTHORITIES, os.devnull))
    try:
        import aiohttp  # noqa: F401
    finally:
        for name, value in given.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


if "aiohttp" not in sys.modules:
    _import_aiohttp()
