"""The process that is forked where a test would start a program: it has imported the program, and starts no thread.

Run as a program with the number of the descriptor that requests come from and the module that they run: ``mirror`` or
``pip``. What it may be asked, and from where, says ``forked_program``.
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
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

MAX_REQUEST = 1 << 17
STATUS = struct.Struct("i")

IMPORTED_LATE = (
    "anyio._backends._asyncio",
    "anyio._core._fileio",
    "anyio._core._signals",
    "anyio.streams.stapled",
    "anyio.streams.tls",
    "typer._click.decorators",
)
"""What libraries import when they are used first. ``obstore`` is none of them: it does not survive a fork."""

OF_PIP = (
    "pip._internal.cli.autocompletion",
    "pip._internal.cli.main_parser",
    "pip._internal.commands.download",
    "pip._internal.commands.install",
    "pip._internal.commands.lock",
    "pip._internal.metadata.importlib",
    "pip._internal.operations.install.wheel",
    "pip._internal.resolution.resolvelib.resolver",
    "pip._vendor.distlib.scripts",
    "pip._vendor.distro",
    "pip._vendor.pygments.lexers.python",
    "pip._vendor.rich._emoji_codes",
    "pip._vendor.tomli_w",
    "pip._vendor.truststore",
    "compileall",
    "encodings.ascii",
    "encodings.cp437",
    "gzip",
    "netrc",
    "xmlrpc.client",
)
"""What pip has imported once it has installed something."""


class Children:
    """In the process that is forked: those that it has forked, each with the pipe that its status is written to."""

    def __init__(self, control: socket.socket, module: str) -> None:
        self._control = control
        self._module = module
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
        tempfile.tempdir = None
        sys.argv[1:] = request["arguments"]
        sys.path[0] = request["cwd"]
        if "COVERAGE_PROCESS_CONFIG" in os.environ and self._module == "mirror":
            sys.modules["coverage"].process_startup(force=True)
        code = request["code"]
        if code is None:
            return lambda: runpy.run_module(self._module, run_name="__main__", alter_sys=True)
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


def _import_mirror() -> None:
    """Import the whole program."""
    importlib.import_module("coverage")
    for module in pkgutil.walk_packages(importlib.import_module("mirror").__path__, "mirror."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    # It lies beside this file, which is the program's first place to look.
    importlib.import_module("prepared_structs").prepare_structs()
    _describe_commands()


def _describe_commands() -> None:
    """Describe each command to typer once, as a run does for the one that it is asked for."""
    groups, typer_main = importlib.import_module("mirror.cli.groups"), importlib.import_module("typer.main")
    describe, program = groups.describe, importlib.import_module("mirror.cli.app").PROGRAM
    described = {command: describe(program, command) for command in (None, *program.commands)}
    groups.describe = lambda group, command=None: (
        described[command if command in group.commands else None] if group is program else describe(group, command)
    )
    typer_main.get_command = functools.cache(typer_main.get_command)
    for one in described.values():
        typer_main.get_command(one)


def _import_pip() -> None:
    """Import what pip needs to install; what its other versions do not have, they do without."""
    importlib.import_module("pip._internal.cli.main")
    for name in OF_PIP:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)


def _main() -> None:
    end = _QuickEnd()
    descriptor, module = int(sys.argv[1]), sys.argv[2]
    with socket.socket(fileno=descriptor) as control:
        {"mirror": _import_mirror, "pip": _import_pip}[module]()
        gc.collect()
        gc.freeze()
        program = Children(control, module).serve()
    if program is not None:
        end.run(program)


if __name__ == "__main__":
    _main()
