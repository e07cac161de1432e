"""What a mirror must publish after each cycle: the rules of removal, ownership and brake, and nothing else.

Written from the design, sharing no code with the program: no database, no validators, no order of writes. A cycle of the
model looks at everything; that the program looks at less must make no difference. Where the design leaves open in which
of two cycles something happens, ``Model.cycle`` is given the choice (``late``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

DAY_S = 86_400.0
FEW_FILES = 5


@dataclass(frozen=True)
class Offer:
    """A file as an index lists it. ``fault``: the reason why it can't be had."""

    sha256: str
    yanked: bool
    fault: str | None = None


@dataclass(frozen=True)
class Page:
    """What a look at a project's page gives. ``failure``: the reason why there was none."""

    files: Mapping[str, Offer] = field(default_factory=dict)
    withdrawn: bool = False
    failure: str | None = None


@dataclass(frozen=True)
class World:
    """One index as it answers during a cycle, and how it is configured. ``listed`` is None where the root can't be had."""

    listed: frozenset[str] | None
    pages: Mapping[str, Page]
    overlay: bool = False
    exclude_files: tuple[str, ...] = ()
    exclude_projects: tuple[str, ...] = ()


@dataclass
class Held:
    """A published file."""

    sha256: str
    yanked: bool
    opened: int
    absent: int | None = None


@dataclass
class Listing:
    """What the last good looks at the root said of a project."""

    listed: bool = True
    wanted: bool = True
    absent: int | None = None
    is_read: bool = False
    """Its page was read."""
    withdrawn: bool = False
    claims: frozenset[str] = frozenset()
    """The filenames on its page when it was read last."""


@dataclass
class Index:
    """The mirror's knowledge of one index."""

    root_read: tuple[str, ...] | None = None
    """The projects that were left out when its root was read last: with other patterns it is not known what it owns."""
    projects: dict[str, Listing] = field(default_factory=dict)
    held: dict[str, dict[str, Held]] = field(default_factory=dict)
    ledger: dict[tuple[str, str], str] = field(default_factory=dict)
    past: list[tuple[str, str, int, int]] = field(default_factory=list)
    """What was published and is no more: project, filename, first cycle, cycle in which it left."""
    braked: bool = False
    lifted: int = 0
    """The last cycle that looked at it with the brake lifted."""


Candidates = dict[str, set[str]]


class Model:
    """A mirror of some indexes, in the order of the configuration."""

    def __init__(self, indexes: int, max_shrink: float) -> None:
        self.indexes = [Index() for _ in range(indexes)]
        self.max_shrink = max_shrink
        self.blobs: set[tuple[str, str]] = set()
        self.number = 0
        self.starts: list[float] = []
        """When each cycle was."""

    def published(self) -> set[tuple[int, str, str, str, bool]]:
        """Return (index, project, filename, sha256, yanked) of all that the pages list."""
        return {
            (i, project, name, held.sha256, held.yanked)
            for i, index in enumerate(self.indexes)
            for project, files in index.held.items()
            for name, held in files.items()
        }

    def cycle(  # noqa: PLR0912 - a cycle is told in one piece
        self, worlds: list[World], now: float, *, only: tuple[str, ...] = (), allow_shrink: bool = False, late: bool
    ) -> None:
        """Run one cycle. ``late``: files of another owner leave a cycle after the owner's page was read."""
        self.number += 1
        leaves: list[set[str]] = [set() for _ in worlds]
        removals: list[Candidates] = [{} for _ in worlds]
        read_before = [{p for p, row in index.projects.items() if row.is_read} for index in self.indexes]
        for i, world in enumerate(worlds):
            if not (only and world.listed):  # what a narrowed cycle does not look at may still be held back
                self.indexes[i].braked = False
            if world.listed:
                leaves[i] = self._look_at_root(i, world, only)
        unknown = (i for i in range(len(worlds)) if self._is_unknown(i, worlds[i], only))
        never_read = min(unknown, default=math.inf)
        for overlays in (False, True):
            for i, world in enumerate(worlds):
                if bool(world.overlay and i) is overlays and world.listed:
                    # A narrowed look at the root counts for nothing, but what it does not list is not asked for.
                    for project in sorted({*only} & {*world.listed} if only else self.indexes[i].projects):
                        if i <= never_read or self.indexes[i].held.get(project):
                            self._look_at_page(i, project, worlds, removals[i])
        if not only:
            self._find_displaced(worlds, removals, read_before if late else None)
        self._withdraw_overlays(worlds, removals)
        for i, world in enumerate(worlds):
            if world.listed and self._remove(i, removals[i], leaves[i], now, allow_shrink=allow_shrink):
                for later in range(i + 1, len(worlds)):
                    for project in sorted(leaves[i]):
                        if worlds[later].listed:
                            self._look_at_page(later, project, worlds, removals[later])
        self.starts.append(now)

    # -- looking ----------------------------------------------------------------------------------------------------

    def _look_at_root(self, i: int, world: World, only: tuple[str, ...]) -> set[str]:
        """Take a good root into account; return the projects that are to leave."""
        index = self.indexes[i]
        assert world.listed
        for project in world.listed:
            if project not in world.exclude_projects and (not only or project in only):
                row = index.projects.setdefault(project, Listing())
                row.listed, row.wanted, row.absent = True, True, None
        if only:
            for project in {*only} & {*world.exclude_projects} & {*index.projects}:
                if index.projects[project].listed:
                    index.projects[project].wanted, index.projects[project].absent = False, None
            return set()
        index.root_read = world.exclude_projects
        leaving = set()
        for project, row in index.projects.items():
            if not row.listed:
                continue
            row.wanted = project not in world.exclude_projects
            if not row.wanted:
                row.absent = None
                leaving.add(project)
            elif project not in world.listed:
                if row.absent is None:
                    row.absent = self.number
                else:
                    leaving.add(project)
        return leaving

    def _is_unknown(self, i: int, world: World, only: tuple[str, ...]) -> bool:
        """Whether nobody knows what an index owns; of some named projects, one look at its root tells."""
        return not (only and world.listed) and self.indexes[i].root_read != world.exclude_projects

    def _owns(self, i: int, project: str, worlds: list[World]) -> bool:
        row = self.indexes[i].projects.get(project)
        if row is None or not row.listed or not row.wanted or row.absent is not None:
            return False
        return bool(worlds[i].overlay) or not any(True for _ in self._owners(i, project))

    def is_displaced(self, i: int, project: str, worlds: list[World]) -> bool:
        """Whether an earlier index owns a project: what failed of it here is nobody's concern any more."""
        return not worlds[i].overlay and bool(self._owners(i, project))

    def _owners(self, i: int, project: str) -> list[Listing]:
        rows = [index.projects.get(project) for index in self.indexes[:i]]
        return [row for row in rows if row is not None and row.listed and row.wanted]

    def _look_at_page(self, i: int, project: str, worlds: list[World], removals: Candidates) -> None:
        index, world = self.indexes[i], worlds[i]
        if not self._owns(i, project, worlds) or project in world.exclude_projects:
            return
        page = world.pages[project]
        held = index.held.setdefault(project, {})
        row = index.projects[project]
        if page.failure is not None:
            index.ledger[(project, "")] = page.failure
            return
        self._forget_failures(i, project)
        row.withdrawn = page.withdrawn
        if page.withdrawn:
            removals.setdefault(project, set()).update(held)
            return
        row.is_read, row.claims = True, frozenset(page.files)
        self._compare(i, project, worlds, removals)

    # The rules for one file stand together, as in the design.
    def _compare(self, i: int, project: str, worlds: list[World], removals: Candidates) -> None:  # noqa: PLR0912
        index, page, held = self.indexes[i], worlds[i].pages[project], self.indexes[i].held[project]
        claimed = self._claims(i, project) if worlds[i].overlay else set()
        unwanted = {n for n in {*page.files, *held} if self._is_out(i, project, n, worlds)} | claimed
        if worlds[i].overlay and any(row.withdrawn for row in self._owners(i, project)):
            removals.setdefault(project, set()).update(held)
            return
        for name, known in list(held.items()):
            if name in unwanted:
                removals.setdefault(project, set()).add(name)
            elif name in page.files:
                known.absent = None
            elif known.absent is None:
                known.absent = self.number
            else:
                removals.setdefault(project, set()).add(name)
        # Any filename may be the owner's as long as its page was never read.
        is_settled = not worlds[i].overlay or all(row.is_read or row.withdrawn for row in self._owners(i, project))
        for name, offer in page.files.items():
            if name in unwanted:
                continue
            known = held.get(name)
            if known is None and not is_settled:
                continue
            if known is not None and known.yanked != offer.yanked:
                known.yanked = offer.yanked
            if known is not None and known.sha256 == offer.sha256:
                continue
            if offer.fault is not None and (name, offer.sha256) not in self.blobs:
                index.ledger[(project, name)] = offer.fault
            else:
                self._open(i, project, name, offer)

    def _claims(self, i: int, project: str) -> set[str]:
        """Return the filenames that belong to the indexes before an overlay."""
        names: set[str] = set()
        for earlier in self.indexes[:i]:
            row = earlier.projects.get(project)
            if row is not None and row.listed and row.wanted:
                names |= {*earlier.held.get(project, ()), *row.claims}
        return names

    def _is_out(self, i: int, project: str, name: str, worlds: list[World]) -> bool:
        """Whether file patterns leave a name out: the index's own, and for an overlay those of the project's owners."""
        count = [worlds[i]]
        if worlds[i].overlay:
            rows = [index.projects.get(project) for index in self.indexes[:i]]
            count += [worlds[o] for o, row in enumerate(rows) if row is not None and row.listed and row.wanted]
        return any(fnmatchcase(name, pattern) for world in count for pattern in world.exclude_files)

    def _forget_failures(self, i: int, project: str) -> None:
        ledger = self.indexes[i].ledger
        for key in [k for k in ledger if k[0] == project]:
            del ledger[key]

    # -- removing ---------------------------------------------------------------------------------------------------

    def _find_displaced(
        self, worlds: list[World], removals: list[Candidates], read_before: list[set[str]] | None
    ) -> None:
        for i, index in enumerate(self.indexes):
            if worlds[i].overlay and i:
                continue
            for project, held in index.held.items():
                owners = [
                    o
                    for o, earlier in enumerate(self.indexes[:i])
                    if (row := earlier.projects.get(project)) and row.listed and row.wanted and row.is_read
                ]
                if held and any(read_before is None or project in read_before[o] for o in owners):
                    removals[i].setdefault(project, set()).update(held)

    def _withdraw_overlays(self, worlds: list[World], removals: list[Candidates]) -> None:
        """An owner's withdrawal withdraws all, also what a later index published before it was the owner."""
        for i, index in enumerate(self.indexes):
            for project, held in index.held.items():
                row = index.projects.get(project)
                if (
                    worlds[i].listed
                    and held
                    and row is not None
                    and any(owner.withdrawn for owner in self._owners(i, project))
                ):
                    removals[i].setdefault(project, set()).update(held)

    def _remove(self, i: int, removals: Candidates, leaves: set[str], now: float, *, allow_shrink: bool) -> bool:
        """Take away what is to leave, unless the brake holds; tell whether it was done."""
        index = self.indexes[i]
        if allow_shrink:
            index.lifted = self.number
        leaving = {(p, n) for p, names in removals.items() for n in names if n in index.held.get(p, {})}
        leaving |= {(p, n) for p in leaves for n in index.held.get(p, {})}
        if leaving and not allow_shrink and self._brake_holds(i, leaving, now):
            index.braked = True
            return False
        for project, name in leaving:
            self._close(i, project, name)
        for project in leaves:
            index.projects[project] = Listing(listed=False, wanted=index.projects[project].wanted)
            self._forget_failures(i, project)
        return True

    def _brake_holds(self, i: int, leaving: set[tuple[str, str]], now: float) -> bool:
        index = self.indexes[i]
        first = max((n for n, at in enumerate(self.starts, 1) if at <= now - DAY_S), default=0)
        first = max(first, index.lifted)
        on_pages = {(p, n) for other in self.indexes for p, files in other.held.items() for n in files}
        spans = [(p, n, opened, closed) for p, n, opened, closed in index.past if closed > first]
        spans += [(p, n, h.opened, self.number + 1) for p, files in index.held.items() for n, h in files.items()]
        base = {(p, n) for p, n, opened, _ in spans if opened <= first}
        if not base:
            base = {(p, n) for p, n, _, _ in spans}
        gone = {file for file in base if file not in on_pages}
        count = len(gone) + len(leaving)
        return count > FEW_FILES and count > self.max_shrink * len(base)

    def _open(self, i: int, project: str, name: str, offer: Offer) -> None:
        opened = self.number
        for other in range(len(self.indexes)):
            known = self.indexes[other].held.get(project, {}).get(name)
            if known is not None:
                if other == i:
                    opened = known.opened
                else:
                    self._close(other, project, name)
        self.indexes[i].held[project][name] = Held(offer.sha256, offer.yanked, opened)
        self.blobs.add((name, offer.sha256))

    def _close(self, i: int, project: str, name: str) -> None:
        known = self.indexes[i].held[project].pop(name)
        self.indexes[i].past.append((project, name, known.opened, self.number))
