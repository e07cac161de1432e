"""The wants in a cycle: which files are wanted, decided in rounds.

The first round begins when the roots are read; another follows after files were refused, or turned
out to have other dependencies. The earlier set of a want stays wanted until each file of its new
set is held.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from mirror.config import Config
from mirror.core.names import ProjectName
from mirror.core.offered_pages import WantedPages
from mirror.core.offers import WantPlan
from mirror.core.wants_progress import WantsProgress
from mirror.errors import ConfigError, MirrorError
from mirror.logs import get_logger
from mirror.selection.cycle.judging import Answered, Earlier, Judge
from mirror.selection.questions import Question, read_questions
from mirror.selection.resolving.beating import beating
from mirror.selection.resolving.lazy import LazyResolver
from mirror.selection.resolving.program import NO_UV, Uv, find_uv, open_uv
from mirror.selection.resolving.results import Result, decode_result
from mirror.selection.wants import Resolution
from mirror.state.store import Store
from mirror.state.wants.needs import (
    Key,
    Remembered,
    StoredResolution,
    WantedFile,
    forget_earlier_sets,
    forget_resolutions,
    load_asked,
    load_missing,
    load_resolutions,
    load_wanted,
    record_inputs,
    record_remembered,
)
from mirror.state.wants.unwanted import record_needed

_log = get_logger(__name__)


class CycleNeeds:
    """Implements ``sync.needs.Needs``."""

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        env: Mapping[str, str],
        clock: Callable[[], float],
        is_narrowed: bool,
        place: Path | None = None,
    ) -> None:
        """``place``: the folder for the resolver's files; None: the system's."""
        self._place = place
        self._config, self._store, self._env, self._clock = config, store, env, clock
        self._is_narrowed = is_narrowed
        self._pre_releases = any(
            config.rules_of(index).pre_releases == "always" for index in config.indexes
        )
        self._needed = {index.name for index in config.indexes if config.selects_needed(index)}
        self._wanted: dict[tuple[str, str], frozenset[str]] = {}
        self._questions: list[Question] = []
        self._results: dict[Key, Result] = {}
        self._computed: set[Key] = set()
        """The resolutions that this cycle computed again."""
        self._uv: Uv | None = None
        self._no_uv = NO_UV
        """Why there is no resolver."""
        self._is_once = False
        self._fetched: set[tuple[Key, WantedFile]] = set()
        """Files of sets that are not held when the cycle's pages are read."""
        self._cycle = self._rounds = 0
        """The number of the cycle, and how often it decided: parts of the view's address."""
        self.resolved = 0
        """Number of resolutions that the cycle computed again."""
        self.progress = WantsProgress()
        self.has_changed = False
        """Whether a resolution was computed again, or belongs to no want any more."""
        self.failures: list[str] = []
        """One sentence for each want that can't be resolved."""

    async def load(self, *, needs_uv: bool) -> None:
        """Load the decisions of earlier cycles.

        ``needs_uv``: raise ``ConfigError`` where requirements are to be resolved and uv is missing.
        """
        self._questions = await anyio.to_thread.run_sync(read_questions, self._config)
        has_requirements = any(isinstance(one.source, Resolution) for one in self._questions)
        if needs_uv and has_requirements:
            await anyio.to_thread.run_sync(_require_uv, self._env)
        self._is_once = needs_uv
        self._wanted = await load_wanted(self._store)

    def files_of(self, index: str, project: ProjectName) -> frozenset[str] | None:
        """Return the wanted files of a project; None where the patterns alone decide."""
        return self._wanted.get((index, project), frozenset()) if index in self._needed else None

    def wanted_of(self, index: str, project: ProjectName) -> frozenset[str]:
        """Return the files of a project that a want needs, also where the patterns decide."""
        return self._wanted.get((index, project), frozenset())

    def narrows(self, index: str) -> bool:
        """Return whether only needed files of an index are mirrored."""
        return index in self._needed

    async def settle(self, pages: WantedPages, *, cycle: int) -> frozenset[ProjectName]:
        """Decide which files are wanted; return the projects whose wanted files changed."""
        self._cycle = cycle
        await self._remember()
        await record_needed(self._store, self._needed, cycle=cycle)
        if self._is_narrowed:
            return frozenset()
        known = await load_resolutions(self._store)
        await self._forget_others(known)
        await self._open_uv()
        changed = await self._judge_all(pages, known, frozenset())
        self._fetched = set(await load_missing(self._store))
        return changed

    async def settle_again(self, pages: WantedPages) -> frozenset[ProjectName]:
        """Decide again after files were refused, or turned out to have other dependencies."""
        if self._is_narrowed or not self._fetched:
            return frozenset()
        missing = set(await load_missing(self._store))
        forced = set()
        for key, file in sorted(self._fetched - missing):
            if await _is_corrected(pages, file):
                facts = {"project": file.project, "filename": file.filename}
                _log.warning("metadata.corrected", index=file.index, **facts)
                forced.add(key)
        known = await load_resolutions(self._store)
        changed = await self._judge_all(pages, known, frozenset(forced))
        self._fetched = set(await load_missing(self._store))
        return changed

    async def finish(self) -> None:
        """Let earlier sets go whose new sets are held; name the wants that can't be resolved."""
        if self._is_narrowed:
            known = await load_resolutions(self._store)
            self._results = {key: decode_result(stored) for key, stored in known.items()}
        else:
            await forget_earlier_sets(self._store)
        self.failures = [
            f"want {key.want}, target {key.target}: {_sentence(key, result)}"
            for key, result in sorted(self._results.items())
            if result.is_failure
        ]

    async def waits_for(self) -> frozenset[str]:
        """Return the indexes of which the sets of this cycle's resolutions need files."""
        missing = await load_missing(self._store) if self._computed else []
        return frozenset(file.index for key, file in missing if key in self._computed)

    async def planned(self) -> list[WantPlan]:
        """Return the files that a cycle would fetch for each want and target."""
        missing: dict[Key, set[str]] = {}
        for key, file in await load_missing(self._store):
            missing.setdefault(key, set()).add(file.filename)
        plans = []
        for key, result in sorted(self._results.items()):
            files = [one for one in result.files if one.filename in missing.get(key, ())]
            plan = WantPlan(
                want=key.want,
                file=key.file or None,
                target=key.target,
                files=len(files),
                size=sum(one.size or 0 for one in files),
                gaps=tuple(f"{gap.requirement}: {gap.detail}" for gap in result.gaps),
            )
            plans.append(plan)
        return plans

    # -- rounds -----------------------------------------------------------------------------------

    async def _judge_all(
        self, pages: WantedPages, known: Mapping[Key, StoredResolution], forced: frozenset[Key]
    ) -> frozenset[ProjectName]:
        """Judge every question; return the projects whose wanted files changed."""
        earlier = await self._load_earlier(known)
        names = {name for one in earlier.values() for name in one.names}
        names |= {name for question in self._questions for name in question.named_projects}
        await pages.see([ProjectName(name) for name in sorted(names)])
        self._rounds += 1
        self.progress.begin(len(self._questions))
        async with LazyResolver(
            self._uv,
            pages,
            name=f"c{self._cycle}-{self._rounds}",
            place=self._place,
            pre_releases=self._pre_releases,
        ) as resolver:
            judge = self._judge_of(pages, resolver)
            waiting: list[Question] = []
            renewed: dict[int, tuple[str, bytes]] = {}

            async def look_up(question: Question) -> None:
                before = earlier.get(question.key)
                recorded = None
                if before is not None and question.key not in forced:
                    recorded = await judge.recorded(question, before)
                if recorded is None:
                    waiting.append(question)
                    return
                renewed.update(recorded.renewed)
                self._take(question, recorded.answered)

            async def compute(question: Question) -> None:
                before = earlier.get(question.key, Earlier())
                self._take(question, await judge.compute(question, before))

            # Nothing is written before all are looked up: a write ends what is known of listings.
            async with beating(self.progress):
                await self._for_each(self._questions, look_up)
                if renewed:
                    await record_inputs(self._store, renewed)
                await self._for_each(waiting, compute)
        before, self._wanted = self._wanted, await load_wanted(self._store)
        keys = before.keys() | self._wanted.keys()
        changed = (key for key in keys if before.get(key) != self._wanted.get(key))
        return frozenset(ProjectName(project) for _, project in changed)

    async def _load_earlier(self, known: Mapping[Key, StoredResolution]) -> dict[Key, Earlier]:
        """Return the last results of the cycle's questions."""
        asked = await load_asked(self._store)
        keys = {question.key for question in self._questions}
        return {
            key: Earlier(stored=stored, names=asked.get(stored.id, ()))
            for key, stored in known.items()
            if key in keys
        }

    def _judge_of(self, pages: WantedPages, resolver: LazyResolver) -> Judge:
        return Judge(
            store=self._store,
            pages=pages,
            resolver=resolver,
            uv=self._uv,
            no_uv=self._no_uv,
            pre_releases=self._pre_releases,
            cycle=self._cycle,
            clock=self._clock,
        )

    async def _for_each(
        self, questions: Sequence[Question], work: Callable[[Question], Awaitable[None]]
    ) -> None:
        """Work on as many questions at the same time as there are cores."""
        limit = anyio.CapacityLimiter(os.cpu_count() or 1)

        async def work_on(question: Question) -> None:
            async with limit:
                await work(question)

        async with anyio.create_task_group() as tasks:
            for question in questions:
                tasks.start_soon(work_on, question)

    def _take(self, question: Question, judgement: Answered) -> None:
        self.progress.done += 1
        self._results[question.key] = judgement.result
        if judgement.is_computed:
            self.resolved += 1
            self.has_changed = True
            self._computed.add(question.key)

    async def _forget_others(self, known: Mapping[Key, StoredResolution]) -> None:
        """Forget the resolutions that belong to no want any more."""
        keys = {question.key for question in self._questions}
        gone = [stored.id for key, stored in known.items() if key not in keys]
        if gone:
            self.has_changed = True
            await forget_resolutions(self._store, gone)

    async def _open_uv(self) -> None:
        """Raise ``ConfigError`` where uv can't be used, in a cycle of a person."""
        if not any(isinstance(question.source, Resolution) for question in self._questions):
            return
        try:
            self._uv = await open_uv(self._env, self._store, records=True)
        except ConfigError as exc:
            if self._is_once:
                raise
            self._no_uv = str(exc)

    async def _remember(self) -> None:
        folder = await anyio.to_thread.run_sync(lambda: self._config.folder)
        remembered = Remembered(
            targets=msgspec.json.encode(self._config.targets),
            wants=msgspec.json.encode(self._config.wants),
            folder=str(folder),
        )
        await record_remembered(self._store, remembered)


def _require_uv(env: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` where there is no uv."""
    if find_uv(env) is None:
        raise ConfigError(where="want", problem=NO_UV)


async def _is_corrected(pages: WantedPages, file: WantedFile) -> bool:
    """Return whether a held file has other metadata than the resolution read."""
    try:
        listing = await pages.list_offers(ProjectName(file.project))
    except MirrorError:
        return False
    asked = (file.index, file.filename)
    offers = (one for one in listing.offers if (one.index, one.file.filename) == asked)
    offer = next(offers, None)
    if offer is None or offer.held is None:
        return False
    return await pages.corrected(listing.project, offer)


def _sentence(key: Key, result: Result) -> str:
    words = "; ".join(
        f"{gap.requirement or gap.project}: {gap.detail}".removeprefix(": ") for gap in result.gaps
    )
    has_name = not key.file or words.startswith(key.file)  # with the line, where it has one
    return words if has_name else f"{key.file}: {words}"
