"""The server in the daemon's unit (``serve.listen``): a process of its own, which the daemon
starts, watches and ends.

Invariants: the daemon binds and keeps the sockets, so that connections wait while one server
follows another; a server that ends by itself is reported and started again; nothing that happens to
the server ends the daemon or a cycle. The server ends with the daemon, however that ends.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import Process, TaskGroup

from mirror.config import Config
from mirror.errors import ConfigError
from mirror.logs import LogFormat, get_logger
from mirror.serve.connections.addresses import bind
from mirror.serve.processes.spec import MODULE, ServerAnswer, ServerSpec, encode_spec
from mirror.upstream.credentials.program_env import program_environment

START_LIMIT_S: Final = 60.0
END_LIMIT_S: Final = 10.0
FIRST_PAUSE_S: Final = 1.0
EARLY_S: Final = 10.0
LONGEST_PAUSE_S: Final = 60.0
_WHERE: Final = "serve.listen"

_log = get_logger(__name__)


class LogChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Level and format of the daemon's log, which are those of the server too."""

    level: str = "info"
    format: LogFormat | None = None


class InnerServer:
    """The server while the daemon runs; without ``serve.listen`` there is none."""

    def __init__(self, env: Mapping[str, str], log: LogChoice) -> None:
        self._env, self._log_choice = env, log
        self._config: Config | None = None
        self._listen = ""
        self._sockets: list[socket.socket] = []
        self._process: Process | None = None
        self._tasks: TaskGroup | None = None
        self._pause_s = FIRST_PAUSE_S / 2

    async def start(self, config: Config, tasks: TaskGroup) -> None:
        """Start the server of a configuration. Raises ``ConfigError`` where it can't serve."""
        self._tasks = tasks
        await self.adopt(config)

    async def adopt(self, config: Config) -> None:
        """Serve as a new configuration says; on ``ConfigError`` the old server stays."""
        old, serve = self._config, config.serve
        if old is not None and serve == old.serve and self._process is not None:
            self._config = config
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)
            return
        sockets = self._sockets
        if serve.listen != self._listen:
            sockets = []
            if serve.listen:
                sockets = await anyio.to_thread.run_sync(lambda: bind(serve.listen, where=_WHERE))
        try:
            process = await self._spawn(config, sockets) if serve.listen else None
        except ConfigError:
            if sockets is not self._sockets:
                _close(sockets)
            raise
        if sockets is not self._sockets:
            _close(self._sockets)
        before = self._process
        self._config, self._listen, self._sockets = config, serve.listen, sockets
        self._watch(process)
        if before is not None:
            with suppress(ProcessLookupError):
                before.send_signal(signal.SIGUSR1)

    async def close(self) -> None:
        """End the server; transfers have a few seconds."""
        process, self._process, self._config = self._process, None, None
        _close(self._sockets)
        self._sockets = []
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        with anyio.move_on_after(END_LIMIT_S):
            await process.wait()
            return
        with suppress(ProcessLookupError):
            process.kill()

    def _watch(self, process: Process | None) -> None:
        self._process = process
        if process is not None and self._tasks is not None:
            self._tasks.start_soon(self._supervise, process)

    async def _supervise(self, process: Process) -> None:
        """Start the server again when it ends by itself."""
        began_s = time.monotonic()
        code = await process.wait()
        await process.aclose()
        if process is not self._process:
            return
        self._process = None
        _log.error("server.ended", code=code, advice="the daemon goes on and starts it again")
        # One that ends early again and again must not keep a processor busy.
        is_early = time.monotonic() - began_s < EARLY_S
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if is_early else FIRST_PAUSE_S
        while self._is_missing():
            await anyio.sleep(self._pause_s)
            config = self._config
            if config is None or not self._is_missing():
                return
            try:
                started = await self._spawn(config, self._sockets)
            except ConfigError as exc:
                _log.error("server.failed", problem=str(exc), advice="it is tried again")
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                continue
            if self._is_missing() and self._config is config:
                self._watch(started)
            else:
                started.terminate()

    def _is_missing(self) -> bool:
        """Return whether a server is configured and none is there."""
        wanted = self._config is not None and bool(self._config.serve.listen)
        return wanted and self._process is None

    async def _spawn(self, config: Config, sockets: list[socket.socket]) -> Process:
        """Start a process and wait until it answers requests. Raises ``ConfigError``."""
        descriptors = tuple(listening.fileno() for listening in sockets)
        spec = ServerSpec(
            config=config,
            sockets=descriptors,
            log_level=self._log_choice.level,
            log_format=self._log_choice.format,
        )
        try:
            process = await anyio.open_process(
                [sys.executable, "-P", "-m", MODULE],
                stderr=None,
                env=program_environment(config.indexes, self._env),
                # A signal of the terminal is for the daemon, which ends the server.
                start_new_session=True,
                pass_fds=descriptors,
            )
        except OSError as exc:
            problem = f"the server can't be started: {exc.strerror or exc}"
            raise ConfigError(where=_WHERE, problem=problem) from exc
        try:
            answer = await _answer_of(process, spec)
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            raise
        if answer.problem:
            await process.wait()
            raise ConfigError(where=answer.where, problem=answer.problem)
        return process


async def _answer_of(process: Process, spec: ServerSpec) -> ServerAnswer:
    """Give the order to a process and return its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    line = b""
    with anyio.move_on_after(START_LIMIT_S), suppress(anyio.EndOfStream, OSError):
        await process.stdin.send(encode_spec(spec))
        while not line.endswith(b"\n"):
            line += await process.stdout.receive()
    try:
        return msgspec.json.decode(line, type=ServerAnswer)
    except msgspec.MsgspecError:
        with suppress(ProcessLookupError):
            process.kill()
        problem = "the server ended before it answered, or did not begin in time: see the log"
        return ServerAnswer(where=_WHERE, problem=problem)


def _close(sockets: list[socket.socket]) -> None:
    for listening in sockets:
        listening.close()
