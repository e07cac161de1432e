"""The progress display of a cycle on a terminal: two lines for each index, redrawn in place.

Fed by polling the counters of the running cycle, so that the cycle does not depend on it. While it
is shown, lines written to stderr (the log) appear above it. ``Estimate`` and ``describe`` are pure;
``shown_progress`` draws.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mirror.cli.text import counted, remaining, safe, size
from mirror.sync.cycle_parts import Phase

if TYPE_CHECKING:
    from mirror.sync.cycle_parts import Cycle
    from mirror.sync.needs.protocol import Needs
    from mirror.sync.report import IndexCounters
    from mirror.sync.work import IndexRun

_POLL_S = 0.2
_WINDOW_S = 30.0
_FEW_S = 1.0
"""Minimum time of observation before a rate is computed."""
_BAR = 16
_NAME = 20


class View(msgspec.Struct, frozen=True, kw_only=True):
    """One index as it is shown."""

    name: str
    fraction: float
    doing: str
    counts: str
    rate: str
    left: str


class Estimate:
    """Rate and time left of one index, from what happened within the last half minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float, int]] = deque()

    def add(self, now_s: float, fraction: float, file_bytes: int) -> None:
        """Add a sample."""
        self._seen.append((now_s, fraction, file_bytes))
        while len(self._seen) > 2 and self._seen[0][0] < now_s - _WINDOW_S:
            self._seen.popleft()

    def bytes_per_s(self) -> float | None:
        """Return the rate of files, or None while it is unknown."""
        elapsed_s = self._elapsed_s
        return (self._seen[-1][2] - self._seen[0][2]) / elapsed_s if elapsed_s >= _FEW_S else None

    def left_s(self) -> float | None:
        """Return how long it will take at this pace, or None while that is not known."""
        elapsed_s = self._elapsed_s
        gained = self._seen[-1][1] - self._seen[0][1] if self._seen else 0.0
        if elapsed_s < _FEW_S or gained <= 0:
            return None
        return (1 - self._seen[-1][1]) / gained * elapsed_s

    @property
    def _elapsed_s(self) -> float:
        return self._seen[-1][0] - self._seen[0][0] if self._seen else 0.0


def fraction_done(counters: IndexCounters, file_bytes: int) -> float:
    """Return the finished share of an index's work, as far as it is known: pages read, times files
    fetched.
    """
    if not counters.projects_due:
        return 0.0
    pages = min(counters.projects_looked / counters.projects_due, 1.0)
    if not counters.files_wanted:
        return pages
    files = counters.files_done / counters.files_wanted
    if counters.bytes_wanted:
        files = max(files, file_bytes / counters.bytes_wanted) if files < 1 else 1.0
    return pages * min(files, 1.0)


def describe(
    run: IndexRun, phase: Phase, needs: Needs | None, estimate: Estimate, now_s: float
) -> View:
    """Return how an index is shown at a moment."""
    counters, came = run.counters, run.access.session.traffic.file_bytes
    begun = phase not in {Phase.REPAIR, Phase.ROOTS, Phase.WANTS}
    fraction = 1.0 if begun and not counters.projects_due else fraction_done(counters, came)
    estimate.add(now_s, fraction, came)
    rate, left_s = estimate.bytes_per_s(), estimate.left_s()
    is_busy = phase is Phase.PROJECTS and run.reach.ended is None and fraction < 1
    return View(
        name=safe(run.name),
        fraction=fraction,
        doing=_doing(run, phase, needs, fraction),
        counts=_counts(counters, came),
        rate=f"{size(round(rate))}/s" if rate and is_busy else "",
        left=f"{remaining(left_s)} left" if left_s is not None and is_busy else "",
    )


def _doing(run: IndexRun, phase: Phase, needs: Needs | None, fraction: float) -> str:
    counters = run.counters
    if run.reach.ended is not None:
        return f"stopped: {run.reach.ended.reason.value}"
    if phase.counts_wants and needs is not None:
        return f"{phase.value}: {needs.progress.describe()}".removesuffix(": ")
    if phase is Phase.ROOTS and counters.projects_listed:
        return f"read the root: {counted(counters.projects_listed, 'project')}"
    if phase is not Phase.PROJECTS or counters.projects_looked < counters.projects_due:
        waits = (
            phase is Phase.PROJECTS
            and run.selection.policy.overlay
            and not counters.projects_looked
        )
        doing: str = "waiting for the indexes before it" if waits else phase.value
        return doing
    return "downloading" if fraction < 1 and counters.files_wanted else "looked at all"


def _counts(counters: IndexCounters, came: int) -> str:
    parts = []
    if counters.projects_due:
        checked = min(counters.projects_looked, counters.projects_due)
        parts.append(f"{checked:,}/{counters.projects_due:,} projects")
    if counters.files_wanted:
        parts.append(f"{counters.files_done:,}/{counters.files_wanted:,} files")
        # An interrupted file is not fetched again as a whole: the total is never less than the
        # received bytes.
        whole = max(counters.bytes_wanted, came)
        parts.append(f"{size(came)} of {size(whole)}" if counters.bytes_wanted else size(came))
    if counters.files_failed:
        parts.append(f"{counters.files_failed:,} failed")
    return " · ".join(parts)


@asynccontextmanager
async def shown_progress(cycle: Cycle, console: Console | None = None) -> AsyncIterator[None]:
    """Show the cycle's progress on stderr, or ``console``, while the block runs; then leave nothing
    of it behind.
    """
    estimates = {run.name: Estimate() for run in cycle.runs}

    def views() -> RenderableType:
        now_s, phase, needs = anyio.current_time(), cycle.course.phase, cycle.wants.needs
        return render(
            [describe(run, phase, needs, estimates[run.name], now_s) for run in cycle.runs]
        )

    async def poll(live: Live) -> None:
        with suppress(OSError):
            while True:
                await anyio.sleep(_POLL_S)
                live.update(views(), refresh=True)

    console = console or Console(stderr=True, highlight=False, markup=False, emoji=False)
    # Not redrawn by a thread of rich's own: the event loop owns the counters, and a frozen loop
    # should look frozen.
    live = Live(views(), console=console, auto_refresh=False, transient=True, redirect_stdout=False)
    # A terminal that went away must not stop a cycle in its middle.
    with suppress(OSError):
        live.start(refresh=True)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poll, live)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
    finally:
        with suppress(OSError):
            live.stop()


def render(views: list[View]) -> RenderableType:
    """Return the two lines of each index; a line that is too long for the terminal is cut, never
    wrapped.
    """

    def cell(text: str, style: str = "") -> Text:
        return Text(text, style=style, no_wrap=True, overflow="ellipsis", end="")

    longest = max((len(view.name) for view in views), default=0)
    whole = Table.grid(expand=True)
    for view in views:
        first = Table.grid(padding=(0, 1), expand=True)
        first.add_column(no_wrap=True, width=min(longest, _NAME))
        first.add_column(width=_BAR)
        first.add_column(justify="right", width=5, no_wrap=True)
        first.add_column(ratio=1, no_wrap=True)
        first.add_column(justify="right", no_wrap=True)
        bar = ProgressBar(total=1.0, completed=view.fraction, width=_BAR)
        percent = f"{int(view.fraction * 100)} %"
        first.add_row(
            cell(view.name, "bold"), bar, cell(percent), cell(view.doing), cell(view.left)
        )
        second = Table.grid(padding=(0, 1), expand=True)
        second.add_column(ratio=1, no_wrap=True)
        second.add_column(justify="right", no_wrap=True)
        second.add_row(cell(f"  {view.counts}"), cell(view.rate))
        whole.add_row(first)
        whole.add_row(second)
    return whole
