"""The ledger's rows of files and pages that a want needs."""

from __future__ import annotations

import msgspec

from mirror.errors import Reason
from mirror.state.store import Store


class WantedFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A needed file or page that is not had. ``filename`` is empty for a page."""

    index: str
    project: str
    filename: str
    reason: Reason
    detail: str


async def load_wanted_failures(store: Store) -> list[WantedFailure]:
    """Return the failures of all projects that a resolution asked for."""
    return await store.rows_as(
        WantedFailure,
        'SELECT s.name AS "index", f.project, f.filename, f.reason, f.detail FROM failure f'
        " JOIN source s ON s.id = f.source WHERE s.configured = 1"
        " AND f.project IN (SELECT project FROM asked) ORDER BY f.project, f.filename",
    )
