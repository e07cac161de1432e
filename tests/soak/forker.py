"""The process that runs ``soak.program``, one for all mirrors of a test process: it imports the whole program once."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Forker:
    """A running ``soak.program``. It ends when its standard input does, with this process at the latest."""

    def __init__(self, preload: Path | None) -> None:
        # Not measured: what a killed process did is lost, and other tests cover the rest in half of the time.
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "TMPDIR"}}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("program.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={
                **kept,
                "PYTHONPATH": str(Path(__file__).parent.parent),
                **({} if preload is None else {"LD_PRELOAD": str(preload)}),
            },
        )
        atexit.register(self._process.communicate)

    def run(self, command: dict[str, Any]) -> int:
        """Begin a run and return its pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """Wait for the end of the run, and return its exit code or the signal that ended it as a negative number."""
        return os.waitstatus_to_exitcode(self._answer())

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@functools.cache
def forker(preload: Path | None) -> Forker:
    """Return the process that is loaded with this library; it is started by the first mirror that needs it."""
    return Forker(preload)
