"""``mirror verify``: all kinds of damage are found and mended, and nothing is misreported beside a cycle."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harness.in_process import DAY_S, Mirror, check_tree, offered
from harness.upkeep import (
    blob,
    blob_of,
    damage,
    fill,
    flip,
    in_real_time,
    quarantined,
    repair,
    sidecar_of,
    verify,
    with_sdist,
)
from mirror.errors import StateError
from mirror.state.blobs.verified import count_blobs, load_oldest_verified, open_window
from mirror.state.store import open_store
from mirror.tree.checking.modes import closed_modes
from mirror.upkeep import verify as module
from mirror.upkeep.findings import Scope, Verification
from simulator import Simulator, Stall, Status

Start = Callable[..., Awaitable[Simulator]]
MirrorOf = Callable[..., Mirror]


@pytest.fixture
async def pair(simulator: Start, mirror_of: MirrorOf) -> tuple[Simulator, Mirror]:
    """A simulator with three projects, mirrored."""
    index = await simulator()
    fill(index)
    mirror = in_real_time(mirror_of(index))
    await mirror.cycle()
    return index, mirror


async def test_whole_tree(pair: tuple[Simulator, Mirror]) -> None:
    """A whole tree has no findings, everything is looked at, and nothing of it is changed."""
    _, mirror = pair
    before = mirror.footprint()
    found = await verify(mirror)
    assert (found.findings, found.blobs_checked, found.blobs_total, found.pages_checked, found.leftovers) == (
        [],
        3,
        3,
        3,
        0,
    )
    assert found.bytes_checked == found.bytes_total == sum(r[0] for r in mirror.query("SELECT size FROM blob"))
    assert mirror.footprint() == before
    assert not (mirror.root / "quarantine").exists()


async def test_directory_that_is_just_being_made(
    pair: tuple[Simulator, Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory is made before it gets its mode: a verification that sees it in between does not call it closed."""
    _, mirror = pair
    made = mirror.root / "public" / "simple" / "p0"

    def between(paths: Iterable[str]) -> list[tuple[str, str]]:
        made.chmod(0o700)
        try:
            return closed_modes(paths)
        finally:
            made.chmod(0o755)
            monkeypatch.undo()

    monkeypatch.setattr(module, "closed_modes", between)
    assert (await verify(mirror)).findings == []


def _flip(path: Path, _: Path) -> None:
    flip(path)


def _truncate(path: Path, _: Path) -> None:
    os.truncate(path, 10)


def _empty(path: Path, _: Path) -> None:
    os.truncate(path, 0)


def _grow(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _unlink(path: Path, _: Path) -> None:
    path.unlink()


def _link(path: Path, outside: Path) -> None:
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


def _pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def _no_directory(path: Path, _: Path) -> None:
    path.unlink()
    (path.parent / f"{path.name}.metadata").unlink()
    path.parent.rmdir()


BLOB_DAMAGE = {
    "a flipped bit": (_flip, "bytes"),
    "truncated": (_truncate, "size"),
    "empty": (_empty, "size"),
    "grown": (_grow, "size"),
    "missing": (_unlink, "missing"),
    "missing with its directory": (_no_directory, "missing"),
    "a link to the same bytes": (_link, "bytes"),
    "a pipe": (_pipe, "bytes"),
    "a directory": (_directory, "bytes"),
}


@pytest.mark.parametrize(("harm", "kind"), BLOB_DAMAGE.values(), ids=BLOB_DAMAGE)
async def test_damaged_blob(
    pair: tuple[Simulator, Mirror], tmp_path: Path, harm: Callable[[Path, Path], None], kind: str
) -> None:
    """A damaged blob is found by its kind; repair fetches it again, keeps the damage aside, and leaves nothing to find."""
    index, mirror = pair
    path = blob(mirror, "p1")
    intact = mirror.footprint()
    outside = tmp_path / "outside"
    await anyio.to_thread.run_sync(harm, path, outside)
    expected = [(kind, str(path.relative_to(mirror.root / "public")))]
    assert damage(mirror, await verify(mirror)) == expected
    assert damage(mirror, await verify(mirror)) == expected
    index.take_requests()
    found = await repair(mirror)
    assert (damage(mirror, found), found.lost, found.repaired) == (expected, [], 1)
    assert [r.filename for r in index.take_requests() if r.kind == "file"] == [path.name]
    check_tree(mirror.root)
    assert mirror.files() == offered(index)
    assert damage(mirror, await verify(mirror)) == []
    assert len(quarantined(mirror)) == (kind != "missing")
    if outside.exists():
        assert outside.read_bytes() == path.read_bytes()
    assert {p: f for p, f in mirror.footprint().items() if "/p0/" in p} == {
        p: f for p, f in intact.items() if "/p0/" in p
    }


async def test_linked_directory(pair: tuple[Simulator, Mirror], tmp_path: Path) -> None:
    """A symbolic link in place of a directory of blobs is foreign, and what lies behind it does not count as ours."""
    index, mirror = pair
    path = blob(mirror, "p0")
    outer = mirror.root / "public/files" / path.parent.name[:2]
    outer.rename(tmp_path / "elsewhere")
    outer.symlink_to(tmp_path / "elsewhere")
    assert damage(mirror, await verify(mirror)) == [
        ("foreign", f"files/{outer.name}"),
        ("missing", str(path.relative_to(mirror.root / "public"))),
    ]
    await repair(mirror)
    check_tree(mirror.root)
    assert damage(mirror, await verify(mirror)) == []
    assert mirror.files() == offered(index)
    assert [p.name for p in (tmp_path / "elsewhere").rglob("*.whl")] == [path.name]


SIDECAR_DAMAGE = {
    "other bytes": lambda p: p.write_bytes(b"Metadata-Version: 2.1\n"),
    "missing": lambda p: p.unlink(),
    "a link": lambda p: (p.rename(f"{p}.real"), p.symlink_to(f"{p}.real")),
    "a directory": lambda p: (p.unlink(), p.mkdir()),
}


@pytest.mark.parametrize("harm", SIDECAR_DAMAGE.values(), ids=SIDECAR_DAMAGE)
async def test_damaged_sidecar(pair: tuple[Simulator, Mirror], harm: Callable[[Path], object]) -> None:
    """A sidecar that is not the wheel's metadata is made again from the wheel, without a request."""
    index, mirror = pair
    path = blob(mirror, "p2")
    sidecar = sidecar_of(path)
    good = sidecar.read_bytes()
    await anyio.to_thread.run_sync(harm, sidecar)
    assert damage(mirror, await verify(mirror)) == [("sidecar", str(path.relative_to(mirror.root / "public")))]
    index.take_requests()
    found = await repair(mirror)
    assert (found.repaired, found.lost, found.without_metadata) == (1, [], [])
    assert index.take_requests() == []
    assert (sidecar.read_bytes(), sidecar.is_symlink()) == (good, False)
    check_tree(mirror.root)
    assert damage(mirror, await verify(mirror)) == []


async def test_sidecar_that_the_record_agrees_with(pair: tuple[Simulator, Mirror]) -> None:
    """A sidecar that agrees with the record and not with the wheel is damage too."""
    import hashlib

    _, mirror = pair
    path = blob(mirror, "p2")
    sidecar_of(path).write_bytes(b"lies")
    async with open_store(mirror.root / "state.db") as store, store.transaction() as tx:
        digest = hashlib.sha256(b"lies").hexdigest()
        await tx.execute("UPDATE blob SET metadata_sha256 = ? WHERE filename = ?", (digest, path.name))
    found = await verify(mirror)
    assert [f.detail for f in found.findings if f.blob] == ["its sidecar disagrees with the wheel"]
    await repair(mirror)
    check_tree(mirror.root)
    assert damage(mirror, await verify(mirror)) == []


async def test_metadata_that_cannot_be_made_again(simulator: Start, mirror_of: MirrorOf) -> None:
    """Damaged metadata of a source distribution is moved aside and not advertised until a cycle has fetched it again."""
    index = await simulator(core_metadata=True)
    filename = with_sdist(index, "lib")
    mirror = in_real_time(mirror_of(index))
    await mirror.cycle()
    assert "core-metadata" in mirror.labels("lib", filename)
    path = blob(mirror, "lib")
    sidecar_of(path).write_bytes(b"x")
    found = await repair(mirror)
    assert (found.without_metadata, found.repaired) == ([str(path)], 1)
    assert not mirror.labels("lib", filename).get("core-metadata")
    assert not sidecar_of(path).exists()
    assert [name.rpartition("__")[2] for name in quarantined(mirror)] == [f"{filename}.metadata"]
    check_tree(mirror.root)
    assert damage(mirror, await verify(mirror)) == []

    index.take_requests()
    await mirror.cycle()
    assert "core-metadata" in mirror.labels("lib", filename)
    assert (index.count(kind="metadata"), index.count(kind="file")) == (1, 0)
    assert damage(mirror, await verify(mirror)) == []


PAGE_DAMAGE = {
    "html": lambda d: (d / "p0/index.html").write_bytes(b"x"),
    "v1_html": lambda d: (d / "p0/index.v1_html").unlink(),
    "json": lambda d: (d / "p0/index.v1_json").write_bytes((d / "p1/index.v1_json").read_bytes()),
    "longer": lambda d: (d / "p0/index.v1_json").write_bytes((d / "p0/index.v1_json").read_bytes() + b"\n"),
    "a link": lambda d: ((d / "p0/index.html").unlink(), (d / "p0/index.html").symlink_to("index.v1_html")),
    "a pipe": lambda d: ((d / "p0/index.v1_json").unlink(), os.mkfifo(d / "p0/index.v1_json")),
    "a directory": lambda d: ((d / "p0/index.html").unlink(), (d / "p0/index.html").mkdir()),
    "all gone": lambda d: [p.unlink() for p in (d / "p0").iterdir()],
    "no directory": lambda d: (d / "p0").rename(d.parent / "away"),
    "a file in its place": lambda d: ((d / "p0").rename(d.parent / "away"), (d / "p0").write_bytes(b"x")),
    "a link in its place": lambda d: ((d / "p0").rename(d.parent / "away"), (d / "p0").symlink_to(d.parent / "away")),
}


ROOT_DAMAGE: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link": lambda p: p.symlink_to("p0/index.v1_json"),
    "an endless link": lambda p: p.symlink_to("/dev/zero"),
    "a directory": Path.mkdir,
}


@pytest.mark.parametrize("harm", ROOT_DAMAGE.values(), ids=ROOT_DAMAGE)
async def test_no_plain_file_in_the_place_of_the_root_page(
    pair: tuple[Simulator, Mirror], harm: Callable[[Path], object]
) -> None:
    """It is never read: a cycle stops and names what to do, and a repair puts the page back."""
    index, mirror = pair
    page = mirror.root / "public/simple/index.v1_json"
    page.unlink()
    await anyio.to_thread.run_sync(harm, page)
    with pytest.raises(StateError, match="holds no root page of ours"):
        await mirror.cycle()
    assert ("page", "simple") in damage(mirror, await verify(mirror))
    await repair(mirror)
    check_tree(mirror.root)
    assert mirror.files() == offered(index)
    await mirror.cycle()


@pytest.mark.parametrize("harm", PAGE_DAMAGE.values(), ids=PAGE_DAMAGE)
async def test_damaged_page(pair: tuple[Simulator, Mirror], harm: Callable[[Path], object]) -> None:
    """A page that is not what the state says is found and written again, without a request."""
    index, mirror = pair
    await anyio.to_thread.run_sync(harm, mirror.root / "public/simple")
    assert ("page", "simple/p0") in damage(mirror, await verify(mirror))
    index.take_requests()
    found = await repair(mirror)
    assert found.lost == []
    assert index.take_requests() == []
    check_tree(mirror.root)
    assert mirror.files() == offered(index)
    assert damage(mirror, await verify(mirror)) == []


@pytest.mark.parametrize("page", ["index.html", "index.v1_html", "index.v1_json"])
@pytest.mark.parametrize("harm", ["unlink", "change"])
async def test_damaged_root(pair: tuple[Simulator, Mirror], page: str, harm: str) -> None:
    """A root page that is missing or changed is found and written again."""
    index, mirror = pair
    path = mirror.root / "public/simple" / page
    if harm == "unlink":
        path.unlink()
    else:
        data = path.read_bytes().replace(b"p1", b"q1")
        path.unlink()
        path.write_bytes(data)
    assert damage(mirror, await verify(mirror)) == [("page", "simple")]
    await repair(mirror)
    check_tree(mirror.root)
    assert damage(mirror, await verify(mirror)) == []
    assert mirror.files() == offered(index)


async def test_foreign_things(pair: tuple[Simulator, Mirror], tmp_path: Path) -> None:
    """Planted files, directories and links are named once each, moved aside, and never followed."""
    _, mirror = pair
    public = mirror.root / "public"
    path = blob(mirror, "p0")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"victim")
    sha256 = "ab" * 32
    planted = {
        "files/zz": lambda p: p.mkdir(),
        "files/README": lambda p: p.write_bytes(b"x"),
        "files/link": lambda p: p.symlink_to(outside),
        f"files/{sha256[:2]}/nothex": lambda p: p.mkdir(parents=True),
        f"files/{path.parent.name[:2]}/{path.parent.name[2:4]}/{sha256}": lambda p: p.mkdir(),
        f"files/{path.parent.name[:2]}/{path.parent.name[2:4]}/dangling": lambda p: p.symlink_to("nowhere"),
        f"{path.parent.relative_to(public)}/inner": lambda p: (p.mkdir(), (p / "x").write_bytes(b"")),
        "simple/evil": lambda p: (p.mkdir(), (p / "index.html").write_bytes(b"x")),
        "simple/p0/more.html": lambda p: p.write_bytes(b"x"),
        "simple/page": lambda p: p.symlink_to(outside),
        "simple/odd\udcff\n": lambda p: p.write_bytes(b"x"),
    }
    for place, plant in planted.items():
        plant(public / place)
    expected = sorted(("foreign", place) for place in planted)
    found = await verify(mirror)
    assert damage(mirror, found) == expected
    assert all(item["path"].isprintable() for item in found.as_json()["damage"])
    assert (await repair(mirror)).repaired == len(planted)
    assert damage(mirror, await verify(mirror)) == []
    assert len(quarantined(mirror)) == len(planted)
    assert (outside / "victim").read_bytes() == b"victim"
    check_tree(mirror.root)


async def test_leftovers_are_no_damage(pair: tuple[Simulator, Mirror]) -> None:
    """Whole files that a kill left behind are counted and stay: prune takes them."""
    _, mirror = pair
    blob(mirror, "p0").with_name("other-1.0.tar.gz").write_bytes(b"x")
    orphan = blob_of(mirror, "gone-1.0.tar.gz", "cd" * 32)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"x")
    found = await repair(mirror)
    assert (found.findings, found.leftovers) == ([], 2)
    assert orphan.exists()


async def test_shared_bytes(simulator: Start, mirror_of: MirrorOf) -> None:
    """One damaged file that two indexes list is one finding; the project that shows it gets it back."""
    first, second = await simulator(), await simulator()
    for index in (first, second):
        fill(index)
    fill(second, 1, start=3)
    mirror = in_real_time(mirror_of(first=first, second=second))
    await mirror.cycle()
    flip(blob(mirror, "p0"))
    flip(blob(mirror, "p3"))
    found = await repair(mirror)
    assert (len(found.findings), found.repaired, found.lost) == (2, 2, [])
    check_tree(mirror.root)


async def test_no_longer_offered(pair: tuple[Simulator, Mirror]) -> None:
    """A damaged file that the index no longer gives leaves the pages, is reported as lost, and stands in the ledger."""
    index, mirror = pair
    path = blob(mirror, "p1")
    index.state.publish("p1", "p1-2.0.tar.gz", b"new")
    index.state.remove_file("p1", path.name)
    flip(path)
    found = await repair(mirror)
    assert [(f.index, f.project, f.filename) for f in found.lost] == [("main", "p1", path.name)]
    assert found.repaired == 0
    check_tree(mirror.root)
    assert mirror.files() == offered(index)
    assert mirror.ledger() == [("main", "p1", path.name, "not-found")]
    assert damage(mirror, await verify(mirror)) == []
    await mirror.cycle()
    await mirror.cycle(full=True)
    assert mirror.ledger() == []


async def test_file_answers_404(pair: tuple[Simulator, Mirror]) -> None:
    """A damaged file that is listed and can't be had is in the ledger with its URL, and comes back when it can be had."""
    index, mirror = pair
    path = blob(mirror, "p1")
    flip(path)
    index.inject(Status(status=404), kind="file")
    found = await repair(mirror)
    assert [f.filename for f in found.lost] == [path.name]
    assert mirror.ledger() == [("main", "p1", path.name, "not-found")]
    check_tree(mirror.root)
    index.faults.clear()
    await mirror.cycle()
    assert (mirror.files(), mirror.ledger()) == (offered(index), [])


async def test_index_is_down(pair: tuple[Simulator, Mirror]) -> None:
    """While the index refuses everything, damage leaves the pages and the next cycle that works fetches it."""
    index, mirror = pair
    flip(blob(mirror, "p1"))
    index.inject(Status(status=403))
    found = await repair(mirror)
    assert [f.project for f in found.lost] == ["p1"]
    check_tree(mirror.root)
    assert {name for name, files in mirror.files().items() if files} == {"p0", "p2"}
    index.faults.clear()
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_unlisted_blob(pair: tuple[Simulator, Mirror]) -> None:
    """Damage of a blob that nothing lists is moved aside and not missed."""
    index, mirror = pair
    path = blob(mirror, "p1")
    index.state.replace("p1", path.name, b"other bytes")
    await mirror.cycle()
    flip(path)
    found = await repair(mirror)
    assert (damage(mirror, found)[0][0], found.lost, found.repaired) == ("bytes", [], 1)
    assert damage(mirror, await verify(mirror)) == []
    check_tree(mirror.root)


async def test_whole_tree_lost(pair: tuple[Simulator, Mirror]) -> None:
    """A state whose tree was lost is not taken for up to date: a cycle says so, and repair brings everything back."""
    from mirror.errors import StateError

    index, mirror = pair
    (mirror.root / "public").rename(mirror.root / "lost")
    with pytest.raises(StateError, match=r"holds no root page of ours.*mirror verify --repair"):
        await mirror.cycle()
    found = await repair(mirror)
    assert found.lost == []
    check_tree(mirror.root)
    assert mirror.files() == offered(index)
    await mirror.cycle()


async def test_older_tree(pair: tuple[Simulator, Mirror]) -> None:
    """A tree that is older than its state is noticed by its root page, and repair brings it up to date."""
    import shutil

    from mirror.errors import StateError

    index, mirror = pair
    await anyio.to_thread.run_sync(shutil.copytree, mirror.root / "public", mirror.root / "old")
    fill(index, 1, start=3)
    await mirror.cycle()
    (mirror.root / "public").rename(mirror.root / "newer")
    (mirror.root / "old").rename(mirror.root / "public")
    with pytest.raises(StateError, match="holds an older root page"):
        await mirror.cycle()
    await repair(mirror)
    check_tree(mirror.root)
    assert mirror.files() == offered(index)


async def times(mirror: Mirror) -> dict[str, float]:
    return dict(mirror.query("SELECT filename, verified FROM blob"))


async def test_sample_takes_the_oldest(pair: tuple[Simulator, Mirror]) -> None:
    """Samples one after the other reach every file, the longest unverified first; a sample looks at no page."""
    index, mirror = pair
    fill(index, 7, start=3)
    await mirror.cycle()
    flip(mirror.root / "public/simple/p0/index.html", 1)
    reached: set[str] = set()
    for number in range(5):
        found = await verify(mirror, Scope(share=0.2), now=mirror.clock() + 60 + number)
        assert (found.blobs_checked, found.blobs_total, found.findings) == (2, 2, [])
        reached = {name for name, at in (await times(mirror)).items() if at > mirror.clock()}
        assert len(reached) == 2 * (number + 1)
    assert len(reached) == 10


async def test_older_than_resumes(pair: tuple[Simulator, Mirror]) -> None:
    """With a time only what was not verified since then is hashed: an interrupted run is continued."""
    _, mirror = pair
    start = time.time()
    await verify(mirror, Scope(share=0.4), now=start)
    found = await verify(mirror, Scope(not_since=start), now=start + 5)
    assert (found.blobs_checked, found.blobs_total, found.pages_checked) == (2, 2, 3)
    assert sorted((await times(mirror)).values()) == [start, start + 5, start + 5]


async def test_interrupted_run(pair: tuple[Simulator, Mirror]) -> None:
    """A run that is cancelled keeps what it has verified."""
    index, mirror = pair
    fill(index, 200, start=3)
    await mirror.cycle()
    start = time.time()
    found = Verification()
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            from mirror.holdings.opening import opened_holdings_for_reading
            from mirror.upkeep.verify import verify as run_verify

            config = mirror.config
            opened = opened_holdings_for_reading(config.mirror, config.limits, may_note=True, clock=lambda: start)
            async with opened as holdings:
                await run_verify(holdings, Scope(), into=found)

        tasks.start_soon(run)
        while found.blobs_checked < 20:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert 20 <= found.blobs_checked < 203
    noted = sum(at == start for at in (await times(mirror)).values())
    assert noted >= 20
    rest = await verify(mirror, Scope(not_since=start))
    assert rest.blobs_checked == 203 - noted


@pytest.mark.parametrize("shift_s", [-400 * DAY_S, 400 * DAY_S], ids=["back", "ahead"])
async def test_clock_jumps(pair: tuple[Simulator, Mirror], shift_s: float) -> None:
    """Whatever the clock says, a whole run looks at every file exactly once, and so does a second one."""
    _, mirror = pair
    for now in (time.time() + shift_s, time.time(), time.time(), time.time() + shift_s):
        assert (await verify(mirror, now=now)).blobs_checked == 3
    same = time.time()
    for _ in range(3):
        assert (await verify(mirror, now=same)).blobs_checked == 3


async def test_time_ahead_is_not_believed(pair: tuple[Simulator, Mirror]) -> None:
    """What was verified in the future counts as not verified."""
    _, mirror = pair
    now = time.time()
    await verify(mirror, now=now + 1000 * DAY_S)
    assert (await verify(mirror, Scope(not_since=now - DAY_S), now=now)).blobs_checked == 3


async def test_beside_cycles(pair: tuple[Simulator, Mirror]) -> None:
    """Beside cycles that add, relabel, replace and remove, nothing is called damaged."""
    index, mirror = pair
    is_over = False

    async def cycles() -> None:
        nonlocal is_over
        for number in range(6):
            fill(index, 20, start=10 + 20 * number)
            index.state.yank("p0", blob(mirror, "p0").name, f"reason {number}")
            if number:
                for gone in range(20):
                    index.state.delete_project(f"p{10 + 20 * (number - 1) + gone}")
            await mirror.cycle(allow_shrink=True)
        is_over = True

    checked = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cycles)
        while not is_over:
            found = await verify(mirror)
            assert damage(mirror, found) == []
            checked += found.blobs_checked
    assert checked
    assert damage(mirror, await verify(mirror)) == []


async def test_during_a_stalled_cycle(pair: tuple[Simulator, Mirror]) -> None:
    """While a cycle holds the lock in the middle of a download, verify looks at what is there and finds no damage."""
    index, mirror = pair
    fill(index, 1, start=3)
    stall = Stall(after=10)
    index.inject(stall, kind="file", times=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mirror.cycle)
        await stall.wait_async()
        found = await verify(mirror)
        assert (found.findings, found.blobs_checked) == ([], 3)
        index.release()


async def test_window_is_walked_in_chunks(pair: tuple[Simulator, Mirror]) -> None:
    """Thousands of blobs are read in chunks, each one once, in the order of their last verification."""
    _, mirror = pair
    async with open_store(mirror.root / "state.db") as store:
        async with store.transaction() as tx:
            await tx.execute("DELETE FROM entry")
            await tx.execute("DELETE FROM blob")
            await tx.executemany(
                "INSERT INTO blob (sha256, filename, size, stored, verified) VALUES (?, 'x-1.zip', 2, 0, ?)",
                [(f"{n:064x}", float(n * 7919 % 2503)) for n in range(2500)],
            )
        window = await open_window(store, now=5000.0)
        assert await count_blobs(store, window) == (2500, 5000)
        seen = [b async for b in load_oldest_verified(store, window)]
        assert [b.verified for b in seen] == sorted(float(n * 7919 % 2503) for n in range(2500))
        assert len([b async for b in load_oldest_verified(store, window, limit=1234)]) == 1234
