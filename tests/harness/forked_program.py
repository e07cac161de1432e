"""The real program as a process that is forked instead of started: its imports are there already.

A start of Python with all that a cycle imports costs half a second of CPU, a fork a fortieth of it. ``start`` and ``run``
take a command like ``[sys.executable, "-m", "mirror", …]``, or one whose ``-c`` changes something and calls ``main``, and
return what ``subprocess`` would: the process has its own pid, environment, working directory and pipes, its arguments in
``sys.argv``, and ends as any Python process does, but for the values of modules, which are not freed (``_QuickEnd``). What
a fork would change (options of Python in the environment, another language) makes it a start after all. Tests of the start
itself call ``subprocess``.

Run as a program, this file is the process that is forked: it imports the program, starts no thread, and serves requests.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

IMPORTED_LATE = ("anyio._backends._asyncio", "anyio.streams.stapled", "anyio.streams.tls", "typer._click.decorators")
"""What libraries import when they are used first. ``obstore`` is none of them: it does not survive a fork."""

MAX_REQUEST = 1 << 17
STATUS = struct.Struct("i")

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
    is_plain = not any(name.startswith(("PYTHON", "LD_", "MALLOC_")) for name in env)
    is_program = list(command[:3]) == [sys.executable, "-m", "mirror"]
    is_patched = list(command[:2]) == [sys.executable, "-c"] and "from mirror.cli import main" in command[2]
    return (is_program or is_patched) and language == given and is_plain


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
            self.pid = _forker().fork(request, [nothing, out_w, err_w, status_w])
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

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            kept = ("PATH", "TMPDIR")
            env = {n: v for n, v in os.environ.items() if n in kept or n.startswith(("LANG", "LC_"))}
            command = [sys.executable, __file__, str(other.fileno())]
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


_started: list[_Forker] = []


def _forker() -> _Forker:
    if not _started:
        _started.append(_Forker())
    return _started[0]


class Children:
    """In the process that is forked: those that it has forked, each with the pipe that its status is written to."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._status: dict[int, int] = {}
        self._ended_r, self._ended_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._ended_w)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> Callable[[], object] | None:
        """Fork as often as asked; return, in each child, what it is to run, and None at the end."""
        while True:
            ready, _, _ = select.select([self._control, self._ended_r], [], [])
            if self._ended_r in ready:
                self._reap()
            if self._control in ready:
                message, ancillary, _, _ = self._control.recvmsg(MAX_REQUEST, socket.CMSG_SPACE(4 * 4))
                if not message:
                    return None
                descriptors = array.array("i", ancillary[0][2])
                pid = os.fork()
                if pid == 0:
                    return self._child(json.loads(message), descriptors)
                for descriptor in descriptors[:3]:
                    os.close(descriptor)
                self._status[pid] = descriptors[3]
                self._control.send(str(pid).encode())

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._ended_r, 4096)
        while self._status:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            writing = self._status.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(writing, STATUS.pack(status))
            os.close(writing)

    def _child(self, request: dict[str, Any], descriptors: array.array[int]) -> Callable[[], object]:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for descriptor in (self._ended_r, self._ended_w, *self._status.values()):
            os.close(descriptor)
        for target, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, target)
        for descriptor in descriptors:
            os.close(descriptor)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        sys.argv[1:] = request["arguments"]
        sys.path[0] = request["cwd"]
        if "COVERAGE_PROCESS_CONFIG" in os.environ:
            sys.modules["coverage"].process_startup(force=True)
        code = request["code"]
        if code is None:
            return lambda: runpy.run_module("mirror", run_name="__main__", alter_sys=True)
        return lambda: exec(code, {"__name__": "__main__"})


class _QuickEnd:
    """The end of a child that has an exit code, once all else that Python does at an end is done.

    Python would then free each value of each module, and so copy the memory that the child shares with its parent: 60 ms
    of CPU each time. What the child itself has left is freed, so that its finalizers run. Any other end (an error that
    nobody caught, a signal's, a stream that is closed) is Python's.
    """

    def __init__(self) -> None:
        self._code: int | None = None
        atexit.register(self._end)  # the first that is registered is the last that is called

    def run(self, program: Callable[[], object]) -> None:
        """Run the program, and learn its exit code."""
        try:
            program()
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                self._code = end.code or 0
            raise
        self._code = 0

    def _end(self) -> None:
        if self._code is None:
            return
        gc.collect()
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    stream.flush()
        except OSError:
            return
        os._exit(self._code)


def _describe_commands() -> None:
    """Describe all commands to typer once: most runs would do that again for each of them."""
    app = importlib.import_module("mirror.cli.app").app
    typer_main = importlib.import_module("typer.main")
    typer_main.get_command = functools.cache(typer_main.get_command)
    typer_main.get_command(app)


def _main() -> None:
    end = _QuickEnd()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        importlib.import_module("coverage")
        for module in pkgutil.walk_packages(importlib.import_module("mirror").__path__, "mirror."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        for name in IMPORTED_LATE:
            importlib.import_module(name)
        _describe_commands()
        gc.collect()
        gc.freeze()
        program = Children(control).serve()
    if program is not None:
        end.run(program)


if __name__ == "__main__":
    _main()
