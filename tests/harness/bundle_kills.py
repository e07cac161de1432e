"""Run receive.py again and again in children, killed by SIGKILL before its first, second, … change of the disk.

The functions of ``os`` that change the disk are wrapped: an instrument that counts, kills, and else calls the real ones.
After each kill the tree is looked at as it lies there, then the same command is run to its end.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.handmade_bundles import check_public
from mirror.bundle import receive as program

CHANGES = ("mkdir", "link", "symlink", "rename", "replace", "unlink", "rmdir", "write", "ftruncate")
"""Without ``fsync``: a process that is killed before one leaves the same tree as one that is killed after it."""


def kill_everywhere(
    before: Path, work: Path, arguments: Sequence[str], *, look: Callable[[Path], None], check: Callable[[Path], None]
) -> int:
    """Kill the command at each of its steps, on a fresh copy of the root ``before`` each time; return how often.

    ``arguments`` name the root as ROOT. ``look`` is called with the root after each kill, ``check`` after the run that
    completed the work. Both raise what is wrong.
    """
    root = work / "root"
    words = [word.replace("ROOT", str(root)) for word in arguments]
    set_root(before, root)
    rehearse(words)
    step = 0
    while True:
        step += 1
        set_root(before, root)
        status = in_child(words, kill_at=step)
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        try:
            if (root / "public").exists():
                check_public(root / "public")
            look(root)
            if not was_killed:
                assert os.waitstatus_to_exitcode(status) == 0
            else:
                assert os.waitstatus_to_exitcode(in_child(words, kill_at=None)) == 0
            check(root)
        except BaseException as exc:
            exc.add_note(f"killed at step {step}")
            raise
        if not was_killed:
            return step - 1


def set_root(before: Path, root: Path) -> None:
    """Make a root what another one is, hard links and all, or nothing where that is nothing."""
    shutil.rmtree(root, ignore_errors=True)
    if before.exists():
        subprocess.run(["cp", "-a", before, root], check=True)


def rehearse(words: Sequence[str]) -> None:
    """Run the program here, without a child: what it imports and compiles for that, no child does again."""
    with (
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        code = program.main(list(words))
    assert code == 0, f"exit code {code} without a kill"
    gc.collect()
    gc.freeze()


def in_child(words: Sequence[str], kill_at: int | None) -> int:
    """Run the program in a child; return its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 99
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        if kill_at is not None:
            os.dup2(quiet, 2)
            arm(kill_at)
        code = program.main(list(words))
    finally:
        os._exit(code)


def arm(kill_at: int) -> None:
    """Have this process killed before its n-th change of the disk."""
    count = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return counted

    for name in CHANGES:
        setattr(os, name, wrap(getattr(os, name)))
