"""The real program whose files and pages are fetched by other processes, from the first one on."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.program import Done, Mirror, events_of

needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core needs no second process")


@dataclass
class Beside(Mirror):
    """A mirror whose program has other processes from the start. ``before``: a statement that it begins with."""

    before: str = "pass"

    def _command(self, arguments: Sequence[str | Path]) -> list[str | Path]:
        lines = (
            "import sys, mirror.workers.pool as pool",
            "pool._MANY_FILES = pool._MANY_PAGES = 0",
            self.before,
            "from mirror.cli import main",
            "sys.exit(main())",
        )
        return [sys.executable, "-c", "\n".join(lines), *arguments]


def log_of(done: Done, event: str) -> list[dict[str, Any]]:
    """Return the log's lines of one kind."""
    return [found for found in events_of(done) if found["event"] == event]


def used_processes(done: Done) -> bool:
    """Tell whether other processes were there, and none of them was lost. Needs the log of level debug."""
    return bool(log_of(done, "fetch_processes.started")) and not log_of(done, "fetch_process.lost")


def told(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a report says, but for times and the order of failures."""
    failures = sorted(report["failures"], key=lambda f: (f["project"] or "", f["filename"] or ""))
    return {**report, "started_at": "", "finished_at": "", "failures": failures}


def children(pid: int) -> list[int]:
    """Return the processes that one has started."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def grandchildren(pid: int) -> list[int]:
    """Return the processes that those have started."""
    return [grandchild for child in children(pid) for grandchild in children(child)]


def is_running(pid: int) -> bool:
    """Tell whether a process has not ended; one that nobody waits for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False
