"""SIGTERM ends the daemon whatever it waits for: nothing here has a limit, a daemon that waits on is a test that hangs."""

from __future__ import annotations

import os
import select
import signal

import pytest

from harness.daemon import Daemon
from harness.program import Mirror
from simulator import Stall, unavailable

DEAF = """\
import socket, threading
asked = socket.getaddrinfo
def ask(host, *arguments, **options):
    return threading.Event().wait() if host == "deaf.example" else asked(host, *arguments, **options)
socket.getaddrinfo = ask
"""
"""A name server that does not answer: what asks it hangs in a thread."""
HURRIED = """\
import threading
class Timer(threading.Timer):
    def __init__(self, _, *arguments): super().__init__(0, *arguments)
threading.Timer = Timer
"""
"""A machine that is so slow that whoever waits for a thread has waited for too long."""


@pytest.fixture
def pipe(tmp_path):
    """A pipe with a name, that nobody writes to."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 60)[0], "it still runs"
    os.close(descriptor)


def test_name_server_that_does_not_answer(tmp_path):
    """A thread that asks for a name holds nothing up."""
    daemon = Daemon(tmp_path / "work")
    daemon.before = DEAF
    daemon.configure('name = "main"\nurl = "https://deaf.example/simple/"')
    with daemon:
        daemon.until("cycle.started")
        assert daemon.end() == 0
    assert daemon.names()[-1] == "daemon.stopped"


def test_name_server_that_does_not_answer_a_single_cycle(tmp_path):
    """The same for ``--once``, which ends with 143, and with its report however soon it stops waiting for the thread."""
    (tmp_path / "sitecustomize.py").write_text(DEAF + HURRIED)
    mirror = Mirror(tmp_path / "work", "https://deaf.example/simple/", {"PYTHONPATH": str(tmp_path)})
    with mirror.start_sync("--json") as running:
        assert '"cycle.started"' in running.process.stderr.readline()
        done = running.end(signal.SIGTERM)
    assert (done.returncode, '"outcome":"aborted"' in done.stdout) == (143, True)


def test_index_that_is_asked_again_and_again(tmp_path, index):
    """Between two tries of a page it ends too."""
    index.inject(unavailable(503, "1"))
    daemon = Daemon(tmp_path / "work")
    daemon.arguments = ("--log-level=debug",)
    daemon.configure(f'name = "main"\nurl = "{index.url}"')
    with daemon:
        daemon.until("request.answered")
        assert daemon.end() == 0


@pytest.mark.parametrize("after", [None, 0], ids=["no-answer", "no-body"])
def test_connection_that_stalls(tmp_path, index, after):
    """An answer that does not come, or stops, holds nothing up."""
    stall = index.inject(Stall(after=after), kind="root")
    daemon = Daemon(tmp_path / "work")
    daemon.configure(f'name = "main"\nurl = "{index.url}"')
    with daemon:
        stall.wait()
        assert daemon.end() == 0


def test_token_file_that_can_not_be_read_to_its_end(tmp_path, index, listener, pipe):
    """A token on a share that is gone: READY all the same, the watchdog is not fed for ever, and SIGTERM ends it."""
    daemon = Daemon(tmp_path / "work", NOTIFY_SOCKET=str(listener.path), WATCHDOG_USEC="40000")
    daemon.configure(
        f'name = "main"\nurl = "{index.url}"\n[index.auth]\nkind = "bearer"\ntoken-file = "{pipe}"',
        service='metrics-listen = "127.0.0.1:0"',
    )
    with daemon:
        address = daemon.until("metrics.listening")["address"]
        assert "READY=1" in listener.until("STATUS=reading the credentials")
        assert listener.falls_silent(address)
        assert daemon.end() == 0


def test_credential_command_that_hangs(tmp_path, index, listener, pipe):
    """READY does not wait for the command, SIGTERM ends it with the daemon."""
    command = f'["sh", "-c", "echo $$ > {pipe}; exec sleep 1000"]'
    daemon = Daemon(tmp_path / "work", NOTIFY_SOCKET=str(listener.path))
    daemon.configure(f'name = "main"\nurl = "{index.url}"\n[index.auth]\nkind = "command"\ncommand = {command}')
    with daemon:
        listener.until("READY=1")
        child = int(pipe.read_text())
        assert daemon.end() == 0
    wait_for_end(child)


def test_notify_command_that_hangs(tmp_path, index, pipe):
    """A notify-command is ended with the daemon."""
    daemon = Daemon(tmp_path / "work")
    service = f'notify-command = ["sh", "-c", "echo $$ > {pipe}; exec sleep 1000"]'
    daemon.configure(f'name = "main"\nurl = "{index.url}"', service=service)
    with daemon:
        child = int(pipe.read_text())
        assert daemon.end() == 0
    wait_for_end(child)
