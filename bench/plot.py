"""A plot of what was measured, as SVG: for each case the wall time of all, ours in colour."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from bench.measure import OURS

_LEFT, _BAR, _STEP, _WIDTH = 290, 330, 20, 760


def draw(figures: dict[str, Any]) -> str:
    """Return the SVG; within a case the longest bar is the slowest."""
    parts: list[str] = []
    y = 24
    for case in figures["cases"].values():
        parts.append(f'<text x="12" y="{y}" font-weight="bold">{escape(case["title"])}</text>')
        y += 8
        walls = {name: measured["wall_s"] for name, measured in case["figures"].items()}
        longest = max(walls.values())
        for name, wall_s in walls.items():
            parts.append(_bar(name, wall_s, longest, y))
            y += _STEP
        y += 28
    style = "font-family:sans-serif;font-size:12px"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" style="{style}">'
    back = f'<rect width="{_WIDTH}" height="{y}" fill="#fff"/>'
    return "\n".join([head, back, *parts, "</svg>", ""])


def _bar(name: str, wall_s: float, longest: float, y: int) -> str:
    length = max(1, round(_BAR * wall_s / longest))
    colour = "#c2410c" if name == OURS or name.startswith("idle, ") else "#94a3b8"
    return (
        f'<text x="{_LEFT - 6}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{_LEFT}" y="{y + 3}" width="{length}" height="13" fill="{colour}"/>'
        f'<text x="{_LEFT + length + 6}" y="{y + 13}">{wall_s:.3g} s</text>'
    )
