"""Random histories of one or two indexes and their mirror, checked against ``model`` after each cycle."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from harness.in_process import DAY_S, Mirror, published
from simulator import Corrupt, Simulator, Status, unavailable, withheld
from simulator import Page as PageFault
from soak.model import Model, Offer, Page, World

NAMES = ("first", "second")
PROJECTS = ("a-one", "b-two", "c-three")
VERSIONS = (1, 2, 3, 4)

ROOT_FAULTS = {
    "outage": unavailable(503, retry_after="3600"),
    "denied": Status(status=401),
    "login page": PageFault(body=b"<html><body>Please log in</body></html>"),
    "empty": PageFault(
        body=b'{"meta": {"api-version": "1.1"}, "projects": []}', content_type="application/vnd.pypi.simple.v1+json"
    ),
}
PAGE_FAULTS = {
    "outage": (unavailable(503, retry_after="3600"), Page(failure="unreachable")),
    "missing": (Status(status=404), Page(failure="not-found")),
    "cooldown": (withheld("POLICY_COOLDOWN"), Page(failure="withheld")),
    "malware": (withheld("MALWARE_DETECTED"), Page(withdrawn=True)),
    "login page": (PageFault(body=b"<html><body>Please log in</body></html>"), Page(failure="bad-page")),
}
FILE_FAULTS = {
    "withheld": (withheld(None), "withheld"),
    "missing": (Status(status=404), "not-found"),
    "corrupt": (Corrupt(), "digest-mismatch"),
}


@dataclass(frozen=True)
class Event:
    """Something that happens to an index or to the mirror's configuration. What makes no sense at the moment is nothing."""

    what: str
    index: int = 0
    project: str = ""
    version: int = 0
    value: Any = None

    def __repr__(self) -> str:
        parts = [self.what, NAMES[self.index], self.project, self.version or "", self.value or ""]
        return f"<{' '.join(str(p) for p in parts if p != '')}>"


@dataclass(frozen=True)
class Round:
    """Some events, and the cycle after them."""

    events: tuple[Event, ...]
    clock_s: float = 0.0
    only: tuple[str, ...] = ()
    allow_shrink: bool = False
    full: bool = False


@dataclass(frozen=True)
class History:
    """What kind of indexes there are, and what happens to them."""

    rounds: tuple[Round, ...]
    indexes: int
    serials: bool
    validators: str
    max_shrink: float


def filename(project: str, version: int) -> str:
    """Return the filename of a version."""
    return f"{project.replace('-', '_')}-{version}.0.tar.gz"


_indexes = st.integers(0, 1)
_projects = st.sampled_from(PROJECTS)
_versions = st.sampled_from(VERSIONS)
_mostly = st.sampled_from


def _events() -> st.SearchStrategy[Event]:
    file = {"index": _indexes, "project": _projects, "version": _versions}
    page = {"index": _indexes, "project": _projects}

    def event(what: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
        return st.builds(Event, st.just(what), **fields)

    return st.one_of(
        event("publish", **file, value=st.integers(0, 1)),
        event("publish all", index=_indexes),
        event("remove", **file),
        event("empty", **page),
        event("lose", index=_indexes, version=_versions),
        event("yank", **file, value=st.booleans()),
        event("unlist", **page),
        event("relist", **page),
        event("quarantine", **page, value=st.booleans()),
        event("page fault", **page, value=st.sampled_from([None, *PAGE_FAULTS])),
        event("file fault", **file, value=st.sampled_from([None, *FILE_FAULTS])),
        event("root fault", index=_indexes, value=st.sampled_from([None, None, *ROOT_FAULTS])),
        event("exclude files", index=_indexes, value=st.sampled_from([(), ("*-1.0.tar.gz",), ("a_*", "*-2.0.tar.gz")])),
        event("exclude project", index=_indexes, value=st.sampled_from([(), *((p,) for p in PROJECTS)])),
        event("overlay", index=st.just(1), value=st.booleans()),
    )


_rounds = st.builds(
    Round,
    events=st.lists(_events(), max_size=4).map(tuple),
    clock_s=st.sampled_from([0.0, 0.0, 0.0, 3600.0, DAY_S, 400 * DAY_S, -3600.0, -DAY_S, -400 * DAY_S]),
    only=st.sampled_from([(), (), (), ()]) | st.tuples(_projects),
    allow_shrink=st.sampled_from([False, False, False, True]),
    full=st.sampled_from([False, False, False, True]),
)

histories = st.builds(
    History,
    rounds=st.lists(_rounds, min_size=4, max_size=9).map(tuple),
    indexes=st.integers(1, 2),
    serials=st.booleans(),
    validators=st.sampled_from(["etag", "last-modified", "none"]),
    max_shrink=st.sampled_from([0.1, 0.5]),
)


class Player:
    """Plays one history on simulators, a mirror and a model."""

    def __init__(self, root: Path, history: History, simulators: Sequence[Simulator]) -> None:
        self.history, self.simulators = history, simulators
        self.names = NAMES[: len(simulators)]
        self.mirror = Mirror(root, dict(zip(self.names, simulators, strict=True)))
        self.mirror.settings["max_shrink"] = history.max_shrink
        self.model = Model(len(simulators), history.max_shrink)
        self.faults: dict[tuple[int, str, str], str] = {}
        """(index, project, filename) -> kind; '' for the page itself, and for the root."""
        self.overlay = False
        self.excluded: dict[tuple[int, str], tuple[str, ...]] = {}

    async def play(self) -> None:
        """Play all rounds, and check after each."""
        for index in range(len(self.simulators)):
            self._happen(Event("publish all", index))
        for number, one in enumerate(self.history.rounds):
            for event in one.events:
                if event.index < len(self.simulators):
                    self._happen(event)
            await self._cycle(number, one)

    # -- events -----------------------------------------------------------------------------------------------------

    def _happen(self, event: Event) -> None:  # noqa: PLR0912 - one case for each kind of event
        state = self.simulators[event.index].state
        name = filename(event.project, event.version)
        known = state.projects.get(event.project)
        match event.what:
            case "publish":
                self._publish(event.index, event.project, event.version, event.value)
            case "publish all":
                for project in PROJECTS:
                    for version in VERSIONS:
                        self._publish(event.index, project, version, 0)
                    state.relist(project)
            case "lose":
                for project in list(state.projects):
                    for version in VERSIONS[: event.version]:
                        self._change(Event("remove", event.index, project, version), filename(project, version))
            case "page fault":
                self._set_fault((event.index, event.project, ""), event.value)
                if known:
                    state.touch(event.project)  # with serials, an unchanged page is not asked for
            case "file fault":
                self._set_fault((event.index, event.project, name), event.value)
            case "root fault":
                self._set_fault((event.index, "", ""), event.value)
            case "exclude files" | "exclude project":
                self.excluded[(event.index, event.what)] = event.value
            case "overlay":
                self.overlay = event.value
            case _ if known is not None:
                self._change(event, name)

    def _change(self, event: Event, name: str) -> None:
        state = self.simulators[event.index].state
        project = state[event.project]
        match event.what:
            case "remove" if name in project.files:
                state.remove_file(event.project, name)
            case "empty":
                for one in list(project.files):
                    state.remove_file(event.project, one)
            case "yank" if name in project.files:
                state.change(event.project, name, yanked=event.value)
            case "unlist":
                state.unlist_project(event.project)
            case "relist":
                state.relist(event.project)
            case "quarantine":
                state.status(event.project, "quarantined" if event.value else None)

    def _publish(self, index: int, project: str, version: int, variant: int) -> None:
        name = filename(project, version)
        # What the two indexes have in common is the first variant of the first two versions.
        origin = "both" if version < 3 and not variant else NAMES[index]
        self.simulators[index].state.publish(project, name, f"{name} of {origin}, {variant}\n".encode())

    def _set_fault(self, key: tuple[int, str, str], kind: str | None) -> None:
        if kind is None:
            self.faults.pop(key, None)
        else:
            self.faults[key] = kind

    # -- cycles -----------------------------------------------------------------------------------------------------

    async def _cycle(self, number: int, one: Round) -> None:
        self._prepare()
        self.mirror.clock.advance(one.clock_s)
        report = await self.mirror.cycle(projects=one.only, allow_shrink=one.allow_shrink, full=one.full)
        actual = self._published()
        before = self.model
        worlds = [self._world(i) for i in range(len(self.simulators))]
        for late in (False, True):
            self.model = copy.deepcopy(before)
            self.model.cycle(worlds, self.mirror.clock.now, only=one.only, allow_shrink=one.allow_shrink, late=late)
            if self.model.published() == actual:
                break
        where = f"after round {number}"
        expected = self.model.published()
        assert actual == expected, (
            f"{where}: too much {_shown(actual - expected)}, too little {_shown(expected - actual)}"
        )
        held = {f.index for f in report.failures if f.reason.value == "shrink" and f.project is None}
        assert held == {self.names[i] for i, index in enumerate(self.model.indexes) if index.braked}, where
        ledger = {(i, p, f, r) for i, p, f, r in self.mirror.ledger() if p}
        assert ledger == {
            (self.names[i], p, f, reason)
            for i, index in enumerate(self.model.indexes)
            for (p, f), reason in index.ledger.items()
            if not self.model.is_displaced(i, p, worlds)
        }, where
        files = {project: set(found) for project, found in published(self.mirror.root).items() if found}
        wanted: dict[str, set[str]] = {}
        for _, project, name, _, _ in actual:
            wanted.setdefault(project, set()).add(name)
        assert files == wanted, where

    def _prepare(self) -> None:
        for i, simulator in enumerate(self.simulators):
            simulator.faults.clear()
            for (index, project, name), kind in self.faults.items():
                if index != i:
                    continue
                if not project:
                    simulator.inject(ROOT_FAULTS[kind], kind="root")
                elif not name:
                    simulator.inject(PAGE_FAULTS[kind][0], kind="page", project=project)
                else:
                    simulator.inject(FILE_FAULTS[kind][0], kind="file", project=project, filename=name)
            self.mirror.configure(
                self.names[i],
                overlay=self.overlay and i == 1,
                exclude_files=self.excluded.get((i, "exclude files"), ()),
                exclude_projects=self.excluded.get((i, "exclude project"), ()),
            )

    def _world(self, i: int) -> World:
        projects = self.simulators[i].state.projects
        listed = frozenset(p.name for p in projects.values() if p.listed)
        return World(
            listed=listed if listed and (i, "", "") not in self.faults else None,
            pages={name: self._page(i, name) for name in projects},
            overlay=self.overlay and i == 1,
            exclude_files=self.excluded.get((i, "exclude files"), ()),
            exclude_projects=self.excluded.get((i, "exclude project"), ()),
        )

    def _page(self, i: int, project: str) -> Page:
        if kind := self.faults.get((i, project, "")):
            return PAGE_FAULTS[kind][1]
        simulated = self.simulators[i].state[project]
        if simulated.status == "quarantined":
            return Page(withdrawn=True)
        files = {}
        for file in simulated.files.values():
            fault = self.faults.get((i, project, file.filename))
            reason = FILE_FAULTS[fault][1] if fault else None
            files[file.filename] = Offer(hashlib.sha256(file.data).hexdigest(), bool(file.yanked), reason)
        return Page(files=files)

    def _published(self) -> set[tuple[int, str, str, str, bool]]:
        rows = self.mirror.query(
            "SELECT s.name, p.name, e.filename, e.sha256, e.yanked IS NOT NULL FROM entry e"
            " JOIN project p ON p.id = e.project JOIN source s ON s.id = e.source WHERE e.valid_to IS NULL"
        )
        return {(self.names.index(r[0]), r[1], r[2], r[3], bool(r[4])) for r in rows}


def _shown(files: set[tuple[int, str, str, str, bool]]) -> list[str]:
    return sorted(f"{NAMES[i]} {p} {n} {sha[:6]}{' yanked' if yanked else ''}" for i, p, n, sha, yanked in files)


async def play(history: History, root: Path) -> None:
    """Play a history in a fresh directory."""
    async with contextlib.AsyncExitStack() as running:
        simulators = [
            await running.enter_async_context(Simulator(serials=history.serials, validators=history.validators))
            for _ in range(history.indexes)
        ]
        await Player(root, history, simulators).play()
