"""What was measured, for people and machines, and how it differs from the last time."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from bench.cases import Result
from bench.measure import OURS

RESULTS = Path(__file__).parent / "results"
_COLUMNS = ("wall s", "CPU s", "peak MiB", "requests", "MiB", "ours/theirs", "from … to")
_NOTABLE = 0.1


def table_lines(result: Result) -> list[str]:
    """Return a case's table: medians of each contender, and the median of the paired ratios."""
    width = max(20, *(len(name) + 2 for name in result.comparison.runs))
    lines = ["", result.title, "".ljust(width) + "".join(c.rjust(13) for c in _COLUMNS)]
    lines += [row[0].ljust(width) + "".join(cell.rjust(13) for cell in row[1:]) for row in _rows(result)]
    lines += [f"{key.replace('_', ' ')}: {value}" for key, value in result.extra.items()]
    return lines


def goal_lines(results: list[Result]) -> list[str]:
    lines = ["", "goals"]
    for result in results:
        for goal in result.goals:
            sign = "≥" if goal.at_least else "≤"
            word = "reached" if goal.met else "MISSED"
            lines.append(f"  {word:8} {result.title}: {goal.value:.3g} {goal.text} ({sign} {goal.limit:.3g})")
    return lines


def as_json(results: list[Result]) -> dict[str, Any]:
    """Return the ratios by which another run can be compared, with the figures they come from."""
    cases = {}
    for result in results:
        found = result.comparison
        paired = {n: found.ratios(n) for n in found.runs if n != OURS and OURS in found.runs}
        cases[result.name] = {
            "title": result.title,
            "ratios": {
                n: {"median": _short(found.ratio(n)), "low": _short(min(r)), "high": _short(max(r))}
                for n, r in paired.items()
            },
            "goals": {g.text: {"value": _short(g.value), "limit": _short(g.limit), "met": g.met} for g in result.goals},
            "figures": {
                n: {w: _short(found.median(n, w)) for w in ("wall_s", "cpu_s", "peak_mib", "requests", "body_mib")}
                for n in found.runs
            },
            "extra": result.extra,
        }
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    return {"format": 1, **machine, "cases": cases}


def change_lines(last: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say by how much the ratios and goals differ from the last figures; a notable change is marked."""
    lines = ["", "change against the last figures (ours/theirs; less is better)"]
    for name, case in now["cases"].items():
        before = last.get("cases", {}).get(name, {})
        for peer, ratio in case["ratios"].items():
            lines += _change(
                f"{case['title']}: {peer}", before.get("ratios", {}).get(peer, {}).get("median"), ratio["median"]
            )
        for text, goal in case["goals"].items():
            if text.startswith("of "):
                continue
            lines += _change(
                f"{case['title']}: {text}", before.get("goals", {}).get(text, {}).get("value"), goal["value"]
            )
    return lines


def _change(label: str, before: float | None, now: float) -> list[str]:
    if not before:
        return [f"  {label}: {now:.3g} (first time)"]
    change = now / before - 1
    mark = "  <-- slower" if change > _NOTABLE else ""
    return [f"  {label}: {now:.3g}, last {before:.3g} ({change:+.0%}){mark}"]


def load_last(results: Path) -> dict[str, Any]:
    path = results / "last.json"
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def save(results: Path, last: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Keep the figures; those of cases that did not run stay. Return all of them."""
    results.mkdir(exist_ok=True)
    merged = now | {"cases": last.get("cases", {}) | now["cases"]}
    (results / "last.json").write_text(json.dumps(merged, indent=1, ensure_ascii=False) + "\n")
    return merged


def markdown(results: list[Result]) -> str:
    """Return the tables for a page."""
    lines = []
    for result in results:
        lines += [f"\n**{result.title}**\n", f"| | {' | '.join(_COLUMNS)} |", "|---" * (len(_COLUMNS) + 1) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in _rows(result)]
    return "\n".join(lines).lstrip() + "\n"


def _rows(result: Result) -> list[list[str]]:
    found, rows = result.comparison, []
    for name in found.runs:
        cells = [name]
        for what, digits in (("wall_s", 2), ("cpu_s", 2), ("peak_mib", 0), ("requests", 0), ("body_mib", 1)):
            value = found.median(name, what)
            cells.append(f"{value:.{digits}f}" if value else "–")
        if name != OURS and OURS in found.runs:
            ratios = found.ratios(name)
            cells += [f"{found.ratio(name):.2f}", f"{min(ratios):.2f} … {max(ratios):.2f}"]
        else:
            cells += ["", ""]
        rows.append(cells)
    return rows


def _short(value: float) -> float:
    return float(f"{value:.4g}")
