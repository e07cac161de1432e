"""The facts in the state that the metrics show."""

from __future__ import annotations

from typing import Any

import msgspec

from mirror.config import Config
from mirror.metrics import LAST_COUNTERS, CycleFacts, Facts, IndexFacts
from mirror.state.notes import Notes, load_notes
from mirror.state.readers.overview import IndexOverview, Overview, load_overview
from mirror.state.store import Store


async def load_facts(store: Store, config: Config, *, now: float, is_scheduled: bool) -> Facts:
    """Return the facts about the state that the metrics show."""
    overview, notes = await load_overview(store, max_failures=0), await load_notes(store)
    intervals = (
        {i.name: i.interval_s or config.mirror.interval_s for i in config.indexes}
        if is_scheduled
        else {}
    )
    last = overview.last_finished
    facts = Facts(
        since=overview.first_cycle_at or now,
        indexes=tuple(
            _index_facts(index, notes, intervals.get(index.source.name))
            for index in overview.indexes
            if index.source.configured
        ),
        damaged=len(notes.damage),
        advisories=_advisory_facts(overview),
        wants=tuple((w.want or "", w.file or "", w.target, w.installable) for w in notes.wants),
        upkeep_at=notes.upkeep.at if notes.upkeep else None,
    )
    if last is None or last.finished_at is None:
        return facts
    return msgspec.structs.replace(
        facts,
        last_cycle=CycleFacts(
            finished_at=last.finished_at,
            duration_s=max(last.finished_at - last.started_at, 0.0),
            outcome=last.outcome or "",
            exit_code=last.exit_code or 0,
            counters=_counters(last.report),
        ),
    )


def _advisory_facts(overview: Overview) -> tuple[float | None, dict[str, int]] | None:
    found = overview.advisories
    if found is None:
        return None
    counts = {
        "vulnerable": found.vulnerable,
        "not-judged": found.not_judged,
        "withdrawn": found.withdrawn,
    }
    return found.date, counts


def _index_facts(index: IndexOverview, notes: Notes, interval_s: float | None) -> IndexFacts:
    credential = notes.credentials.get(index.source.name)
    return IndexFacts(
        name=index.source.name,
        interval_s=interval_s,
        last_success=index.source.succeeded_at,
        listed_projects=index.source.listed,
        held_projects=index.held.projects,
        held_files=index.held.files,
        held_bytes=index.held.size,
        failures={reason.value: count for reason, count in index.failures.items()},
        not_offered=index.not_offered,
        not_served=index.not_served,
        credential_expires=credential.expires_at if credential else None,
        credential_usable=credential is None or credential.problem is None,
    )


class _Reported(msgspec.Struct):
    indexes: list[dict[str, Any]] = []


def _counters(report: str | None) -> dict[str, dict[str, int]]:
    try:
        read = msgspec.json.decode(report or "{}", type=_Reported)
    except msgspec.MsgspecError:
        return {}
    return {
        index["name"]: {counter: index.get(counter, 0) for counter in LAST_COUNTERS}
        for index in read.indexes
        if "name" in index
    }
