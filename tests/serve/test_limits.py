"""What a connection may take: time for a header, time without a byte, and a number for each client."""

from __future__ import annotations

import contextlib
import signal
import socket

import pytest

from harness.server import Server, read_answer

IMPATIENT = "import mirror.serve.connections.protocol as p; p.HEADER_LIMIT_S = p.STALL_LIMIT_S = {limit_s}"
ELSEWHERE = (
    "import ipaddress, mirror.serve.connections.protocol as p;"
    " p.parse_address = lambda text: ipaddress.ip_address('2001:db8::1' if next(n) % 2 else '2001:db8::2')"
)
COUNT = "import itertools; n = itertools.count(); "


@pytest.fixture
def large(own):
    """A file that no socket's buffers hold, in a tree without a state."""
    (own.mirror.root / "state.db").unlink()
    digest = "aabb" + "0" * 60
    path = own.mirror.root / "public/files/aa/bb" / digest / "big-1.0.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"0123456789abcdef" * (1 << 20))
    return f"/files/aa/bb/{digest}/big-1.0.tar.gz"


@pytest.mark.parametrize("begin", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "half"])
def test_header_that_does_not_come(tree, begin):
    """A connection whose header is not complete in time is closed."""
    with Server(tree.mirror, program=IMPATIENT.format(limit_s=0.3)) as server, server.connect() as connection:
        connection.sendall(begin)
        assert connection.recv(1) == b""


def test_client_that_takes_nothing(own, large):
    """A client that takes no byte is cut off; the log names it."""
    with Server(own.mirror, program=IMPATIENT.format(limit_s=0.4)) as server, server.connect() as connection:
        connection.sendall(f"GET {large} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        event = server.heard("connection.cut")
        assert event["reason"] == "the client took no byte"
        assert server.heard("request.answered", path=large)["bytes"] < 16 << 20


def test_client_that_is_slow(own, large):
    """A download may last as long as it likes, while bytes are taken now and then."""
    with Server(own.mirror, program=IMPATIENT.format(limit_s=2)) as server, server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(f"GET {large} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        file = connection.makefile("rb", buffering=0)
        left = 16 << 20
        while file.readline().strip():
            pass
        while left:
            left -= len(file.read(1 << 20))
        file.close()
        assert server.events("connection.cut") == []


def test_end_while_a_transfer_goes_on(own, large):
    """SIGTERM lets a transfer end, and nothing new begins."""
    with Server(own.mirror) as server, server.connect() as connection:
        connection.sendall(f"GET {large} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(8) == b"HTTP/1.1"
        server.process.send_signal(signal.SIGTERM)
        server.heard("serve.signalled")
        with contextlib.suppress(OSError):
            while connection.recv(1 << 20):
                pass
        assert server.process.wait() == 0
        assert server.heard("request.answered", path=large)["bytes"] == 16 << 20


def test_reload_while_a_transfer_goes_on(own, large):
    """A reload lets a transfer end, however long it takes; an idle connection is closed after the time for a header."""
    impatient = Server(own.mirror, program=IMPATIENT.format(limit_s=3))
    with impatient as server, server.connect() as slow, server.connect() as silent:
        slow.sendall(f"GET {large} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert slow.recv(1) == b"H"
        silent.sendall(b"GET /-/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(silent).status == 200
        server.process.send_signal(signal.SIGHUP)
        assert silent.recv(1) == b""
        file = slow.makefile("rb")
        while file.readline().strip():
            pass
        assert len(file.read(16 << 20)) == 16 << 20
        assert file.read(1) == b""
        file.close()


def test_end_cuts_a_transfer(own, large):
    """A transfer that does not end within some seconds is cut."""
    program = "import mirror.serve.processes.worker as w, mirror.serve.processes.supervisor as s; w.END_LIMIT_S = s.END_LIMIT_S = 0.3"
    with Server(own.mirror, program=program) as server, server.connect() as connection:
        connection.sendall(f"GET {large} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(8) == b"HTTP/1.1"
        assert server.end() == 0


def test_too_many_connections(own):
    """One too many of a client is 429 and closed; a network of IPv6 is one client; there is room again when one goes."""
    own.mirror.config.write_text(own.mirror.config.read_text() + "[serve]\nconnections-per-client = 2\n")
    with Server(own.mirror, "--config", own.mirror.config, program=COUNT + ELSEWHERE) as server:
        held = [server.connect() for _ in range(2)]
        for connection in held:
            connection.sendall(b"GET /-/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(connection).status == 200
        refused = server.get("/simple/")
        assert (refused.status, refused.headers["Connection"]) == (429, "close")
        assert int(refused.headers["Retry-After"]) > 0
        held.pop().close()
        server.wait_until(lambda: server.get("/simple/").status == 200)
        held.pop().close()


def test_loopback_is_not_counted(own):
    """Loopback has no limit."""
    own.mirror.config.write_text(own.mirror.config.read_text() + "[serve]\nconnections-per-client = 1\n")
    with Server(own.mirror, "--config", own.mirror.config) as server, contextlib.ExitStack() as held:
        for _ in range(5):
            held.enter_context(server.connect())
        assert server.get("/simple/").status == 200
