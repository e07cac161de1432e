"""What newer or final versions displace stays until those are held.

A version that is in cooldown, withheld, or fails for days must not leave the mirror without the
older one (``newest``), or without the pre-release (``where-needed``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mirror.core.diff import Removal, RemovalKind
from mirror.core.files.versions import version_of
from mirror.core.rules.judge import public_version
from mirror.core.rules.model import Admitted, Rules
from mirror.state.entries.held import load_held
from mirror.state.entries.pages import PageSeen
from mirror.state.missing.left_out import without_files
from mirror.state.store import Store
from mirror.sync.report import PlanItem
from mirror.sync.work import IndexRun, PendingRemoval

_WAITING = frozenset({RemovalKind.DISPLACED, RemovalKind.SUPERSEDED})


async def keep_undisplaced(
    store: Store, runs: Sequence[IndexRun], planned: Sequence[PlanItem]
) -> list[PageSeen]:
    """Drop the removals of files whose successors are not held, at the end of all downloads.

    ``planned``: what a dry run would fetch, which counts as held. Returns the validators that
    waited for the dropped removals.
    """
    pages_seen: list[PageSeen] = []
    for run in runs:
        rules = run.selection.rules.rules
        is_where_needed = rules.pre_releases is Admitted.WHERE_NEEDED
        if run.reach.ended is None and (rules.newest or is_where_needed):
            coming = {(i.project, i.filename) for i in planned if i.index == run.name}
            pages_seen += await _keep_of_index(store, run, coming)
    return pages_seen


async def _keep_of_index(
    store: Store, run: IndexRun, coming: Collection[tuple[str, str]]
) -> list[PageSeen]:
    kept: list[PendingRemoval] = []
    pages_seen: list[PageSeen] = []
    published: dict[int, set[str]] = {}
    for removal in run.leaving.pending:
        if not any(one.kind in _WAITING for one in removal.files):
            kept.append(removal)
            continue
        held = (await load_held(store, [removal.project]))[removal.project].keys()
        here = held | {filename for project, filename in coming if project == removal.name}
        stays = _without_successors(removal.files, here, run.selection.rules.rules)
        published.setdefault(removal.project, set()).update(stays)
        files = tuple(one for one in removal.files if one.held.filename not in stays)
        if files or removal.meta is not None:
            kept.append(msgspec.structs.replace(removal, files=files))
        elif removal.page_seen is not None:
            pages_seen.append(removal.page_seen)
    run.leaving.pending = [
        one
        if one.page_seen is None or one.project not in published
        else msgspec.structs.replace(
            one, page_seen=_with_published(one.page_seen, published[one.project])
        )
        for one in kept
    ]
    return [_with_published(one, published[one.project]) for one in pages_seen]


def _with_published(page_seen: PageSeen, filenames: Collection[str]) -> PageSeen:
    """Return what is recorded of a page of which some displaced files stay: they are not left
    out.
    """
    if page_seen.left_out is None:
        return page_seen
    left_out = without_files(page_seen.left_out, filenames)
    return msgspec.structs.replace(page_seen, left_out=left_out)


def _without_successors(
    removals: Sequence[Removal], held: Collection[str], rules: Rules
) -> set[str]:
    """Return the leaving files that nothing which is held and stays takes the place of."""
    leaving = {one.held.filename: one.kind for one in removals}
    staying = [name for name in held if name not in leaving]
    found = set()
    for name, kind in leaving.items():
        match kind:
            case RemovalKind.DISPLACED:
                is_alone = _count_newer(name, staying) < rules.newest
            case RemovalKind.SUPERSEDED:
                is_where_needed = rules.pre_releases is Admitted.WHERE_NEEDED
                is_alone = is_where_needed and not any(map(_is_final, staying))
            case _:
                continue
        if is_alone:
            found.add(name)
    return found


def _count_newer(filename: str, staying: Sequence[str]) -> int:
    """Return how many newer versions than that of a file stay."""
    version = public_version(filename)
    versions = {public_version(name) for name in staying} - {None}
    return sum(version is None or (one is not None and one > version) for one in versions)


def _is_final(filename: str) -> bool:
    version = version_of(filename)
    return version is not None and not version.is_prerelease
