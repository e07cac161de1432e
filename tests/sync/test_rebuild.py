"""A lost state is noticed, rebuilt from the tree, and claimed by the next cycle without downloading what is intact."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from harness.in_process import DAY_S, Mirror, check_tree, offered, published
from harness.snapshots import snapshot
from harness.upkeep import (
    blob,
    blob_of,
    damage,
    fill,
    flip,
    in_real_time,
    lose_state,
    pass_time,
    prune,
    quarantined,
    repair,
    sidecar_of,
    verify,
    with_sdist,
)
from mirror.errors import MirrorError, StateError
from mirror.state.blobs.verified import load_known_files
from mirror.state.entries.rebuilt import record_rebuilt_start
from mirror.state.store import open_store
from simulator import Simulator, build_wheel

Start = Callable[..., Awaitable[Simulator]]
MirrorOf = Callable[..., Mirror]


@pytest.fixture
async def pair(simulator: Start, mirror_of: MirrorOf) -> tuple[Simulator, Mirror]:
    """A simulator with all sorts of labels, mirrored."""
    index = await simulator(core_metadata=True)
    fill(index, 4)
    filename, data = build_wheel("labels", "1.0", requires_python=">=3.8")
    index.state.publish("labels", filename, data, requires_python=">=3.8", extra={"_odd": [1]})
    index.state.yank("labels", filename, "bad <b>build</b>")
    index.state.create_project("labels", status="deprecated", status_reason="use another", extra={"_x": {"y": 1}})
    with_sdist(index, "source")
    mirror = in_real_time(mirror_of(index))
    await mirror.cycle()
    return index, mirror


def meanings(mirror: Mirror) -> dict[str, Any]:
    """Return what the pages say, apart from our own serials."""
    found: dict[str, Any] = {}
    for name in published(mirror.root):
        page = mirror.page(name)
        page["meta"].pop("_last-serial")
        found[name] = page
    return found


def _missing(mirror: Mirror) -> None:
    lose_state(mirror)


def _garbage(mirror: Mirror) -> None:
    (mirror.root / "state.db").write_bytes(os.urandom(20_000))


def _truncated(mirror: Mirror) -> None:
    os.truncate(mirror.root / "state.db", 8192)


def _empty(mirror: Mirror) -> None:
    os.truncate(mirror.root / "state.db", 0)


def _torn(mirror: Mirror) -> None:
    path = mirror.root / "state.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


LOSSES = {"missing": _missing, "garbage": _garbage, "truncated": _truncated, "empty": _empty, "torn": _torn}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
async def test_lost_state(pair: tuple[Simulator, Mirror], lose: Callable[[Mirror], None]) -> None:
    """Without a usable state a cycle says what to do and touches nothing; rebuilt, nothing is downloaded or changes."""
    index, mirror = pair
    before, footprint = meanings(mirror), mirror.footprint()
    lose(mirror)
    index.take_requests()
    with pytest.raises(StateError, match="mirror verify --repair"):
        await mirror.cycle()
    assert (index.take_requests(), mirror.footprint()) == ([], footprint)
    found = await repair(mirror)
    assert (found.findings, found.lost, found.rebuilt, found.blobs_checked) == ([], [], True, 6)
    check_tree(mirror.root)
    assert meanings(mirror) == before
    assert (await verify(mirror)).findings == []
    assert mirror.query("SELECT count(*) FROM entry WHERE url != ''") == [(0,)]
    index.take_requests()
    report = await mirror.cycle()
    assert (report.outcome.value, report.total("bytes_downloaded")) == ("complete", 0)
    assert [r for r in index.take_requests() if r.kind == "file"] == []
    assert meanings(mirror) == before
    assert mirror.query(
        "SELECT DISTINCT s.name FROM entry e JOIN source s ON s.id = e.source WHERE valid_to IS NULL"
    ) == [("main",)]
    await mirror.cycle()
    await mirror.cycle()
    assert (meanings(mirror), mirror.files()) == (before, offered(index))
    assert len(list(mirror.root.glob("state.db.damaged-*"))) >= (lose is not _missing)


def change_behind_an_index(state: Path) -> None:
    """Delete rows of a table as damage does: an index of it still has them."""
    with closing(sqlite3.connect(state)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        row = connection.execute("SELECT * FROM sqlite_master WHERE name = 'entry_open'").fetchone()
        connection.execute("DELETE FROM sqlite_master WHERE name = 'entry_open'")
    with closing(sqlite3.connect(state)) as connection, connection:
        connection.execute("DELETE FROM entry WHERE filename LIKE 'p%'")
    with closing(sqlite3.connect(state)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)


async def test_a_state_that_disagrees_with_itself(pair: tuple[Simulator, Mirror]) -> None:
    """Pages are not mended from a state whose tables and indexes differ: it is rebuilt from them instead."""
    index, mirror = pair
    before = mirror.files()
    await anyio.to_thread.run_sync(change_behind_an_index, mirror.root / "state.db")
    found = await repair(mirror)
    assert (found.rebuilt, mirror.files()) == (True, before)
    report = await mirror.cycle()
    assert (report.total("bytes_downloaded"), mirror.files()) == (0, offered(index))


async def test_serials_go_on(pair: tuple[Simulator, Mirror]) -> None:
    """Serials go on where the tree stopped, also where the root page is damaged: a mirror of the mirror sees the change."""
    _, mirror = pair
    old = {name: mirror.page(name)["meta"]["_last-serial"] for name in mirror.files()}
    lose_state(mirror)
    (mirror.root / "public/simple/index.v1_json").write_bytes(b"?")
    with pytest.raises(StateError, match="holds pages that this state does not know"):
        await mirror.cycle()
    await repair(mirror)
    assert all(mirror.page(name)["meta"]["_last-serial"] > max(old.values()) for name in old)


async def test_older_backup(pair: tuple[Simulator, Mirror], tmp_path: Path) -> None:
    """A state that is older than its tree is refused, and rebuilt from the tree with what is newer."""
    index, mirror = pair
    shutil.copy(mirror.root / "state.db", tmp_path / "backup")
    fill(index, 2, start=10)
    await mirror.cycle()
    before = meanings(mirror)
    lose_state(mirror)
    shutil.copy(tmp_path / "backup", mirror.root / "state.db")
    with pytest.raises(StateError, match="older than the tree"):
        await mirror.cycle()
    await repair(mirror)
    assert meanings(mirror) == before
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_damage_during_rebuild(pair: tuple[Simulator, Mirror]) -> None:
    """Damaged blobs are left out, named and moved aside; the next cycle fetches them and nothing else."""
    index, mirror = pair
    flipped, gone = blob(mirror, "p0"), blob(mirror, "p1")
    flip(flipped)
    gone.unlink()
    lose_state(mirror)
    found = await repair(mirror)
    public = mirror.root / "public"
    assert damage(mirror, found) == [
        ("bytes", str(flipped.relative_to(public))),
        ("missing", str(gone.relative_to(public))),
    ]
    assert sorted((f.index, f.project, f.filename) for f in found.lost) == [
        ("(unclaimed)", "p0", flipped.name),
        ("(unclaimed)", "p1", gone.name),
    ]
    assert [name.rpartition("__")[2] for name in quarantined(mirror)] == [flipped.name]
    check_tree(mirror.root)
    index.take_requests()
    await mirror.cycle()
    assert sorted(r.filename or "" for r in index.take_requests() if r.kind == "file") == [flipped.name, gone.name]
    assert mirror.files() == offered(index)


async def test_damaged_pages(pair: tuple[Simulator, Mirror]) -> None:
    """Where the JSON is damaged the HTML is read; where both are, the blobs stay and are claimed all the same."""
    index, mirror = pair
    simple = mirror.root / "public/simple"
    (simple / "p0/index.v1_json").write_bytes(b"{")
    for page in (simple / "p1").iterdir():
        page.unlink()
        page.write_bytes(b"not a page \xff")
    (simple / "Evil Name").mkdir()
    (simple / "link").symlink_to("p2")
    lose_state(mirror)
    found = await repair(mirror)
    assert damage(mirror, found) == [("page", "simple/Evil Name"), ("page", "simple/link"), ("page", "simple/p1")]
    assert found.lost == []
    check_tree(mirror.root)
    assert (await verify(mirror)).findings == []
    assert sorted(mirror.files()) == ["labels", "p0", "p2", "p3", "source"]
    report = await mirror.cycle()
    assert report.total("bytes_downloaded") == 0
    assert mirror.files() == offered(index)


@pytest.mark.parametrize("harm", [os.mkfifo, lambda p: p.symlink_to("/dev/zero")], ids=["pipe", "endless"])
async def test_what_stands_in_the_place_of_pages_is_not_read(
    pair: tuple[Simulator, Mirror], harm: Callable[[Path], object]
) -> None:
    """A pipe or a link instead of a page holds nothing up; the HTML is read instead, or the blobs are claimed later."""
    index, mirror = pair
    simple = mirror.root / "public/simple"
    for page in (simple / "index.v1_json", simple / "p0/index.v1_json", *(simple / "p1").iterdir()):
        page.unlink()
        harm(page)
    lose_state(mirror)
    found = await repair(mirror)
    assert damage(mirror, found) == [("page", "simple/p1")]
    assert sorted(mirror.files()) == ["labels", "p0", "p2", "p3", "source"]
    report = await mirror.cycle()
    assert report.total("bytes_downloaded") == 0
    assert mirror.files() == offered(index)


async def test_sidecars(pair: tuple[Simulator, Mirror]) -> None:
    """A wheel's metadata is made again; other metadata counts only as its page advertised it."""
    _, mirror = pair
    wheel, source = blob(mirror, "p0"), blob(mirror, "source")
    good = sidecar_of(wheel).read_bytes()
    sidecar_of(wheel).write_bytes(b"x")
    sidecar_of(source).write_bytes(b"x")
    lose_state(mirror)
    found = await repair(mirror)
    assert [kind for kind, _ in damage(mirror, found)] == ["sidecar", "sidecar"]
    assert found.without_metadata == [str(source)]
    assert sidecar_of(wheel).read_bytes() == good
    check_tree(mirror.root)
    found = await verify(mirror)
    assert (found.findings, found.leftovers) == ([], 1)


async def test_good_metadata_of_an_sdist_stays(pair: tuple[Simulator, Mirror]) -> None:
    """Metadata that agrees with what the page advertised is advertised again."""
    _, mirror = pair
    before = mirror.labels("source", "source-1.0.tar.gz")
    lose_state(mirror)
    await repair(mirror)
    assert mirror.labels("source", "source-1.0.tar.gz") == before
    assert before["core-metadata"]


async def test_withdrawn_project(pair: tuple[Simulator, Mirror]) -> None:
    """A withdrawn project keeps its empty page with its status, and its files come back when the index lifts it."""
    index, mirror = pair
    index.state.status("p0", "quarantined", "malware")
    await mirror.cycle(allow_shrink=True)
    before = meanings(mirror)
    assert before["p0"]["files"] == []
    lose_state(mirror)
    await repair(mirror)
    check_tree(mirror.root)
    assert meanings(mirror) == before
    for _ in range(3):
        await mirror.cycle()
        assert meanings(mirror) == before
    index.state.status("p0", None)
    report = await mirror.cycle()
    assert (mirror.files(), report.total("bytes_downloaded")) == (offered(index), 0)


async def test_empty_page_of_a_project_that_is_gone(pair: tuple[Simulator, Mirror]) -> None:
    """An empty page of a project that no index lists any more leaves after two looks."""
    index, mirror = pair
    index.state.status("p0", "quarantined")
    await mirror.cycle(allow_shrink=True)
    lose_state(mirror)
    await repair(mirror)
    index.state.delete_project("p0")
    await mirror.cycle()
    assert "p0" in mirror.files()
    await mirror.cycle()
    assert "p0" not in mirror.files()


async def test_unclaimed_takes_two_looks(pair: tuple[Simulator, Mirror]) -> None:
    """What no index claims stays for one look, and leaves with the second; failed and narrowed looks do not count."""
    index, mirror = pair
    name = blob(mirror, "p0").name
    lose_state(mirror)
    await repair(mirror)
    index.state.remove_file("p0", name)
    index.state.delete_project("p1")
    index.state.publish("p0", "p0-2.0.tar.gz", b"new")
    await mirror.cycle(projects=("p0",))
    await mirror.cycle(projects=("p0",))
    await mirror.cycle(projects=("p0",))
    assert name in mirror.files()["p0"]
    await mirror.cycle()
    assert (name in mirror.files()["p0"], "p1" in mirror.files()) == (True, True)
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_unclaimed_obeys_the_brake(simulator: Start, mirror_of: MirrorOf) -> None:
    """Very many unclaimed files stay until a person allows their removal."""
    index = await simulator()
    fill(index, 20)
    mirror = in_real_time(mirror_of(index))
    await mirror.cycle()
    lose_state(mirror)
    await repair(mirror)
    for number in range(10):
        index.state.delete_project(f"p{number}")
    for _ in range(3):
        await mirror.cycle()
    assert (len(mirror.files()), mirror.exit_code) == (20, 4)
    assert [r[3] for r in mirror.ledger()] == ["shrink"]
    await mirror.cycle(allow_shrink=True)
    assert mirror.files() == offered(index)


async def test_retention_begins_again(pair: tuple[Simulator, Mirror]) -> None:
    """A blob that nothing lists survives the rebuild, and its retention begins again."""
    index, mirror = pair
    path = blob(mirror, "p0")
    index.state.remove_file("p0", path.name)
    index.state.publish("p0", "p0-2.0.tar.gz", b"new")
    await mirror.cycle()
    await mirror.cycle()
    lose_state(mirror)
    await repair(mirror)
    assert mirror.query("SELECT filename FROM blob WHERE unlisted_since IS NOT NULL") == [(path.name,)]
    mirror.clock.advance(2 * DAY_S)
    await mirror.cycle()
    await pass_time(mirror, days=1, cycles=28)
    mirror.clock.advance(DAY_S)
    assert ((await prune(mirror)).blobs, path.exists()) == (0, True)
    await mirror.cycle()
    mirror.clock.advance(2 * DAY_S)
    assert ((await prune(mirror)).blobs, path.exists()) == (1, False)


async def test_interrupted_rebuild(pair: tuple[Simulator, Mirror]) -> None:
    """A rebuild that was killed is no state to work with: nothing is pruned or published by it, and it begins anew."""
    index, mirror = pair
    footprint = mirror.footprint()
    before = meanings(mirror)
    lose_state(mirror)
    async with open_store(mirror.root / "state.db") as store:
        await record_rebuilt_start(store, revision=1000, now=mirror.clock())
    for act in (mirror.cycle, lambda: prune(mirror), lambda: prune(mirror, dry_run=True), lambda: verify(mirror)):
        with pytest.raises(MirrorError, match="rebuilding was interrupted; run `mirror verify --repair` again"):
            await act()
    assert mirror.footprint() == footprint
    await repair(mirror)
    assert meanings(mirror) == before
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_replaced_while_lost(pair: tuple[Simulator, Mirror]) -> None:
    """A file whose bytes the index replaced meanwhile stays until the new ones are held, and then gives way."""
    from simulator import Status

    index, mirror = pair
    name = blob(mirror, "p0").name
    old = mirror.files()["p0"][name]
    lose_state(mirror)
    await repair(mirror)
    new = build_wheel("p0", "1.0", size_pad=10)[1]
    index.state.replace("p0", name, new)
    index.inject(Status(status=404), kind="file")
    for _ in range(3):
        await mirror.cycle()
        assert mirror.files()["p0"] == {name: old}
    index.faults.clear()
    await mirror.cycle()
    assert mirror.files()["p0"] == {name: hashlib.sha256(new).hexdigest()}
    assert blob_of(mirror, name, old).exists()


async def test_foreign_state(pair: tuple[Simulator, Mirror], simulator: Start, mirror_of: MirrorOf) -> None:
    """The state of another tree is refused beside a newer one, and repair never deletes bytes because of it."""
    index, mirror = pair
    other_index = await simulator()
    other_index.state.publish("other", *build_wheel("other", "1.0"))
    other = in_real_time(mirror_of(other_index, root="other"))
    await other.cycle()
    fill(index, 1, start=20)
    await mirror.cycle()
    before = meanings(mirror)
    lose_state(mirror)
    shutil.copy(other.root / "state.db", mirror.root / "state.db")
    with pytest.raises(StateError, match="mirror verify --repair"):
        await mirror.cycle()
    await repair(mirror)
    assert meanings(mirror) == before


async def test_no_tree_at_all(tmp_path: Path, mirror_of: MirrorOf, simulator: Start) -> None:
    """Where there is neither tree nor state, repair makes none."""
    mirror = mirror_of(await simulator())
    with pytest.raises(StateError, match="there is no mirror here"):
        await repair(mirror)
    assert not mirror.root.exists()


async def test_odd_blobs_are_left_alone(pair: tuple[Simulator, Mirror]) -> None:
    """What lies among the blobs and can't be one of ours is not entered, and not deleted."""
    _, mirror = pair
    directory = blob(mirror, "p0").parent
    (directory / "-odd\nname").write_bytes(b"x")
    (directory / "wrong-1.0.zip").write_bytes(b"x")
    (directory / "inner").mkdir()
    lose_state(mirror)
    found = await repair(mirror)
    assert damage(mirror, found) == [
        ("bytes", f"files/{directory.relative_to(mirror.root / 'public/files')}/wrong-1.0.zip")
    ]
    assert (directory / "inner").is_dir()
    async with open_store(mirror.root / "state.db") as store:
        assert len(await load_known_files(store, "")) == 6


async def test_withdrawals_after_a_rebuild(simulator: Start, mirror_of: MirrorOf) -> None:
    """A withdrawal takes unclaimed files off the pages in the cycle that sees it, and names the snapshots that have
    them, also those that only a snapshot had when the state was rebuilt; other files do not count for the brake.
    """
    index = await simulator(core_metadata=True)
    fill(index, 3)
    index.state.publish("bad", *build_wheel("bad", "1.0"))
    index.state.publish("worse", *build_wheel("worse", "1.0"))
    mirror = in_real_time(mirror_of(index))
    mirror.settings["max_shrink"] = 1.0
    await mirror.cycle()
    await snapshot(mirror, "old")
    index.state.status("worse", "quarantined", "malware")
    await mirror.cycle()
    lose_state(mirror)
    await repair(mirror)
    index.state.status("bad", "quarantined", "malware")
    report = await mirror.cycle()
    assert mirror.page("bad")["files"] == []
    shown = [(one.project, one.snapshots) for one in report.withdrawn]
    assert shown == [("bad", ("old",)), ("worse", ("old",))]
    assert report.indexes["main"].files_removed == 1
