"""Files of some projects that rules of the configuration keep out, for the gaps of a proof."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mirror.core.rules.model import RULE_KEYS
from mirror.state.missing.deferred import load_deferred_names
from mirror.state.missing.left_out import load_left_out
from mirror.state.rows import Columns
from mirror.state.store import Store


class BarredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A listed file that a rule of an index keeps out."""

    project: str
    index: str
    filename: str
    rule: str
    until: float | None
    """The end of its cooldown."""


class _BarredPage(Columns, frozen=True):
    id: int
    index_name: str


async def load_barred(store: Store, projects: Sequence[str]) -> list[BarredFile]:
    """Return the files of some projects that a rule keeps out, as far as their names are kept."""
    found = []
    for project in projects:
        pages = await store.rows_as(
            _BarredPage,
            "SELECT p.id, s.name AS index_name FROM project p JOIN source s ON s.id = p.source"
            " WHERE p.name = ? AND s.configured = 1 AND p.listed = 1 AND p.skipped > 0"
            " ORDER BY s.position",
            (project,),
        )
        for page in pages:
            ends = {one.filename: one.next_at for one in await load_deferred_names(store, page.id)}
            found += [
                BarredFile(
                    project=project,
                    index=page.index_name,
                    filename=name,
                    rule=one.rule,
                    until=ends.get(name),
                )
                for one in await load_left_out(store, page.id)
                if one.rule in RULE_KEYS
                for name in one.names
            ]
    return found
