"""Starts the processes that answer, from sockets that are bound once, and keeps their number.

Invariants: the parent answers nothing and has one thread, so that it can fork; the sockets stay
open in it, so that connections wait in the kernel while one process follows another. A process that
ends by itself is replaced.

SIGTERM and SIGINT end all. SIGHUP replaces the processes one by one: the old ones finish their
transfers. SIGUSR1 ends all when another server takes their place: transfers take as long as they
need.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

import msgspec

from mirror.logs import get_logger
from mirror.notify import ServiceManager
from mirror.serve.connections.shared import SharedCounters
from mirror.serve.processes.worker import END_LIMIT_S, Setup, run_worker

_SIGNALS: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1}
)
_GRACE_S: Final = 2.0
_READY_LIMIT_S: Final = 30.0
_REST_S: Final = 1.0
"""Between the end of a process that failed and the start of the next."""
_CHECK_EVERY_S: Final = 1.0
"""How often the parent looks at certificate and passwords, so that a new process has current
ones.
"""
_BUG: Final = 1

_log = get_logger(__name__)


class _Process(msgspec.Struct, kw_only=True):
    pid: int
    slot: int
    is_leaving: bool = False
    """Whether another one has taken its place."""


class Supervisor:
    """The parent."""

    def __init__(
        self,
        setup: Setup,
        sockets: list[socket.socket],
        *,
        workers: int,
        manager: ServiceManager,
        lifeline: int | None = None,
    ) -> None:
        """``lifeline``: a pipe whose end ends the server."""
        self._setup, self._sockets, self._wanted = setup, sockets, workers
        self._manager = manager
        self._shared = SharedCounters()
        self._workers: dict[int, _Process] = {}
        self._lifeline = os.pipe()
        self._parent = lifeline
        self._is_followed = False
        """Whether another server takes the place of this one."""

    def run(self, started: Callable[[], None]) -> None:
        """Serve until a signal; call ``started`` when requests are answered."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._fill()
            started()
            self._notify(lambda: self._manager.ready("serving"))
            while True:
                found = signal.sigtimedwait(_SIGNALS, _CHECK_EVERY_S)
                if found is None:
                    self._setup.refresh()
                elif self._heed(found.si_signo):
                    break
                if self._is_orphan():
                    break
        finally:
            self._notify(self._manager.stopping)
            self._end()
            for descriptor in self._lifeline:
                os.close(descriptor)
            while signal.sigtimedwait(_SIGNALS, 0):
                pass  # a second signal to end must not kill what ends well
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _heed(self, number: int) -> bool:
        """Handle one signal; return whether it ends the server."""
        if number == signal.SIGCHLD:
            for process, code in self._reap():
                if not process.is_leaving:
                    _log.error("worker.ended", pid=process.pid, code=code, advice="it is replaced")
                    time.sleep(_REST_S)
            self._fill()
            return False
        _log.info("serve.signalled", signal=signal.Signals(number).name)
        if number != signal.SIGHUP:
            self._is_followed = number == signal.SIGUSR1
            return True
        self._notify(self._manager.reloading)
        self._setup.refresh(always=True)
        self._replace_all()
        self._notify(lambda: self._manager.ready("serving"))
        return False

    def _fill(self) -> None:
        """Start the processes that are missing."""
        while sum(not process.is_leaving for process in self._workers.values()) < self._wanted:
            self._start()

    def _replace_all(self) -> None:
        """Replace each process: the next one answers before the old one stops accepting."""
        for process in [p for p in self._workers.values() if not p.is_leaving]:
            if not self._shared.has_room:
                _log.error("worker.kept", pid=process.pid, problem="too many old transfers go on")
                return
            self._start()
            process.is_leaving = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGUSR1)

    def _start(self) -> None:
        """Fork one process and wait until it answers."""
        ready, ready_child = os.pipe()
        slot = self._shared.take_slot()
        pid = os.fork()
        if pid == 0:
            os.close(ready)
            os.close(self._lifeline[1])
            self._be_worker(slot, ready_child)
        os.close(ready_child)
        self._workers[pid] = _Process(pid=pid, slot=slot)
        select.select([ready], [], [], _READY_LIMIT_S)
        os.close(ready)

    def _notify(self, message: Callable[[], None]) -> None:
        try:
            message()
        except OSError as exc:
            _log.warning("systemd.unreachable", problem=exc.strerror or str(exc))

    def _be_worker(self, slot: int, ready: int) -> None:
        """Be the child; never returns."""
        code = _BUG
        try:
            run_worker(
                self._setup,
                self._sockets,
                self._shared.of(slot),
                ready=ready,
                parent=self._lifeline[0],
            )
            code = 0
        except BaseException as exc:  # noqa: BLE001 - the border of a process: nothing of the parent may run here
            with contextlib.suppress(Exception):
                _log.error("worker.failed", exc_info=exc)
        finally:
            os._exit(code)

    def _reap(self) -> list[tuple[_Process, int]]:
        ended = []
        for pid in list(self._workers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                process = self._workers.pop(pid)
                self._shared.free_slot(process.slot)
                ended.append((process, os.waitstatus_to_exitcode(status)))
        return ended

    def _is_orphan(self) -> bool:
        """Return whether the program that started the server is gone."""
        if self._parent is None or not select.select([self._parent], [], [], 0)[0]:
            return False
        return not os.read(self._parent, 1)

    def _end(self) -> None:
        """Let each process finish its requests: for a few seconds, or as long as they need."""
        for listening in self._sockets:
            listening.close()
        if self._is_followed:
            self._kill(signal.SIGUSR1)
            while self._workers and not self._is_orphan():
                found = signal.sigtimedwait(_SIGNALS - {signal.SIGUSR1, signal.SIGHUP}, 1.0)
                self._reap()
                if found is not None and found.si_signo != signal.SIGCHLD:
                    break
        self._kill(signal.SIGTERM)
        until_s = time.monotonic() + END_LIMIT_S + _GRACE_S
        while self._workers and time.monotonic() < until_s:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self._reap()
        self._kill(signal.SIGKILL)
        for pid in self._workers:
            os.waitpid(pid, 0)

    def _kill(self, number: signal.Signals) -> None:
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
