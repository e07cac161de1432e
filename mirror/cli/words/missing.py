"""Missing without a failure, in words: names that no index offers, projects that nobody serves.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from mirror.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMED = 10
_KINDS = {Reason.NOT_OFFERED: "not offered", Reason.NOT_SERVED: "not served"}


class Missing(Protocol):
    """A project or file that is missing."""

    @property
    def project(self) -> str | None:
        """Its project, where that is known."""

    @property
    def filename(self) -> str | None:
        """Its name, where it is a file."""

    @property
    def reason(self) -> Reason:
        """Why it is missing."""

    @property
    def detail(self) -> str:
        """The same in words."""


def missing_lines(missing: Iterable[Missing]) -> list[str]:
    """Return at most a line for each of the two kinds; each thing is counted once."""
    listed = list(missing)
    lines = []
    for reason, words in _KINDS.items():
        details: dict[str, str] = {}
        for one in listed:
            if one.reason is reason:
                details.setdefault(one.filename or one.project or "", one.detail)
        if details:
            reasons = "; ".join(_reasons(reason, details))
            lines.append(f"{words} ({len(details):,}): {reasons}")
    return lines


def _reasons(reason: Reason, details: dict[str, str]) -> Iterator[str]:
    if reason is Reason.NOT_OFFERED:
        yield f"{_names(list(details))}; check the name, or take it out of projects or files"
        return
    by_detail: dict[str, list[str]] = {}
    for name, detail in details.items():
        by_detail.setdefault(detail, []).append(name)
    groups = list(by_detail.items())
    for detail, names in groups[:_NAMED]:
        yield f"{detail}: {_names(names)}"
    if len(groups) > _NAMED:
        yield f"and {sum(len(names) for _, names in groups[_NAMED:]):,} more"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
