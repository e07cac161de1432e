"""The advisories in force and how many files they name, for ``status`` and metrics.

Reading only.
"""

from __future__ import annotations

import msgspec

from mirror.state.advisories.advised import (
    AdvisedKind,
    count_published_advised,
    count_withdrawn,
)
from mirror.state.advisories.records import (
    NO_RULES_TEXT,
    load_advisory_note,
    load_advisory_problem,
)
from mirror.state.advisories.withdrawn import load_withdrawn
from mirror.state.store import Store


class AdvisorySummary(msgspec.Struct, frozen=True, kw_only=True):
    """The advisories in force. Times are seconds since the epoch."""

    date: float | None
    """The newest change of a record; None where no database was ever taken."""
    taken_at: float | None
    records: int
    problem: str | None
    """Why the database that is there now was not taken."""
    vulnerable: int
    """Number of published files that advisories name."""
    not_judged: int
    """Number of published local builds of versions that advisories name."""
    withdrawn: int
    """Number of files that advisories took off the pages."""
    withdrawn_somewhere: int
    """Number of withdrawn files, by advisories or indexes, that a snapshot or a site still has."""


async def load_advisory_summary(store: Store) -> AdvisorySummary | None:
    """Return the advisories in force; None where the mirror works without any."""
    note, problem = await load_advisory_note(store), await load_advisory_problem(store)
    is_used = note is not None and note.judged != NO_RULES_TEXT
    withdrawn = await load_withdrawn(store)
    somewhere = sum(bool(one.snapshots or one.sites) for one in withdrawn)
    if not (is_used or problem or somewhere):
        return None
    return AdvisorySummary(
        date=note.date if note is not None and is_used else None,
        taken_at=note.taken_at if note is not None and is_used else None,
        records=note.records if note is not None and is_used else 0,
        problem=problem,
        vulnerable=await count_published_advised(store, AdvisedKind.VULNERABLE),
        not_judged=await count_published_advised(store, AdvisedKind.UNJUDGED),
        withdrawn=await count_withdrawn(store),
        withdrawn_somewhere=somewhere,
    )
