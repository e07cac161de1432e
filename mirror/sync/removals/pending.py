"""Keep the removals that a page asks for until the end of the cycle, when the brake knows all
of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mirror.core.diff import OUTSIDE_BRAKE, Removal, RemovalKind
from mirror.sync.work import PendingRemoval, ProjectWork


def keep_removals(
    work: ProjectWork, removals: Sequence[Removal], *, withdrawn: str | None = None
) -> None:
    """Keep the removals of a page for the end of the cycle.

    Where one needs no second reading, the page's validators are stored only with it: if the
    brake holds it, the next cycle must read the page again.
    """
    # Also of a project that holds nothing here: later indexes may hold files of it, which are
    # withdrawn with it.
    is_withdrawal = (
        withdrawn is not None or (work.asked.change.meta or work.row.meta).status == "quarantined"
    )
    pending = work.run.leaving.pending
    meta = work.asked.change.meta if is_withdrawal else None
    exempt = tuple(r for r in removals if r.kind in OUTSIDE_BRAKE)
    judged = tuple(r for r in removals if r.kind not in OUTSIDE_BRAKE)
    if judged or meta is not None:
        at_once = is_withdrawal or any(r.kind is not RemovalKind.ABSENT for r in judged)
        pending.append(
            PendingRemoval(
                project=work.row.id,
                name=work.row.name,
                files=judged,
                meta=meta,
                withdrawn=withdrawn,
                page_seen=work.asked.page_seen if at_once else None,
            )
        )
        if at_once:
            work.asked.page_seen = None
    if exempt:
        pending.append(
            PendingRemoval(
                project=work.row.id,
                name=work.row.name,
                files=exempt,
                is_exempt=True,
                page_seen=work.asked.page_seen,
            )
        )
        work.asked.page_seen = None
    if meta is not None:
        work.asked.change = msgspec.structs.replace(work.asked.change, meta=None)
