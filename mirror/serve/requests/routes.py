"""From an address to its route: a page, a file, health, metrics, or a redirect to the right
spelling. Pure.

The tree is not read here: the server finds out whether the file exists.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import msgspec

from mirror.core.names import ProjectName, Sha256, check_filename, check_sha256, normalize_project
from mirror.errors import UnsafeName
from mirror.serve.requests.negotiation import Form
from mirror.serve.requests.target import Target

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_METADATA: Final = ".metadata"
_PAGE_FILES: Final = {
    "index.html": Form.HTML,
    "index.v1_html": Form.HTML_V1,
    "index.v1_json": Form.JSON,
}
PAGE_FILES: Final = {form: name for name, form in _PAGE_FILES.items()}
"""The file of each form."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The root page or a project's."""

    place: tuple[str, ...]
    """Its directory below ``public``."""
    form: Form | None = None
    """Named by its file; else to be negotiated."""
    redirect: str | None = None
    """The right address, relative to the one that was asked for, where that is another spelling."""
    project: ProjectName | None = None
    """None for the root page."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A blob or its metadata."""

    sha256: Sha256
    filename: str
    """Of the blob."""
    is_metadata: bool

    @property
    def place(self) -> tuple[str, ...]:
        """Its path below ``public``."""
        name = f"{self.filename}{_METADATA}" if self.is_metadata else self.filename
        return ("files", self.sha256[:2], self.sha256[2:4], self.sha256, name)


class Live(msgspec.Struct, frozen=True):
    """``/-/health/live``."""


class Ready(msgspec.Struct, frozen=True):
    """``/-/health/ready``."""


class Numbers(msgspec.Struct, frozen=True):
    """``/metrics``."""


class PeopleView(Enum):
    """A page for people."""

    OVERVIEW = ""
    PROJECT = "projects"
    CHANGES = "changes"
    SNAPSHOTS = "snapshots"
    FAILURES = "failures"
    WANTS = "wants"
    SETUP = "setup"
    FEED = "changes.atom"


class Api(Enum):
    """An object of the API."""

    STATUS = "status"
    PROJECTS = "projects"
    PROJECT = "project"
    CHANGES = "changes"
    SCHEMA = "schema.json"


class ShownRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A page for people or an object of the API."""

    kind: PeopleView | Api
    project: ProjectName | None = None
    redirect: str | None = None
    """As of ``Page``."""


class Static(msgspec.Struct, frozen=True, kw_only=True):
    """A style sheet, script or icon of the pages for people."""

    name: str
    digest: str | None = None
    """As named in the address; None for the icon that browsers ask for by themselves."""


class ForeignApi(msgspec.Struct, frozen=True):
    """An address of another index's API: clients learn where to look here."""


class NoRoute(msgspec.Struct, frozen=True):
    """No address of the mirror."""


Route = Page | File | Live | Ready | Numbers | ShownRoute | Static | ForeignApi | NoRoute

_FIXED: Final[dict[tuple[str, ...], Route]] = {
    ("-", "health", "live"): Live(),
    ("-", "health", "ready"): Ready(),
    ("metrics",): Numbers(),
    ("favicon.ico",): Static(name="favicon.ico"),
    ("-", "changes.atom"): ShownRoute(kind=PeopleView.FEED),
    **{
        ("-", "api", "v1", kind.value): ShownRoute(kind=kind)
        for kind in (Api.STATUS, Api.PROJECTS, Api.CHANGES, Api.SCHEMA)
    },
}
_VIEWS: Final[dict[tuple[str, ...], PeopleView]] = {
    (view.value,): view
    for view in (
        PeopleView.CHANGES,
        PeopleView.SNAPSHOTS,
        PeopleView.FAILURES,
        PeopleView.WANTS,
        PeopleView.SETUP,
    )
}


def find_route(target: Target) -> Route:
    """Return the route of a target."""
    match target.segments:
        case ("simple", *rest):
            return _page((), rest, target)
        case ("files", *rest):
            return _file(rest, target)
        case ("snapshots" | "channels" as kind, name, "simple", *rest) if _NAME.fullmatch(name):
            return _page((kind, name), rest, target)
        case ("snapshots" | "channels", name, "files", *rest) if _NAME.fullmatch(name):
            return _file(rest, target)
        case ("projects", name):
            return _project(name, target)
        case ("-", "api", "v1", "projects", name) if not target.has_slash:
            return _project_object(name)
        case ("-", "static", digest, name) if not target.has_slash:
            return Static(name=name, digest=digest)
        case ("pypi", _, "json") | ("pypi", _, _, "json"):
            return ForeignApi()
        case ():
            return ShownRoute(kind=PeopleView.OVERVIEW)
    if (view := _VIEWS.get(target.segments)) is not None:
        return ShownRoute(kind=view, redirect=None if target.has_slash else f"{view.value}/")
    return NoRoute() if target.has_slash else _FIXED.get(target.segments, NoRoute())


def _page(scope: tuple[str, ...], rest: list[str], target: Target) -> Route:
    simple = (*scope, "simple")
    if rest and rest[-1] in _PAGE_FILES and not target.has_slash:
        page = _page(scope, rest[:-1], msgspec.structs.replace(target, has_slash=True))
        if not isinstance(page, Page) or page.redirect is not None:
            return NoRoute()
        return Page(place=page.place, form=_PAGE_FILES[rest[-1]], project=page.project)
    if not rest:
        return Page(place=simple, redirect=None if target.has_slash else "simple/")
    if len(rest) > 1:
        return NoRoute()
    try:
        name = normalize_project(rest[0])
    except UnsafeName:
        return NoRoute()
    redirect = _redirect(name, rest[0], has_slash=target.has_slash)
    return Page(place=(*simple, name), redirect=redirect, project=name)


def _redirect(name: ProjectName, asked: str, *, has_slash: bool) -> str | None:
    if not has_slash:
        return f"{name}/"
    return f"../{name}/" if name != asked else None


def _project(asked: str, target: Target) -> Route:
    try:
        name = normalize_project(asked)
    except UnsafeName:
        return NoRoute()
    redirect = _redirect(name, asked, has_slash=target.has_slash)
    return ShownRoute(kind=PeopleView.PROJECT, project=name, redirect=redirect)


def _project_object(asked: str) -> Route:
    try:
        name = normalize_project(asked)
    except UnsafeName:
        return NoRoute()
    return ShownRoute(kind=Api.PROJECT, project=name, redirect=name if name != asked else None)


def _file(rest: list[str], target: Target) -> Route:
    if len(rest) != 4 or target.has_slash:
        return NoRoute()
    outer, middle, digest, name = rest
    is_metadata = name.endswith(_METADATA)
    try:
        sha256 = check_sha256(digest)
        filename = check_filename(name.removesuffix(_METADATA))
    except (UnsafeName, ValueError):
        return NoRoute()
    if (outer, middle) != (sha256[:2], sha256[2:4]):
        return NoRoute()
    return File(sha256=sha256, filename=filename, is_metadata=is_metadata)
