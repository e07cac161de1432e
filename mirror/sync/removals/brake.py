"""The brake: removals wait for a person when there are implausibly many within a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from mirror.core.diff import RemovalKind
from mirror.core.policy import brake_holds, enough_published
from mirror.errors import Reason
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.state.entries.removals import (
    load_brake_window,
    load_files_of,
)
from mirror.state.listing.sources import SourceRow
from mirror.state.missing.ledger import Failure, has_index_failure, record_failures
from mirror.state.store import Store
from mirror.sync.report import IndexCounters
from mirror.sync.work import Leaving, PendingRemoval

_log = get_logger(__name__)

_SHOWN_PROJECTS = 5


class RemovalScope(Protocol):
    """A part of a cycle whose pages may lose files: an index, or the unclaimed files."""

    source: SourceRow
    counters: IndexCounters
    leaving: Leaving

    @property
    def name(self) -> str:
        """As in the report."""


def split(run: RemovalScope) -> tuple[list[PendingRemoval], list[PendingRemoval]]:
    """Return the removals that bypass the brake, and those that it judges."""
    return [r for r in run.leaving.pending if r.is_exempt], [
        r for r in run.leaving.pending if not r.is_exempt
    ]


async def holds_brake(
    holdings: Holdings, run: RemovalScope, removals: Sequence[PendingRemoval], files: int
) -> bool:
    """Return whether so large a part of the pages would leave that a person must confirm it; record
    that as a failure of the index.
    """
    window = await load_brake_window(
        holdings.store,
        run.source.id,
        holdings.clock(),
        enough=lambda left: enough_published(
            leaving=left + files, max_shrink=run.leaving.max_shrink
        ),
    )
    leaving = window.left + files
    if not brake_holds(
        leaving=leaving, published=window.published, max_shrink=run.leaving.max_shrink
    ):
        return False
    detail = (
        f"{leaving} of {window.published} files would leave the pages within 24 hours, more than"
        f" max-shrink = {run.leaving.max_shrink:g} allows: {_described(removals)}."
        " Nothing was removed. If that is right, run `mirror sync --once --allow-shrink`;"
        " else look at the index and at its selection"
    )
    failure = Failure(
        source=run.source.id, project="", filename="", reason=Reason.SHRINK, detail=detail
    )
    await record_failures(holdings.store, [failure], (), now=holdings.clock())
    _log.error(
        "brake.held", index=run.name, files=leaving, published=window.published, detail=detail
    )
    return True


async def close_brake(holdings: Holdings, run: RemovalScope) -> None:
    """Record that the brake holds nothing any more."""
    if not await has_index_failure(holdings.store, run.source.id):
        return  # an idle cycle writes nothing for it
    await record_failures(holdings.store, (), [(run.source.id, "", "")], now=holdings.clock())


async def count_files(store: Store, removals: Sequence[PendingRemoval]) -> int:
    """Return the number of published files that removals take off the pages."""
    whole = [r.project for r in removals if r.leaves]
    return sum(len(r.filenames) for r in removals if not r.leaves) + await load_files_of(
        store, whole
    )


def _described(removals: Sequence[PendingRemoval]) -> str:
    """Return a description of the removals."""
    kinds = Counter(r.kind for removal in removals for r in removal.files)
    words = {
        RemovalKind.ABSENT: "absent in two looks",
        RemovalKind.CONFIGURATION: "left out by the configuration",
        RemovalKind.WITHDRAWN: "withdrawn by the index",
        RemovalKind.DISPLACED: "displaced by newer versions",
        RemovalKind.SUPERSEDED: "pre-releases that the rules leave out",
    }
    parts = [f"{count} {words[kind]}" for kind, count in kinds.items()]
    whole = sum(r.leaves for r in removals)
    if whole:
        parts.append(f"{whole} whole projects no longer listed or wanted")
    names = sorted({r.name for r in removals})
    more = f" and {len(names) - _SHOWN_PROJECTS} more" if len(names) > _SHOWN_PROJECTS else ""
    return (
        f"{', '.join(parts) or 'files of another owner'}"
        f" ({', '.join(names[:_SHOWN_PROJECTS])}{more})"
    )
