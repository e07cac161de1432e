"""The growth of the mirror as the points of a chart; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from mirror.state.shown.history import GrowthPoint

WIDTH: Final = 480
HEIGHT: Final = 176
_LEFT: Final = 4
_RIGHT: Final = 4
_TOP: Final = 10
_BOTTOM: Final = 6
_DAY_S: Final = 86_400
_MAX_POINTS: Final = 400
_SHOWN_ROWS: Final = 12


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart of sizes by days, in the units of its drawing."""

    line: str
    area: str
    last: tuple[float, float]
    first_day: str
    last_day: str
    largest: int
    growth: int
    """Bytes more than 30 days before the last day."""
    rows: tuple[tuple[str, int, int], ...]
    """(day, files, bytes), the same in numbers, the newest first."""


def draw_growth(points: Sequence[GrowthPoint], *, now: float) -> Chart | None:
    """Return the chart up to now; None where there is nothing to draw."""
    if not points:
        return None
    today = int(now // _DAY_S)
    known = list(points)
    if known[-1].day < today:
        last = known[-1]
        known.append(GrowthPoint(day=today, files=last.files, size=last.size))
    thinned = known[:: len(known) // _MAX_POINTS + 1]
    if thinned[-1] is not known[-1]:
        thinned.append(known[-1])
    steps = [(known[0].day - 1, 0), *((point.day, point.size) for point in thinned)]
    largest = max(value for _, value in steps) or 1
    first, last_day = steps[0][0], steps[-1][0]
    span = max(last_day - first, 1)
    places = [
        (
            _LEFT + (day - first) / span * (WIDTH - _LEFT - _RIGHT),
            _TOP + (1 - value / largest) * (HEIGHT - _TOP - _BOTTOM),
        )
        for day, value in steps
    ]
    line = " ".join(f"{'L' if n else 'M'}{x:.1f} {y:.1f}" for n, (x, y) in enumerate(places))
    floor = HEIGHT - _BOTTOM
    area = f"{line} L{places[-1][0]:.1f} {floor} L{places[0][0]:.1f} {floor} Z"
    return Chart(
        line=line,
        area=area,
        last=(round(places[-1][0], 1), round(places[-1][1], 1)),
        first_day=_day(first),
        last_day=_day(known[-1].day),
        largest=largest,
        growth=known[-1].size - _size_at(known, known[-1].day - 30),
        rows=tuple((_day(p.day), p.files, p.size) for p in reversed(known))[:_SHOWN_ROWS],
    )


def _size_at(points: Sequence[GrowthPoint], day: int) -> int:
    return next((point.size for point in reversed(points) if point.day <= day), 0)


def _day(day: int) -> str:
    return datetime.fromtimestamp(day * _DAY_S, UTC).strftime("%Y-%m-%d")
