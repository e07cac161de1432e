"""One writer of a tree in an object store: claims, the lock, and pages that are put over remembered ETags only."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from harness.in_process import offered
from harness.storing import etag_form
from mirror.core.store_address import parse_store_address
from mirror.errors import ConfigError, StoreLocked, TreeError
from mirror.sync import staging_room
from mirror.sync.fetching import jobs
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.lease import LEASE_S, Lease
from mirror.tree.objects.pages import REVISION, WRITER
from mirror.tree.staging import StagedFile
from simulator import Cut, Unframed, build_wheel

A_WHEEL = build_wheel("alpha", "1.0")
ANOTHER = build_wheel("alpha", "2.0")


class Clock:
    """A clock that only a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def index(simulator):
    started = await simulator()
    started.state.publish("alpha", *A_WHEEL)
    return started


def lock_of(mirror):
    return json.loads(mirror.prefix.read(".lock"))


async def test_layout(index, mirror_of):
    """A first cycle puts files, metadata and pages in both forms, each with its headers, and frees the lock."""
    mirror = mirror_of(index)
    await mirror.cycle()
    (name, data), sha256 = A_WHEEL, offered(index)["alpha"][A_WHEEL[0]]
    blob = f"files/{sha256[:2]}/{sha256[2:4]}/{sha256}/{name}"
    pages = {f"{form}/{place}index.html" for form in ("simple", "simple-json") for place in ("", "alpha/")}
    assert set(mirror.prefix.keys()) == {".lock", blob, f"{blob}.metadata"} | pages
    assert mirror.prefix.read(blob) == data
    headers = {key: mirror.prefix.attributes(key) for key in (*pages, blob, f"{blob}.metadata")}
    for key in (blob, f"{blob}.metadata"):
        assert headers[key]["Content-Type"] == "application/octet-stream"
        assert headers[key]["Cache-Control"] == "max-age=31536000, immutable"
    for key in pages:
        is_json = key.startswith("simple-json/")
        assert headers[key]["Content-Type"] == (
            "application/vnd.pypi.simple.v1+json" if is_json else "text/html; charset=utf-8"
        )
        assert headers[key]["Cache-Control"] == "max-age=600"
        assert headers[key][WRITER] == lock_of(mirror)["root"]
        assert int(headers[key][REVISION]) >= 1
    assert lock_of(mirror)["is_free"] is True
    assert not (mirror.root / "public/simple/alpha/index.v1_json").is_symlink()


async def test_unchanged_cycle_costs_no_request(index, mirror_of, monkeypatch):
    """A cycle without a change asks the store for nothing: it succeeds although the store is away."""
    mirror = mirror_of(index)
    await mirror.cycle()
    monkeypatch.setitem(mirror.prefix.env, "AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    report = await mirror.unchecked_cycle()
    assert (report.outcome.value, mirror.exit_code) == ("complete", 0)
    index.state.publish("alpha", *ANOTHER)
    report = await mirror.unchecked_cycle()
    assert mirror.exit_code == 6
    assert "can't be reached" in str(report.aborted)
    assert mirror.query("SELECT count(*) FROM blob") == [(1,)]


async def test_foreign_prefix(index, mirror_of):
    """A prefix that holds something, and that the root has not claimed, is refused before any put."""
    mirror = mirror_of(index)
    mirror.prefix.write("notes.txt", b"x")
    await mirror.unchecked_cycle()
    assert mirror.exit_code == 6
    assert mirror.prefix.keys() == ["notes.txt"]
    assert mirror.query("SELECT count(*) FROM meta WHERE key = 'tree_address'") == [(0,)]


@pytest.mark.parametrize("fault", ["no-extra", "plain-http"])
async def test_unusable_store(index, mirror_of, monkeypatch, fault):
    """Without the extra, or over plain http that is not allowed, nothing is touched."""
    mirror = mirror_of(index)
    if fault == "no-extra":
        monkeypatch.setitem(sys.modules, "obstore", None)
    else:
        monkeypatch.delitem(mirror.prefix.env, "AWS_ALLOW_HTTP")
    with pytest.raises(ConfigError, match=r"extra `store`|AWS_ALLOW_HTTP"):
        async with mirror.opened():
            pass
    assert not mirror.root.exists()


async def test_lost_state(index, mirror_of):
    """A root without its state does not write over its earlier tree; the message names `tree adopt`."""
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.prefix.versions()
    shutil.rmtree(mirror.root)
    report = await mirror.unchecked_cycle()
    assert mirror.exit_code == 6
    assert "mirror tree adopt" in str(report.aborted)
    assert mirror.prefix.versions() == before


async def test_killed_in_the_first_fill(index, mirror_of):
    """A prefix that was claimed is the root's own although nothing but a blob was put: the next cycle completes it."""
    mirror = mirror_of(index)
    async with mirror.opened() as cycle:
        await cycle.holdings.writer.begin()
        mirror.prefix.write("files/aa/bb/half", b"x")
        mirror.prefix.remove(".lock")  # as if killed before the first put of the lock
        cycle.holdings.writer._lease._etag = '"gone"'  # the release finds nothing of its own
    await mirror.unchecked_cycle()
    assert mirror.exit_code == 0
    mirror.prefix.remove("files/aa/bb/half")
    mirror.check()


@pytest.mark.parametrize("moves", ["to-another", "to-the-disk", "from-the-disk"])
async def test_another_address(index, mirror_of, moves, object_store):
    """Another place than the state remembers is refused, with nothing touched there or here."""
    mirror = mirror_of(index)
    if moves == "from-the-disk":
        address = mirror.settings.pop("tree")
        async with mirror.opened() as cycle:
            from mirror.sync.cycle import run_cycle

            await run_cycle(cycle)
        mirror.settings["tree"] = address
    else:
        await mirror.cycle()
        mirror.settings["tree"] = f"{mirror.prefix.address}-other" if moves == "to-another" else None
    before = mirror.prefix.versions()
    with pytest.raises(TreeError, match="mirror tree adopt") as caught:
        await mirror.unchecked_cycle()
    assert "tree copy" in str(caught.value)
    assert mirror.prefix.versions() == before


async def test_root_alone_remembers(index, mirror_of):
    """With ``--root`` alone the tree is where the state knows it."""
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.publish("alpha", *ANOTHER)
    mirror.settings["tree"] = ""
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_another_root_wrote(index, mirror_of):
    """A root that finds another's id in the lock ends with 8 before any put, and names `tree adopt`."""
    mirror = mirror_of(index)
    await mirror.cycle()
    mirror.prefix.write(".lock", msgspec.json.encode({**lock_of(mirror), "root": "f" * 32, "nonce": "e" * 32}))
    index.state.publish("alpha", *ANOTHER)
    before = mirror.prefix.versions()
    report = await mirror.unchecked_cycle()
    assert mirror.exit_code == 8
    assert "mirror tree adopt" in str(report.aborted)
    assert mirror.prefix.versions() == before


@pytest.mark.parametrize("case", ["own", "gone", "other", "nobody"])
async def test_fenced_pages(index, mirror_of, case):
    """A page with another ETag than the state remembers: its own put is taken over, a missing one put as a first
    one; one of another root or of nobody stops the cycle with 8, and stays as it is.
    """
    mirror = mirror_of(index)
    await mirror.cycle()
    key = "simple/alpha/index.html"
    writers = {"own": lock_of(mirror)["root"], "other": "f" * 32, "nobody": None}
    if case == "gone":
        mirror.prefix.remove(key)
    else:
        own = {} if writers[case] is None else {WRITER: writers[case], REVISION: "1"}
        mirror.prefix.write(key, b"another page", **{"Content-Type": "text/html"}, **own)
    index.state.publish("alpha", *ANOTHER)
    report = await mirror.unchecked_cycle()
    if case in {"own", "gone"}:
        assert mirror.exit_code == 0
        mirror.check()
        assert mirror.files() == offered(index)
    else:
        assert mirror.exit_code == 8
        assert key in str(report.aborted)
        assert mirror.prefix.read(key) == b"another page"
        assert mirror.query("SELECT marked FROM page WHERE name = 'alpha'") == [(1,)]


async def test_stopped_between_answer_and_commit(index, mirror_of):
    """ETags that were never committed, as after a kill at that moment, are taken over."""
    mirror = mirror_of(index)
    await mirror.cycle()
    mirror.execute("DELETE FROM object_tag")
    index.state.publish("alpha", *ANOTHER)
    await mirror.cycle()
    assert mirror.files() == offered(index)
    assert mirror.query("SELECT count(*) FROM object_tag") == [(4,)]


async def test_older_state(index, mirror_of):
    """A state that was restored from a backup is older than the tree: exit code 6, nothing is put."""
    mirror = mirror_of(index)
    await mirror.cycle()
    saved = (mirror.root / "state.db").read_bytes()
    index.state.publish("alpha", *ANOTHER)
    await mirror.cycle()
    for ending in ("-wal", "-shm"):
        (mirror.root / f"state.db{ending}").unlink(missing_ok=True)
    (mirror.root / "state.db").write_bytes(saved)
    before = {k: v for k, v in mirror.prefix.versions().items() if k != ".lock"}
    report = await mirror.unchecked_cycle()
    assert mirror.exit_code == 6
    assert "older than the tree" in str(report.aborted)
    assert {k: v for k, v in mirror.prefix.versions().items() if k != ".lock"} == before


@pytest.mark.parametrize("damage", [None, b"cut", b"x" * len(A_WHEEL[1])])
async def test_unknown_blobs_are_put_over(index, mirror_of, damage):
    """A blob that the state does not know is put over, whatever its size: nobody knows that its bytes are right."""
    mirror = mirror_of(index)
    await mirror.cycle()
    sha256 = offered(index)["alpha"][A_WHEEL[0]]
    blob = f"files/{sha256[:2]}/{sha256[2:4]}/{sha256}/{A_WHEEL[0]}"
    for change in (
        "DELETE FROM entry",
        "DELETE FROM blob",
        "UPDATE project SET etag = NULL, last_modified = NULL, digest = NULL",
    ):
        mirror.execute(change)
    if damage is not None:
        mirror.prefix.write(blob, damage)
    await mirror.unchecked_cycle(full=True)
    assert mirror.exit_code == 0
    mirror.check()
    assert mirror.prefix.attributes(blob)["Content-Type"] == "application/octet-stream"
    assert list((mirror.root / "staging").iterdir()) == []


# -- the lease alone, by a clock of the test -----------------------------------------------------


@pytest.fixture
def client(prefix):
    return ObjectClient(parse_store_address(prefix.address), prefix.env)


def lease_of(client, root, clock):
    return Lease(client, root=root, etag_form=etag_form, clock=clock)


def test_another_process_waits(client, prefix, monkeypatch):
    """A lock is taken from another process only after it was seen unchanged for 60 s by the own clock."""
    first = lease_of(client, "a" * 32, Clock())
    first.take((), wait_s=0)
    clock = Clock()
    second = lease_of(client, "a" * 32, clock)
    with pytest.raises(StoreLocked, match="--wait 70s"):
        second.take((), wait_s=0)
    before = prefix.read(".lock")
    seen = threading.Event()

    class Moving(Clock):
        """Goes on by a second at each look."""

        def __call__(self):
            self.now += 1.0
            if self.now > 1000.0 + LEASE_S / 2:
                seen.set()
            return self.now

    third = lease_of(client, "a" * 32, Moving())
    with monkeypatch.context() as looking:
        # Its clock moves by itself. Once it holds the lock, the thread that renews it waits again.
        looking.setattr(third._stop, "wait", lambda seconds: third._stop.is_set())
        third.take((), wait_s=1000)
    assert seen.is_set()
    assert prefix.read(".lock") != before
    # The first one stood still meanwhile: it writes and deletes nothing more.
    first._clock.now += LEASE_S
    for check in (first.check, first.check_for_delete, first.raise_if_lost):
        with pytest.raises(StoreLocked, match="took the lock"):
            check()
    first.release()
    assert json.loads(prefix.read(".lock"))["nonce"] == third.nonce
    third.release()
    assert json.loads(prefix.read(".lock")) == {"root": "a" * 32, "nonce": third.nonce, "is_free": True, "format": 1}


def test_the_same_root_takes_over_at_once(client):
    """A killed process's lock is taken at once by the root whose state remembers its nonce."""
    killed = lease_of(client, "a" * 32, Clock())
    killed.take((), wait_s=0)
    killed._stop.set()
    again = lease_of(client, "a" * 32, Clock())
    again.take((killed.nonce,), wait_s=0)
    again.check_for_delete()
    again.release()


def test_the_holder_renews_late(client):
    """A holder that stood still renews before its next write, where nobody took the lock."""
    clock = Clock()
    lease = lease_of(client, "a" * 32, clock)
    lease.take((), wait_s=0)
    clock.now += 10 * LEASE_S
    lease.check()
    lease.check_for_delete()
    lease.release()


def test_a_store_that_hangs(client, monkeypatch):
    """A lease that ran out since the store gives no answer is an error of the tree, not another's lock."""
    clock = Clock()
    lease = lease_of(client, "a" * 32, clock)
    lease.take((), wait_s=0)

    def hangs(*_, **__):
        raise TreeError(path="s3://x", problem="the store gave no answer")

    with monkeypatch.context() as away:
        away.setattr(client, "put", hangs)
        clock.now += LEASE_S - 10
        with pytest.raises(TreeError, match="could not be renewed"):
            lease.check()
    lease.check()
    lease.release()


def test_a_lost_answer(client, prefix):
    """A put of the lock that went through although its answer was lost is recognised by its nonce."""
    lease = lease_of(client, "a" * 32, Clock())
    prefix.write(".lock", msgspec.json.encode({"root": lease.root, "nonce": lease.nonce}))
    lease.take((), wait_s=0)
    prefix.write(".lock", msgspec.json.encode({"root": lease.root, "nonce": lease.nonce, "is_free": False}))
    lease._clock.now += LEASE_S
    lease.check()
    lease.release()


def test_released_after_a_lost_answer(client, prefix):
    """A lock whose last renewal, or whose release, had no answer is free for others at once, never another's lock."""
    lease = lease_of(client, "a" * 32, Clock())
    lease.take((), wait_s=0)
    prefix.write(".lock", msgspec.json.encode({"root": lease.root, "nonce": lease.nonce}))
    lease.release()
    assert json.loads(prefix.read(".lock"))["is_free"]
    other = lease_of(client, "b" * 32, Clock())
    lease = lease_of(client, "a" * 32, Clock())
    lease.take((), wait_s=0)
    prefix.write(".lock", theirs := msgspec.json.encode({"root": other.root, "nonce": other.nonce}))
    lease.release()
    assert prefix.read(".lock") == theirs


def test_many_takers(client, prefix):
    """Of many processes that take a free lock at once one gets it."""
    leases = [lease_of(client, f"{n:032x}", Clock()) for n in range(8)]
    got = []

    def take(lease):
        try:
            lease.take((), wait_s=0)
            got.append(lease)
        except StoreLocked:
            pass

    threads = [threading.Thread(target=take, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert json.loads(prefix.read(".lock"))["root"] == got[0].root
    got[0].release()


async def test_single_writer(index, mirror_of, monkeypatch):
    """An engine that ignores conditions is refused, and its prefix not claimed, unless `single-writer` is set."""
    put = ObjectClient.put

    def lies(self, key, data, **options):
        return put(self, key, data, **{**options, "mode": "overwrite"})

    monkeypatch.setattr(ObjectClient, "put", lies)
    mirror = mirror_of(index)
    report = await mirror.unchecked_cycle()
    assert mirror.exit_code == 6
    assert "single-writer = true" in str(report.aborted)
    assert mirror.prefix.keys() == []
    mirror.settings["single_writer"] = True
    await mirror.cycle()
    index.state.publish("alpha", *ANOTHER)
    await mirror.cycle()
    assert mirror.files() == offered(index)
    mirror.settings["single_writer"] = False
    index.state.publish("alpha", *build_wheel("alpha", "3.0"))
    await mirror.unchecked_cycle()
    assert mirror.exit_code == 6
    await asyncio.sleep(0)


async def test_staging_size(simulator, mirror_of):
    """A file larger than `staging-size` is `too-large`, listed or not, and the key is named; others wait for room."""
    index = await simulator()
    for n in range(4):
        index.state.publish(f"p{n}", *build_wheel(f"p{n}", "1.0", size_pad=3 << 20))
    index.state.publish("large", *build_wheel("large", "1.0", size_pad=9 << 20))
    mirror = mirror_of(index)
    mirror.settings["staging_size"] = 7 << 20
    report = await mirror.unchecked_cycle()
    assert mirror.exit_code == 5
    assert [(f.project, f.reason.value) for f in report.failures] == [("large", "too-large")]
    assert "mirror.staging-size" in report.failures[0].detail
    mirror.check()
    assert set(mirror.files()) == {"p0", "p1", "p2", "p3"}


def part_sizes(root: Path) -> dict[Path, int]:
    """Return the size of each partial file; other threads may remove some meanwhile."""
    found: dict[Path, int] = {}
    for path in (root / "staging").glob("*.part"):
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_size
    return found


@pytest.mark.parametrize("how", ["announced", "unannounced"])
async def test_files_of_unlisted_size_take_room_as_they_grow(simulator, mirror_of, monkeypatch, how):
    """Staging holds to `staging-size` also where no size is listed: a file that outgrows its room waits for more."""
    monkeypatch.setattr(staging_room, "UNLISTED_BYTES", 2 << 20)
    monkeypatch.setattr(jobs, "UNLISTED_BYTES", 2 << 20)
    index = await simulator()
    for n in range(5):
        index.state.publish(f"p{n}", *build_wheel(f"p{n}", "1.0", size_pad=(n + 1) << 20), size=None)
    index.state.publish("large", *build_wheel("large", "1.0", size_pad=9 << 20), size=None)
    if how == "unannounced":
        index.inject(Unframed(), times=None, kind="file")
    mirror = mirror_of(index)
    mirror.settings["staging_size"] = 7 << 20
    used = []
    flush = StagedFile.flush

    def measured(staged):
        flush(staged)
        first, second = part_sizes(mirror.root), part_sizes(mirror.root)
        used.append(sum(first[path] for path in first.keys() & second.keys()))  # those were there at one moment

    monkeypatch.setattr(StagedFile, "flush", measured)
    report = await mirror.unchecked_cycle()
    assert mirror.exit_code == 5
    assert [(f.project, f.reason.value) for f in report.failures] == [("large", "too-large")]
    assert "mirror.staging-size" in report.failures[0].detail
    assert 2 << 20 < max(used) <= 7 << 20
    assert list((mirror.root / "staging").glob("*.part")) == []
    mirror.check()
    assert set(mirror.files()) == {f"p{n}" for n in range(5)}


async def test_partial_files_take_room(simulator, mirror_of):
    """A partial file of an earlier cycle counts for `staging-size`: it is continued where it lies, or goes."""
    index = await simulator()
    for n in range(3):
        index.state.publish(f"p{n}", *build_wheel(f"p{n}", "1.0", size_pad=3 << 20))
    mirror = mirror_of(index)
    mirror.settings["staging_size"] = 6 << 20
    mirror.retry_policy = replace(mirror.retry_policy, tries=1)
    index.inject(Cut(after=2 << 20), times=3, kind="file")
    await mirror.unchecked_cycle()
    sizes = [path.stat().st_size for path in (mirror.root / "staging").glob("*.part")]
    assert len(sizes) == 2
    assert sum(sizes) <= 6 << 20
    await mirror.cycle()
    assert mirror.files() == offered(index)


def test_short_processes(prefix):
    """Short processes that use the store end with their own exit code: none is aborted at its end (soak: a hundred)."""
    program = (
        "import os, sys, threading\n"
        "from mirror.core.store_address import parse_store_address\n"
        "from mirror.tree.objects.client import ObjectClient\n"
        "client = ObjectClient(parse_store_address(sys.argv[1]), os.environ)\n"
        "put = lambda n: client.put(f'{os.getpid()}-{n}', b'x' * 20_000)\n"
        "threads = [threading.Thread(target=put, args=(n,)) for n in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "sys.exit(3)\n"
    )
    codes, rounds = [], 25 if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else 3
    for _ in range(rounds):
        some = [
            subprocess.Popen([sys.executable, "-c", program, prefix.address], env=os.environ | prefix.env)
            for _ in range(4)
        ]
        codes += [one.wait() for one in some]
    assert codes == [3] * 4 * rounds
    assert len(prefix.keys()) == len(codes) * 4
