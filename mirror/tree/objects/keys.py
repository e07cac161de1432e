"""The keys of a tree's objects below its prefix, and the headers of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mirror.core.names import ProjectName, Sha256
from mirror.tree.layout import METADATA_ENDING

LOCK: Final = ".lock"
PROBE: Final = ".probe"
ROOT_HTML: Final = "simple/index.html"
ROOT_JSON: Final = "simple-json/index.html"

PAGE_CACHING: Final = "max-age=600"
HTML_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": PAGE_CACHING,
}
JSON_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "application/vnd.pypi.simple.v1+json",
    "Cache-Control": PAGE_CACHING,
}
FILE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "application/octet-stream",
    "Cache-Control": "max-age=31536000, immutable",
}
CHANNEL_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "no-cache",
}


def blob_key(sha256: Sha256, filename: str) -> str:
    """Return the key of a blob."""
    return f"files/{sha256[:2]}/{sha256[2:4]}/{sha256}/{filename}"


def sidecar_key(sha256: Sha256, filename: str) -> str:
    """Return the key of a blob's core metadata."""
    return blob_key(sha256, filename) + METADATA_ENDING


def page_keys(name: ProjectName) -> tuple[str, str]:
    """Return the keys of a project's HTML and JSON pages."""
    return f"simple/{name}/index.html", f"simple-json/{name}/index.html"


def snapshot_keys(snapshot: str, name: ProjectName | None) -> tuple[str, str]:
    """Return the keys of a project's page in a snapshot, or of its root page: HTML and JSON."""
    start, end = f"snapshots/{snapshot}", f"{name}/index.html" if name else "index.html"
    return f"{start}/simple/{end}", f"{start}/simple-json/{end}"
