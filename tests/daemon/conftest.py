"""An index, a daemon of it, and a service manager that listens."""

from __future__ import annotations

import pytest

from harness.daemon import Daemon, Listener
from simulator import build_wheel


@pytest.fixture
def index(threaded_simulator):
    simulator = threaded_simulator()
    simulator.state.publish("demo", *build_wheel("demo", "1.0"))
    return simulator


@pytest.fixture
def daemon(tmp_path, index):
    """A daemon of that index, configured and not started."""
    daemon = Daemon(tmp_path / "work")
    daemon.configure(f'name = "main"\nurl = "{index.url}"')
    return daemon


@pytest.fixture
def listener(tmp_path):
    listener = Listener(tmp_path / "notify")
    yield listener
    listener.close()
