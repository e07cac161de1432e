"""The proofs of wants as the last cycles made them, each with the digest of its inputs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mirror.state.rows import Columns
from mirror.state.store import Store
from mirror.state.wants.needs import Key


class StoredProof(msgspec.Struct, frozen=True, kw_only=True):
    """A proof as it is recorded. ``inputs`` and ``answer`` are JSON of the selection."""

    key: Key
    inputs: str
    answer: bytes


class _ProofColumns(Columns, frozen=True):
    want: str
    file: str
    target: str
    inputs: str
    answer: str


async def load_proofs(store: Store) -> dict[Key, StoredProof]:
    """Return all proofs."""
    rows = await store.rows_as(
        _ProofColumns, "SELECT want, file, target, inputs, answer FROM proof ORDER BY 1, 2, 3"
    )
    found = {}
    for row in rows:
        key = Key(want=row.want, file=row.file, target=row.target)
        found[key] = StoredProof(key=key, inputs=row.inputs, answer=row.answer.encode())
    return found


async def record_proofs(
    store: Store, new: Sequence[StoredProof], outdated: Collection[Key] = ()
) -> None:
    """Record new proofs, and forget those of wants that are gone."""
    if not new and not outdated:
        return
    async with store.transaction() as tx:
        await tx.executemany(
            "DELETE FROM proof WHERE want = ? AND file = ? AND target = ?",
            [(key.want, key.file, key.target) for key in outdated],
        )
        await tx.executemany(
            "INSERT OR REPLACE INTO proof (want, file, target, inputs, answer)"
            " VALUES (?, ?, ?, ?, ?)",
            [
                (one.key.want, one.key.file, one.key.target, one.inputs, one.answer.decode())
                for one in new
            ],
        )
