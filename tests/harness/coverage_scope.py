"""Which tests count for coverage, and which of the programs that they start.

Measuring doubles the time of a test, and each Python program under it takes 0.3 s longer to start. Tests that look at the
program from outside, or spoil what other tests cover, run unmeasured: attacks, faults, kills, clients, service managers.
The figures of `make coverage` come from the rest.
"""

from __future__ import annotations

import contextlib
import os
import posix
from collections.abc import Iterator
from pathlib import Path

from coverage import Coverage

TESTS = Path(__file__).parent.parent

UNMEASURED = frozenset({"attacks", "clients", "docs", "faults", "kill", "systemd"})
"""Folders whose tests run without coverage."""

MEASURED_PROGRAMS = frozenset({"cli", "daemon", "selection", "serve", "sync", "upstream"})
"""Folders where the programs that a test starts, and their worker processes, are measured too."""

MEASURED_FILES = frozenset({"clients/test_serve_program.py"})
"""Files of other folders that are measured with the programs that they start."""


class Measuring:
    """Coverage of this process, paused for the tests that do not count."""

    def __init__(self) -> None:
        """Know what coverage has changed in this process; to be called when it runs."""
        self._exit = os._exit
        self._variables = {name: value for name, value in os.environ.items() if name.startswith("COV")}

    @contextlib.contextmanager
    def of_test(self, path: Path) -> Iterator[None]:
        """Measure a test of this file as its folder wants it."""
        place = path.relative_to(TESTS)
        folder, is_named = place.parts[0], place.as_posix() in MEASURED_FILES
        with contextlib.ExitStack() as paused:
            if folder not in MEASURED_PROGRAMS and not is_named:
                paused.enter_context(self._unmeasured_programs())
            if folder in UNMEASURED and not is_named:
                paused.enter_context(_unmeasured_process())
            yield

    @contextlib.contextmanager
    def _unmeasured_programs(self) -> Iterator[None]:
        for name in self._variables:
            os.environ.pop(name, None)
        os._exit = posix._exit
        try:
            yield
        finally:
            os._exit = self._exit
            os.environ.update(self._variables)


@contextlib.contextmanager
def _unmeasured_process() -> Iterator[None]:
    # A worker of pytest-xdist has two: one as a program that was started, one of pytest-cov.
    stopped = []
    while running := Coverage.current():
        running.stop()
        stopped.append(running)
    try:
        yield
    finally:
        for coverage in reversed(stopped):
            _start_again(coverage)


def _start_again(coverage: Coverage) -> None:
    """Go on measuring. The patches of a process stay: each start would add its own to them.

    Among them is a hook that each fork runs once for every start before it, half a minute after
    some thousand tests.
    """
    patches = coverage.get_option("run:patch")
    coverage.set_option("run:patch", [])
    try:
        coverage.start()
    finally:
        coverage.set_option("run:patch", patches)
