"""Runs the ``mirror`` program as often as asked, each time in a process of its own, and kills it where it is told to.

A command is a line of JSON on standard input: ``arguments``, the directory to run in (``cwd``, which is its home), a file for the ``log``, and how to kill: ``after_s``
(SIGKILL so long after the start) or ``step`` and ``count`` (SIGKILL when that function has returned for the n-th time). With ``beside`` files are fetched by other processes from the first
on; a step in one of them kills the program too. ``fail``: a storage call that fails, see ``_arm``.
With ``many`` each batch is made durable as a large one is. With ``is_receive`` the program of the far side runs.
Answers are lines too: the pid at once, then the status as ``waitpid`` has it. The program is imported once, before
the first fork; a step's function is the real one, called before the process kills itself.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import inspect
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from harness.fork_server import IMPORTED_LATE
from harness.prepared_structs import prepare_structs

STEPS = {
    "cycle entered": "mirror.sync.cycle:record_cycle_start",
    "sources entered": "mirror.wiring.cycle:record_sources",
    "root compared": "mirror.sync.pages.root:record_root",
    "root's validators": "mirror.sync.pages.root:record_root_read",
    "block staged": "mirror.tree.staging:StagedFile.flush",
    "blob": "mirror.tree.staging:StagedFile.move_to",
    "sidecar": "mirror.tree.files:FileStore._write_sidecar",
    "blobs synced": "mirror.tree.files:FileStore.sync",
    "rows": "mirror.sync.recording.batch:record_changes",
    "first look": "mirror.sync.recording.batch:record_missing",
    "ledger": "mirror.sync.recording.batch:record_failures",
    "page written aside": "mirror.tree.pages:link_or_copy",
    "one of three pages": "mirror.tree.pages:rename_into",
    "project page": "mirror.tree.pages:PageStore.write_project",
    "pages synced": "mirror.tree.pages:PageStore.sync",
    "root page": "mirror.tree.pages:PageStore.write_root",
    "project page removed": "mirror.tree.pages:PageStore.remove_project",
    "page file removed": "mirror.tree.pages:remove_if_there",
    "validators": "mirror.publishing.publisher:record_published",
    "removal entered": "mirror.sync.removals.removal:record_removals",
    "staging swept": "mirror.tree.files:FileStore.sweep_staging",
    "success entered": "mirror.sync.ending:record_success",
    "cycle left": "mirror.sync.ending:record_cycle_end",
    "blob's row pruned": "mirror.upkeep.prune:record_pruned",
    "file pruned": "mirror.tree.files:remove_if_there",
    "blob pruned": "mirror.tree.files:FileStore.remove_blob",
    "history pruned": "mirror.upkeep.prune:record_history_pruned",
    "leftover pruned": "mirror.upkeep.prune:remove_leftover",
}
"""The steps of a cycle and of ``prune`` after which a process can be killed, each with its function."""


def main() -> None:
    """Serve commands until standard input ends."""
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(importlib.import_module("mirror").__path__, "mirror."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    prepare_structs()
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(command)
        _answer(pid)
        if command.get("after_s") is not None:
            time.sleep(command["after_s"])
            os.kill(pid, signal.SIGKILL)  # not reaped yet: the pid is still that process's
        _answer(os.waitpid(pid, 0)[1])


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _run(command: dict[str, Any]) -> None:
    """Be one run of the program."""
    code = 1
    try:
        os.chdir(command["cwd"])
        os.environ["HOME"] = command["cwd"]
        log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if command.get("beside"):
            pool = importlib.import_module("mirror.workers.pool")
            pool._MANY_FILES = pool._MANY_PAGES = 0
        if command.get("many"):
            for name in ("files", "pages"):
                importlib.import_module(f"mirror.tree.{name}").FEW = 0
        if command.get("fail"):
            _arm(**command["fail"])
        if command.get("step"):
            _kill_after(STEPS[command["step"]], command["count"])
        run = importlib.import_module("mirror.bundle.receive" if command.get("is_receive") else "mirror.cli").main
        code = run(command["arguments"])
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - the end of this process
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _arm(tree: str, call: str = "", number: int = 0, error: int = 0, trace: str = "") -> None:
    """Let the n-th call of a function on a tree fail, or write down all that could (``failing_calls.c``)."""
    library = ctypes.CDLL(None)
    if trace:
        library.failing_trace(os.fsencode(tree), os.fsencode(trace))
    else:
        library.failing_arm(os.fsencode(tree), call.encode(), number, error)


def _kill_after(place: str, count: int) -> None:
    """Let this process kill itself when a function has returned for the n-th time, or failed."""
    module_name, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module_name))
    setattr(owner, name, _wrapped(getattr(owner, name), count))


def _wrapped(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    left, program = count, os.getpid()

    def count_down() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            for pid in (program, os.getpid()):  # the program first: who has killed itself kills nobody any more
                os.kill(pid, signal.SIGKILL)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waits(*arguments: Any, **options: Any) -> Any:
            result = await function(*arguments, **options)
            count_down()
            return result

        return waits

    @functools.wraps(function)
    def blocks(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        count_down()
        return result

    return blocks


if __name__ == "__main__":
    main()
