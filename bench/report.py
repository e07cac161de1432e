"""What was measured, for people and machines, and how it differs from the last time."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any

from bench.measure import OURS
from bench.records import Result

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/explanation/speed.md"
_BEGIN, _END = "<!-- figures: written by make bench -->", "<!-- end of the figures -->"
_COLUMNS = ("wall s", "CPU s", "peak MiB", "requests", "MiB", "ours/theirs", "from … to", "of CPU")
_NOTABLE = 0.1


def table_lines(result: Result) -> list[str]:
    """Return a case's table: medians of each contender, and the median of the paired ratios."""
    width = max(20, *(len(name) + 2 for name in result.comparison.runs))
    rows = _rows(_case(result))
    lines = ["", result.title, "".ljust(width) + "".join(c.rjust(15) for c in _COLUMNS)]
    lines += [row[0].ljust(width) + "".join(cell.rjust(15) for cell in row[1:]) for row in rows]
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
    machine = {"python": interpreter(), "machine": platform.machine(), "cores": os.cpu_count()}
    return {"format": 1, **machine, "cases": {result.name: _case(result) for result in results}}


def interpreter() -> str:
    """Return the interpreter, and how it was built: one without these options takes up to a fifth more CPU."""
    given = sysconfig.get_config_var("CONFIG_ARGS") or ""
    if sys.base_prefix == "/usr":  # distributions use both by their own rules, and name neither option
        built = "the system's own build"
    else:
        is_profiled, is_linked = "--enable-optimizations" in given, "--with-lto" in given
        built = f"{'with' if is_profiled else 'without'} PGO, {'with' if is_linked else 'without'} LTO"
    name = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{name}, {built}, {platform.python_compiler()}"


def _case(result: Result) -> dict[str, Any]:
    found = result.comparison
    peers = [name for name in found.runs if name != OURS and OURS in found.runs]
    return {
        "title": result.title,
        "python": interpreter(),
        "rounds": max(len(runs) for runs in found.runs.values()),
        "ratios": {name: _ratios(result, name) for name in peers},
        "goals": {g.text: {"value": _short(g.value), "limit": _short(g.limit), "met": g.met} for g in result.goals},
        "figures": {
            name: {
                what: _short(found.median(name, what))
                for what in ("wall_s", "cpu_s", "peak_mib", "requests", "body_mib")
            }
            for name in found.runs
        },
        "extra": result.extra,
    }


def _ratios(result: Result, name: str) -> dict[str, float]:
    walls = result.comparison.ratios(name)
    return {
        "median": _short(result.comparison.ratio(name)),
        "low": _short(min(walls)),
        "high": _short(max(walls)),
        "cpu": _short(result.comparison.ratio(name, "cpu_s")),
    }


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


def markdown(figures: dict[str, Any]) -> str:
    """Return the tables for a page."""
    lines = []
    for case in figures["cases"].values():
        python = case.get("python", "an interpreter that was not noted")
        lines.append(f"\n**{case['title']}** ({python})\n")
        lines += [f"| | {' | '.join(_COLUMNS)} |", "|---" * (len(_COLUMNS) + 1) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in _rows(case)]
    return "\n".join(lines).lstrip() + "\n"


def write_page(figures: dict[str, Any], page: Path = PAGE) -> None:
    """Write the goals of all cases, what they came to, and what was measured beside a missed one, into the page."""
    rows = [
        f"| {case['title']} | {goal['value']:.3g} {text} | {goal['limit']:.3g} | {'reached' if goal['met'] else 'missed'} |"
        for case in figures["cases"].values()
        for text, goal in case["goals"].items()
    ]
    head, _, rest = page.read_text().partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    table = "\n".join(["| case | measured | goal | |", "|---|---|---|---|", *rows])
    missed = "\n".join(_missed_lines(figures))
    page.write_text(f"{head}{_BEGIN}\n{table}\n\n{missed}\n{_END}{tail}")


def _missed_lines(figures: dict[str, Any]) -> list[str]:
    """Return one line for each case with a missed goal: the figures of the same run, and its interpreter."""
    lines = ["What the same runs measured, for each case with a missed goal:", ""]
    for case in figures["cases"].values():
        if all(goal["met"] for goal in case["goals"].values()):
            continue
        parts = [
            f"{name} {found['wall_s']:.3g} s, {found['cpu_s']:.3g} s of CPU, {found['peak_mib']:.0f} MiB"
            for name, found in case["figures"].items()
        ]
        parts += [f"{key.replace('_', ' ')} {value}" for key, value in case["extra"].items() if value is not None]
        python = ", ".join(case.get("python", "an interpreter that was not noted").split(", ")[:3])
        lines.append(f"- {case['title']} ({python}): {', '.join(parts)}.")
    return lines


def _rows(case: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, figures in case["figures"].items():
        cells = [name]
        for what, digits in (("wall_s", 2), ("cpu_s", 2), ("peak_mib", 0), ("requests", 0), ("body_mib", 1)):
            cells.append(f"{figures[what]:.{digits}f}" if figures[what] else "–")
        ratio = case["ratios"].get(name)
        if ratio is None:
            cells += ["", "", ""]
        else:
            cells += [f"{ratio['median']:.2f}", f"{ratio['low']:.2f} … {ratio['high']:.2f}", f"{ratio['cpu']:.2f}"]
        rows.append(cells)
    return rows


def _short(value: float) -> float:
    return float(f"{value:.4g}")
