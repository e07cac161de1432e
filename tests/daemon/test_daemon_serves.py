"""The server in the daemon's unit (``serve.listen``): neither ends the other, and a reload loses no connection."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from harness.daemon import Daemon, get
from harness.program import GUARD_S
from simulator import Stall, Status, build_wheel

ANY_PORT = '[serve]\nlisten = "127.0.0.1:0"\n'


class Serving:
    """A daemon that serves, from its log."""

    def __init__(self, daemon: Daemon, index) -> None:
        self.daemon, self.index, self.address = daemon, index, ""

    def configure(self, serve: str = ANY_PORT, index: str = "") -> None:
        self.daemon.configure(f'name = "main"\nurl = "{self.index.url}"\n{index}', service=serve)

    def await_server(self) -> str:
        """Read the log until a server has begun, and return its address."""
        (url,) = self.daemon.until("serve.started")["addresses"]
        self.address = url.removeprefix("http://").rstrip("/")
        return self.address

    def server_pid(self) -> int:
        (pid,) = (n for n in _children(self.daemon.pid) if b"mirror.serve" in Path(f"/proc/{n}/cmdline").read_bytes())
        return pid

    def connect(self) -> socket.socket:
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=GUARD_S)

    def await_refusal(self) -> None:
        """Wait until nobody listens."""
        until = time.monotonic() + GUARD_S
        while time.monotonic() < until:
            try:
                self.connect().close()
            except ConnectionRefusedError:
                return
        pytest.fail("somebody still listens")


@pytest.fixture
def serving(daemon, index):
    found = Serving(daemon, index)
    found.configure()
    return found


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_neither_ends_the_other(serving, index):
    """A server that is killed during a cycle is reported and follows on its socket; the cycle goes on."""
    daemon = serving.daemon
    stall = index.inject(Stall(after=None), kind="page")
    with daemon:
        serving.await_server()
        stall.wait()
        assert get(serving.address, "/-/health/live") == (200, "alive\n")
        assert get(serving.address, "/-/health/ready") == (503, "unready\n")
        os.kill(serving.server_pid(), signal.SIGKILL)
        ended = daemon.until("server.ended")
        assert (ended["level"], ended["code"]) == ("error", -signal.SIGKILL)
        with serving.connect() as waiting:  # in the kernel, until a server follows
            waiting.sendall(b"GET /-/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert waiting.recv(15) == b"HTTP/1.1 200 OK"
        index.release()
        assert daemon.until("cycle.finished")["outcome"] == "complete"
        assert get(serving.address, "/simple/demo/")[0] == 200
        assert daemon.end() == 0
    with pytest.raises(OSError, match="refused"):
        get(serving.address, "/-/health/live")


def test_a_failed_cycle_leaves_the_server(serving, index):
    """A cycle that fails does not reach the server; the server has none of the mirror's secrets."""
    daemon = serving.daemon
    daemon.is_forked = False  # the kernel shows the environment of a start
    daemon._variables |= {"MIRROR_MAIN_USERNAME": "anna", "MIRROR_MAIN_PASSWORD": "for-the-index-alone"}
    with daemon:
        serving.await_server()
        daemon.idle()
        index.inject(Status(status=401), kind="root")
        daemon.send(signal.SIGUSR1)
        daemon.until("cycle.finished", lambda event: event["outcome"] != "complete")
        assert get(serving.address, "/simple/demo/")[0] == 200
        pid = serving.server_pid()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"PATH=" in environment
        assert b"for-the-index-alone" in Path(f"/proc/{daemon.pid}/environ").read_bytes()
        assert b"for-the-index-alone" not in environment
        assert daemon.end() == 0


def test_end_with_a_killed_daemon(serving):
    """The server ends with the daemon, also when that is killed; the next daemon can have the address."""
    daemon = serving.daemon
    with daemon:
        serving.await_server()
        serving.configure(f'[serve]\nlisten = "{serving.address}"\n')
        daemon.idle()
        os.kill(daemon.pid, signal.SIGKILL)
    serving.await_refusal()
    with Daemon(daemon.work) as again:
        assert again.until("serve.started")["addresses"] == [f"http://{serving.address}/"]
        again.idle()
        assert again.end() == 0


def test_reload(serving, index):
    """A reload replaces the server's processes, a changed table the server; a transfer goes on through both."""
    daemon = serving.daemon
    big = build_wheel("big", "1.0", extra_files={"big.bin": os.urandom(12 << 20)})
    index.state.publish("big", *big)
    with daemon:
        address = serving.await_server()
        daemon.idle()
        (path,) = (daemon.root / "public").glob("files/*/*/*/big-1.0-py3-none-any.whl")
        with serving.connect() as slow:
            slow.sendall(f"GET /{path.relative_to(daemon.root / 'public')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert slow.recv(15) == b"HTTP/1.1 200 OK"
            first = serving.server_pid()
            daemon.send(signal.SIGHUP)
            daemon.until("config.loaded")
            assert serving.server_pid() == first
            serving.configure(f"{ANY_PORT}connections-per-client = 7\nworkers = 2\n")
            daemon.send(signal.SIGHUP)
            assert serving.await_server() == address
            daemon.until("config.loaded")
            assert get(address, "/-/health/live")[0] == 200
            assert get(address, "/simple/big/")[0] == 200
            with slow.makefile("rb") as file:
                assert len(file.read(len(big[1]))) == len(big[1])
        serving.configure("")
        daemon.send(signal.SIGHUP)
        daemon.until("config.loaded")
        serving.await_refusal()
        assert daemon.end() == 0
    assert "server.ended" not in daemon.names()


BAD = {
    "address-in-use": 'listen = "{taken}"',
    "no-address": 'listen = "127.0.0.1"',
    "certificate": 'listen = "127.0.0.1:0"\ncertificate = "none.pem"\nkey = "none.key"',
    "htpasswd": 'listen = "127.0.0.1:0"\nhtpasswd = "none"',
}


@pytest.mark.parametrize("lines", BAD.values(), ids=BAD)
def test_unusable(serving, lines):
    """What the server can't use ends the daemon with 2 at its start; at a reload the old server stays."""
    daemon = serving.daemon
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bad = "[serve]\n" + lines.format(taken=f"127.0.0.1:{taken.getsockname()[1]}")
        serving.configure(bad)
        with daemon:
            assert daemon.end(None) == 2
            assert "serve." in daemon.words[0]
        serving.configure()
        with daemon:
            address = serving.await_server()
            daemon.idle()
            serving.configure(bad)
            daemon.send(signal.SIGHUP)
            assert "serve." in daemon.until("config.refused")["problem"]
            assert get(address, "/simple/demo/")[0] == 200
            assert daemon.end() == 0
