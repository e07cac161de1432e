"""Where other processes come from: what is safe, what is refused, and that nothing is left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from array import array
from pathlib import Path

import pytest

from mirror.workers.fork_server import ForkServer, started_fork_server

PROGRAM = """\
import gc, os, socket, sys
from mirror.workers.fork_server import started_fork_server

def serve(connection, pending_bytes, slot):
    pending_bytes[slot] += 7
    connection.sendall(b"%d %d" % (os.getpid(), slot))
    connection.recv(1)

imported = len(gc.get_objects())
with started_fork_server(serve) as fork_server:
    assert gc.get_freeze_count() >= imported
    one, other = fork_server.fork(), fork_server.fork()
    said = [process.connection.recv(100).split() for process in (one, other)]
    assert said[0] != said[1] and os.getpid() not in [int(pid) for pid, _ in said]
    assert [fork_server.pending_bytes[int(slot)] for _, slot in said] == [7, 7]
    one.end()
    one.end()
    assert fork_server.pending_bytes[int(said[0][1])] == 0
    assert other.connection.fileno() >= 0
print(*[pid.decode() for pid, _ in said])
"""


def refuse(*_: object) -> None:
    raise AssertionError("nobody is to be forked here")


@pytest.fixture
def control() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core needs no second process")
def test_processes_serve_and_end() -> None:
    """Each process has a socket and a number of its own, shares the pending bytes, and is gone after the ``with``."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for pid in done.stdout.split():
        assert not Path(f"/proc/{pid}").exists()


def test_not_beside_threads() -> None:
    """Where threads run already nothing is forked: a lock that one of them holds would be held for ever."""
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    try:
        with started_fork_server(refuse) as fork_server:
            assert fork_server is None
    finally:
        go_on.set()
        thread.join()


def test_who_forks_is_gone(control: tuple[socket.socket, socket.socket]) -> None:
    """Without the process that forks there is none to be had, and no number is lost by asking."""
    ours, theirs = control
    fork_server = ForkServer(ours, memoryview(array("q", [0] * 64)))
    theirs.close()
    assert [fork_server.fork() for _ in range(100)] == [None] * 100


def test_no_numbers_left(control: tuple[socket.socket, socket.socket]) -> None:
    """Only so many processes as there are numbers; one that has ended makes room."""
    fork_server = ForkServer(control[0], memoryview(array("q", [0] * 64)))
    processes = [fork_server.fork() for _ in range(63)]
    assert None not in processes
    assert fork_server.fork() is None
    processes[5].end()
    processes.append(fork_server.fork())
    assert processes[-1] is not None
    for process in processes:
        process.end()
        process.connection.close()
