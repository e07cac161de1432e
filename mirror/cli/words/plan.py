"""The output of ``--dry-run``: the plan as a table, the obstacles, and the next step. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mirror.cli.text import counted, safe, size, table
from mirror.cli.words.cycle import Place, describe_warnings

if TYPE_CHECKING:
    from mirror.sync.report import PlanItem, Report

K = TypeVar("K", bound=str | tuple[str, str])

MAX_PROJECTS = 40
"""A larger plan is summed up, since ``--json`` has every item."""

_LARGEST = 10
_HEAD = ("INDEX", "PROJECT", "FETCH", "REPLACE", "RELABEL", "REMOVE", "TO DOWNLOAD")
_NUMBERS = frozenset(range(2, len(_HEAD)))


@dataclass(slots=True, kw_only=True)
class _Sum:
    """The planned changes of some files."""

    fetch: int = 0
    replace: int = 0
    relabel: int = 0
    remove: int = 0
    removed_size: int = 0
    size: int = 0
    unsized: int = 0

    def add(self, item: PlanItem) -> None:
        setattr(self, item.action, getattr(self, item.action) + 1)
        if item.action in {"fetch", "replace"}:
            self.size += item.size or 0
            self.unsized += item.size is None
        if item.action == "remove":
            self.removed_size += item.size or 0

    def cells(self) -> tuple[str, ...]:
        counts = (self.fetch, self.replace, self.relabel, self.remove)
        return (*(f"{count:,}" if count else "-" for count in counts), self.download())

    def download(self) -> str:
        """Return the total size of the downloads; an unlisted size is never taken for zero."""
        sized = self.fetch + self.replace - self.unsized
        if not self.unsized:
            return size(self.size) if sized else "-"
        return f"{size(self.size)} + {self.unsized:,} unknown" if sized else size(None)


def describe_plan(report: Report, place: Place) -> list[str]:
    """Return the plan of a cycle that changes nothing: a row for each project, or for each index of
    a large plan.
    """
    items = report.plan or []
    by_project = _summed(items, lambda item: (item.index, item.project))
    lines = _table_lines(items, by_project) if items else []
    if not items and not report.ended and report.aborted is None:
        lines.append("Nothing to do: the mirror has all that is wanted and offered.")
    lines += _wants(report)
    lines += _room(report, items)
    lines += _leaving(report, items)
    lines += describe_warnings(report, place)
    if items:
        lines.append("Nothing was changed. The same command without --dry-run does it.")
    return [safe(line) for line in lines]


def _wants(report: Report) -> list[str]:
    """Return one line for each want and target: the coming files, and the gaps."""
    if not report.want_plans:
        return []
    rows = [
        (one.want, one.file or "-", one.target, f"{one.files:,}", size(one.size))
        for one in report.want_plans
    ]
    lines = table(
        [("WANT", "FILE", "TARGET", "FETCH", "TO DOWNLOAD"), *rows], right=frozenset({3, 4})
    )
    gaps = [
        f"want {one.want}, target {one.target}: {gap}"
        for one in report.want_plans
        for gap in one.gaps
    ]
    return [*lines, *gaps, ""]


def _room(report: Report, items: Sequence[PlanItem]) -> list[str]:
    """Return the listed size of the downloads, and the free space."""
    if report.free_bytes is None:
        return []
    sums = _Sum()
    for item in items:
        sums.add(item)
    unsized = f"; {counted(sums.unsized, 'file')} without a listed size" if sums.unsized else ""
    return [
        (
            f"To download: {size(sums.size)} listed{unsized};"
            f" {size(report.free_bytes)} free on the disk."
        )
    ]


def _leaving(report: Report, items: Sequence[PlanItem]) -> list[str]:
    """Return the bytes that leave the pages, and those that no want would need any more."""
    sums = _summed(items, lambda item: item.index)
    lines = [
        f"{index}: {counted(one.remove, 'file')} to remove from the pages,"
        f" {size(one.removed_size)}; deleted after keep-removed, unless a snapshot needs them."
        for index, one in sums.items()
        if one.remove
    ]
    lines += [
        f"{one.index}: {counted(one.files, 'file')} that no want would need any more,"
        f" {size(one.size)}; published until the end of keep-unwanted."
        for one in report.newly_unwanted
    ]
    return lines


def _table_lines(items: Sequence[PlanItem], by_project: dict[tuple[str, str], _Sum]) -> list[str]:
    total = _summed(items, lambda _: ("TOTAL", counted(len(by_project), "project")))
    shown = by_project
    notes = []
    if len(by_project) > MAX_PROJECTS:
        projects = Counter(index for index, _ in by_project)
        shown = _summed(items, lambda item: (item.index, counted(projects[item.index], "project")))
        notes = _largest(by_project)
    rows = [(*key, *sums.cells()) for key, sums in (*shown.items(), *total.items())]
    return [*table([_HEAD, *rows], right=_NUMBERS), *notes, ""]


def _largest(by_project: dict[tuple[str, str], _Sum]) -> list[str]:
    """Name the projects with most to do: where a plan is larger than meant, one of them is why."""
    most = sorted(by_project.items(), key=lambda kv: (-kv[1].size, -kv[1].fetch, kv[0]))[:_LARGEST]
    rows = [(f"{index}/{project}", *sums.cells()) for (index, project), sums in most]
    head = (f"THE {_LARGEST} LARGEST", *_HEAD[2:])
    return ["", *table([head, *rows], right=frozenset(range(1, len(head)))), "Every item: --json"]


def _summed(items: Iterable[PlanItem], key: Callable[[PlanItem], K]) -> dict[K, _Sum]:
    sums: dict[K, _Sum] = {}
    for item in items:
        sums.setdefault(key(item), _Sum()).add(item)
    return sums
