"""The end of a cycle: its report is completed and recorded, whatever ended it."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, Final

import msgspec

from mirror.errors import (
    Reason,
    StateError,
    TreeError,
)
from mirror.holdings.holdings import Holdings
from mirror.holdings.room import with_room
from mirror.logs import get_logger, redact
from mirror.state.cycles import (
    record_cycle_end,
)
from mirror.state.listing.sources import (
    record_identity,
    record_served_names,
    record_success,
)
from mirror.state.missing.ledger import (
    Failure,
    count_all_failures,
    count_failures,
    load_reported,
    record_failures,
)
from mirror.state.readers.overview import load_counts
from mirror.state.store import Store
from mirror.sync.advisories.reporting import report_advisories
from mirror.sync.advisories.withdrawing import JudgedFiles, judge_new_files
from mirror.sync.cycle_parts import Cycle, Phase
from mirror.sync.needs.leaving import count_unwanted_of
from mirror.sync.pages.hints import ask_for_address
from mirror.sync.pages.ruling import report_rules
from mirror.sync.removals.unserved import add_unserved, judge_unserved, record_unwritten
from mirror.sync.report import COUNTERS, Events, Report, shown_failure
from mirror.sync.work import asked_wait_s

_log = get_logger(__name__)

_MAX_REPORTED = 200_000
"""Maximum number of failures in a cycle's report; the ledger has all of them."""
_OF_TABLES: Final[dict[str, list[Any]]] = {
    key: [] for key in ("not_served", "vulnerable", "not_judged", "withdrawn")
}
"""The parts of a report that tables of the state have: they are not recorded with it."""


async def finish_cycle(cycle: Cycle) -> None:
    """Record the end of the cycle and complete its report."""
    report = cycle.report
    cycle.course.phase = Phase.DONE
    now = cycle.clock()
    report.finished_at = now
    for run in cycle.runs:
        run.counters.requests = run.access.session.traffic.requests
        run.counters.bytes_downloaded = run.access.session.traffic.file_bytes
        if run.reach.ended is not None:
            report.ended[run.name] = run.reach.ended
            _log.error("index.ended", index=run.name, problem=str(run.reach.ended))
    try:
        await _record_end(cycle, now)
    except (StateError, TreeError) as exc:
        report.aborted = report.aborted or exc
    report.failures = [*report.unlisted, *report.failures]
    _log.info(
        "cycle.finished",
        cycle=cycle.id,
        outcome=report.outcome.value,
        seconds=round(now - report.started_at, 3),
        failures=len(report.failures),
        **{key: report.total(key) for key in COUNTERS},
        **(
            {"by_index": [i.as_json() for i in report.indexes.values()]}
            if len(report.indexes) > 1
            else {}
        ),
    )


async def _record_end(cycle: Cycle, now: float) -> None:
    report, store = cycle.report, cycle.store
    root_failures = [
        Failure(
            source=run.source.id,
            project="",
            filename="",
            reason=run.reach.ended.reason,
            detail=str(run.reach.ended),
            wait_s=asked_wait_s(run.reach.ended),
        )
        for run in cycle.runs
        if run.reach.ended is not None
    ]
    await record_failures(store, root_failures, (), now=now)
    for run in cycle.runs:
        await record_identity(store, run.source, had_credential=run.access.session.had_credential)
        await record_served_names(store, run.source, run.access.session.served_pages.names)
    await ask_for_address(store, cycle.options, report, cycle.runs)
    ledger = await load_reported(store, limit=_MAX_REPORTED)
    await _report_rest(store, report.events, len(ledger))
    if cycle.options.dry_run:
        # The pages' failures are in the plan; those of whole indexes, such as the brake's, are in
        # the copy only.
        ledger = [f for f in ledger if not f.project and f.last_at >= report.started_at]
    else:
        report.failures = []
    report.failures += [
        shown_failure(f.index, f.project, f.filename, f.reason, f.detail) for f in ledger
    ]
    if not report.interrupted and report.aborted is None and not cycle.options.is_narrowed:
        await judge_unserved(cycle.holdings, cycle.options, cycle.terms, cycle.course.unwritten)
    elif not cycle.options.dry_run:
        await record_unwritten(cycle.holdings, cycle.course.unwritten)
    await add_unserved(cycle.store, cycle.report)
    if cycle.wants.needs is not None:
        await count_unwanted_of(cycle.store, cycle.runs)
        report.failures += [
            shown_failure("", "", "", Reason.UNRESOLVED, detail)
            for detail in cycle.wants.needs.failures
        ]
    await judge_new_files(JudgedFiles.of(cycle))
    await report_advisories(cycle.holdings, cycle.terms.advisories, cycle.course.judges, report)
    for run in cycle.runs:
        counts = await load_counts(store, run.source.id)
        run.counters.files_absent = counts.absent
        run.counters.files_unhashed = counts.unhashed
        run.counters.files_skipped = counts.skipped
        run.counters.files_withheld = (await count_failures(store, run.source.id)).get(
            Reason.WITHHELD, 0
        )
    await report_rules(store, report.events, cycle.runs)
    if not report.interrupted and report.aborted is None and not cycle.options.is_narrowed:
        await record_success(
            store, [run.source.id for run in cycle.runs if run.reach.ended is None], now
        )


async def _report_rest(store: Store, events: Events, reported: int) -> None:
    """Report that the ledger has more rows than the report, if it has."""
    if reported < _MAX_REPORTED:
        return
    total = await count_all_failures(store)
    if total > reported:
        events.append({"event": "failures-cut", "failures": str(total), "reported": str(reported)})
        problem = (
            "the report has the first ones of each index;"
            " `mirror explain` and `mirror list` know all"
        )
        _log.warning("report.cut", failures=total, reported=reported, problem=problem)


async def record_outcome(holdings: Holdings, report: Report, exit_code: int) -> None:
    """Record the cycle's report with its exit code; where the state can't be written, it is in the
    log.
    """
    write = partial(
        record_cycle_end,
        holdings.store,
        holdings.cycle,
        report.finished_at or holdings.clock(),
        outcome=report.outcome.value,
        exit_code=exit_code,
        problem=None if report.aborted is None else redact(str(report.aborted)),
        report=msgspec.json.encode(report.as_json() | _OF_TABLES).decode(),
    )
    with contextlib.suppress(StateError):
        await with_room(holdings, write, what="the report needs")
