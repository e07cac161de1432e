"""Hints about an index's configured address, found in its answers before the index is blamed.

Nothing is probed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from mirror.core.pages.root_links import FLAT_CAUSE
from mirror.errors import (
    THE_CONFIGURATION,
    THE_INDEX,
    BadPage,
    MirrorError,
    NotFound,
    Reason,
    although_listed,
)
from mirror.state.missing.ledger import reword_missing_pages
from mirror.state.store import Store
from mirror.sync.cycle_parts import Options
from mirror.sync.report import Report
from mirror.sync.work import IndexRun

WITHOUT_SIMPLE: Final = "its url is without …/simple/, with which most indexes end: check it"

_ASKED: Final = (
    ", and so did every page of this index: is its url right (devpi's ends in +simple/)?"
    " If it is, the index lists what it does not have"
)
_ASKED_OF_CONFIGURATION: Final = (
    ", and so did every page that the configuration names: is the index's url right"
    " (devpi's ends in +simple/)?"
)


def add_hint(error: MirrorError, url: str) -> MirrorError:
    """Return the failure of a root page, with a hint at the missing part of its address where that
    may be the cause.
    """
    segments = [part.lstrip("+").lower() for part in urlsplit(url).path.split("/")]
    is_flat = isinstance(error, BadPage) and error.cause == FLAT_CAUSE
    if isinstance(error, BadPage | NotFound) and "simple" not in segments and not is_flat:
        error.hint = WITHOUT_SIMPLE
    return error


async def ask_for_address(
    store: Store, options: Options, report: Report, runs: Sequence[IndexRun]
) -> None:
    """Where each page of an index is missing, ask whether its URL is right, in the ledger and in
    the report.
    """
    for run in runs:
        if not _misses_all(options, run):
            continue
        report.events.append({"event": "all-pages-missing", "index": run.name})
        lister = THE_CONFIGURATION if run.selection.policy.listed_by_config else THE_INDEX
        before = although_listed(lister)
        after = _ASKED_OF_CONFIGURATION if lister == THE_CONFIGURATION else _ASKED
        await reword_missing_pages(store, run.source.id, before, after)
        report.failures = [
            msgspec.structs.replace(shown, detail=shown.detail.replace(before, after))
            if (shown.index, shown.filename, shown.reason) == (run.name, None, Reason.NOT_FOUND)
            else shown
            for shown in report.failures
        ]


def _misses_all(options: Options, run: IndexRun) -> bool:
    is_whole = run.reach.ended is None and not options.projects
    return is_whole and 0 < run.pages.missing == run.counters.projects_checked
