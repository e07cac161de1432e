"""Real faults of disks and of the process: each ends with exit code 6 and one sentence, and the tree as good as before."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from harness.in_process import Mirror as CyclesHere
from harness.in_process import in_another_thread
from harness.program import Done, Mirror, call, clean_environment, contents, published
from mirror.errors import StateError
from mirror.sync.ending import record_outcome
from simulator import Endless, ThreadedSimulator, build_wheel

Simulators = Callable[..., ThreadedSimulator]

MIB = 1 << 20


class Disk:
    """A small file system in memory."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.place)], check=True)

    def free(self) -> int:
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> Path:
        """Use up the disk but for some bytes; return the file that did."""
        path = self.place / "filler"
        path.write_bytes(b"x" * (self.free() - leave))
        return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """Mount small file systems; only root may."""
    mounted: list[Path] = []

    def mount(options: str, name: str = "disk") -> Disk:
        place = tmp_path / name
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a small file system is not permitted here")
        mounted.append(place)
        return Disk(place)

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def index(threaded_simulator: Simulators) -> ThreadedSimulator:
    return threaded_simulator()


def publish(index: ThreadedSimulator, count: int, size: int = 0, *, start: int = 0) -> None:
    for number in range(start, start + count):
        index.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0", size_pad=size))


def mirror_on(disk: Disk, tmp_path: Path, index: ThreadedSimulator, limits: str = "", mirror: str = "") -> Mirror:
    """Return a mirror whose root lies on a disk."""
    made = Mirror(tmp_path / "work")
    made.configure(f'url = "{index.url}"\nauth = {{ kind = "none" }}', limits=limits, mirror=mirror)
    text = made.config.read_text().replace(f'"{made.root}"', f'"{disk.place}/mirror"')
    made.config.write_text(text)
    return made


def root_of(disk: Disk) -> Path:
    return disk.place / "mirror"


def shown(root: Path) -> dict[str, dict[str, bytes]]:
    """Return what a client can see from the root page, each byte of it checked; pages that join later are not in it."""
    found: dict[str, dict[str, bytes]] = {}
    simple = root / "public/simple"
    if not (simple / "index.v1_json").exists():
        return found
    for project in json.loads((simple / "index.v1_json").read_bytes())["projects"]:
        page = simple / project["name"]
        found[project["name"]] = {}
        for file in json.loads((page / "index.v1_json").read_bytes())["files"]:
            data = (page / file["url"]).read_bytes()
            assert file["hashes"] == {"sha256": hashlib.sha256(data).hexdigest()}
            found[project["name"]][file["filename"]] = data
    return found


def told(done: Done) -> str:
    """Return the one sentence of a run that a disk has stopped, and check that there is nothing else to read."""
    assert done.returncode == 6, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    severe = [event for event in logged if event["level"] in {"error", "critical"}]
    assert [event["event"] for event in severe] in ([], ["cycle.aborted"]), severe
    sentences = {line.removeprefix("error: ") for line in errors} | {event["problem"] for event in severe}
    assert len(sentences) == 1, sentences
    return sentences.pop()


def recovers(mirror: Mirror, disk: Disk, index: ThreadedSimulator) -> None:
    """The next cycle completes, and everything is whole."""
    mirror.sync_well()
    offered = {p.name: {f.filename: f.data for f in p.offered()} for p in index.state.projects.values()}
    assert published(root_of(disk)) == offered
    done = mirror.run("verify", "--config", mirror.config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((root_of(disk) / "staging").glob("*.tmp")) == []


@pytest.mark.parametrize("size", [MIB, 20_000], ids=["large files", "small files"])
def test_disk_fills_up_in_downloads(
    disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator, size: int
) -> None:
    """A disk that fills up stops the cycle with one sentence; what was finished stays, and the next cycle goes on."""
    small = disk(f"size={4 * MIB}")
    mirror = mirror_on(small, tmp_path, index, limits='disk-reserve = "0"')
    publish(index, 2, 1000, start=500)
    mirror.sync_well()
    before = published(root_of(small))
    publish(index, 12 * MIB // size if size < MIB else 12, size)
    sentence = told(mirror.sync())
    assert str(small.place) in sentence
    assert "bytes free" in sentence
    assert "free some space" in sentence
    after = shown(root_of(small))
    assert before.items() <= after.items()
    small.remount(f"size={64 * MIB}")
    recovers(mirror, small, index)


def test_reserve_is_kept(disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator) -> None:
    """The reserve stops the cycle before the disk is full, and the sentence names the key."""
    small = disk(f"size={16 * MIB}")
    mirror = mirror_on(small, tmp_path, index, limits='disk-reserve = "8MiB"')
    publish(index, 20, MIB)
    sentence = told(mirror.sync())
    assert f"would use up the reserve of {8 * MIB} bytes" in sentence
    assert "lower `disk-reserve`" in sentence
    assert small.free() >= 7 * MIB  # the state and the pages are not held back by it
    shown(root_of(small))
    small.remount(f"size={64 * MIB}")
    recovers(mirror, small, index)


@pytest.mark.parametrize("announced", [None, 10**12], ids=["chunks", "announced"])
@pytest.mark.parametrize("count", [1, 4])
def test_bodies_without_end_do_not_stop_the_others(
    disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator, announced: int | None, count: int
) -> None:
    """Bodies of unlisted size that would fill the disk fail by themselves: nothing else is held up, nothing of them stays."""
    small = disk(f"size={64 * MIB}")
    mirror = mirror_on(small, tmp_path, index, limits='disk-reserve = "16MiB"')
    publish(index, 4, MIB)
    names = [f"evil{number}" for number in range(count)]
    for name in names:
        index.state.publish(name, *build_wheel(name, "1.0", size_pad=MIB), size=None, hashes={})
        index.inject(Endless(content_length=announced), kind="file", project=name)
    done = mirror.sync("--json")
    assert done.returncode == 5, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert [(f["project"], f["reason"]) for f in report["failures"]] == [(name, "too-large") for name in names]
    assert all("limits.file-size" in f["detail"] for f in report["failures"])
    assert set(published(root_of(small))) == {f"p{number}" for number in range(4)}
    assert list((root_of(small) / "staging").iterdir()) == []
    if announced:
        assert report["indexes"][0]["bytes_downloaded"] < 16 * MIB
    index.faults.clear()
    recovers(mirror, small, index)


@pytest.mark.parametrize("leave", [0, 4096, 20_480, 65_536], ids=str)
def test_full_from_the_start(disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator, leave: int) -> None:
    """However little is left, in whatever step it runs out: one sentence, the old pages, and a next cycle that completes."""
    small = disk(f"size={8 * MIB}")
    mirror = mirror_on(small, tmp_path, index, limits='disk-reserve = "0"')
    publish(index, 3)
    mirror.sync_well()
    before = published(root_of(small))
    publish(index, 30, 10_000, start=3)
    filler = small.fill(leave)
    sentence = told(mirror.sync())
    assert str(small.place) in sentence
    assert "bytes free" in sentence
    assert before.items() <= shown(root_of(small)).items()
    filler.unlink()
    recovers(mirror, small, index)


def test_state_disk_is_full(disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator) -> None:
    """A state on a full disk of its own stops the cycle: the sentence names the state's path and the free space there."""
    small, states = disk(f"size={16 * MIB}"), disk(f"size={2 * MIB}", "states")
    mirror = mirror_on(small, tmp_path, index, limits='disk-reserve = "0"', mirror=f'state = "{states.place}/state.db"')
    publish(index, 3)
    mirror.sync_well()
    before = published(root_of(small))
    filler = states.fill()
    publish(index, 300, start=3)
    sentence = told(mirror.sync())
    assert f"{states.place}/state.db" in sentence
    assert "bytes free" in sentence
    assert published(root_of(small)) == before
    filler.unlink()
    states.remount(f"size={32 * MIB}")
    recovers(mirror, small, index)


def test_no_inodes(disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator) -> None:
    """A disk without inodes has free bytes, and is full all the same."""
    small = disk(f"size={32 * MIB},nr_inodes=120")
    mirror = mirror_on(small, tmp_path, index, limits='disk-reserve = "0"')
    publish(index, 2)
    mirror.sync_well()
    before = published(root_of(small))
    publish(index, 60, start=2)
    sentence = told(mirror.sync())
    assert str(small.place) in sentence
    assert "no inodes are left" in sentence or "no inodes left" in sentence
    assert before.items() <= shown(root_of(small)).items()
    small.remount("nr_inodes=100000")
    recovers(mirror, small, index)


def test_read_only(disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator) -> None:
    """On a read-only file system a cycle ends before any request; what only reads works all the same."""
    small = disk(f"size={16 * MIB}")
    mirror = mirror_on(small, tmp_path, index, limits='disk-reserve = "0"')
    publish(index, 3)
    mirror.sync_well()
    before = contents(root_of(small))
    small.remount("ro")
    index.take_requests()
    sentence = told(mirror.sync())
    assert str(small.place) in sentence
    assert "the file system is read-only; mount it writable" in sentence
    assert index.take_requests() == []
    for command in (("status",), ("verify",), ("prune", "--dry-run")):
        done = mirror.run(*command, "--config", mirror.config)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert mirror.sync("--dry-run").returncode == 0
    for command in (("verify", "--repair"), ("prune",)):
        told(mirror.run(*command, "--config", mirror.config))
    assert contents(root_of(small)) == before
    small.remount("rw")
    publish(index, 1, start=3)
    recovers(mirror, small, index)


def test_verify_and_prune_on_a_full_disk(disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator) -> None:
    """On a full disk verify says that it is full, also with repair, which mends once there is space."""
    small = disk(f"size={8 * MIB}")
    mirror = mirror_on(small, tmp_path, index, limits='disk-reserve = "0"')
    publish(index, 3)
    mirror.sync_well()
    wheel = next((root_of(small) / "public/files").rglob("*.whl"))
    wheel.write_bytes(b"x" * wheel.stat().st_size)
    filler = small.fill()
    for arguments in ((), ("--repair",)):
        sentence = told(mirror.run("verify", *arguments, "--config", mirror.config))
        assert str(root_of(small)) in sentence
        assert "bytes free" in sentence
    filler.unlink()
    assert mirror.run("verify", "--repair", "--config", mirror.config).returncode == 0
    recovers(mirror, small, index)


AS_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    # May look everywhere, since the interpreter may lie in a private directory, and write nowhere.
    *("--bounding-set=-all,+dac_read_search", "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"),
)


def as_nobody(mirror: Mirror, *arguments: str | Path) -> Done:
    """Run the program as a user who owns nothing, without measuring: that writes files, too."""
    environment = {k: v for k, v in clean_environment(mirror.home).items() if not k.startswith("COV")}
    command = [*AS_NOBODY, sys.executable, "-B", "-m", "mirror", *map(str, arguments)]
    return call(command, cwd=Path("/"), env=environment)


@pytest.fixture
def open_work() -> Iterator[Path]:
    """A working directory of this user, where another user may look: pytest's own are private."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root may run a program as another user, with setpriv")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        done = as_nobody(Mirror(place / "work"), "--root", place, "--version")
        if done.returncode != 0:
            pytest.skip(f"running as another user is not permitted here: {done.stderr}")
        yield place


def test_no_permission(open_work: Path, index: ThreadedSimulator) -> None:
    """A user who may not write the root is told so before any request, and nothing changes."""
    mirror = Mirror(open_work / "work")
    mirror.configure(f'url = "{index.url}"\nauth = {{ kind = "none" }}')
    publish(index, 3)
    mirror.sync_well()
    index.take_requests()
    before = contents(mirror.root)
    for command in (("sync", "--once"), ("verify",), ("verify", "--repair"), ("prune",)):
        done = as_nobody(mirror, *command, "--config", mirror.config)
        assert done.returncode == 2, done.stdout + done.stderr
        assert f"error: {mirror.root}/state.db belongs to root, and nobody would leave files" in done.stderr
        assert f"run `sudo runuser -u root -- {sys.executable} -m mirror {command[0]} " in done.stderr
        assert index.take_requests() == []
    fresh = told(as_nobody(mirror, "sync", "--once", "--index-url", index.url, "--root", open_work / "fresh"))
    assert str(open_work / "fresh") in fresh
    assert "permission denied; give the directory to the user that runs the mirror" in fresh
    assert contents(mirror.root) == before
    mirror.sync_well()


def test_reading_as_another_user(open_work: Path, index: ThreadedSimulator) -> None:
    """A user who may only read either gets an answer or is told whose mirror it is; nothing is called damaged."""
    mirror = Mirror(open_work / "work")
    mirror.configure(f'url = "{index.url}"\nauth = {{ kind = "none" }}')
    publish(index, 3)
    mirror.sync_well()
    before = contents(mirror.root)
    for command in (("status",), ("snapshot", "list"), ("prune", "--dry-run")):
        done = as_nobody(mirror, *command, "--root", mirror.root)
        assert done.returncode in {0, 6}, done.stdout + done.stderr
        if done.returncode:
            assert "user" in told(done)
    assert contents(mirror.root) == before


@pytest.mark.parametrize("limit", [20, 32, 40])
def test_too_many_open_files(tmp_path: Path, index: ThreadedSimulator, limit: int) -> None:
    """Too few descriptors end a cycle with one sentence that says which limit to raise, or do not matter at all."""
    mirror = Mirror(tmp_path / "work")
    mirror.configure(f'url = "{index.url}"\nauth = {{ kind = "none" }}')
    publish(index, 2, start=100)
    mirror.sync_well()
    before = published(mirror.root)
    publish(index, 60, 100_000)
    script = f'ulimit -n {limit}; exec "$@"'
    command = [
        *("bash", "-c", script, "bash", sys.executable, "-m", "mirror", "sync", "--once", "--config"),
        str(mirror.config),
    ]
    done = call(command, cwd=mirror.work, env=clean_environment(mirror.home))
    if done.returncode:
        sentence = told(done)
        assert "too many open files" in sentence
        assert "ulimit -n" in sentence
    assert before.items() <= shown(mirror.root).items()
    mirror.sync_well()
    assert len(published(mirror.root)) == 62


@pytest.mark.parametrize("reserve", [0, 6], ids=["full", "reserve"])
def test_a_cycle_that_a_full_disk_ends_publishes_what_it_holds(
    disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator, reserve: int
) -> None:
    """The pages name each file that the state holds, and nothing is left marked; status says why it ended."""
    small = disk(f"size={(12 + reserve) * MIB}")
    mirror = mirror_on(small, tmp_path, index, limits=f'disk-reserve = "{reserve}MiB"\ndownloads = 1')
    publish(index, 2, MIB)
    mirror.sync_well()  # a full disk may end the next cycle before it holds anything new
    publish(index, 24, MIB, start=2)
    sentence = told(mirror.sync())
    root = root_of(small)
    with closing(sqlite3.connect(root / "state.db")) as state:
        held = state.execute(
            "SELECT p.name, e.filename FROM entry e JOIN project p ON p.id = e.project WHERE e.valid_to IS NULL"
        ).fetchall()
        assert state.execute("SELECT name FROM page WHERE marked = 1 OR published = 0").fetchall() == []
    assert held
    assert sorted((project, name) for project, files in shown(root).items() for name in files) == sorted(held)
    done = mirror.run("status", "--config", mirror.config)
    assert done.returncode == 6
    assert f"State:      the last cycle was stopped: {sentence}" in done.stdout
    assert "reachable" not in done.stdout
    small.remount(f"size={64 * MIB}")
    recovers(mirror, small, index)
    assert mirror.run("status", "--config", mirror.config).returncode == 0


@in_another_thread
def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


@in_another_thread
def recorded(root: Path) -> tuple[int, str]:
    """Return the exit code and the report of the only cycle."""
    with closing(sqlite3.connect(root / "state.db")) as state:
        return state.execute("SELECT exit_code, report FROM cycle").fetchone()


async def test_the_end_of_a_cycle_is_recorded_on_a_full_disk(disk, tmp_path, index):
    """Where the state has no room for the report, partial downloads make some: status says why the cycle ended."""
    small = disk(f"size={8 * MIB}")
    mirror = CyclesHere(root_of(small), {"main": index})
    await mirror.cycle()
    partial = mirror.root / "staging" / f"{'a' * 64}.part"
    async with mirror.opened() as cycle:
        holdings = msgspec.structs.replace(cycle.holdings, cycle=1)
        cycle.report.events = [{"event": "large", "padding": "x" * MIB}]
        cycle.report.aborted = StateError(problem="the disk is full", path=mirror.root)
        fill(partial)
        await record_outcome(holdings, cycle.report, 6)
    exit_code, report = recorded(mirror.root)
    assert (exit_code, "x" * MIB in report) == (6, True)


def test_a_file_for_which_a_full_disk_has_no_room_is_not_called_too_large(
    disk: Callable[..., Disk], tmp_path: Path, index: ThreadedSimulator
) -> None:
    """An unlisted size that an emptier disk would take fails with no-space, and the advice is to free some space."""
    small = disk(f"size={64 * MIB}")
    mirror = mirror_on(small, tmp_path, index, limits='disk-reserve = "4MiB"')
    filler = small.fill(leave=16 * MIB)
    index.state.publish("big", *build_wheel("big", "1.0", size_pad=20 * MIB), size=None)
    publish(index, 1)
    done = mirror.sync("--json")
    assert done.returncode == 5, done.stdout + done.stderr
    (failure,) = json.loads(done.stdout)["failures"]
    assert (failure["project"], failure["reason"]) == ("big", "no-space")
    assert "limit" not in failure["detail"]
    said = mirror.run("status", "--config", mirror.config).stdout
    assert "no-space: free some space" in said
    filler.unlink()
    recovers(mirror, small, index)
