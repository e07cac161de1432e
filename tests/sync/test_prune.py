"""``mirror prune`` deletes what nothing lists and whose retention has ended, and never anything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from harness.in_process import DAY_S, Mirror, check_tree, offered
from harness.upkeep import blob, blob_of, fill, pass_time, prune, sidecar_of, verify
from mirror.state.blobs.prunable import load_prunable, record_pruned
from mirror.state.store import open_store
from simulator import Simulator

Start = Callable[..., Awaitable[Simulator]]
MirrorOf = Callable[..., Mirror]


@pytest.fixture
async def replaced(simulator: Start, mirror_of: MirrorOf) -> tuple[Simulator, Mirror, Path]:
    """A mirror in which one file was replaced: its old bytes are listed by nothing."""
    index = await simulator()
    fill(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    old = blob(mirror, "p0")
    index.state.replace("p0", old.name, b"other bytes")
    await mirror.cycle()
    return index, mirror, old


async def days(mirror: Mirror, count: int) -> None:
    """Let a cycle run each day: the last one is a real one."""
    await pass_time(mirror, days=1, cycles=count - 1)
    mirror.clock.advance(DAY_S - 60)
    await mirror.cycle()


async def test_retention(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """Old bytes stay until their retention has ended, then they go with their sidecar and empty directories."""
    index, mirror, old = replaced
    await days(mirror, 29)
    assert ((await prune(mirror)).blobs, old.exists()) == (0, True)
    await days(mirror, 2)
    size = old.stat().st_size
    planned = await prune(mirror, dry_run=True)
    assert (planned.blobs, planned.bytes, planned.files, old.exists()) == (1, size, [str(old)], True)
    gone = await prune(mirror)
    assert (gone.blobs, gone.bytes, gone.leftovers) == (1, size, 0)
    assert not old.parent.exists()
    check_tree(mirror.root)
    assert mirror.files() == offered(index)
    assert (await verify(mirror)).findings == []
    assert (await prune(mirror)).blobs == 0


async def test_no_retention(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """Without a retention old bytes go at once, and what the pages list stays all the same."""
    index, mirror, old = replaced
    assert ((await prune(mirror, days=0)).blobs, old.exists()) == (1, False)
    check_tree(mirror.root)
    assert mirror.files() == offered(index)


@pytest.mark.parametrize("jump_days", [400, -400])
async def test_clock_jumps(replaced: tuple[Simulator, Mirror, Path], jump_days: int) -> None:
    """One jump of the clock, forwards or back, deletes nothing."""
    _, mirror, old = replaced
    mirror.clock.advance(jump_days * DAY_S)
    for _ in range(2):
        assert ((await prune(mirror)).blobs, old.exists()) == (0, True)
        await mirror.cycle()


async def test_dry_run_changes_nothing(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """A dry run names what would go and changes no byte on the disk, the state included."""
    _, mirror, old = replaced
    old.with_name("leftover-1.0.zip").write_bytes(b"xyz")
    before = mirror.bytes_on_disk()
    planned = await prune(mirror, days=0, history_days=0, dry_run=True)
    assert (planned.blobs, planned.leftovers, planned.leftover_bytes, planned.entries) == (1, 1, 3, 1)
    assert sorted(planned.files) == sorted([str(old), str(old.with_name("leftover-1.0.zip"))])
    assert mirror.bytes_on_disk() == before
    gone = await prune(mirror, days=0, history_days=0)
    assert (gone.blobs, gone.leftovers, gone.leftover_bytes, gone.entries) == (1, 1, 3, 1)


async def test_bytes_that_come_back(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """Bytes that are listed again are kept however long they were not."""
    index, mirror, old = replaced
    data = old.read_bytes()
    await days(mirror, 31)
    index.state.replace("p0", old.name, data)
    await mirror.cycle()
    # Now it is the other bytes that nothing lists, since just now.
    assert ((await prune(mirror)).blobs, old.exists()) == (0, True)
    check_tree(mirror.root)


async def test_same_bytes_under_two_names(simulator: Start, mirror_of: MirrorOf) -> None:
    """Of the same bytes under two names only the name that nothing lists goes."""
    index = await simulator()
    index.state.publish("twin", "twin-1.0.egg", b"same")
    index.state.publish("twin", "twin-2.0.egg", b"same")
    index.state.publish("other", "twin-1.0.egg", b"same")
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.remove_file("twin", "twin-2.0.egg")
    for _ in range(2):
        await mirror.cycle()
    index.state.remove_file("twin", "twin-1.0.egg")
    for _ in range(2):
        await mirror.cycle()
    sha256 = mirror.files()["other"]["twin-1.0.egg"]
    assert (await prune(mirror, days=0)).blobs == 1
    assert blob_of(mirror, "twin-1.0.egg", sha256).exists()
    assert not blob_of(mirror, "twin-2.0.egg", sha256).exists()
    check_tree(mirror.root)


async def test_leftovers(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """Files of ours that no row knows go, and their empty directories; foreign things and listed files stay."""
    _, mirror, old = replaced
    orphan = blob_of(mirror, "gone-1.0.whl", "cd" * 32)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"x")
    sidecar_of(orphan).write_bytes(b"x")
    (old.parent / "stray.metadata").symlink_to("/etc/passwd")
    foreign = mirror.root / "public/files/README"
    foreign.write_bytes(b"mine")
    gone = await prune(mirror)
    assert (gone.leftovers, orphan.parent.parent.parent.exists()) == (3, False)
    assert (old.exists(), foreign.read_bytes()) == (True, b"mine")
    check_tree(mirror.root)
    assert (await prune(mirror)).leftovers == 0


async def test_killed_between_row_and_file(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """Killed after the rows were committed away, the next run takes the files as leftovers."""
    _, mirror, old = replaced
    async with open_store(mirror.root / "state.db") as store:
        assert len(await record_pruned(store, await load_prunable(store, mirror.clock()))) == 1
    assert old.exists()
    check_tree(mirror.root)
    assert (await verify(mirror)).findings == []
    gone = await prune(mirror)
    assert (gone.blobs, gone.leftovers, old.parent.exists()) == (0, 2, False)


async def test_marked_pages_are_published_first(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """What a page on disk still lists is not deleted under it: pages that are marked are written first."""
    from mirror.state.blobs.verified import load_blob
    from mirror.state.entries.removals import RemovalRecord, record_removals

    _, mirror, _ = replaced
    path = blob(mirror, "p1")
    ((project, source),) = mirror.query("SELECT id, source FROM project WHERE name = 'p1'")
    async with open_store(mirror.root / "state.db") as store:
        removal = RemovalRecord(project=project, source=source, name="p1", filenames=(path.name,))
        await record_removals(store, [removal], cycle=2, now=mirror.clock())
        assert await load_blob(store, path.parent.name, path.name)
    assert path.name in mirror.files()["p1"]
    assert (await prune(mirror, days=0)).blobs == 2
    assert not path.exists()
    check_tree(mirror.root)
    assert mirror.files()["p1"] == {}


async def test_open_entries_are_never_pruned(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """Whatever the blob's row says, bytes that an open entry lists stay."""
    index, mirror, _ = replaced
    async with open_store(mirror.root / "state.db") as store, store.transaction() as tx:
        await tx.execute("UPDATE blob SET unlisted_since = 1")
    assert (await prune(mirror, days=0)).blobs == 1
    assert mirror.files() == offered(index)
    for project, files in mirror.files().items():
        for name, sha256 in files.items():
            assert blob_of(mirror, name, sha256).exists(), project


async def test_history(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """Closed entries go when keep-history has passed; open ones and the newest cycle never."""
    _, mirror, _ = replaced
    closed = "SELECT count(*) FROM entry WHERE valid_to IS NOT NULL"
    await days(mirror, 9)
    assert ((await prune(mirror, history_days=10)).entries, mirror.query(closed)) == (0, [(1,)])
    await days(mirror, 2)
    assert ((await prune(mirror, history_days=10)).entries, mirror.query(closed)) == (1, [(0,)])
    check_tree(mirror.root)
    assert mirror.query("SELECT count(*) FROM entry") == [(3,)]
    await prune(mirror, history_days=0)
    assert mirror.query("SELECT count(*) >= 1 FROM cycle") == [(1,)]
    await mirror.cycle()


async def test_thousands(replaced: tuple[Simulator, Mirror, Path]) -> None:
    """Thousands of blobs go in batches, none is left out, and a plan of them shows the first thousand."""
    _, mirror, _ = replaced
    async with open_store(mirror.root / "state.db") as store, store.transaction() as tx:
        await tx.executemany(
            "INSERT INTO blob (sha256, filename, size, stored, verified, unlisted_since) VALUES (?, 'x-1.zip', 2, 0, 0, ?)",
            [(f"{n:064x}", float(n)) for n in range(2500)],
        )
    planned = await prune(mirror, days=0, dry_run=True)
    assert (planned.blobs, len(planned.files)) == (2501, 1000)
    assert (await prune(mirror, days=0)).blobs == 2501
    assert mirror.query("SELECT count(*) FROM blob") == [(3,)]
