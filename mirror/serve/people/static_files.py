"""Style sheet, script and icons: small files of this package, at addresses with their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Final

import msgspec

_TYPES: Final = {
    "style.css": "text/css; charset=utf-8",
    "script.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "favicon.ico": "image/x-icon",
}
_DIGITS: Final = 16


class StaticFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is sent."""

    name: str
    body: bytes
    content_type: str
    digest: str

    @property
    def address(self) -> str:
        """Relative to the server's base address."""
        return f"-/static/{self.digest}/{self.name}"


def _load() -> Mapping[str, StaticFile]:
    folder = resources.files("mirror.serve.people") / "static"
    files = {}
    for name, content_type in _TYPES.items():
        body = (folder / name).read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:_DIGITS]
        files[name] = StaticFile(name=name, body=body, content_type=content_type, digest=digest)
    return files


STATIC_FILES: Final = _load()
