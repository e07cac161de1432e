"""The pages and files that an object store has, read for upkeep. Blocking; raises ``TreeError``.

Never in a cycle: a listing costs a request for each thousand objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from mirror.core.model import ProjectPage
from mirror.core.names import ProjectName, normalize_project
from mirror.core.pages import parse_json
from mirror.errors import BadPage, UnsafeName
from mirror.tree.checking.unknown import Unknown
from mirror.tree.objects.client import ObjectClient, StoredObject
from mirror.tree.objects.keys import page_keys, snapshot_keys

_BASE: Final = "https://tree.invalid/simple/"
"""Only to resolve relative links; never requested."""
_PAGE: Final = re.compile(r"simple(?:-json)?/(?:([^/]+)/)?index\.html")
_BLOB: Final = re.compile(r"files/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{64})/([^/]+)")
OUTERS: Final = tuple(f"{number:02x}" for number in range(256))
"""The first two digits of each blob."""


class PageListing(msgspec.Struct, kw_only=True):
    """The keys of the live pages with their ETags, and the keys that are none of a page."""

    tags: dict[str, str] = {}
    projects: set[ProjectName] = set()
    foreign: list[str] = []


def list_pages(client: ObjectClient) -> PageListing:
    """Return the live pages."""
    found = PageListing()
    for part in ("simple", "simple-json"):
        for item in client.list_objects(part):
            match = _PAGE.fullmatch(item.key)
            name = None if match is None or match[1] is None else _project(match[1])
            if match is None or (match[1] is not None and name is None):
                found.foreign.append(item.key)
                continue
            found.tags[item.key] = item.etag
            if name is not None:
                found.projects.add(name)
    return found


def list_files(client: ObjectClient, outer: str) -> Mapping[str, StoredObject]:
    """Return the objects below ``files/<outer>`` by key."""
    return {item.key: item for item in client.list_objects(f"files/{outer}")}


def unknown_of(item: StoredObject) -> Unknown:
    """Return a file as a scan of a disk has it."""
    match = _BLOB.fullmatch(item.key)
    is_placed = match is not None and match[3].startswith(match[1] + match[2])
    return Unknown(
        path=item.key,
        name=item.key.rpartition("/")[2],
        sha256=match[3] if match is not None and is_placed else "",
        is_directory=False,
        size=item.size,
    )


def read_stored_page(client: ObjectClient, name: ProjectName) -> tuple[ProjectPage, bool] | None:
    """Return a project's page, and whether this version's rules wrote it; None where it is missing
    or can't be read.
    """
    html, json = (client.get(key) for key in page_keys(name))
    if html is None or json is None:
        return None
    page = parse_forms(name, html[0], json[0])
    return None if page is None else (page, b"data-dist-info-metadata" not in html[0])


def parse_forms(name: ProjectName, html: bytes, json: bytes) -> ProjectPage | None:
    """Return a project's page from the form that can be read, with the links of a live page."""
    from mirror.core.pages import parse_html  # its parser takes 0.02 s to import

    url = f"{_BASE}{name}/"
    for parse, body in ((parse_json, json), (parse_html, html)):
        try:
            page: ProjectPage = parse.parse_project_page(body, project=name, url=url)
        except BadPage:
            continue
        return page
    return None


def list_stored_snapshots(client: ObjectClient) -> list[str]:
    """Return the snapshots that have a root page, by name."""
    prefixes, _ = client.list_names("snapshots")
    names = sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in prefixes)
    return [name for name in names if client.head(snapshot_keys(name, None)[0]) is not None]


def iter_snapshot_projects(client: ObjectClient, snapshot: str) -> Iterator[ProjectName]:
    """Yield the projects of a snapshot."""
    start = f"snapshots/{snapshot}/simple/"
    for item in client.list_objects(start.rstrip("/")):
        rest = item.key.removeprefix(start).split("/")
        name = _project(rest[0]) if len(rest) == 2 and rest[1] == "index.html" else None
        if name is not None:
            yield name


def _project(text: str) -> ProjectName | None:
    try:
        name = normalize_project(text)
    except UnsafeName:
        return None
    return name if name == text else None
