"""The threads of a store's clients end with them: a daemon opens a client for each cycle, for years."""

from __future__ import annotations

import gc
import threading
import time
from functools import partial

import pytest

from harness.snapshots import snapshot
from harness.upkeep import prune, verify
from mirror.tree.objects.calls import CallHangs, Calls
from simulator import build_wheel

_LONGEST_S = 240.0
"""Until threads that do not end fail the test."""


@pytest.fixture
def new_threads():
    """Return the threads of store clients that began in this test and go on, once those that end have ended."""
    before = set(threading.enumerate())

    def look() -> list[threading.Thread]:
        gc.collect()
        found = [t for t in threading.enumerate() if t.name == "object store" and t not in before]
        late_at = time.monotonic() + _LONGEST_S
        for thread in found:
            thread.join(max(0.0, late_at - time.monotonic()))
        return [thread for thread in found if thread.is_alive()]

    return look


def test_dropped_calls_end_their_threads(new_threads):
    """Idle threads end when nobody can use them any more; an abandoned one ends when its call returns."""
    calls, release = Calls(), threading.Event()
    with pytest.raises(ZeroDivisionError):  # a thread whose call failed is used again
        calls.run(lambda: 1 / 0, deadline_s=60)
    inner = partial(calls.run, lambda: 1, deadline_s=60)
    assert calls.run(inner, deadline_s=60) == 1  # two at a time
    del inner
    with pytest.raises(CallHangs):
        calls.run(release.wait, deadline_s=0.01)
    del calls
    release.set()
    assert new_threads() == []


async def test_cycles_leave_no_thread(simulator, mirror_of, object_store, monkeypatch, new_threads):
    """Whatever a daemon does with a store, no thread is left of it after the client is dropped."""
    for name, value in object_store.env.items():
        monkeypatch.setenv(name, value)
    upstream = await simulator()
    mirror = mirror_of(upstream)
    for number in range(3):
        for project in ("alpha", "beta"):
            upstream.state.publish(project, *build_wheel(project, f"{number}.0"))
        await mirror.cycle()
        assert mirror.exit_code == 0
        await snapshot(mirror, f"s{number}")
        await prune(mirror)
        assert (await verify(mirror)).findings == []
    assert new_threads() == []
