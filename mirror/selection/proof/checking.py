"""``mirror check`` and the gates: prove the wants of a configuration, or files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import anyio
import msgspec

from mirror.config import Config, TargetConfig, WantConfig
from mirror.core.offers import HIDING
from mirror.core.rules.judge import words_of_rule
from mirror.core.wants_progress import WantsProgress
from mirror.errors import ConfigError, Reason, ungrouped
from mirror.selection.gaps import Gap, GapReason, reason_of_ledger, reason_of_rule
from mirror.selection.proof.answers import Barred, Known, Proof, ProofAnswer, proof_of
from mirror.selection.proof.prover import SDISTS, Prover
from mirror.selection.proof.published import Published, PublishedPages
from mirror.selection.proof.reuse import Reused, reusable, stored_proof
from mirror.selection.questions import Question, questions_for
from mirror.selection.reading import read_file, read_want
from mirror.selection.resolving.beating import beating
from mirror.selection.resolving.inputs import Asked
from mirror.selection.resolving.lazy import LazyResolver
from mirror.selection.resolving.program import Uv, open_uv
from mirror.selection.resolving.results import decode_result
from mirror.selection.wants import Resolution, UnresolvedFile
from mirror.state.missing.barred import load_barred
from mirror.state.store import Store
from mirror.state.wants.failures import load_wanted_failures
from mirror.state.wants.needs import (
    Key,
    load_missing,
    load_named,
    load_remembered,
    load_resolutions,
)
from mirror.state.wants.proofs import StoredProof, load_proofs, record_proofs
from mirror.tree.objects.opening import TreeOpener


class ProofMode(Enum):
    """How much of a proof is done again, and whether it is recorded."""

    BY_HAND = "by-hand"
    """The bytes of all files are read again."""
    AFTER_CYCLE = "after-cycle"
    """The bytes are read where rows changed or a file was damaged; proofs are recorded."""
    FOR_BUNDLE = "for-bundle"
    """As after a cycle, and nothing is recorded."""


async def with_remembered_wants(config: Config, store: Store | None) -> Config:
    """Return a configuration; without wants and targets, with those of the last cycle."""
    if config.wants or config.targets or store is None:
        return config
    remembered = await load_remembered(store)
    if remembered is None:
        return config
    return msgspec.structs.replace(
        config,
        wants=msgspec.json.decode(remembered.wants, type=tuple[WantConfig, ...]),
        targets=msgspec.json.decode(remembered.targets, type=tuple[TargetConfig, ...]),
        source=str(Path(remembered.folder) / "mirror.toml"),  # paths start there
    )


def questions(config: Config, names: Sequence[str], target: str | None) -> list[Question]:
    """Return what ``mirror check`` has to prove. Blocks. Raises ``ConfigError``."""
    known = {want.name: want for want in config.wants}
    if target is not None and target not in {one.name for one in config.targets}:
        raise ConfigError(where="--target", problem=f"no target is named {target!r}")
    has_file = not config.source.startswith("--")
    if not names and not config.wants:
        advice = (
            "add one with `mirror want add NAME REQUIREMENT`, or name a file"
            if has_file
            else "name a configuration that has [[want]] and [[target]] tables by --config"
        )
        raise ConfigError(where="want", problem=f"there is no want to check: {advice}")
    found: list[Question] = []
    for name in names or known:
        want = known.get(name)
        if want is not None:
            chosen = [one for one in config.targets_of(want) if target in {None, one.name}]
            found += questions_for(read_want(want, config.folder), want, chosen)
        elif Path(name).is_file():
            chosen = [one for one in config.targets if target in {None, one.name}]
            if not chosen:
                rest = "" if has_file else ", and name a configuration that has it by --config"
                problem = "print the table of this machine with `mirror target here`"
                raise ConfigError(where="target", problem=f"there is no target: {problem}{rest}")
            source = read_file(Path(name), want=None, folder=Path.cwd())
            if isinstance(source, UnresolvedFile):
                raise ConfigError(where=name, problem=source.problem)
            found += questions_for((source,), None, chosen)
        else:
            raise ConfigError(where=name, problem="neither the name of a want nor a file")
    return found


async def prove(
    asked: Sequence[Question],
    held: TreeOpener,
    pages: PublishedPages,
    store: Store | None,
    *,
    env: Mapping[str, str],
    metadata_limit_bytes: int,
    cache: Path | None = None,
    mode: ProofMode = ProofMode.BY_HAND,
    progress: WantsProgress | None = None,
) -> list[Proof]:
    """Prove each question from the published ``pages``. Raises ``ConfigError``, ``TreeError``.

    A proof whose rows are unchanged since the last cycle is not run again.
    """
    records = mode is ProofMode.AFTER_CYCLE
    progress = progress or WantsProgress()
    progress.begin(len(asked))
    published = Published(held, pages, metadata_limit_bytes=metadata_limit_bytes)
    has_requirements = any(isinstance(one.source, Resolution) for one in asked)
    uv = await open_uv(env, store, records=records) if has_requirements else None
    known = await _load_known(store, asked)
    earlier = await load_proofs(store) if store is not None else {}
    answers: dict[int, ProofAnswer] = {}
    reused: dict[int, Reused] = {}
    limit = anyio.CapacityLimiter(os.cpu_count() or 1)
    place = cache if records else None
    async with LazyResolver(uv, published, name="check", place=place) as resolver:
        prover = Prover(
            published, resolver if uv else None, metadata_limit_bytes=metadata_limit_bytes
        )

        async def answer_one(number: int, one: Question) -> None:
            async with limit:
                before = await reusable(earlier.get(one.key), _asked(one, uv), published)
                if before is not None:
                    reused[number] = before
                answers[number] = await _answer(
                    prover, one, before.answer if before is not None else None, mode
                )
                progress.done += 1

        with ungrouped():
            async with beating(progress), anyio.create_task_group() as tasks:
                for number, one in enumerate(asked):
                    tasks.start_soon(answer_one, number, one)
    proofs = []
    kept: dict[Key, StoredProof] = {}
    for number, (one, facts) in enumerate(zip(asked, known, strict=True)):
        answer = answers[number]
        if records and one.want is not None and answer.names:
            kept[one.key] = await stored_proof(
                one.key, answer, _asked(one, uv), published, reused.get(number)
            )
        base = Proof(
            want=one.source.want,
            file=one.source.file,
            target=one.key.target,
            warnings=(*one.warnings, *answer.unknown_extras),
        )
        proofs.append(proof_of(base, answer, await _with_barred(store, facts, answer)))
    if records and store is not None:
        new = [proof for key, proof in kept.items() if earlier.get(key) != proof]
        await record_proofs(store, new, earlier.keys() - kept.keys())
    return proofs


async def _answer(
    prover: Prover, question: Question, before: ProofAnswer | None, mode: ProofMode
) -> ProofAnswer:
    """Return the answer: ``before``, whose rows are unchanged, or a new one."""
    if before is None:
        return await prover.answer(question.source, question.environments, question.want)
    if mode is not ProofMode.BY_HAND and not before.is_damaged:
        return before
    return await prover.judged(before, question.source, question.environments)


def _asked(question: Question, uv: Uv | None) -> Asked:
    return Asked(
        source=question.source,
        want=question.want,
        environments=question.environments,
        uv_version=uv.version if uv is not None else None,
        sdists=SDISTS,
        counts_all_files=question.names_digests,
    )


async def _load_known(store: Store | None, asked: Sequence[Question]) -> list[Known]:
    """Return the facts of the state for each question."""
    if store is None:
        return [Known() for _ in asked]
    stored = await load_resolutions(store)
    failures: dict[str, Gap] = {}
    for row in await load_wanted_failures(store):
        reason = reason_of_ledger(row.reason) if row.reason in HIDING else GapReason.FAILED
        words = f"{row.reason.value}: {row.detail}" if reason is GapReason.FAILED else row.detail
        text = row.filename or row.project
        failures[row.project] = Gap(
            project=row.project, requirement=text, reason=reason, detail=words
        )
    for _, file in await load_missing(store):
        detail = f"{Reason.INTERNAL.value}: {file.filename} was not fetched yet"
        gap = Gap(
            project=file.project, requirement=file.filename, reason=GapReason.FAILED, detail=detail
        )
        failures.setdefault(file.project, gap)
    found = []
    for one in asked:
        before = stored.get(one.key)
        result = decode_result(before) if before is not None else None
        names = {gap.project for gap in result.gaps} if result is not None else set()
        names |= (
            {line.project for line in one.source.lines}
            if isinstance(one.source, Resolution)
            else set()
        )
        found.append(
            Known(result=result, failures=failures, listed=await _listed(store, sorted(names)))
        )
    return found


async def _with_barred(store: Store | None, known: Known, answer: ProofAnswer) -> Known:
    """Return the facts with the files that rules keep out, of the projects of gaps."""
    names = {gap.project for part in answer.parts for gap in part.gaps if gap.project}
    if store is None or not names:
        return known
    barred: dict[str, list[Barred]] = {}
    for row in await load_barred(store, sorted(names)):
        detail = words_of_rule(row.filename, row.index, row.rule, row.until)
        one = Barred(filename=row.filename, reason=reason_of_rule(row.rule), detail=detail)
        barred.setdefault(row.project, []).append(one)
    return msgspec.structs.replace(known, barred={n: tuple(b) for n, b in barred.items()})


async def _listed(store: Store, names: Sequence[str]) -> dict[str, str]:
    rows = await load_named(store, names)
    indexes = await store.mapping("SELECT id, name FROM source")
    return {row.name: indexes[row.source] for row in rows}
