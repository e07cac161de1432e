"""Takes the advisory database of the configuration into the state, whole or not at all.

A database that can't be read whole, or that lost too many of its records, is not taken: the one
before stays in force, the cycle goes on, and its exit code says so.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread

from mirror.core.advisories.judging import AdvisoryBook, AdvisoryRule
from mirror.core.rules.model import Rules
from mirror.errors import ConfigError
from mirror.logs import get_logger
from mirror.state.advisories.records import (
    AdvisoryNote,
    load_advisory_note,
    load_book,
    record_advisory_problem,
)
from mirror.state.store import Store
from mirror.sync.advisories.settings import Judges
from mirror.sync.cycle_parts import Cycle

_log = get_logger(__name__)


async def check_database(path: Path | None, store: Store | None) -> None:
    """Raise ``ConfigError`` where nothing is at the path, and nothing was ever taken.

    ``store``: None where there is no state yet.
    """
    if path is None or await anyio.Path(path).exists():
        return
    if store is None or await load_advisory_note(store) is None:
        raise nothing_there(f"{path} is not there")


def nothing_there(problem: str) -> ConfigError:
    """Return the error of a database that is not there."""
    expected = "expected an OSV database, a folder or a zip of JSON"
    return ConfigError(where="rules.advisories", problem=f"{problem}; {expected}")


async def take_advisories(cycle: Cycle) -> AdvisoryNote | None:
    """Take the database, if it is another one; set the judges of the cycle; return which is in
    force.

    Raises ``ConfigError`` where nothing is at its path and nothing was ever taken.
    """
    settings, store = cycle.terms.advisories, cycle.store
    path, note = settings.path, await load_advisory_note(store)
    if path is not None:
        from mirror.sync.advisories.renewing import renew  # 3 ms, only with a database

        note = await renew(cycle.holdings, cycle.options, cycle.report, path, note)
    await record_advisory_problem(store, cycle.report.advisory_problem)
    is_blocked = path is not None and note is None
    is_in_force = path is not None and note is not None
    book = await load_book(store) if is_in_force else AdvisoryBook({})

    def rule(rules: Rules) -> AdvisoryRule:
        level, ignored = rules.exclude_vulnerable, rules.ignore_advisories
        return AdvisoryRule(book, level, ignored, is_blocked=is_blocked)

    of_index = {policy.name: rule(policy.rules) for policy in cycle.terms.policies}
    judges = Judges(of_index=of_index, others=rule(settings.rules), is_ready=True)
    cycle.course.judges = judges
    for run in cycle.runs:
        run.refused.advisories = judges.of(run.name)
    return note
