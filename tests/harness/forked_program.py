"""The real program, or pip, as a process that is forked instead of started: its imports are there already.

A start of Python with all that a cycle imports costs half a second of CPU, a fork a fortieth of it; pip's likewise.
``start`` and ``run`` take a command like ``[sys.executable, "-m", "mirror", …]``, or one whose ``-c`` changes something
and calls ``main``, and return what ``subprocess`` would: the process has its own pid, environment, working directory and
pipes, its arguments in ``sys.argv``, and ends as any Python process does, but for the values of modules, which are not
freed. What a fork would change (options of Python in the environment, another language, pip's cache below another home)
makes it a start after all. Tests of the start itself call ``subprocess``.

``fork_server`` is the process that is forked.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from harness import fork_server
from harness.fork_server import MAX_REQUEST, STATUS

Done = subprocess.CompletedProcess[str]


def run(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float) -> Done:
    """Run a program to its end, its output captured."""
    if not _is_forked(command, env):
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=env,
            cwd=cwd,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    with start(command, env=env, cwd=cwd) as process:
        stdout, stderr = process.communicate(timeout=timeout)
        return Done(command, process.returncode, stdout, stderr)


def start(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, is_forked: bool = True
) -> subprocess.Popen[str] | Forked:
    """Start a program with pipes for its output; used as ``with`` or ended by ``communicate``.

    Not ``is_forked`` where a test looks at what the kernel knows of a start: arguments and environment.
    """
    if not is_forked or not _is_forked(command, env):
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd)
    return Forked(command, env, cwd)


def _is_forked(command: Sequence[str], env: Mapping[str, str]) -> bool:
    language = {name: value for name, value in os.environ.items() if name.startswith(("LANG", "LC_"))}
    given = {name: value for name, value in env.items() if name.startswith(("LANG", "LC_"))}
    # The last two: a completion describes commands in its own way.
    own = ("PYTHON", "LD_", "MALLOC_", "_MIRROR_", "_TYPER_")
    is_plain = not any(name.startswith(own) for name in env)
    return _module(command, env) is not None and language == given and is_plain


def _module(command: Sequence[str], env: Mapping[str, str]) -> str | None:
    """Return what a command runs of what can be forked."""
    if list(command[:3]) == [sys.executable, "-m", "mirror"]:
        return "mirror"
    if list(command[:2]) == [sys.executable, "-c"] and "from mirror.cli import main" in command[2]:
        return "mirror"
    # Where its cache is, pip settles while it is imported.
    has_no_cache = "PIP_NO_CACHE_DIR" in env or "--no-cache-dir" in command
    return "pip" if list(command[:3]) == [sys.executable, "-m", "pip"] and has_no_cache else None


class Forked:
    """A forked process, as far as tests use ``subprocess.Popen``."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Fork it."""
        self.args = list(command)
        self.returncode: int | None = None
        with contextlib.ExitStack() as given:
            out_r, out_w = _pipe(given)
            err_r, err_w = _pipe(given)
            self._status, status_w = _pipe(given)
            nothing = os.open(os.devnull, os.O_RDONLY)
            given.callback(os.close, nothing)
            code = self.args[2] if self.args[1] == "-c" else None
            request = {"code": code, "arguments": self.args[3:], "env": dict(env), "cwd": str(cwd)}
            module = _module(command, env)
            assert module is not None
            self.pid = _forker(module).fork(request, [nothing, out_w, err_w, status_w])
        self.stdout: IO[str] | None = os.fdopen(out_r, encoding="utf-8")
        self.stderr: IO[str] | None = os.fdopen(err_r, encoding="utf-8")

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended."""
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(STATUS.unpack(os.read(self._status, STATUS.size))[0])
            os.close(self._status)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read all output, and wait for the end."""
        texts = ["", ""]

        def read(number: int, stream: IO[str] | None) -> None:
            if stream is not None and not stream.closed:
                with stream:
                    texts[number] = stream.read()

        deadline = None if timeout is None else time.monotonic() + timeout
        readers = [threading.Thread(target=read, args=pair) for pair in enumerate((self.stdout, self.stderr))]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self.kill()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


def _pipe(given: contextlib.ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    given.callback(os.close, writing)
    return reading, writing


class _Forker:
    """The process that is forked, started by the first test that needs it."""

    def __init__(self, module: str) -> None:
        self._lock = threading.Lock()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            kept = ("PATH", "TMPDIR")
            env = {n: v for n, v in os.environ.items() if n in kept or n.startswith(("LANG", "LC_"))}
            command = [sys.executable, fork_server.__file__, str(other.fileno()), module]
            self._process = subprocess.Popen(
                command,
                env=env,
                cwd="/",
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Fork once, and return the pid."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))
            answer = self._socket.recv(MAX_REQUEST)
        assert answer, "the process that is forked has ended"
        return int(answer)

    def close(self) -> None:
        """Let it end."""
        self._socket.close()
        self._process.wait()


_started: dict[str, _Forker] = {}


def _forker(module: str) -> _Forker:
    if module not in _started:
        _started[module] = _Forker(module)
    return _started[module]
