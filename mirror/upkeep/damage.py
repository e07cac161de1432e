"""Known damage, kept in the state for ``status`` and metrics.

The code that finds damage records it here; the code that mends it, or checks everything and finds
it whole, clears it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.errors import StateError
from mirror.logs import get_logger
from mirror.state.notes import DamageNote, load_notes, record_note
from mirror.state.store import Store
from mirror.upkeep.findings import Finding, Verification, shown_path

_log = get_logger(__name__)

_MOST_NOTED = 1000


async def record_damage(
    store: Store, findings: Sequence[Finding], *, now: float, is_all: bool = False
) -> None:
    """Add findings to the known damage; with ``is_all`` nothing else is damaged.

    One that was known keeps its time.
    """
    known = {note.path: note for note in (await load_notes(store)).damage}
    found = {shown_path(f.path): _as_note(f, now) for f in findings}
    found |= {
        path: note
        for path, note in known.items()
        if path in found and note.damage == found[path].damage
    }
    kept = found if is_all else known | found
    await record_note(store, "damage", list(kept.values())[:_MOST_NOTED])


async def record_verification(
    store: Store, found: Verification, *, now: float, is_whole: bool
) -> None:
    """Record the findings of a verification; a reader without write access to the state records
    nothing.
    """
    if not found.findings and not is_whole:
        return
    try:
        await record_damage(store, found.findings, now=now, is_all=is_whole and not found.stopped)
    except StateError as exc:
        _log.debug("verify.not_recorded", problem=str(exc))


def _as_note(finding: Finding, now: float) -> DamageNote:
    return DamageNote(
        path=shown_path(finding.path),
        damage=finding.damage.value,
        detail=finding.detail,
        found_at=now,
        sha256=finding.blob.sha256 if finding.blob else None,
        filename=finding.blob.filename if finding.blob else None,
    )
