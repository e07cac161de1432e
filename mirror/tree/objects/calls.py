"""Calls with a deadline that does not depend on the called library.

obstore's own time-outs are no guarantee: after a fork they never fire. Each call runs in a thread
of its own, and the caller stops waiting at the deadline. The thread of a call that never returns is
abandoned: it is a daemon, so that it does not keep the process from its end. Idle threads end when
their ``Calls`` is dropped: a daemon opens a client for each cycle.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

T = TypeVar("T")

_MOST_ABANDONED: Final = 64
"""Once this many calls hang, the library is not called any more."""
_LONGEST_WAIT_S: Final = 3600.0
_PANICS: Final = "pyo3_runtime"
"""Module of the error by which a library in Rust panics; it is no ``Exception``."""


class CallHangs(Exception):
    """A call did not return in time; it may still take effect."""


class CallBreaks(Exception):
    """The library panicked: an answer is not as it expects."""


class ForkedUse(RuntimeError):
    """A forked process used a client of its parent, which would hang for ever: a bug."""


class Calls:
    """Threads that make calls, started as they are needed and reused."""

    def __init__(self) -> None:
        self._idle: deque[_CallThread[Any]] = deque()
        self._abandoned = _Abandoned()
        self._pid = os.getpid()
        weakref.finalize(self, _end_idle, self._idle).atexit = False

    def run(
        self,
        call: Callable[[], T],
        *,
        deadline_s: float,
        progressed_at: Callable[[], float] | None = None,
    ) -> T:
        """Return the result of a call. Raises ``CallHangs``, ``CallBreaks``, or the error of the
        call.

        ``progressed_at``: when the call made progress last (``time.monotonic``); the deadline
        counts from then.
        """
        if os.getpid() != self._pid:
            raise ForkedUse("a process that was forked must open its own client")
        if self._abandoned.count >= _MOST_ABANDONED:
            raise CallHangs
        thread = self._take()
        started_at = time.monotonic()
        thread.begin(call)
        left_s = deadline_s
        while not thread.wait(min(left_s, _LONGEST_WAIT_S)):
            since = started_at if progressed_at is None else max(started_at, progressed_at())
            left_s = since + deadline_s - time.monotonic()
            if left_s <= 0:
                if thread.abandon():
                    raise CallHangs
                break  # it returned meanwhile
        try:
            return cast("T", thread.result())
        except BaseException as exc:
            if type(exc).__module__ == _PANICS:
                raise CallBreaks(str(exc)) from exc
            raise
        finally:  # of a call that failed too: each missing object is an error of the library
            self._idle.append(thread)

    def _take(self) -> _CallThread[Any]:
        try:
            return self._idle.pop()  # the last one used: its caches are warm
        except IndexError:
            return _CallThread(self._abandoned)


class _Abandoned:
    """Number of calls that hang. Threads hold it in place of ``Calls``, which may be dropped."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self.count += number


class _CallThread(Generic[T]):
    """A thread that makes one call after the other."""

    def __init__(self, abandoned: _Abandoned) -> None:
        """``abandoned``: counts the calls that nobody waits for."""
        self._abandoned = abandoned
        self._begun = threading.Lock()
        self._begun.acquire()
        self._ended = threading.Lock()
        self._ended.acquire()
        self._state = threading.Lock()
        self._is_abandoned = False
        self._has_returned = False
        self._call: Callable[[], T] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._work, name="object store", daemon=True).start()

    def begin(self, call: Callable[[], T]) -> None:
        self._has_returned = False
        self._call = call
        self._begun.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the call; return whether it has returned."""
        return self._ended.acquire(timeout=max(0.0, timeout_s))

    def abandon(self) -> bool:
        """Return False where the call has just returned: its end counts as waited for."""
        with self._state:
            if self._has_returned:
                self._ended.acquire()
                return False
            self._is_abandoned = True
            self._abandoned.add(1)
            return True

    def end(self) -> None:
        """End an idle thread."""
        self._begun.release()

    def result(self) -> T:
        value, error = self._value, self._error
        self._value = self._error = None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return cast("T", value)

    def _work(self) -> None:
        while True:
            self._begun.acquire()
            call, self._call = self._call, None
            if call is None:
                return
            try:
                self._value = call()
            except BaseException as exc:  # noqa: BLE001 - raised again where the caller waits
                self._error = exc
            del call
            with self._state:
                self._has_returned = True
                if self._is_abandoned:
                    break
                self._ended.release()
        self._abandoned.add(-1)


def _end_idle(threads: deque[_CallThread[Any]]) -> None:
    while threads:
        threads.pop().end()
