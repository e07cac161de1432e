"""An interrupted file goes on where it was interrupted, and comes out right whatever the server makes of that."""

from __future__ import annotations

import signal

import pytest
from msgspec.structs import replace

from harness.in_process import counters, failures, offered
from harness.program import Mirror as Program
from harness.program import published
from simulator import Corrupt, Cut, Relabel, Stall, Status, build_sdist

MIB = 1 << 20
LARGE = build_sdist("large", "1.0", size_pad=3 * MIB)
SIZE = len(LARGE[1])


def staged(mirror):
    """Return what lies in staging."""
    return sorted(p.suffix for p in (mirror.root / "staging").iterdir())


def asked(index, kind="file"):
    """Return status, offset asked for, and whether on the condition that the file is the same, of each request."""
    found = [r for r in index.take_requests() if r.kind == kind]
    return [(r.status, offset_of(r), "if-range" in r.headers) for r in found]


def offset_of(request):
    """Return the offset of a request's range: what had come before depends on when the connection was cut."""
    return int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


@pytest.fixture
async def large(simulator, mirror_of):
    """Return an index with one large file, and a mirror of it."""
    index = await simulator()
    index.state.publish("large", *LARGE)
    return index, mirror_of(index)


async def interrupt(index, mirror, after=2 * MIB, **where):
    """Run a cycle in which the file is cut for good; return how many bytes are kept for the next one."""
    mirror.retry_policy = replace(mirror.retry_policy, tries=1)
    index.inject(Cut(after=after), times=1, **(where or {"kind": "file"}))
    report = await mirror.cycle()
    assert (failures(report), mirror.files()) == ([("main", "large", LARGE[0], "unreachable")], {})
    assert staged(mirror) == [".json", ".part"]
    index.take_requests()
    (part,) = (mirror.root / "staging").glob("*.part")
    kept = part.stat().st_size
    assert 0 < kept <= after
    return kept


async def complete(index, mirror):
    """Run a cycle after which everything is there and nothing is left over."""
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))
    assert staged(mirror) == []
    return report


async def test_a_cut_body_goes_on_in_the_same_cycle(large):
    """The rest of a body is asked for with Range and If-Range, and only the rest comes again."""
    index, mirror = large
    index.inject(Cut(after=2 * MIB), kind="file", times=1)
    report = await complete(index, mirror)
    (first, second) = asked(index)
    assert (first, second[0], second[2]) == ((200, 0, False), 206, True)
    assert 0 < second[1] <= 2 * MIB
    assert report.indexes["main"].bytes_downloaded <= SIZE + 2 * MIB - second[1]


async def test_an_interrupted_file_goes_on_in_the_next_cycle(large):
    """What one cycle could not finish, the next one does, and asks for nothing that is here."""
    index, mirror = large
    kept = await interrupt(index, mirror)
    report = await complete(index, mirror)
    assert asked(index) == [(206, kept, True)]
    assert report.indexes["main"].bytes_downloaded == SIZE - kept
    assert counters(report)["files_new"] == 1


def test_a_killed_download_goes_on(threaded_simulator, tmp_path):
    """A process that is killed in the middle of a body leaves what the next one goes on with."""
    index = threaded_simulator()
    index.state.publish("large", *LARGE)
    stall = index.inject(Stall(after=3 * MIB - 1), kind="file", times=1)
    program = Program(tmp_path, url=index.url)
    with program.start_sync() as running:
        stall.wait()
        (staging,) = program.work.glob("mirror/staging")
        while sum(p.stat().st_size for p in staging.glob("*.part")) < MIB:
            pass  # it is on its way from the socket to the disk; the guard of the test run ends a wait in vain
        running.end(signal.SIGKILL)
    index.take_requests()
    program.sync_well()
    ((status, offset, is_conditional),) = asked(index)
    assert (status, is_conditional) == (206, True)
    assert offset >= MIB
    assert published(program.root) == {"large": {LARGE[0]: LARGE[1]}}
    assert list(staging.iterdir()) == []


async def test_a_prefix_that_rotted_is_noticed(large):
    """The bytes that are here are hashed again; where they are not right any more, the file comes again as a whole."""
    index, mirror = large
    kept = await interrupt(index, mirror)
    (part,) = (mirror.root / "staging").glob("*.part")
    data = bytearray(part.read_bytes())
    data[kept // 2] ^= 0xFF
    part.write_bytes(data)
    await complete(index, mirror)
    assert asked(index) == [(206, kept, True), (200, 0, False)]


async def test_a_whole_file_that_was_left_over_is_not_asked_for(large):
    """Where all bytes had come before the kill, the digest alone decides."""
    index, mirror = large
    await interrupt(index, mirror)
    (part,) = (mirror.root / "staging").glob("*.part")
    part.write_bytes(LARGE[1])
    report = await complete(index, mirror)
    assert (asked(index), report.indexes["main"].bytes_downloaded) == ([], 0)


async def test_a_server_without_ranges(large):
    """A server that answers the whole file to a range is noticed: nothing is appended to what is here."""
    index, mirror = large
    index.settings.ranges = False
    kept = await interrupt(index, mirror)
    await complete(index, mirror)
    assert asked(index) == [(200, kept, True)]


@pytest.mark.parametrize("hashes", [("sha256",), ("md5",), ()], ids=["sha256", "md5", "unhashed"])
async def test_a_file_that_has_changed_starts_again(large, hashes):
    """Bytes of two files are never put together, whether the index lists a digest or only the server's ETag tells."""
    index, mirror = large
    index.settings.hashes = hashes
    await interrupt(index, mirror)
    index.state.replace("large", LARGE[0], LARGE[1][:10] + bytes(reversed(LARGE[1][10:])))
    await complete(index, mirror)
    ((status, offset, _),) = asked(index)
    assert status == 200
    # Listed with another digest it is another file from the start.
    assert bool(offset) == (not hashes)


@pytest.mark.parametrize(
    ("lie", "statuses"),
    [
        (Relabel(headers={"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}), [206, 200]),
        (Relabel(headers={"Content-Range": f"bytes 7-{SIZE - 1}/{SIZE}"}), [206, 200]),
        (Relabel(headers={"Content-Range": None}), [206, 200]),
        (Relabel(headers={"Content-Range": "bytes */*"}), [206, 200]),
        (Relabel(headers={"Content-Range": "nonsense " * 500}), [206, 200]),
        (Corrupt(at=0), [206, 200]),
        (Corrupt(at=MIB // 2), [206, 200]),
        (Status(status=416), [416, 200]),
        (Status(status=204), [204, 206]),
    ],
    ids=["from-zero", "from-seven", "no-range", "stars", "nonsense", "first-byte", "later-byte", "416", "204"],
)
async def test_a_206_that_lies(large, lie, statuses):
    """Whatever is wrong with the answer to a range, the file comes out right, from its beginning if need be."""
    index, mirror = large
    await interrupt(index, mirror)
    mirror.retry_policy = replace(mirror.retry_policy, tries=5)
    index.inject(lie, kind="file", times=1)
    await complete(index, mirror)
    assert [status for status, _, _ in asked(index)] == statuses


async def test_a_206_that_always_lies_is_a_failure_of_that_file(large):
    """A server that never gives out the right bytes of a range costs a few tries, and nothing is published."""
    index, mirror = large
    index.state.publish("small", *build_sdist("small", "1.0"))
    await interrupt_only(index, mirror)
    index.inject(Corrupt(at=5), kind="file", filename=LARGE[0])
    report = await mirror.cycle()
    assert failures(report) == [("main", "large", LARGE[0], "digest-mismatch")]
    assert (set(mirror.files()), staged(mirror)) == ({"small"}, [])
    assert len(asked(index)) == 2


async def interrupt_only(index, mirror):
    """Interrupt the large file of several."""
    mirror.retry_policy = replace(mirror.retry_policy, tries=1)
    index.inject(Cut(after=2 * MIB), filename=LARGE[0], times=1)
    await mirror.cycle()
    assert staged(mirror) == [".json", ".part"]
    index.take_requests()


@pytest.fixture
async def signed(simulator, mirror_of):
    """Return an index whose files are behind pre-signed URLs that serve for one request, and a mirror of it."""
    index = await simulator(second_origin=True, single_use_urls=True)
    index.state.publish("large", *LARGE)
    return index, mirror_of(index)


async def test_a_signed_url_that_expires_in_the_middle_of_a_body(signed):
    """The index's own URL is asked again, and the body goes on at the fresh address."""
    index, mirror = signed
    index.inject(Cut(after=2 * MIB), kind="store", times=1)
    await complete(index, mirror)
    found = index.take_requests()
    statuses = [(r.kind, r.status, "range" in r.headers) for r in found if r.kind in {"file", "store"}]
    assert statuses == [("file", 302, False), ("store", 200, False), ("file", 302, True), ("store", 206, True)]
    first, second = [r.path for r in found if r.kind == "store"]
    assert first != second
    assert not any("authorization" in r.headers for r in found if r.kind == "store")


async def test_a_signed_url_that_expires_between_two_cycles(signed):
    """The same with all of the time in between: the address of yesterday is nowhere kept."""
    index, mirror = signed
    kept = await interrupt(index, mirror, kind="store")
    index.expire_urls()
    await complete(index, mirror)
    found = index.take_requests()
    assert [(r.status, offset_of(r)) for r in found if r.kind == "store"] == [(206, kept)]


async def test_a_signed_url_that_has_expired_before_it_is_used(signed):
    """A refusal by the object store asks the index once more, in the middle of a resume too."""
    index, mirror = signed
    kept = await interrupt(index, mirror, kind="store")
    index.inject(Status(status=403), kind="store", times=1)
    await complete(index, mirror)
    found = index.take_requests()
    kinds = [(r.kind, r.status, offset_of(r)) for r in found if r.kind in {"file", "store"}]
    assert kinds == [("file", 302, kept), ("store", 403, kept), ("file", 302, kept), ("store", 206, kept)]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_object_store_that_refuses_every_url_is_asked_twice(signed, status):
    """A fresh address that is refused as well ends the tries of this cycle: the file is refused, in the ledger."""
    index, mirror = signed
    index.inject(Status(status=status), kind="store")
    report = await mirror.cycle()
    assert failures(report) == [("main", "large", LARGE[0], "not-found" if status == 404 else "denied")]
    found = index.take_requests()
    assert [(r.kind, r.status) for r in found if r.kind in {"file", "store"}] == [("file", 302), ("store", status)] * 2

    index.faults.clear()
    await complete(index, mirror)
