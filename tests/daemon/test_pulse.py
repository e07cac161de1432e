"""Whether the daemon lives: the watchdog is fed by progress and by rightful waiting, never beside stuck work."""

from __future__ import annotations

import os
import socket

import pytest

from harness.daemon import Listener
from mirror.daemon.pulse import Pulse
from mirror.errors import ConfigError, ungrouped
from mirror.notify import ServiceManager, without_manager


class Steady:
    """A clock that only a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def manager_of(listener: Listener, **variables: str) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": str(listener.path), **variables})


def test_fed_by_progress_and_waiting(listener):
    """A look feeds the watchdog when work has moved, or when there is nothing to do but wait."""
    pulse, done = Pulse(manager_of(listener)), [0]
    pulse.wait("waiting")
    pulse.check()
    assert listener.rest() == ["STATUS=waiting", "WATCHDOG=1"]
    with pulse.work(lambda: f"at {done[0]}", lambda: done[0]):
        pulse.check()
        pulse.check()
        assert listener.rest() == ["STATUS=at 0", "WATCHDOG=1"]
        done[0] = 1
        pulse.check()
        assert listener.rest() == ["WATCHDOG=1", "STATUS=at 1"]
    pulse.check()
    assert listener.rest() == ["WATCHDOG=1", "STATUS=waiting"]


def test_alive():
    """It is alive while the loop turns and the work moves; each of the two alone is not enough."""
    clock = Steady()
    pulse = Pulse(ServiceManager({}), steady=clock)
    clock.now = 59.0
    assert pulse.is_alive()
    clock.now = 61.0
    assert not pulse.is_alive(), "the loop does not turn"
    with pulse.work(lambda: "work", lambda: 0):
        pulse.check()
        clock.now = 961.0
        pulse.check()
        assert not pulse.is_alive(), "the work does not move"
    pulse.check()
    assert pulse.is_alive()


def test_manager_that_comes_back(tmp_path):
    """A socket that is gone is no error of the daemon's, and is used again when it is back."""
    pulse = Pulse(ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
    pulse.check()
    listener = Listener(tmp_path / "notify")
    pulse.check()
    assert "WATCHDOG=1" in listener.rest()
    listener.close()


def test_abstract_socket():
    """A name that begins with @ is an abstract socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")  # a name that the system chooses
        name = receiver.getsockname()[1:].decode()
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready("a\nb")
        assert receiver.recv(100) == b"READY=1\nSTATUS=a b"


def test_full_queue(tmp_path):
    """A manager that does not read loses what is said again and again; what must arrive is an error after a wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unread:
        unread.bind(str(tmp_path / "notify"))
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(1000):
            manager.alive()
        with pytest.raises(TimeoutError):
            manager.stopping()


WATCHDOGS = {
    "asked": ({"WATCHDOG_USEC": "30000000"}, 30.0),
    "asked-us": ({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid())}, 0.001),
    "asked-another": ({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, None),
    "not-asked": ({}, None),
    "nonsense": ({"WATCHDOG_USEC": "soon"}, None),
    "zero": ({"WATCHDOG_USEC": "0"}, None),
}


@pytest.mark.parametrize(("variables", "expected"), WATCHDOGS.values(), ids=WATCHDOGS)
def test_watchdog(listener, variables, expected):
    """The watchdog's time is read, where it is meant for this process."""
    assert manager_of(listener, **variables).watchdog_s == expected


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1"])
def test_nobody_listens(address):
    """Without a socket, or with a kind that is not known, everything is said to nobody."""
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    manager.reloading()
    assert (manager.is_there, manager.watchdog_s) == (False, None)


def test_programs_do_not_speak_for_us():
    """What we start does not get the socket."""
    assert without_manager({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "A": "b"}) == {"A": "b"}


def test_ungrouped():
    """An expected error leaves a task group as itself; a bug among them stays a group."""
    expected, bug = ConfigError(where="a", problem="b"), ValueError("c")
    with pytest.raises(ConfigError), ungrouped():
        raise ExceptionGroup("group", [ExceptionGroup("inner", [expected])])
    with pytest.raises(ExceptionGroup), ungrouped():
        raise ExceptionGroup("group", [expected, bug])
