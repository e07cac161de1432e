"""The temporal rows of published files: their intervals and each revision, after any changes."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.quick_disk import QUICK_DISK
from harness.state_rows import add
from mirror.core.diff import Relabel
from mirror.core.model import Labels, ListedFile
from mirror.core.names import ProjectName, Sha256
from mirror.state.blobs.lost import record_lost
from mirror.state.blobs.verified import load_blob
from mirror.state.entries.changes import Placed, ProjectRecord, record_changes
from mirror.state.entries.held import load_held
from mirror.state.entries.pages import load_last_revision, load_pages
from mirror.state.entries.removals import RemovalRecord, record_removals
from mirror.state.frozen.snapshots import count_projects_at, count_published, load_files_at, load_touched
from mirror.state.store import Store, open_store

NAMES = (ProjectName("a"), ProjectName("b"))
INDEXES = (1, 2)
PROJECTS = {pair: number for number, pair in enumerate(itertools.product(INDEXES, NAMES), start=1)}
Files = dict[str, tuple[str, str | None]]
"""Filename -> (sha256, yank)."""


class Change(msgspec.Struct, frozen=True):
    """One transaction: a file is placed, labelled or removed for an index, or its blob is lost."""

    kind: str
    index: int
    name: ProjectName
    filename: str
    sha256: Sha256
    yanked: str | None


changes = st.builds(
    Change,
    kind=st.sampled_from(["place", "place", "place", "label", "remove", "clear", "lose"]),
    index=st.sampled_from(INDEXES),
    name=st.sampled_from(NAMES),
    filename=st.sampled_from(["f", "g"]),
    sha256=st.sampled_from([Sha256("x"), Sha256("y")]),
    yanked=st.sampled_from([None, "", "bad"]),
)


# Not shrunk: a failure is a history of few changes as it is.
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=st.lists(changes, max_size=12))
def test_any_history(empty_state: Path, history: list[Change]) -> None:
    """Each revision is known as it was, intervals do not overlap, and the differences of two revisions are found."""
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as directory:
        path = Path(directory) / "state.db"
        shutil.copy(empty_state, path)
        asyncio.run(play(path, history))


async def play(path: Path, history: list[Change]) -> None:
    async with open_store(path) as store:
        await store.connection.execute("PRAGMA synchronous = OFF")
        for index in INDEXES:
            await add(store, "source", name=f"index{index}", position=index)
        for index, name in PROJECTS:
            await add(store, "project", source=index, name=name)
        known: dict[tuple[ProjectName, str], tuple[int, str, str | None]] = {}
        states = {0: shown(known)}
        for number, change in enumerate(history, start=1):
            await apply(store, change, known, now=float(number))
            states[await load_last_revision(store)] = shown(known)
            assert await pages(store) == {name: files for name, files in shown(known).items() if files}
        await check_intervals(store)
        for revision, expected in states.items():
            await check_revision(store, revision, expected)
        for first, second in itertools.combinations(states, 2):
            await check_difference(store, first, second, states)


async def apply(
    store: Store, change: Change, known: dict[tuple[ProjectName, str], tuple[int, str, str | None]], *, now: float
) -> None:
    """Make a change in the state and in ``known``: (project, filename) -> (index, sha256, yank)."""
    key = (change.name, change.filename)
    project = PROJECTS[change.index, change.name]
    index, sha256, _ = known.get(key, (0, "", None))
    record = ProjectRecord(project=project, source=change.index, name=change.name)
    removal = RemovalRecord(project=project, source=change.index, name=change.name)
    labels = Labels(yanked=change.yanked)
    if change.kind == "place":
        file = ListedFile(filename=change.filename, url="https://index/f", labels=labels)
        placed = Placed(file=file, sha256=change.sha256, size=1)
        record = msgspec.structs.replace(record, placed=(placed,))
        await record_changes(store, [record], cycle=1, now=now, has_overlays=False)
        known[key] = (change.index, change.sha256, change.yanked)
    elif change.kind == "label" and index == change.index:
        held = (await load_held(store, [project]))[project][change.filename]
        record = msgspec.structs.replace(record, relabel=(Relabel(held=held, labels=labels),))
        await record_changes(store, [record], cycle=1, now=now, has_overlays=False)
        known[key] = (index, sha256, change.yanked)
    elif change.kind in {"remove", "clear"}:
        filenames = (change.filename,) if change.kind == "remove" else ()
        removal = msgspec.structs.replace(removal, filenames=filenames, all_files=not filenames)
        await record_removals(store, [removal], cycle=1, now=now)
        forget(
            known, lambda name, file, of, _: (of, name) == (change.index, change.name) and file in (filenames or "fg")
        )
    elif change.kind == "lose":
        blob = await load_blob(store, change.sha256, change.filename)
        if blob is not None:
            await record_lost(store, [blob], cycle=1, now=now)
        forget(known, lambda _, file, __, digest: (file, digest) == (change.filename, change.sha256))


def forget(known, is_gone) -> None:
    for (name, filename), (index, sha256, _) in list(known.items()):
        if is_gone(name, filename, index, sha256):
            del known[name, filename]


def shown(known: dict[tuple[ProjectName, str], tuple[int, str, str | None]]) -> dict[ProjectName, Files]:
    """Return the files of each project."""
    found: dict[ProjectName, Files] = {name: {} for name in NAMES}
    for (name, filename), (_, sha256, yanked) in known.items():
        found[name][filename] = (sha256, yanked)
    return found


async def pages(store: Store) -> dict[ProjectName, Files]:
    """Return the files that pages have to show."""
    views = [page.view for page in await load_pages(store, NAMES)]
    return {
        view.name: {one.filename: (one.sha256, one.labels.yanked) for one in view.entries}
        for view in views
        if view.entries
    }


async def check_intervals(store: Store) -> None:
    """Among all indexes a file of a project has one row at most at each revision."""
    intervals = defaultdict(list)
    for name, filename, valid_from, valid_to in await store.rows(
        "SELECT p.name, e.filename, e.valid_from, e.valid_to FROM entry e JOIN project p ON p.id = e.project"
    ):
        intervals[name, filename].append((valid_from, valid_to or 9999))
    for found in intervals.values():
        for first, second in itertools.pairwise(sorted(found)):
            assert first[0] < first[1] <= second[0] < second[1]


async def check_revision(store: Store, revision: int, expected: dict[ProjectName, Files]) -> None:
    """What a revision listed is what was there after it."""
    found = await load_files_at(store, NAMES, revision)
    files = {
        name: {filename: (one.sha256, one.yanked) for filename, one in found.get(name, {}).items()} for name in NAMES
    }
    assert files == expected
    total = sum(map(len, expected.values()))
    assert await count_published(store, revision) == await count_published(store, revision, NAMES) == (total, total)
    assert await count_projects_at(store, revision) == sum(map(bool, expected.values()))


async def check_difference(store: Store, first: int, second: int, states: dict[int, dict[ProjectName, Files]]) -> None:
    """No project differs between two revisions but those that were touched, in either direction."""
    touched = [name async for chunk in load_touched(store, first, second) for name in chunk]
    assert touched == [name async for chunk in load_touched(store, second, first) for name in chunk]
    assert {name for name in NAMES if states[first][name] != states[second][name]} <= set(touched)
