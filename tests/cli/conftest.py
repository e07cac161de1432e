"""A directory where nothing of this machine counts, and a small index."""

import os

import pytest

from simulator import build_wheel


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Nothing of this machine counts."""
    for name in [name for name in os.environ if name.startswith("MIRROR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def index(threaded_simulator):
    """An index of two projects."""
    made = threaded_simulator()
    for name in ("one", "two"):
        made.state.publish(name, *build_wheel(name, "1.0"))
    return made
