"""One writer: the locks between processes and tasks."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from mirror.errors import LockHeld, TreeError
from mirror.tree.lock import hold, hold_async, holder_pid

HOLDER = """
import sys
from pathlib import Path
from mirror.tree.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def other_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the lock until a line is written to it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def let_go(process: subprocess.Popen[str]) -> None:
    """Make the other process let the lock go, and wait for its end."""
    process.communicate("\n")


def test_lock_is_private_and_names_its_holder(tmp_path: Path) -> None:
    """While it is held the file names our pid; afterwards it stays and names nobody."""
    path = tmp_path / "tree.lock"
    with hold(path):
        assert (holder_pid(path), stat.S_IMODE(path.stat().st_mode)) == (os.getpid(), 0o600)
    assert path.read_bytes() == b""
    assert holder_pid(path) is None


def test_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    """Without waiting, a held lock is an error at once, which names path and pid."""
    path = tmp_path / "tree.lock"
    with other_process(path) as holder:
        with pytest.raises(LockHeld) as caught, hold(path):
            pytest.fail("two hold the lock")
        assert (caught.value.path, caught.value.pid) == (str(path), holder.pid)
        assert f"process {holder.pid} is working on this mirror" in str(caught.value)
        let_go(holder)
    with hold(path):
        assert holder_pid(path) == os.getpid()


def test_same_process_excludes_itself(tmp_path: Path) -> None:
    """Two holders in one process exclude each other as well."""
    path = tmp_path / "daemon.lock"
    with hold(path), pytest.raises(LockHeld), hold(path):
        pytest.fail("held twice")


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """A holder that was killed leaves its pid in the file, and nothing that is in the way."""
    path = tmp_path / "tree.lock"
    with other_process(path) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert holder_pid(path) == holder.pid
        with hold(path):
            assert holder_pid(path) == os.getpid()


def test_waiting_ends_with_the_time_given(tmp_path: Path) -> None:
    """Who waits in vain gets the same error when the time is over."""
    path = tmp_path / "tree.lock"
    with hold(path), pytest.raises(LockHeld), hold(path, wait_s=0.15):
        pytest.fail("held twice")


def test_waiting_gets_the_lock(tmp_path: Path) -> None:
    """Who waits gets the lock when its holder ends."""
    path = tmp_path / "tree.lock"
    with other_process(path) as holder:
        waiter = subprocess.Popen(
            [
                sys.executable,
                "-c",
                HOLDER.replace("hold(Path(sys.argv[1]))", "hold(Path(sys.argv[1]), wait_s=60)"),
                path,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with waiter:
            let_go(holder)
            assert waiter.communicate("\n") == ("held\n", None)


async def test_async_waiting_leaves_the_loop_free(tmp_path: Path) -> None:
    """A task that waits for the lock lets the task run that holds it."""
    path = tmp_path / "tree.lock"
    order: list[str] = []
    held = anyio.Event()

    async def first() -> None:
        async with hold_async(path):
            order.append("first")
            held.set()
            with pytest.raises(LockHeld):
                async with hold_async(path):
                    pytest.fail("held twice")
            order.append("first ends")

    async def second() -> None:
        await held.wait()
        async with hold_async(path, wait_s=60):
            order.append("second")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        tasks.start_soon(second)
    assert order == ["first", "first ends", "second"]


async def test_cancelled_holder_lets_go(tmp_path: Path) -> None:
    """A cancelled task lets its lock go."""
    path = tmp_path / "tree.lock"
    with anyio.CancelScope() as scope:
        async with hold_async(path):
            scope.cancel()
            await anyio.sleep_forever()
    with hold(path):
        assert scope.cancelled_caught


def test_lock_that_cannot_be_made(tmp_path: Path) -> None:
    """A lock in a directory that is not there, or in the place of a link, is an error of the tree."""
    with pytest.raises(TreeError, match=r"tree\.lock: No such file"), hold(tmp_path / "no" / "tree.lock"):
        pytest.fail("held")
    (tmp_path / "link.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TreeError, match="a symbolic link stands"), hold(tmp_path / "link.lock"):
        pytest.fail("held")
    assert not (tmp_path / "elsewhere").exists()


def open_descriptors() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system has no locks, that is said, and no descriptor stays open."""
    descriptors = open_descriptors()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(TreeError, match="the file system offers no locks"), hold(tmp_path / "tree.lock"):
        pytest.fail("held")
    assert open_descriptors() == descriptors


@pytest.mark.parametrize("content", [b"", b"no pid", b"\xff", b"9" * 5000], ids=["empty", "text", "bytes", "long"])
def test_unreadable_pid(tmp_path: Path, content: bytes) -> None:
    """A file that names no pid is no error: the message then says «another process»."""
    path = tmp_path / "tree.lock"
    path.write_bytes(content)
    assert holder_pid(path) == (int("9" * 32) if content.startswith(b"9") else None)
