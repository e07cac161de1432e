"""A fork server: forked while the program is single-threaded, it forks worker processes on request.

Downloads go to worker processes when there are many (``pool``). To fork a multi-threaded
process is unsafe, and a new interpreter takes 0.3 s for its imports; so the program forks itself
once, at its start, where that costs some milliseconds. The copy only waits, and ends with its
parent.

Invariants: a worker exits as soon as it sees its socket closed, which happens whenever the parent
ends; workers ignore signals sent to the process group; no forked process keeps the parent's
standard streams, at whose end a caller may wait: its standard error leads to the parent, which
writes the log.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import mmap
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import anyio

from mirror.logs import get_logger, write_line, write_log_here

_SLOTS: Final = 64
_NUMBER_BYTES: Final = 8
_END_S: Final = 3.0
"""How long to wait for the workers to exit."""
_LAST_LINES_S: Final = 0.3
_OURS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

Serve = Callable[[socket.socket, memoryview, int], None]
"""The work of a forked process: its socket to the parent, the shared numbers, and the index of its
own number.
"""


class ForkServer:
    """The parent's end.

    ``pending_bytes`` are numbers shared by the parent (the first) and each worker: see
    ``tree.reserve``.
    """

    def __init__(
        self, control: socket.socket, pending_bytes: memoryview, pids: memoryview | None = None
    ) -> None:
        """``pids``: where each forked process finds the place for its number."""
        self.pending_bytes = pending_bytes
        self.pids = (
            memoryview(bytearray(_SLOTS * _NUMBER_BYTES)).cast("q") if pids is None else pids
        )
        self._control = control
        self._free = list(range(1, _SLOTS))
        self._alive: set[ForkedProcess] = set()

    def fork(self) -> ForkedProcess | None:
        """Return a new process, or None where the system has none to give."""
        if not self._free:
            return None
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            return None
        with theirs:
            slot = self._free.pop()
            self.pids[slot] = 0
            try:
                socket.send_fds(self._control, [bytes([slot])], [theirs.fileno()])
            except OSError:
                self._free.append(slot)
                ours.close()
                return None
        process = ForkedProcess(self, ours, slot)
        self._alive.add(process)
        return process

    def forget(self, process: ForkedProcess, slot: int) -> None:
        """Let another process have the number of one that has ended."""
        self._alive.discard(process)
        self.pending_bytes[slot] = 0
        self._free.append(slot)

    def close(self) -> None:
        """Let all of them end."""
        for process in list(self._alive):
            process.end()
        self._control.close()


class ForkedProcess:
    """One worker process in the parent's view: it exits when its socket is closed."""

    def __init__(self, fork_server: ForkServer, connection: socket.socket, slot: int) -> None:
        self.connection = connection
        self._fork_server = fork_server
        self._slot: int | None = slot

    @property
    def pid(self) -> int | None:
        """Its number; None where it has not begun.

        Whatever runs under it is this process, while the socket is open.
        """
        return None if self._slot is None else self._fork_server.pids[self._slot] or None

    def kill(self) -> None:
        """Kill a stuck process; even that may fail. Before ``end`` only."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def abandon(self) -> None:
        """Forget a process that can't be killed; its slot is never used again."""
        self._slot = None
        self.end()

    def end(self) -> None:
        """Let it see the end of its socket, and forget it."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        if self._slot is not None:
            self._fork_server.forget(self, self._slot)
            self._slot = None


@contextmanager
def started_fork_server(serve: Serve) -> Iterator[ForkServer | None]:
    """Fork the process that forks others; None where a second process can't help or is not safe.

    All end with the ``with``.
    """
    if len(os.sched_getaffinity(0)) < 2 or threading.active_count() > 1:
        yield None
        return
    pending_bytes = memoryview(mmap.mmap(-1, _SLOTS * _NUMBER_BYTES)).cast("q")
    pids = memoryview(mmap.mmap(-1, _SLOTS * _NUMBER_BYTES)).cast("q")
    ours, theirs = socket.socketpair()
    log_end, stderr = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # else both processes would write the buffered text
    # The backend is imported with the first event loop: here, or in each process (0.02 s of CPU).
    anyio.run(anyio.sleep, 0)
    # As CPython advises before a fork: no collection writes to the memory that the processes share.
    # Nor does the interpreter's end walk the objects of all modules three times (0.09 s of CPU).
    gc.freeze()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        os.close(log_end)
        os.close(stderr)
        yield None
        return
    if pid == 0:
        ours.close()
        control = socket.socket(fileno=_above_streams(theirs.detach()))
        _leave_streams(_above_streams(stderr))
        _run(partial(_fork_on_demand, control, serve, pending_bytes, pids))
    theirs.close()
    os.close(stderr)
    writer = threading.Thread(
        target=_write_lines, args=(log_end,), name="log of workers", daemon=True
    )
    writer.start()
    fork_server = ForkServer(ours, pending_bytes, pids)
    try:
        yield fork_server
    finally:
        fork_server.close()
        _wait_for(pid)
        writer.join(
            _LAST_LINES_S
        )  # it ends with the last worker; one that can't be killed may stay


def _above_streams(descriptor: int) -> int:
    """Return a descriptor for the same that is none of a standard stream's: a caller may have
    closed those.
    """
    if descriptor > 2:
        return descriptor
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)


def _leave_streams(stderr: int) -> None:
    """Replace the standard streams of this process: nothing is read, errors go to ``stderr``."""
    os.set_blocking(stderr, False)  # a line that the parent does not take is lost, and stops nobody
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor, target in ((nowhere, 0), (nowhere, 1), (stderr, 2)):
        os.dup2(descriptor, target)
    if nowhere > 2:
        os.close(nowhere)
    os.close(stderr)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of this process
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115


def _write_lines(log_end: int) -> None:
    """Write the lines of forked processes to the log until the last of them has ended."""
    with open(log_end, encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            write_line(line.rstrip("\n"))


def _wait_for(pid: int) -> None:
    """Wait for the fork server's end, and so for all workers; a worker that a disk keeps from
    exiting does not block the wait.

    A fork server that does not end is killed: it was stopped, or waits for a worker that is stuck.
    """
    with contextlib.suppress(OSError):  # also of a system without such descriptors
        descriptor = os.pidfd_open(pid)
        try:
            if not select.select([descriptor], [], [], _END_S)[0]:
                os.kill(
                    pid, signal.SIGKILL
                )  # its number is still its own: only the parent can reap it
                select.select([descriptor], [], [], _END_S)
        finally:
            os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _fork_on_demand(
    control: socket.socket, serve: Serve, pending_bytes: memoryview, pids: memoryview
) -> None:
    for number in _OURS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        said, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not said:
            break
        if not descriptors:  # too many open files
            continue
        connection = socket.socket(fileno=descriptors[0])
        # no process available: the requester sees its socket closed
        with contextlib.suppress(OSError):
            if os.fork() == 0:
                pids[said[0]] = os.getpid()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                control.close()
                _run(partial(serve, connection, pending_bytes, said[0]))
        connection.close()
    with contextlib.suppress(ChildProcessError):
        while True:
            # each sees the end of its own socket; waiting adds their CPU time to the parent's
            os.wait()


def _reap(_number: int, _frame: object) -> None:
    """Reap the ended processes."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run(work: Callable[[], None]) -> None:
    """Run a forked process's work and end it, without the parent's exit handlers."""
    code = 1
    try:
        work()
        code = 0
    except OSError:
        pass  # no files or memory left: the requester sees its socket closed, and goes on without
    except BaseException as exc:  # noqa: BLE001 - the end of this process
        write_log_here()  # the process that started this one may be gone, or no longer listen
        get_logger(__name__).error("worker.failed", pid=os.getpid(), exc_info=exc)
    finally:
        os._exit(code)
