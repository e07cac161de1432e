"""The wants in a cycle: which resolutions are computed again, and which files are wanted after it.

A resolution is known by the digest of all that it depends on. Equal digest: no resolver starts. Its
earlier set stays wanted until each file of its new set is held. An index that can't be read makes
no resolution: the earlier set stays, and the ledger has the index's own reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from mirror.config import Config, WantConfig
from mirror.core.names import ProjectName
from mirror.core.offered_pages import WantedPages
from mirror.core.offers import WantPlan
from mirror.errors import ConfigError, MirrorError, StateError, TreeError
from mirror.logs import get_logger
from mirror.selection.gaps import Gap, GapReason
from mirror.selection.reading import read_want
from mirror.selection.resolving.inputs import Asked, Inputs, digest_of_listings, inputs_of
from mirror.selection.resolving.locked import resolve_lock
from mirror.selection.resolving.program import NO_UV, Uv, find_uv, open_uv
from mirror.selection.resolving.results import ChosenFile, Result, failed
from mirror.selection.resolving.runs import LazyResolver, Void, policy_of
from mirror.selection.targets import Environment, environments
from mirror.selection.wants import LockedSet, Resolution, UnresolvedFile, WantSource
from mirror.state.store import Store
from mirror.state.wants.needs import (
    Key,
    NewResolution,
    Remembered,
    StoredResolution,
    WantedFile,
    forget_resolutions,
    let_earlier_go,
    load_asked,
    load_missing,
    load_resolutions,
    load_wanted,
    record_inputs,
    record_remembered,
    record_resolution,
)
from mirror.state.wants.unwanted import record_needed

_log = get_logger(__name__)

_BEAT_S = 5.0


class _WantJob(msgspec.Struct, frozen=True, kw_only=True):
    """One resolution of the configuration."""

    key: Key
    want: WantConfig
    source: Resolution | LockedSet | UnresolvedFile
    environments: tuple[Environment, ...]


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
        self._jobs: dict[Key, _WantJob] = {}
        self._results: dict[Key, Result] = {}
        self._computed: set[Key] = set()
        """The resolutions that this cycle computed again."""
        self._uv: Uv | None = None
        self._no_uv = NO_UV
        """Why there is no resolver."""
        self._is_once = False
        self._fetched: set[tuple[Key, WantedFile]] = set()
        """Files of sets that are not held when the cycle's pages are read."""
        self.cycle = 0
        self._rounds = 0
        """How often wanted files were decided in this cycle: part of the view's address."""
        self.resolved = 0
        """Number of resolutions that the cycle computed again."""
        self.judged = self.total = 0
        """Number of resolutions that were judged so far, and of all."""
        self.beats = 0
        """Grows while resolvers run, however long one of them takes."""
        self.has_changed = False
        """Whether a resolution was computed again, or belongs to no want any more."""
        self.failures: list[str] = []
        """One sentence for each want that can't be resolved."""

    async def load(self, *, needs_uv: bool) -> None:
        """Load the decisions of earlier cycles.

        ``needs_uv``: raise ``ConfigError`` where requirements are to be resolved and uv is missing.
        """
        self._jobs = {
            job.key: job for job in await anyio.to_thread.run_sync(_read_jobs, self._config)
        }
        has_requirements = any(isinstance(job.source, Resolution) for job in self._jobs.values())
        if (
            needs_uv
            and has_requirements
            and await anyio.to_thread.run_sync(find_uv, self._env) is None
        ):
            raise ConfigError(where="want", problem=NO_UV)
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
        self.cycle = cycle
        await self._remember()
        await record_needed(self._store, self._needed, cycle=cycle)
        if self._is_narrowed:
            return frozenset()
        known = await load_resolutions(self._store)
        gone = [stored.id for key, stored in known.items() if key not in self._jobs]
        if gone:
            self.has_changed = True
            await forget_resolutions(self._store, gone)
        if any(isinstance(job.source, Resolution) for job in self._jobs.values()):
            try:
                self._uv = await open_uv(self._env, self._store, records=True)
            except ConfigError as exc:
                if self._is_once:
                    raise
                self._no_uv = str(exc)
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
            if await self._is_corrected(pages, file):
                _log.warning(
                    "metadata.corrected",
                    index=file.index,
                    project=file.project,
                    filename=file.filename,
                )
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
            await let_earlier_go(self._store)
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

    # -- resolutions ------------------------------------------------------------------------------

    async def _judge_all(
        self, pages: WantedPages, known: Mapping[Key, StoredResolution], forced: frozenset[Key]
    ) -> frozenset[ProjectName]:
        asked = await load_asked(self._store)
        names = {
            name
            for key, stored in known.items()
            if key in self._jobs
            for name in asked.get(stored.id, ())
        }
        names |= {name for job in self._jobs.values() for name in _names_in(job.source)}
        await pages.see([ProjectName(name) for name in sorted(names)])
        limit = anyio.CapacityLimiter(os.cpu_count() or 1)
        self._rounds += 1
        self.judged, self.total = 0, len(self._jobs)
        name = f"c{self.cycle}-{self._rounds}"
        async with LazyResolver(
            self._uv, pages, name=name, place=self._place, pre_releases=self._pre_releases
        ) as resolver:

            async def judge(job: _WantJob) -> None:
                async with limit:
                    stored = known.get(job.key)
                    names = asked.get(stored.id, ()) if stored is not None else ()
                    await self._judge(
                        pages, resolver, job, stored, names, is_forced=job.key in forced
                    )
                    self.judged += 1

            async with anyio.create_task_group() as beating:
                beating.start_soon(self._beat)
                async with anyio.create_task_group() as tasks:
                    for job in self._jobs.values():
                        tasks.start_soon(judge, job)
                beating.cancel_scope.cancel()
        before, self._wanted = self._wanted, await load_wanted(self._store)
        keys = {
            key
            for key in before.keys() | self._wanted.keys()
            if before.get(key) != self._wanted.get(key)
        }
        return frozenset(ProjectName(project) for _, project in keys)

    async def _beat(self) -> None:
        """Count as progress while resolvers run: each of them ends within its own limit."""
        while True:
            await anyio.sleep(_BEAT_S)
            self.beats += 1

    async def _judge(
        self,
        pages: WantedPages,
        resolver: LazyResolver,
        job: _WantJob,
        stored: StoredResolution | None,
        names: Sequence[str],
        *,
        is_forced: bool,
    ) -> None:
        """Resolve one want for one target, unless nothing changed on which its result depends."""
        try:
            if stored is not None and not is_forced:
                result = decode_result(stored)
                if await self._is_current(pages, job, stored, result, names):
                    self._results[job.key] = result
                    return
            result = await self._resolve(pages, resolver, job)
            inputs = await inputs_of(self._asked(job), result.releases, result.names, pages)
        except (StateError, TreeError):
            raise
        except Void as exc:
            await self._keep(job, stored, exc.cause)
            return
        except MirrorError as exc:
            await self._keep(job, stored, exc)
            return
        self._results[job.key] = result
        self.resolved += 1
        self.has_changed = True
        self._computed.add(job.key)
        await record_resolution(
            self._store,
            NewResolution(
                key=job.key,
                inputs=msgspec.json.encode(inputs).decode(),
                answer=msgspec.json.encode(result),
                names=result.names,
                files=tuple(map(_wanted, result.files)) if result.is_resolved else None,
                sought=tuple(map(_wanted, result.sought)),
            ),
            cycle=self.cycle,
            now=self._clock(),
        )
        _tell(job, result)

    async def _keep(
        self, job: _WantJob, stored: StoredResolution | None, cause: MirrorError
    ) -> None:
        """Keep the earlier result: something that it depends on could not be asked for."""
        words = str(cause)
        _log.warning("want.waits", want=job.key.want, target=job.key.target, cause=words)
        if stored is not None and not decode_result(stored).is_void:
            self._results[job.key] = decode_result(stored)
            return
        requirement = job.source.lines[0].text if isinstance(job.source, Resolution) else ""
        gap = Gap(project="", requirement=requirement, reason=GapReason.FAILED, detail=words)
        result = msgspec.structs.replace(failed((gap,)), is_void=True)
        self._results[job.key] = result
        inputs = msgspec.json.encode(Inputs(listings="", rows="")).decode()
        new = NewResolution(
            key=job.key,
            inputs=inputs,
            answer=msgspec.json.encode(result),
            names=tuple(sorted(set(_names_in(job.source)))),
        )
        await record_resolution(self._store, new, cycle=self.cycle, now=self._clock())

    async def _is_current(
        self,
        pages: WantedPages,
        job: _WantJob,
        stored: StoredResolution,
        result: Result,
        names: Sequence[str],
    ) -> bool:
        """Return whether a recorded result still holds."""
        if result.is_void:
            return False
        before = msgspec.json.decode(stored.inputs, type=Inputs)
        asked = self._asked(job)
        if before.listings == await digest_of_listings(asked, names, pages):
            return True
        now = await inputs_of(asked, result.releases, names, pages)
        if before.rows != now.rows:
            return False
        await record_inputs(
            self._store, {stored.id: (msgspec.json.encode(now).decode(), stored.answer)}
        )
        return True

    async def _resolve(self, pages: WantedPages, resolver: LazyResolver, job: _WantJob) -> Result:
        match job.source:
            case UnresolvedFile(problem=problem):
                return failed(
                    (Gap(project="", requirement="", reason=GapReason.UNRESOLVED, detail=problem),)
                )
            case Resolution() as source if self._uv is None:
                gap = Gap(
                    project="",
                    requirement=source.lines[0].text,
                    reason=GapReason.UNRESOLVED,
                    detail=self._no_uv,
                )
                return failed((gap,))
            case Resolution() as source:
                return await (await resolver.get()).resolve(
                    source, job.environments, policy_of(job.want)
                )
            case LockedSet() as lock:
                return await resolve_lock(lock, job.environments, job.want, pages)

    def _asked(self, job: _WantJob) -> Asked:
        return Asked(
            source=job.source,
            want=job.want,
            environments=job.environments,
            uv_version=self._uv.version if self._uv is not None else None,
            sdists=job.want.sdists,
            counts_all_files=isinstance(job.source, LockedSet)
            or job.want.wheels == "all"
            or job.want.sdists == "always",
            pre_releases=self._pre_releases,
        )

    async def _is_corrected(self, pages: WantedPages, file: WantedFile) -> bool:
        try:
            listing = await pages.look(ProjectName(file.project))
        except MirrorError:
            return False
        offer = next(
            (
                o
                for o in listing.offers
                if (o.index, o.file.filename) == (file.index, file.filename)
            ),
            None,
        )
        return (
            offer is not None
            and offer.held is not None
            and await pages.corrected(listing.project, offer)
        )

    async def _remember(self) -> None:
        folder = await anyio.to_thread.run_sync(lambda: self._config.folder)
        remembered = Remembered(
            targets=msgspec.json.encode(self._config.targets),
            wants=msgspec.json.encode(self._config.wants),
            folder=str(folder),
        )
        await record_remembered(self._store, remembered)


def decode_result(stored: StoredResolution) -> Result:
    """Return a recorded result."""
    return msgspec.json.decode(stored.answer, type=Result)


def _read_jobs(config: Config) -> list[_WantJob]:
    jobs = []
    for want in config.wants:
        targets = [by_name(environments(target)) for target in config.targets_of(want)]
        for source in read_want(want, config.folder):
            for groups in targets:
                for name, group in groups.items():
                    key = Key(want=want.name, file=source.file or "", target=name)
                    jobs.append(_WantJob(key=key, want=want, source=source, environments=group))
    return jobs


def by_name(found: Sequence[Environment]) -> dict[str, tuple[Environment, ...]]:
    """Group the environments of a target by Python and platform."""
    groups: dict[str, list[Environment]] = {}
    for one in found:
        groups.setdefault(one.name, []).append(one)
    return {name: tuple(group) for name, group in groups.items()}


def _names_in(source: WantSource) -> list[str]:
    match source:
        case Resolution(lines=lines):
            return [line.project for line in lines]
        case LockedSet(packages=packages):
            return [package.project for package in packages]
        case UnresolvedFile():
            return []


def _wanted(file: ChosenFile) -> WantedFile:
    return WantedFile(index=file.index, project=file.project, filename=file.filename)


def _sentence(key: Key, result: Result) -> str:
    words = "; ".join(
        f"{gap.requirement or gap.project}: {gap.detail}".removeprefix(": ") for gap in result.gaps
    )
    has_name = not key.file or words.startswith(key.file)  # with the line, where it has one
    return words if has_name else f"{key.file}: {words}"


def _tell(job: _WantJob, result: Result) -> None:
    facts = {"want": job.key.want, "file": job.key.file or None, "target": job.key.target}
    if result.is_resolved:
        _log.info("want.resolved", **facts, files=len(result.files), projects=len(result.names))
    else:
        gaps = [f"{gap.requirement or gap.project}: {gap.reason.value}" for gap in result.gaps]
        _log.warning("want.unresolved", **facts, gaps=gaps)
    for item in result.instead:
        _log.warning("want.instead", **facts, **item.as_json())
