"""The mirror as a whole, from the state: cycles, counts for each index, the ledger's first rows.

Reading only. The counts of files and bytes are one pass over ``entry_counts``, a database index
with no other columns: it takes a second or two for six million files, and no table is read for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from mirror.errors import Reason
from mirror.state.advisories.summary import AdvisorySummary, load_advisory_summary
from mirror.state.cycles import CycleRow, load_killed_before, load_last_cycle
from mirror.state.listing.sources import SourceRow, load_sources
from mirror.state.missing.deferred import next_end
from mirror.state.missing.ledger import (
    FailureRow,
    count_failures,
    load_failures,
    load_index_failures,
)
from mirror.state.missing.left_out import count_left_out
from mirror.state.missing.unserved import Unserved, load_unserved
from mirror.state.rows import Columns
from mirror.state.store import Store
from mirror.state.wants.unwanted import UnwantedCount, count_unwanted


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of the files that the pages publish for one index."""

    projects: int = 0
    files: int = 0
    size: int = 0


class IndexCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one index after a cycle, as the report counts it."""

    absent: int
    unhashed: int
    skipped: int


class IndexOverview(msgspec.Struct, frozen=True, kw_only=True):
    """One index as the state knows it."""

    source: SourceRow
    held: Held
    counts: IndexCounts
    failures: Mapping[Reason, int]
    """How many rows of the ledger have which reason, and names that are literally asked for and
    missing.
    """
    left_out: Mapping[str, int] = {}
    """Number of its files that each rule leaves out, where known."""
    cooldown_until: float | None = None
    """When the next cooldown of a file ends."""
    not_offered: int = 0
    """How many names no index lists, of those that its configuration asks for."""
    not_served: int = 0
    """Number of projects that it owns and nobody serves."""
    unwanted: UnwantedCount = UnwantedCount(files=0, size=0, since=None)
    """Its published files that no want needs."""

    @property
    def withheld(self) -> int:
        """How many things the index lists and does not give out."""
        return self.failures.get(Reason.WITHHELD, 0)

    @property
    def failed(self) -> int:
        """Number of items that could not be fetched for another reason."""
        return sum(self.failures.values()) - self.withheld


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The whole mirror. Times are seconds since the epoch."""

    first_cycle_at: float | None
    last_cycle: CycleRow | None
    """The one that began last; without ``finished_at`` it is running or was killed."""
    last_finished: CycleRow | None
    indexes: tuple[IndexOverview, ...]
    failures: tuple[FailureRow, ...]
    """The ledger, or its first rows."""
    brakes: tuple[FailureRow, ...]
    """Where removals are held back."""
    killed_before: int | None = None
    """An unfinished cycle between the last one and the last finished one."""
    ended: tuple[FailureRow, ...] = ()
    """Indexes that could not be read to their end when they were last asked."""
    advisories: AdvisorySummary | None = None
    """None where the mirror works without any."""
    unserved: tuple[Unserved, ...] = ()
    """Missing without a failure; literally named projects and files are in ``failures`` too."""

    @property
    def failed(self) -> int:
        """How many rows the whole ledger has."""
        return sum(sum(index.failures.values()) for index in self.indexes)


async def load_overview(store: Store, *, max_failures: int | None = None) -> Overview:
    """Return the state of the mirror with the ledger's first rows, or all of them."""
    held = await load_held_counts(store)
    of_indexes = await load_index_failures(store)
    unserved = await load_unserved(store)
    indexes = [
        await _load_index(store, source, held.get(source.id, Held()), unserved)
        for source in await load_sources(store)
    ]
    return Overview(
        first_cycle_at=await store.value("SELECT min(started_at) FROM cycle"),
        last_cycle=await load_last_cycle(store),
        last_finished=await load_last_cycle(store, finished=True),
        killed_before=await load_killed_before(store),
        indexes=tuple(indexes),
        failures=(
            *await load_failures(store, limit=max_failures),
            *map(_as_failure, filter(_is_literal, unserved)),
        ),
        brakes=tuple(row for row in of_indexes if row.reason is Reason.SHRINK),
        ended=tuple(row for row in of_indexes if row.reason is not Reason.SHRINK),
        unserved=tuple(unserved),
        advisories=await load_advisory_summary(store),
    )


async def _load_index(
    store: Store, source: SourceRow, held: Held, unserved: Sequence[Unserved]
) -> IndexOverview:
    missing = [one for one in unserved if one.index == source.name]
    failures = Counter(await count_failures(store, source.id))
    failures.update(one.reason for one in missing if one.is_literal)
    reasons = Counter(one.reason for one in missing)
    return IndexOverview(
        source=source,
        held=held,
        counts=await load_counts(store, source.id),
        failures=failures,
        left_out=await count_left_out(store, source.id),
        cooldown_until=await next_end(store, source.id),
        not_offered=reasons[Reason.NOT_OFFERED],
        not_served=reasons[Reason.NOT_SERVED],
        unwanted=await count_unwanted(store, source.id),
    )


def _is_literal(one: Unserved) -> bool:
    return one.is_literal


def _as_failure(one: Unserved) -> FailureRow:
    """Return a missing name as a row of the ledger; it is judged in each cycle."""
    return FailureRow(
        index=one.index,
        project=one.project,
        filename=one.filename,
        reason=one.reason,
        detail=one.detail,
        file=None,
        first_at=one.first_at,
        last_at=one.first_at,
        attempts=1,
        next_at=one.first_at,
    )


class _HeldCount(Columns, frozen=True):
    source: int
    held: Held


async def load_held_counts(store: Store) -> dict[int, Held]:
    """Return the published counts for each index: its id -> counts."""
    rows = await store.rows_as(
        _HeldCount,
        "SELECT source, count(*) AS projects, sum(files) AS files, sum(bytes) AS size"
        " FROM (SELECT source, count(*) AS files, sum(size) AS bytes"
        " FROM entry WHERE valid_to IS NULL GROUP BY source, project) GROUP BY source",
    )
    return {row.source: row.held for row in rows}


async def load_counts(store: Store, source: int) -> IndexCounts:
    """Count one index's files by their state; each query walks a small index of its own.

    Files that a page missed are absent, and all files of a project that the root missed.
    """
    return await store.only(
        IndexCounts,
        # "+": else SQLite walks all files of the index by ``entry_counts`` instead of the few that
        # are absent.
        "SELECT (SELECT count(*) FROM entry WHERE absent_since IS NOT NULL AND valid_to IS NULL"
        " AND +source = :source)"
        " + (SELECT count(*) FROM project p JOIN entry e ON e.project = p.id AND e.valid_to IS NULL"
        " WHERE p.source = :source AND p.absent_since IS NOT NULL AND e.absent_since IS NULL)"
        " AS absent,"
        " (SELECT count(*) FROM entry WHERE unhashed = 1 AND valid_to IS NULL AND source = :source)"
        " AS unhashed,"
        " (SELECT coalesce(sum(skipped), 0) FROM project WHERE source = :source AND skipped > 0)"
        " AS skipped",
        {"source": source},
    )
