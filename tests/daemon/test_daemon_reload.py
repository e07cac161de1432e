"""A reload at any time: beside a cycle, before the daemon is ready, while another command holds the tree."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from harness.daemon import Daemon, Listener, get
from harness.ports import claim_ports
from mirror.tree.lock import hold
from simulator import Stall, build_wheel


@pytest.fixture
def indexes(threaded_simulator):
    simulators = [threaded_simulator(), threaded_simulator()]
    for name, simulator in zip(("demo", "other"), simulators, strict=True):
        simulator.state.publish(name, *build_wheel(name, "1.0"))
    return simulators


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path):
    listener = Listener(tmp_path / "notify" if request.param == "path" else f"@mirror-test-{os.getpid()}")
    yield listener
    listener.close()


def table(name: str, simulator, more: str = "") -> str:
    return f'name = "{name}"\nurl = "{simulator.url}"\n{more}'


def test_beside_a_cycle(tmp_path, indexes, listener):
    """The status line goes on to say what is done, not what is not waited for."""
    daemon = Daemon(tmp_path / "work", NOTIFY_SOCKET=str(listener.path), WATCHDOG_USEC="400000")
    daemon.configure(table("main", indexes[0]))
    stall = indexes[0].inject(Stall(after=None), kind="root")
    with daemon:
        stall.wait()
        listener.until("STATUS=cycle 1: reading the root")
        daemon.send(signal.SIGHUP)
        assert listener.until("RELOADING=1")[0] == "RELOADING=1"
        listener.until("READY=1")
        assert listener.heard[-1] == "STATUS=cycle 1: reading the root"
        assert daemon.end() == 0


def test_before_it_is_ready(tmp_path, indexes, listener):
    """A reload that comes while the daemon waits for its lock does not make it ready: it follows after READY."""
    daemon = Daemon(tmp_path / "work", NOTIFY_SOCKET=str(listener.path), WATCHDOG_USEC="400000")
    daemon.configure(table("main", indexes[0]))
    daemon.arguments = ("--wait=10m",)
    daemon.root.mkdir(parents=True)
    with daemon:
        with hold(daemon.root / "daemon.lock"):
            daemon.until("lock.waiting")
            daemon.send(signal.SIGHUP)
            daemon.until("daemon.signalled")
            assert listener.rest() == []
        daemon.until("config.loaded")
        assert daemon.names().index("daemon.started") < daemon.names().index("config.loaded")
        assert listener.until("RELOADING=1")[0] == "READY=1"
        assert daemon.end() == 0


def test_while_another_command_holds_the_tree(tmp_path, indexes):
    """An index that is taken away while its cycle waits is not asked for, and the others are looked at then."""
    daemon = Daemon(tmp_path / "work")
    daemon.configure(table("gone", indexes[0]), table("stays", indexes[1]))
    daemon.root.mkdir(parents=True)
    with daemon:
        with hold(daemon.root / "tree.lock"):
            daemon.until("cycle.waits")
            daemon.configure(table("stays", indexes[1]))
            daemon.send(signal.SIGHUP)
            daemon.until("config.loaded")
        started = daemon.until("cycle.started")
        daemon.idle()
        assert daemon.end() == 0
    assert (started["indexes"], "cycle.failed" in daemon.names()) == (["stays"], False)


def test_health_follows(tmp_path, indexes):
    """An index that is taken away is not waited for any more, and one that is new is: by /ready and by the metrics."""
    daemon = Daemon(tmp_path / "work")
    service = 'metrics-listen = "127.0.0.1:0"'
    stall = indexes[1].inject(Stall(after=None), kind="root")
    daemon.configure(table("main", indexes[0]), service=service)
    with daemon:
        address = daemon.until("metrics.listening")["address"]
        daemon.idle()
        assert get(address, "/ready") == (200, "ready\n")
        daemon.configure(table("main", indexes[0], 'interval = "2h"'), table("new", indexes[1]), service=service)
        daemon.send(signal.SIGHUP)
        stall.wait()
        assert get(address, "/ready") == (503, "new: never read to its end\n")
        assert '\nmirror_index_interval_seconds{index="main"} 7200.0\n' in get(address, "/metrics")[1]
        daemon.configure(table("main", indexes[0]), service=service)
        daemon.send(signal.SIGHUP)
        daemon.until("config.loaded", lambda event: event["indexes"] == ["main"])
        assert get(address, "/ready") == (200, "ready\n")
        assert daemon.end() == 0


def test_address_that_becomes_free(tmp_path, indexes):
    """An address for metrics that is in use is tried again after each cycle."""
    daemon = Daemon(tmp_path / "work")
    (port,) = claim_ports(1)
    with socket.create_server(("127.0.0.1", port)) as holder:
        address = f"127.0.0.1:{port}"
        daemon.configure(table("main", indexes[0]), service=f'metrics-listen = "{address}"')
        with daemon:
            daemon.until("metrics.unavailable")
            daemon.idle()
            holder.close()
            daemon.send(signal.SIGUSR1)
            daemon.until("metrics.listening")
            assert get(address, "/live") == (200, "alive\n")
            assert daemon.end() == 0
