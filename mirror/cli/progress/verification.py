"""The progress display of ``mirror verify`` on a terminal: one line, redrawn in place.

Fed by polling the counters of the run, so that the run does not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from mirror.cli.text import remaining, size
from mirror.upkeep.findings import Verification

_A_SECOND = 4
_FEW_S = 1.0


class VerificationView:
    """The view of a verification, rendered again at each refresh."""

    def __init__(self, found: Verification) -> None:
        self._found = found
        self._started_s = time.monotonic()

    def __rich__(self) -> RenderableType:
        return Text(
            describe_verification(self._found, time.monotonic() - self._started_s),
            no_wrap=True,
            overflow="ellipsis",
        )


def describe_verification(found: Verification, elapsed_s: float) -> str:
    """Return the progress, the rate, and the estimated time left."""
    parts = [
        found.doing,
        f"{found.blobs_checked:,}/{max(found.blobs_total, found.blobs_checked):,} files",
    ]
    if found.bytes_total:
        parts.append(
            f"{size(found.bytes_checked)} of {size(max(found.bytes_total, found.bytes_checked))}"
        )
    if found.pages_checked:
        parts.append(f"{found.pages_checked:,} pages")
    if found.findings:
        parts.append(f"{len(found.findings):,} damaged")
    is_hashing = found.blobs_checked < found.blobs_total
    if is_hashing and elapsed_s >= _FEW_S and found.bytes_checked:
        rate = found.bytes_checked / elapsed_s
        parts.append(f"{size(round(rate))}/s")
        parts.append(f"{remaining(max(found.bytes_total - found.bytes_checked, 0) / rate)} left")
    return " · ".join(parts)


@contextmanager
def shown_verification(found: Verification, console: Console | None = None) -> Iterator[None]:
    """Show the progress on stderr, or ``console``, while the block runs; then leave nothing of it
    behind.
    """
    console = console or Console(stderr=True, highlight=False, markup=False, emoji=False)
    view = VerificationView(found)
    with Live(
        view, console=console, refresh_per_second=_A_SECOND, transient=True, redirect_stdout=False
    ):
        yield
