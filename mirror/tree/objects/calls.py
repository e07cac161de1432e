"""Calls with a deadline that does not depend on the called library.

obstore's own time-outs are no guarantee: after a fork they never fire. A piece of work, which makes
some calls, runs in a thread of these ``Calls``; a watchdog looks at the call that each of them
makes. Once a call is over its deadline, nobody waits for its piece of work any more, and its thread
is abandoned: it does nothing more where the call returns after all, and does not keep the process
from its end. The threads end when their ``Calls`` is dropped: a daemon opens a client for each
cycle.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")

_MOST_ABANDONED: Final = 64
"""Once this many calls hang, the library is not called any more."""
_LOOK_S: Final = 1.0
"""Maximum time between two looks of the watchdog; a shorter deadline is met so late at most."""
_PANICS: Final = "pyo3_runtime"
"""Module of the error by which a library in Rust panics; it is no ``Exception``."""


class CallHangs(Exception):
    """A call did not return in time; it may still take effect."""


class CallBreaks(Exception):
    """The library panicked: an answer is not as it expects."""


class ForkedUse(RuntimeError):
    """A forked process used a client of its parent, which would hang for ever: a bug."""


class Calls:
    """Threads that do pieces of work with calls, started as they are needed and reused."""

    def __init__(self) -> None:
        self._threads = _Threads()
        self._pid = os.getpid()
        weakref.finalize(self, self._threads.end).atexit = False

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Do a piece of work in a thread, and return its result to be. Waits for nothing.

        Its ``run`` calls are made in that thread. Where one of them hangs, the result is the error
        of that call; later steps of the work are never taken.
        """
        self._check()
        return self._threads.start(work)

    def run(
        self,
        call: Callable[[], T],
        *,
        deadline_s: float,
        progressed_at: Callable[[], float] | None = None,
        late: Callable[[], Exception] = CallHangs,
    ) -> T:
        """Return the result of a call. Raises ``CallBreaks``, or the error of the call.

        ``progressed_at``: when the call made progress last (``time.monotonic``); the deadline
        counts from then. ``late``: makes the error of a call that hangs.
        """
        self._check()
        if self._threads.abandoned >= _MOST_ABANDONED:
            raise late()
        watch = _Watch(time.monotonic(), deadline_s, progressed_at, late)
        thread = _working(self._threads)
        if thread is not None:
            return thread.call(call, watch)
        return self._threads.start(partial(_call_here, self._threads, call, watch)).result()

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedUse("a process that was forked must open its own client")


class _Watch(NamedTuple):
    """A call that is under way."""

    started_at: float
    deadline_s: float
    progressed_at: Callable[[], float] | None
    late: Callable[[], Exception]

    def left_s(self) -> float:
        since = self.started_at
        if self.progressed_at is not None:
            since = max(since, self.progressed_at())
        return since + self.deadline_s - time.monotonic()


class _Abandoned(BaseException):
    """Ends a piece of work that nobody waits for."""


class _Threads:
    """The threads of one ``Calls``, which may be dropped while they go on.

    Without locks: an event loop starts work too.
    """

    def __init__(self) -> None:
        self._idle: deque[_CallThread] = deque()
        self._busy: set[_CallThread] = set()
        self._watchdog = threading.Lock()
        self._ended = threading.Event()
        self.abandoned = 0
        """Number of calls that hang; only the watchdog and returning calls count."""
        self._counting = threading.Lock()

    def start(self, work: Callable[[], T]) -> Future[T]:
        if self._watchdog.acquire(blocking=False):  # kept as long as there is one
            try:
                threading.Thread(target=self._watch, name="object store", daemon=True).start()
            except BaseException:
                self._watchdog.release()
                raise
        try:
            thread = self._idle.pop()  # the last one used: its caches are warm
        except IndexError:
            thread = _CallThread(self)
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._busy.add(thread)
        thread.begin(work, future)
        return future

    def give_back(self, thread: _CallThread) -> bool:
        """Take a thread whose work is done; return whether it is to go on."""
        self._busy.discard(thread)
        self._idle.append(thread)
        return not self._ended.is_set()

    def count_abandoned(self, number: int) -> None:
        with self._counting:
            self.abandoned += number

    def end(self) -> None:
        """End all threads, those at work once it is done."""
        self._ended.set()
        while self._idle:
            self._idle.pop().end()

    def _watch(self) -> None:
        pause_s = 0.0
        while not self._ended.wait(pause_s) or self._busy:
            pause_s = _LOOK_S
            for thread in self._busy.copy():
                left_s = thread.left_s()
                if left_s > 0:
                    pause_s = min(pause_s, left_s)
                elif thread.abandon():
                    self._busy.discard(thread)
            if self._ended.is_set():
                time.sleep(pause_s)


class _CallThread:
    """A thread that does one piece of work after the other."""

    def __init__(self, threads: _Threads) -> None:
        self._threads = threads
        self._begun = threading.Lock()
        self._begun.acquire()
        self._state = threading.Lock()
        self._is_abandoned = False
        self._watched: _Watch | None = None
        self._work: Callable[[], Any] | None = None
        self._future: Future[Any] | None = None
        threading.Thread(target=self._go_on, name="object store", daemon=True).start()

    def begin(self, work: Callable[[], Any], future: Future[Any]) -> None:
        self._work, self._future = work, future
        self._begun.release()

    def end(self) -> None:
        """End an idle thread."""
        self._begun.release()

    def works_for(self, threads: _Threads) -> bool:
        """Return whether it is one of these."""
        return self._threads is threads

    def call(self, call: Callable[[], T], watch: _Watch) -> T:
        """Make a call of the piece of work, in this very thread."""
        if self._is_abandoned:
            raise _Abandoned
        outer, self._watched = self._watched, watch
        try:
            return call()
        except BaseException as exc:
            if type(exc).__module__ == _PANICS:
                raise CallBreaks(str(exc)) from exc
            raise
        finally:
            with self._state:
                self._watched = outer
                if self._is_abandoned:
                    raise _Abandoned

    def left_s(self) -> float:
        """Return how long the call under way may take yet."""
        watch = self._watched
        return _LOOK_S if watch is None else watch.left_s()

    def abandon(self) -> bool:
        """Let nobody wait for the call under way; return False where it has just returned."""
        with self._state:
            watch, future = self._watched, self._future
            if watch is None or future is None or watch.left_s() > 0:
                return False
            self._is_abandoned = True
        self._threads.count_abandoned(1)
        future.set_exception(watch.late())
        return True

    def _go_on(self) -> None:
        _here.thread = self
        while True:
            self._begun.acquire()
            work, future, self._work = self._work, self._future, None
            if work is None or future is None:
                return
            goes_on = self._do(work, future)
            del work, future
            if not goes_on:
                return

    def _do(self, work: Callable[[], Any], future: Future[Any]) -> bool:
        """Do a piece of work; return whether the thread is to go on."""
        value: Any = None
        error: BaseException | None = None
        try:
            value = work()
        except BaseException as exc:  # noqa: BLE001 - raised again where somebody waits
            error = exc
        self._future = None
        try:
            if self._is_abandoned:
                self._threads.count_abandoned(-1)
                return False
            goes_on = self._threads.give_back(self)
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
            return goes_on
        finally:  # an error has frames, which have the ``Calls``
            del work, future, error


class _Here(threading.local):
    """The work of the current thread."""

    thread: _CallThread | None = None


_here = _Here()


def _working(threads: _Threads) -> _CallThread | None:
    """Return the current thread where it works for these."""
    thread = _here.thread
    return thread if thread is not None and thread.works_for(threads) else None


def _call_here(threads: _Threads, call: Callable[[], T], watch: _Watch) -> T:
    thread = _working(threads)
    assert thread is not None
    return thread.call(call, watch)
