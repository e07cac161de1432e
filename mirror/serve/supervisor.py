"""Starts the processes that answer, from sockets that are bound once, and keeps their number.

Invariants: the parent answers nothing and has one thread, so that it can fork; the sockets stay open in it, so that
connections wait in the kernel while one process follows another. A process that ends by itself is replaced.

SIGTERM and SIGINT end all. SIGHUP replaces the processes one by one: the old ones finish their transfers.
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
from mirror.serve.shared import SharedCounters
from mirror.serve.worker import END_LIMIT_S, Setup, run_worker

_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_GRACE_S: Final = 2.0
_READY_LIMIT_S: Final = 30.0
_REST_S: Final = 1.0
"""Between the end of a process that failed and the start of the next."""
_LOOK_EVERY_S: Final = 1.0
"""How often the parent looks at certificate and passwords, so that a new process has current ones."""
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
    ) -> None:
        self._setup, self._sockets, self._wanted = setup, sockets, workers
        self._manager = manager
        self._shared = SharedCounters()
        self._workers: dict[int, _Process] = {}
        self._lifeline = os.pipe()

    def run(self, started: Callable[[], None]) -> None:
        """Serve until a signal; call ``started`` when requests are answered."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._fill()
            started()
            self._notify(lambda: self._manager.ready("serving"))
            while True:
                found = signal.sigtimedwait(_SIGNALS, _LOOK_EVERY_S)
                if found is None:
                    self._setup.refresh()
                elif self._heed(found.si_signo):
                    break
        finally:
            self._notify(self._manager.stopping)
            self._end()
            for descriptor in self._lifeline:
                os.close(descriptor)
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

    def _end(self) -> None:
        """Let each process finish its requests, for a few seconds."""
        for listening in self._sockets:
            listening.close()
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
