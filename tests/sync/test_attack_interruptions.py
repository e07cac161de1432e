"""What a cycle leaves behind when it is stopped at a bad moment, or when its own second look contradicts the first."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path

import anyio
import pytest

from harness.in_process import check_tree, failures, offered
from mirror.core.diff import Fetch, ProjectChange
from mirror.core.model import ListedFile, ProjectMeta
from mirror.core.names import ProjectName
from mirror.errors import TreeError
from mirror.publishing.publisher import Publisher
from mirror.state.listing.due import ProjectRow
from mirror.sync.cycle import run_cycle
from mirror.sync.cycle_parts import Options
from mirror.sync.recording.events import FileStaged
from mirror.sync.recording.recorder import Recorder
from mirror.sync.work import PageWork, ProjectWork, WorkProgress
from mirror.wiring.cycle import opened_cycle
from simulator import Status, build_sdist, build_wheel, withheld


def wheel(name, version="1.0", **options):
    return build_wheel(name, version, **options)


def opened(mirror, **options):
    return opened_cycle(mirror.config, Options(**options), env={}, clock=mirror.clock)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_equal_bytes_under_two_names_are_both_there(simulator, mirror_of):
    """A file whose bytes are held under another name is placed under its own name too."""
    upstream = await simulator()
    name, data = build_sdist("twin", "1.0")
    upstream.state.publish("twin", name, data)
    mirror = mirror_of(upstream)
    await mirror.cycle()
    upstream.state.remove_file("twin", name)
    await mirror.cycle()
    await mirror.cycle()  # the entry is gone, the blob is still held
    upstream.state.publish("twin", name, data)
    upstream.state.publish("twin", "twin-1.0.post1.tar.gz", data)
    await mirror.cycle()
    assert mirror.files() == offered(upstream)


async def test_a_full_disk_stops_the_cycle_with_its_own_message_only(simulator, mirror_of, caplog):
    """When nothing can be placed any more, the disk's error is what the cycle ends with, whoever else was waiting."""
    upstream = await simulator()
    for number in range(300):
        upstream.state.publish(f"p{number % 3}", *build_sdist(f"p{number % 3}", f"1.{number}"))
    mirror = mirror_of(upstream)
    mirror.limits |= {"downloads": 64}
    await mirror.cycle(projects=(ProjectName("nothing"),))
    files = mirror.root / "public/files"
    files.rmdir()
    async with opened(mirror) as cycle:
        files.rmdir()
        files.write_bytes(b"in the way")
        report = await run_cycle(cycle)
    assert isinstance(report.aborted, TreeError)
    assert report.failures == []


async def test_what_has_arrived_is_entered_or_kept_but_never_both(simulator, mirror_of):
    """A file that is handed to the recorder while its index's part ends is placed whole, whoever was waiting."""
    upstream = await simulator()
    upstream.state.publish("p", *wheel("p"))
    mirror = mirror_of(upstream)
    await mirror.cycle()
    data = [f"content {n}".encode() for n in range(200)]
    async with opened(mirror) as cycle:
        run = cycle.runs[0]
        row = ProjectRow(
            id=(await cycle.store.value("SELECT id FROM project")),
            name=ProjectName("p"),
            listed_serial=None,
            validators=None,
            selection=None,
            meta=ProjectMeta(),
            withdrawn=None,
            has_entries=True,
            has_absent=False,
            has_failures=False,
            address=None,
            page_origin=None,
        )
        work = ProjectWork(
            run=run,
            row=row,
            asked=PageWork(change=ProjectChange(), page_seen=None),
            progress=WorkProgress(pending=1000),
        )
        recorder = Recorder(cycle.holdings, Publisher(cycle.holdings))
        handed = []

        async def hand_over(number):
            digest = hashlib.sha256(data[number]).hexdigest()
            file = ListedFile(filename=f"p-1.{number}.tar.gz", url="http://x/", digests=(("sha256", digest),))
            staged = await cycle.holdings.files.open_staged(file.filename)
            await staged.write(data[number])
            try:
                await recorder.put(FileStaged(work=work, fetch=Fetch(file=file), staged=staged))
                handed.append(number)
            except BaseException:
                await staged.keep()
                raise

        async with anyio.create_task_group() as tasks:
            with run.reach.scope:
                async with anyio.create_task_group() as producers:
                    for number in range(len(data)):
                        producers.start_soon(hand_over, number)
                    await anyio.wait_all_tasks_blocked()
                    tasks.start_soon(recorder.run)
                    await anyio.lowlevel.checkpoint()
                    run.reach.scope.cancel()
            recorder.close()
    rows = mirror.query("SELECT filename, sha256, size FROM entry WHERE valid_to IS NULL AND filename LIKE '%.tar.gz'")
    assert sorted(rows) == sorted(
        (f"p-1.{n}.tar.gz", hashlib.sha256(data[n]).hexdigest(), len(data[n])) for n in handed
    )
    for name, sha256, _ in rows:
        blob = mirror.root / "public/files" / sha256[:2] / sha256[2:4] / sha256 / name
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == sha256


async def test_a_cancelled_cycle_leaves_no_file_open_and_the_next_one_ends_its_work(simulator, mirror_of):
    """A cycle stopped in the middle of downloads leaves no open file, and what it has placed is not asked for again."""
    upstream = await simulator()
    for number in range(40):
        upstream.state.publish("big", *build_sdist("big", f"1.{number}", size_pad=1_500_000 if number % 4 == 0 else 10))
    mirror = mirror_of(upstream)
    before = open_files()
    async with opened(mirror) as cycle:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def stop():
                    while upstream.count(kind="file", status=200) < 20:
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                tasks.start_soon(stop)
                await run_cycle(cycle)
    gc.collect()
    assert open_files() <= before
    placed = {r[0] for r in mirror.query("SELECT filename FROM blob")}
    on_disk = {p.name for p in (mirror.root / "public/files").rglob("*.tar.gz")}
    assert placed == on_disk
    upstream.take_requests()
    await mirror.cycle()
    asked = {r.filename for r in upstream.take_requests() if r.kind == "file"}
    assert (mirror.files(), asked & placed) == (offered(upstream), set())


@pytest.mark.parametrize("back", [False, True], ids=["still-absent", "listed-again"])
async def test_a_page_that_is_read_again_in_a_cycle_is_judged_by_what_it_says_then(simulator, mirror_of, back):
    """A retry that finds the listing outdated reads the page again; only what that reading misses leaves, counted once."""
    upstream = await simulator(validators="etag")
    for number in range(20):
        upstream.state.publish("lib", *wheel("lib", f"1.{number}"))
    mirror = mirror_of(upstream)
    await mirror.cycle()
    gone = "lib-1.0-py3-none-any.whl"
    held = upstream.state["lib"].files[gone]
    upstream.state.remove_file("lib", gone)
    late = upstream.state.publish("lib", *wheel("lib", "2.0"))
    upstream.inject(withheld("POLICY_COOLDOWN"), filename=late.filename)
    await mirror.cycle()
    upstream.faults.clear()
    if back:
        upstream.freeze("lib")
        stale = upstream.state["lib"]
        upstream.state.publish("lib", gone, held.data)
        assert stale.serial != upstream.state["lib"].serial
    upstream.inject(Status(status=404), filename=late.filename, times=1)
    if back:
        # The cache that confirmed the page is asked again without validators, and is fresh by then.
        upstream.inject(Status(status=304), kind="page", project="lib", times=1)
        upstream.thaw()
    report = await mirror.cycle()
    counters = report.indexes["main"]
    assert (mirror.files(), counters.files_removed) == (offered(upstream), 0 if back else 1)
    assert failures(report) == []


async def test_a_second_reading_after_a_first_fill_enters_no_file_twice(simulator, mirror_of):
    """Files that a retry brought and the page that is read again in the same cycle don't get in each other's way."""
    upstream = await simulator()
    names = []
    for number in range(30):
        names.append(upstream.state.publish("lib", *wheel("lib", f"1.{number}")).filename)
        upstream.inject(withheld("POLICY_COOLDOWN"), filename=names[-1])
    mirror = mirror_of(upstream)
    await mirror.cycle()
    upstream.faults.clear()
    upstream.inject(Status(status=404), filename=names[0], times=1)
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(upstream), [])
    assert report.indexes["main"].files_new == 30
    check_tree(mirror.root)


async def test_a_narrowed_cycle_does_not_forget_what_the_brake_holds(simulator, mirror_of):
    """A cycle for one project that removes nothing leaves the brake's failure of the whole index in the ledger."""
    upstream = await simulator()
    for number in range(10):
        upstream.state.publish("lib", *wheel("lib", f"1.{number}"))
    upstream.state.publish("other", *wheel("other"))
    mirror = mirror_of(upstream)
    await mirror.cycle()
    mirror.configure("main", exclude_files=("lib-*",))
    held = failures(await mirror.cycle())
    assert held == [("main", None, None, "shrink")]
    assert failures(await mirror.cycle(projects=(ProjectName("other"),))) == held


async def test_files_that_wait_for_the_disk_hold_little_memory(simulator, mirror_of):
    """However many files arrive while the disk is busy, at most 32 MiB of their bytes are in memory; all are entered."""
    upstream = await simulator()
    upstream.state.publish("p", *wheel("p"))
    mirror = mirror_of(upstream)
    await mirror.cycle()
    contents = [bytes([n]) * 900_000 for n in range(60)]
    async with opened(mirror) as cycle:
        row_id = await cycle.store.value("SELECT id FROM project")
        row = ProjectRow(
            id=row_id,
            name=ProjectName("p"),
            listed_serial=None,
            validators=None,
            selection=None,
            meta=ProjectMeta(),
            withdrawn=None,
            has_entries=True,
            has_absent=False,
            has_failures=False,
            address=None,
            page_origin=None,
        )
        work = ProjectWork(
            run=cycle.runs[0],
            row=row,
            asked=PageWork(change=ProjectChange(), page_seen=None),
            progress=WorkProgress(pending=len(contents)),
        )
        recorder = Recorder(cycle.holdings, Publisher(cycle.holdings))
        waiting = []
        for number, data in enumerate(contents):
            file = ListedFile(filename=f"p-1.{number}.tar.gz", url="http://x/")
            staged = await cycle.holdings.files.open_staged(file.filename)
            await staged.write(data)
            waiting.append(staged)
            await recorder.put(FileStaged(work=work, fetch=Fetch(file=file), staged=staged))
        held = sum(s.in_memory for s in waiting)
        recorder.close()
        await recorder.run()
    rows = mirror.query("SELECT filename, sha256 FROM entry WHERE valid_to IS NULL AND filename LIKE '%.tar.gz'")
    assert held <= 32 * 1024 * 1024
    assert dict(rows) == {f"p-1.{n}.tar.gz": hashlib.sha256(data).hexdigest() for n, data in enumerate(contents)}
