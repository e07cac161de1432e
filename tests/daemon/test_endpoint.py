"""The endpoint of metrics and health: what it answers, and that no client and no name server holds it up."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import threading

import pytest

from harness.logged import captured_events
from mirror.daemon import endpoint
from mirror.daemon.endpoint import Answers, Endpoint

ASKED: list[str] = []
"""The names that were looked up, in this process, since the first test of this module."""


def note_lookup(event: str, _arguments: tuple[object, ...]) -> None:
    if event in {"socket.gethostbyaddr", "socket.gethostbyname", "socket.gethostname"}:
        ASKED.append(event)


sys.addaudithook(note_lookup)


class Health:
    """What the answers are made of."""

    def __init__(self) -> None:
        self.is_live = True
        self.problems: list[str] = []

    def metrics(self) -> bytes:
        if not self.is_live:
            raise KeyError("a bug")
        return b"mirror_up 1\n"


def test_many_wait_to_be_accepted(health):
    """At least 128 clients may connect before one is accepted: five, as by default, time the rest out."""
    answers = Answers(metrics=health.metrics, is_live=lambda: health.is_live, problems=lambda: health.problems)
    listening = Endpoint("127.0.0.1", 0, answers)
    listening._server.shutdown()  # nobody accepts any more; the socket still listens
    host, _, port = listening.address.rpartition(":")
    with contextlib.ExitStack() as clients:
        for _ in range(128):
            clients.enter_context(socket.create_connection((host, int(port)), timeout=5))
    listening._server.server_close()


@pytest.fixture
def health():
    return Health()


@pytest.fixture
def served(health):
    answers = Answers(metrics=health.metrics, is_live=lambda: health.is_live, problems=lambda: health.problems)
    served = Endpoint("127.0.0.1", 0, answers)
    yield served
    served.close()


def ask(served: Endpoint, method: str, path: str) -> tuple[int, str, str | None]:
    """Return status, body and content type."""
    connection = http.client.HTTPConnection(served.address)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), answer.headers["Content-Type"]
    connection.close()
    return found


def connect(served: Endpoint) -> socket.socket:
    host, _, port = served.address.rpartition(":")
    return socket.create_connection((host, int(port)))


PLAIN = "text/plain; charset=utf-8"
ANSWERS = {
    "metrics": ("GET", "/metrics?x=1", (200, "mirror_up 1\n", "text/plain; version=0.0.4; charset=utf-8")),
    "live": ("GET", "/live", (200, "alive\n", PLAIN)),
    "ready": ("GET", "/ready", (200, "ready\n", PLAIN)),
    "head": ("HEAD", "/ready", (200, "", PLAIN)),
    "other": ("GET", "/", (404, "/metrics /live /ready\n", PLAIN)),
}


@pytest.mark.parametrize(("method", "path", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_answers(served, method, path, expected):
    """Each path has its answer."""
    assert ask(served, method, path) == expected


def test_ill(served, health):
    """What is wrong is 503, with the reasons one on a line."""
    health.is_live, health.problems = False, ["a: stale", "b: never read to its end"]
    assert ask(served, "GET", "/live") == (503, "stuck: see the log\n", PLAIN)
    assert ask(served, "GET", "/ready") == (503, "a: stale\nb: never read to its end\n", PLAIN)


def test_nothing_else_is_understood(served):
    """There is nothing to be changed."""
    assert ask(served, "POST", "/metrics")[0] == 501


def test_no_name_server_is_asked(served):
    """To listen needs no name: in a closed network the answer would be long in coming."""
    ASKED.clear()
    answers = Answers(metrics=bytes, is_live=bool, problems=list)
    for host in ("127.0.0.1", "0.0.0.0"):
        Endpoint(host, 0, answers).close()
    assert ASKED == []


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
def test_address_of_ipv6(health):
    """An address of IPv6 stands in brackets."""
    try:
        served = Endpoint("::1", 0, Answers(metrics=bytes, is_live=bool, problems=list))
    except OSError as exc:
        pytest.skip(f"there is no IPv6 here: {exc}")
    assert served.address.startswith("[::1]:")
    served.close()


def test_address_that_is_taken(served):
    """Where it can't listen it says so."""
    with pytest.raises(OSError, match="in use"):
        Endpoint(
            "127.0.0.1", int(served.address.rpartition(":")[2]), Answers(metrics=bytes, is_live=bool, problems=list)
        )


def test_bug_is_told(served, health):
    """An answer that crashes is an error in the log, and the next one is given."""
    health.is_live = False
    with captured_events() as logs, pytest.raises(http.client.RemoteDisconnected):
        ask(served, "GET", "/metrics")
    assert [(event["event"], event["level"]) for event in logs] == [("metrics.crashed", "error")]
    health.is_live = True
    assert ask(served, "GET", "/live")[0] == 200


@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "slow"])
def test_client_that_takes_its_time(served, monkeypatch, drip):
    """Whoever says nothing, or a byte now and then, is cut off after a while."""
    monkeypatch.setattr(endpoint, "TIMEOUT_S", 0.2)
    with connect(served) as client:
        client.sendall(b"GET /live HTTP/1.1\r\nX: ")
        client.settimeout(0.01)
        for _ in range(10_000):
            try:
                client.sendall(drip)
                if client.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("it was not cut off")


def test_too_many_clients(served, monkeypatch):
    """One too many is refused, and there is room again when the others have gone."""
    started = threading.Semaphore(0)
    process = endpoint._Handler.handle

    def handle(handler: endpoint._Handler) -> None:
        started.release()
        process(handler)

    monkeypatch.setattr(endpoint._Handler, "handle", handle)
    clients = [connect(served) for _ in range(endpoint._MOST_AT_ONCE)]
    for _ in clients:
        started.acquire()
    with connect(served) as refused:
        assert refused.recv(100) == b""
    for client in clients:
        client.close()
    for _ in range(10_000):
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            assert ask(served, "GET", "/live")[0] == 200
            break
    else:
        pytest.fail("there is no room again")
