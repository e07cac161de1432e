"""Wishes on the near side: taken over from a file, judged by the roots that were read, looked at
where a person chose a name.

Invariants: judging makes no request; a page is asked for only of a chosen name that the last read
root of its owner lists and whose owner's patterns allow it; nothing becomes a want here.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mirror.config import Config, IndexConfig
from mirror.core.files.kept_links import masked_root
from mirror.core.files.upload_time import upload_seconds
from mirror.core.files.versions import group_versions, newest_version
from mirror.core.model import ListedFile, ProjectPage
from mirror.core.names import ProjectName
from mirror.core.policy import Selection, compile_selections
from mirror.core.times import utc_text
from mirror.errors import ConfigError, MirrorError
from mirror.holdings.opening import check_user
from mirror.holdings.wishes import (
    MAX_BYTES,
    WishFile,
    carried_wishes,
    parse_wishes,
    served_wishes,
)
from mirror.logs import redact
from mirror.state.listing.sources import SourceRow, load_sources
from mirror.state.missing.unserved import load_unserved
from mirror.state.readers.lookup import ProjectPart, load_address, load_project
from mirror.state.store import open_store_for_reading
from mirror.state.wants.needs import load_wants_by_project
from mirror.tree.layout import Layout
from mirror.wiring.questions import read_project_pages

YOUNG_S: Final = 30 * 86_400.0
"""A project whose first file is younger is marked."""


class TakenWishes(msgspec.Struct, frozen=True, kw_only=True):
    """Names of a file from beyond a gap, after they were added to the list."""

    new: tuple[ProjectName, ...]
    known: int
    no_room: tuple[ProjectName, ...]


class WishState(Enum):
    """The place of a name in the mirror."""

    LISTED = "listed"
    """The owner's root lists it; a want brings it."""
    COMING = "coming"
    """The same, and all of that index is mirrored: no want is needed."""
    HELD = "held"
    WANTED = "wanted"
    LEFT_OUT = "left-out"
    """The patterns of an index exclude it: whether its root lists it is not recorded."""
    UNREAD = "unread"
    """The root of an index that may own it was not read yet."""
    NOT_LISTED = "not-listed"


class PageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A chosen project as its page shows it now. ``since``: seconds since the epoch."""

    since: float | None
    """The upload of its first file; None where the index lists no upload times."""
    files: int
    newest: str | None
    status: str

    def is_young(self, now: float) -> bool | None:
        """Whether the project is younger than ``YOUNG_S``; None where that is not known."""
        return None if self.since is None else now - self.since < YOUNG_S


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One name that was asked for, as the state knows it."""

    project: ProjectName
    is_carried: bool
    """Whether it came from beyond a gap; else the mirror's own server recorded it."""
    state: WishState
    part: ProjectPart
    owner: str | None = None
    address: str | None = None
    """Where its owner has its page; None for the usual place."""
    wants: tuple[str, ...] = ()
    reason: str = ""
    """The rule that leaves it out, or the index whose root was not read."""


def read_list(path: Path) -> tuple[ProjectName, ...]:
    """Return the names of a file that a person names. Raises ``ConfigError``."""
    try:
        with path.open("rb") as file:
            return parse_wishes(file.read(MAX_BYTES + 1))
    except OSError as exc:
        raise ConfigError(where="--wishes", problem=f"{path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ConfigError(where="--wishes", problem=f"{path}: {exc}") from exc


async def take_wishes(config: Config, names: Sequence[ProjectName]) -> TakenWishes:
    """Add the names of a file from beyond a gap to the list for review.

    Raises ``TreeError``; ``StateError`` where there is no mirror.
    """
    await check_user(config.mirror)
    async with open_store_for_reading(config.mirror.state):
        pass  # a list in a folder that is not a mirror would have no reader
    file = WishFile(carried_wishes(Layout(config.mirror.root)))
    before = set(await anyio.to_thread.run_sync(file.load))
    no_room = await anyio.to_thread.run_sync(file.add, names)
    new = tuple(name for name in names if name not in before and name not in no_room)
    known = sum(name in before for name in names)
    return TakenWishes(new=new, known=known, no_room=no_room)


async def load_wishes(config: Config) -> list[Wish]:
    """Return all wishes, judged by the state; asks no index.

    Raises ``TreeError``, ``StateError``.
    """
    layout = Layout(config.mirror.root)
    carried = await anyio.to_thread.run_sync(WishFile(carried_wishes(layout)).load)
    served = await anyio.to_thread.run_sync(WishFile(served_wishes(layout)).load)
    names = tuple(dict.fromkeys((*carried, *served)))
    found = []
    async with open_store_for_reading(config.mirror.state) as store:
        sources, unserved = await load_sources(store), await load_unserved(store)
        wants = await load_wants_by_project(store, names)
        judge = _Judge(config, sources)
        for name in names:
            part = await load_project(store, sources, unserved, name)
            needing = tuple(dict.fromkeys((*wants.get(name, ()), *judge.wants_naming(name))))
            state, reason = judge.judge(name, part, needing)
            owner = part.owner
            wish = Wish(
                project=name,
                is_carried=name in carried,
                state=state,
                part=part,
                owner=owner,
                address=await load_address(store, owner, name) if owner else None,
                wants=needing,
                reason=reason,
            )
            found.append(wish)
    return found


class _Judge:
    """Judges names by the last read roots and by the configuration as it is now."""

    def __init__(self, config: Config, sources: Sequence[SourceRow]) -> None:
        selections = compile_selections([index.policy(config.limits) for index in config.indexes])
        self._config = config
        self._indexes = tuple(zip(config.indexes, selections, strict=True))
        urls = {source.name: source.url for source in sources if source.root_read is not None}
        self._naming: dict[str, list[str]] = {}
        for want in config.wants:
            for requirement in want.requirements:
                named = canonicalize_name(Requirement(requirement).name)
                self._naming.setdefault(named, []).append(want.name)
        self._unread = {i.name for i in config.indexes if urls.get(i.name) != _kept_url(i)}

    def wants_naming(self, name: ProjectName) -> Sequence[str]:
        """Return the wants of the configuration whose requirements name a project."""
        return self._naming.get(name, ())

    def judge(
        self, name: ProjectName, part: ProjectPart, wants: Collection[str]
    ) -> tuple[WishState, str]:
        """Return the state of a name, and the reason where there is one."""
        if part.held:
            return WishState.HELD, ""
        if wants:
            return WishState.WANTED, ""
        allowing = [(i, s) for i, s in self._indexes if s.wants_project(name)]
        for index, _ in allowing:
            if index.name in self._unread:
                return WishState.UNREAD, index.name
            if index.name == part.owner:
                is_needed = self._config.selects_needed(index)
                return (WishState.LISTED if is_needed else WishState.COMING), ""
        excluding = [(i, s) for i, s in self._indexes if not s.wants_project(name)]
        if excluding:
            return WishState.LEFT_OUT, _rules(excluding, name)
        return WishState.NOT_LISTED, ""


def _rules(excluding: Sequence[tuple[IndexConfig, Selection]], name: ProjectName) -> str:
    return ", ".join(f"{s.rule_against_project(name)} of {i.name}" for i, s in excluding)


def _kept_url(index: IndexConfig) -> str:
    return masked_root(index.url) if index.has_secret_url else index.url


async def read_wished_pages(
    config: Config, chosen: Sequence[Wish], env: Mapping[str, str]
) -> dict[ProjectName, PageFacts | MirrorError]:
    """Ask for the pages of chosen names; those that no root lists are passed over."""
    asked: dict[str, dict[ProjectName, str | None]] = {}
    for wish in chosen:
        if wish.state in {WishState.LISTED, WishState.COMING} and wish.owner is not None:
            asked.setdefault(wish.owner, {})[wish.project] = wish.address
    pages = await read_project_pages(config, asked, env) if asked else {}
    return {
        name: page if isinstance(page, MirrorError) else _facts(page)
        for name, page in pages.items()
    }


def _facts(page: ProjectPage) -> PageFacts:
    uploads = [upload_seconds(file.labels.upload_time) for file in page.files]
    named = ((file.filename, _is_yanked(file)) for file in page.files)
    newest = newest_version(group_versions(named))
    return PageFacts(
        since=min((at for at in uploads if at is not None), default=None),
        files=len(page.files),
        newest=newest.version if newest is not None else None,
        status=page.meta.status,
    )


def _is_yanked(file: ListedFile) -> bool:
    return file.labels.yanked is not None


async def forget_wishes(config: Config, names: Collection[ProjectName]) -> tuple[ProjectName, ...]:
    """Remove names from both lists; return those that stood there. Raises ``TreeError``."""
    await check_user(config.mirror)
    layout = Layout(config.mirror.root)
    gone: dict[ProjectName, None] = {}
    for path in (carried_wishes(layout), served_wishes(layout)):
        dropped = await anyio.to_thread.run_sync(WishFile(path).drop, set(names).__contains__)
        gone |= dict.fromkeys(dropped)
    return tuple(gone)


def wish_object(
    wish: Wish, page: PageFacts | MirrorError | None, *, now: float | None = None
) -> dict[str, Any]:
    """Return the object of ``mirror want review --json``."""
    shown: dict[str, Any] = {
        "project": wish.project,
        "from": "carried" if wish.is_carried else "served",
        "state": wish.state.value,
        "reason": wish.reason or None,
        "indexes": [
            {"name": one.index, "lists": one.lists, "owns": one.owns} for one in wish.part.indexes
        ],
        "wants": list(wish.wants),
        "page": None,
        "problem": redact(str(page)) if isinstance(page, MirrorError) else None,
    }
    if isinstance(page, PageFacts):
        shown["page"] = {
            "since": None if page.since is None else utc_text(page.since),
            "young": page.is_young(time.time() if now is None else now),
            "files": page.files,
            "newest": page.newest,
            "status": page.status,
        }
    return shown
