"""The facts that the rules of an index ask for, and the second judgement of files that waited.

A file whose cooldown has ended is judged from the state alone: no page is asked for. What only the
whole page decides was decided when it was read, and is kept with the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import anyio.to_thread
import msgspec

from mirror.core.diff import HeldFile, Removal, RemovalKind, same_bytes
from mirror.core.model import Digests, ListedFile, ProjectPage
from mirror.core.names import ProjectName, Sha256
from mirror.core.policy import Deferral, deferrals
from mirror.core.rules.judge import RuleFacts, Sight, sight_of
from mirror.core.rules.model import NEWEST, NO_RULES, PRE_RELEASES, RULE_KEYS
from mirror.core.times import utc_text
from mirror.holdings.tree import TreeFiles
from mirror.logs import get_logger
from mirror.state.advisories.records import read_advisories
from mirror.state.listing.due import ProjectRow
from mirror.state.missing.deferred import (
    DeferredFile,
    has_files,
    load_deferred,
    next_end,
)
from mirror.state.missing.ledger import FailureRow
from mirror.state.missing.left_out import LeftOutRows, count_left_out, judged_again, load_left_out
from mirror.state.missing.sights import load_sights
from mirror.state.store import Store
from mirror.sync.cycle_parts import PageScope
from mirror.sync.report import Events, nothing_admitted
from mirror.sync.work import IndexRun

_log = get_logger(__name__)


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a second judgement of one project, from the state."""

    fetch: tuple[ListedFile, ...] = ()
    """Files that may come in now."""
    barred: frozenset[str] = frozenset()
    """Files of the ledger that a rule keeps out by now."""
    remove: tuple[Removal, ...] = ()
    """Held files that newer versions displace."""
    deferred: tuple[DeferredFile, ...] = ()
    """All files of the project that are judged again later."""
    left_out: LeftOutRows = {}
    sights: Mapping[Sight, float] = {}
    changes: bool = True
    """Whether other files are left out than before."""


async def facts_of(
    scope: PageScope,
    run: IndexRun,
    row: ProjectRow,
    page: ProjectPage,
    held: Mapping[str, HeldFile],
    *,
    by_wants: bool = False,
) -> RuleFacts | None:
    """Return the facts that the rules ask for about the files of a page; None where there are no
    rules.

    ``by_wants``: the files are judged as those that a want may need, whoever needs them.
    """
    book = run.selection.rules
    if book.rules == NO_RULES:
        return None
    names = [file.filename for file in page.files]
    facts = RuleFacts(
        now=scope.terms.judged_at,
        held=held.keys(),
        needed=None if by_wants else _needed(scope, run, row),
        listed=names,
        advised=await _advised(scope, run, page.name, names),
    )
    if not book.is_dated or not scope.terms.has_sights:
        return facts  # nothing was ever held: nothing has a first sight, and no name is known
    facts = msgspec.structs.replace(facts, replaced=await _replaced(scope, run, page, held))
    return await _with_sights(scope.holdings.store, row, facts, page.files)


async def _with_sights(
    store: Store, row: ProjectRow, facts: RuleFacts, files: Iterable[ListedFile]
) -> RuleFacts:
    """Return the facts with first sights, and with each name under which other bytes were
    published.
    """
    known = await load_sights(store, row.id, now=facts.now)
    return msgspec.structs.replace(
        facts,
        sights=known.seen,
        known=known.published.union(facts.held, known.replaced(files)),
    )


async def _advised(
    scope: PageScope, run: IndexRun, project: ProjectName, filenames: Iterable[str]
) -> Mapping[str, str]:
    """Return the files that advisories keep out, each with the reason."""
    rule = run.refused.advisories
    await read_advisories(scope.holdings.store, rule.book, [project])
    return rule.advised(project, filenames)


def _needed(scope: PageScope, run: IndexRun, row: ProjectRow) -> Collection[str] | None:
    """Return the files that wants need in addition to the patterns; None where wants alone
    decide.
    """
    needs = scope.wants.needs
    if needs is None:
        return ()
    return None if needs.narrows(run.name) else needs.wanted_of(run.name, row.name)


async def _replaced(
    scope: PageScope, run: IndexRun, page: ProjectPage, held: Mapping[str, HeldFile]
) -> set[str]:
    """Return the held files of which the index lists other bytes, and nothing but those."""
    if run.selection.policy.keep_replaced:
        return set()  # they are never fetched
    found: dict[str, bool] = {}
    for file in page.files:
        known = held.get(file.filename)
        if known is None:
            continue
        verdict = same_bytes(file, known)
        if isinstance(verdict, tuple):
            verdict = await has_digests(scope.holdings.files, known.sha256, known.filename, verdict)
        # of several offers the held one is taken
        found[file.filename] = found.get(file.filename, True) and not verdict
    return {name for name, is_other in found.items() if is_other}


async def has_digests(files: TreeFiles, sha256: Sha256, filename: str, expected: Digests) -> bool:
    """Return whether held bytes have all of these digests too."""
    for algorithm, digits in expected:
        actual = await anyio.to_thread.run_sync(
            files.hash_blob, sha256, filename, algorithm, abandon_on_cancel=True
        )
        if actual != digits:
            return False
    return True


async def judge_again(
    scope: PageScope,
    run: IndexRun,
    row: ProjectRow,
    held: Mapping[str, HeldFile],
    ledger: Mapping[str, FailureRow],
) -> Released | None:
    """Judge the deferred files of a project whose page is unchanged, and those of the ledger.

    None where there are no rules.
    """
    book = run.selection.rules
    waiting = {
        one.filename: one
        for one in await load_deferred(scope.holdings.store, row.id, run.source.id)
    }
    if book.rules == NO_RULES and not waiting:
        return None
    failed = {name: one.file for name, one in ledger.items() if one.file is not None}
    listed = {n: listed_of(one) for n, one in held.items() if one.absent_since is None}
    files = {**listed, **failed, **{name: one.file for name, one in waiting.items()}}
    facts = RuleFacts(
        now=scope.terms.judged_at,
        held=held.keys(),
        replaced={
            name
            for name in held.keys() & (waiting.keys() | failed.keys())
            if same_bytes(files[name], held[name]) is not True
        },
        needed=_needed(scope, run, row),
        advised=await _advised(scope, run, row.name, files),
    )
    if book.is_dated:
        facts = await _with_sights(scope.holdings.store, row, facts, files.values())
    judged = book.judge(row.name, files, facts, {name: w.after for name, w in waiting.items()})
    out = judged.out
    released = [
        one.file
        for name, one in waiting.items()
        if name not in out and (name not in held or name in facts.replaced)
    ]
    superseded = book.superseded(files, facts, out)
    leaving = {
        name: Removal(held=known, kind=RemovalKind.DISPLACED)
        for name, known in held.items()
        if name in out and NEWEST in {out[name].rule, out[name].after}
    }
    leaving |= {n: Removal(held=held[n], kind=RemovalKind.SUPERSEDED) for n in sorted(superseded)}
    still = deferrals({name: files[name] for name in (*waiting, *failed)}, out)
    left_out = await load_left_out(scope.holdings.store, row.id)
    known = {name: one.rule for one in left_out for name in one.names}
    known |= {name: one.rule for name, one in waiting.items()}
    after = {name: verdict.rule for name, verdict in out.items()}
    after |= dict.fromkeys(superseded, PRE_RELEASES)
    rules = {
        name: (known.get(name, ""), after.get(name, "")) for name in (*waiting, *failed, *leaving)
    }
    deferred = deferred_rows(still)
    return Released(
        fetch=tuple(released),
        barred=frozenset(failed.keys() & out.keys()),
        remove=tuple(leaving.values()),
        deferred=deferred,
        changes=bool(leaving)
        or deferred != tuple(waiting.values())
        or any(before != after for before, after in rules.values()),
        left_out=judged_again(left_out, rules),
        sights=judged.sights,
    )


def deferred_rows(waiting: Mapping[str, Deferral]) -> tuple[DeferredFile, ...]:
    """Return deferred files in the form of the state."""
    return tuple(
        DeferredFile(
            filename=name,
            rule=one.verdict.rule,
            after=one.verdict.after,
            file=one.file,
            next_at=one.next_at,
        )
        for name, one in sorted(waiting.items())
    )


def sights_of(page: ProjectPage) -> list[Sight]:
    """Return what first sights of a page's files are known by."""
    return [(file.filename, sight_of(file)) for file in page.files]


def listed_of(held: HeldFile) -> ListedFile:
    """Return a held file as its index lists it."""
    return ListedFile(
        filename=held.filename,
        url=held.url,
        digests=held.digests,
        size=held.size,
        labels=held.labels,
    )


async def report_rules(store: Store, events: Events, runs: Sequence[IndexRun]) -> None:
    """Count the files that the rules of each index leave out, and report an index of which they
    leave nothing.
    """
    ruled = [run for run in runs if run.selection.policy.rules != NO_RULES]
    for run in runs if ruled else ():
        run.counters.left_out = {}
    for run in ruled:
        counts = await count_left_out(store, run.source.id)
        of_rules = {rule: counts[rule] for rule in RULE_KEYS if rule in counts}
        run.counters.left_out = of_rules
        run.counters.cooldown_until = await next_end(store, run.source.id)
        if not of_rules or run.reach.ended is not None or await has_files(store, run.source.id):
            continue
        rules = ", ".join(f"{rule} {count}" for rule, count in of_rules.items())
        event = {"event": "all-left-out", "index": run.name, "rules": rules}
        until = run.counters.cooldown_until
        if until is not None:
            event["until"] = utc_text(until)
        events.append(event)
        _log.warning("rules.leave_nothing", index=run.name, problem=nothing_admitted(event))
