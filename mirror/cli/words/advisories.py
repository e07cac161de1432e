"""Advisories about the mirror's files, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mirror.cli.text import counted
from mirror.core.words.advisory_words import words_of_vulnerable

if TYPE_CHECKING:
    from mirror.state.advisories.vulnerable import VulnerableFile
    from mirror.sync.report import Report, WithdrawnShown

_SHOWN = 5


def vulnerable_words(file: VulnerableFile) -> str:
    """Return a vulnerable file, its advisories and the version in which it is fixed."""
    words = words_of_vulnerable(file.level, file.advisories, file.fixed, fixed_held=file.fixed_held)
    return f"{file.filename}: {words}"


def advisory_lines(report: Report) -> Iterator[str]:
    """Yield warnings for a person: a refused database, and files that advisories name."""
    if report.advisory_problem is not None:
        yield f"Warning: {report.advisory_problem}"
    still = [one for one in report.withdrawn if one.snapshots or one.channels or one.sites]
    yield from _cut([f"withdrawn: {_withdrawn_words(one)}" for one in still])
    worst = sorted(report.vulnerable, key=lambda one: (one.level != "critical", one.level))
    yield from _cut([f"vulnerable: {vulnerable_words(one)}" for one in worst])
    if report.not_judged:
        names = ", ".join(report.not_judged[:_SHOWN])
        more = "" if len(report.not_judged) <= _SHOWN else ", …"
        what = counted(len(report.not_judged), "local build")
        yield f"{what} of versions that advisories name, not judged: {names}{more}"


def _withdrawn_words(file: WithdrawnShown) -> str:
    places = (("snapshot", file.snapshots), ("channel", file.channels), ("site", file.sites))
    named = [f"{kind} {name}" for kind, names in places for name in names]
    return f"{file.filename}, which is still in {', '.join(named)}"


def _cut(lines: list[str]) -> list[str]:
    """Return the first lines, and how many more there are."""
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"… and {more:,} more: --json lists all"] if more > 0 else [])]
