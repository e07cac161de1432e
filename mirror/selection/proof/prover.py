"""``mirror check``: the proof that wants install from the published pages, without asking an index.

uv resolves against a view of the published pages; ``packaging`` judges its answer on the bytes of
the held files. A lock is proved without uv. The reasons that only an index could give come from the
state of the last cycle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio.to_thread
import msgspec

from mirror.core.names import ProjectName
from mirror.core.offers import ProjectOffers
from mirror.selection.gaps import Gap, GapReason, Instead
from mirror.selection.proof.judge import Damaged, check_bytes, judge
from mirror.selection.proof.published import Published, sha256_of
from mirror.selection.resolving.results import ChosenFile, Result
from mirror.selection.resolving.runs import LazyResolver
from mirror.selection.targets import Environment
from mirror.selection.wants import (
    LockedFile,
    LockedPackage,
    LockedSet,
    Resolution,
    UnresolvedFile,
    WantSource,
)

_ONLY_AN_INDEX_KNOWS = frozenset(
    {GapReason.NOT_OFFERED, GapReason.NO_VERSION, GapReason.NO_WHEEL, GapReason.CONFLICT}
)


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one want installs in one target."""

    want: str | None
    file: str | None
    target: str
    files: tuple[ChosenFile, ...] = ()
    rebuilt: tuple[str, ...] = ()
    instead: tuple[Instead, ...] = ()
    gaps: tuple[Gap, ...] = ()

    @property
    def is_installable(self) -> bool:
        """Whether it installs."""
        return not self.gaps

    def as_json(self) -> dict[str, Any]:
        """Return the object of ``mirror check``."""
        return {
            "want": self.want,
            "file": self.file,
            "target": self.target,
            "installable": self.is_installable,
            "files": len(self.files),
            "bytes": sum(file.size or 0 for file in self.files),
            "rebuilt": list(self.rebuilt),
            "instead": [item.as_json() for item in self.instead],
            "gaps": [gap.as_json() for gap in self.gaps],
        }


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of the state beyond the pages."""

    result: Result | None = None
    """Of the last cycle for the same want and target."""
    failures: Mapping[str, Gap] = {}
    """Wanted files that are not held, by project, each as a gap."""
    listed: Mapping[str, str] = {}
    """The index that lists a project, by project."""


class Prover:
    """Proves wants from one set of published pages."""

    def __init__(
        self, published: Published, resolver: LazyResolver | None, *, metadata_limit_bytes: int
    ) -> None:
        """``resolver``: None where uv is not there; locks need none."""
        self._published, self._resolver = published, resolver
        self._metadata_limit_bytes = metadata_limit_bytes

    async def prove(
        self, source: WantSource, environments: Sequence[Environment], known: Known, no_uv: str
    ) -> Proof:
        """Return the proof for all releases of one Python on one platform."""
        base = Proof(want=source.want, file=source.file, target=environments[0].name)
        match source:
            case UnresolvedFile(problem=problem):
                return msgspec.structs.replace(base, gaps=(_unresolved(problem),))
            case LockedSet():
                return await self._prove_lock(base, source, environments, known)
            case Resolution() if self._resolver is None:
                return msgspec.structs.replace(base, gaps=(_unresolved(no_uv),))
            case Resolution():
                assert self._resolver is not None
                return await self._prove_resolution(base, source, environments, known)

    async def _prove_resolution(
        self, base: Proof, source: Resolution, environments: Sequence[Environment], known: Known
    ) -> Proof:
        assert self._resolver is not None
        resolver = await self._resolver.get()
        files: set[ChosenFile] = set()
        gaps: dict[Gap, None] = {}
        for result in await resolver.resolve_groups(source, environments, "where-no-wheel"):
            files.update(result.files)
            gaps |= dict.fromkeys(_with_reason(gap, known) for gap in result.gaps)
            environment = next(one for one in environments if one.release in result.releases)
            if result.is_resolved:
                found = await anyio.to_thread.run_sync(
                    self._judge, result.files, source, environment
                )
                gaps |= dict.fromkeys(_with_reason(gap, known) for gap in found)
        return msgspec.structs.replace(
            base,
            files=tuple(sorted(files)),
            gaps=tuple(gaps),
            instead=known.result.instead if known.result is not None else (),
        )

    def _judge(
        self, files: Sequence[ChosenFile], source: Resolution, environment: Environment
    ) -> list[Gap]:
        layout = self._published.layout
        return judge(
            files,
            source.lines,
            environment,
            layout,
            metadata_limit_bytes=self._metadata_limit_bytes,
        )

    async def _prove_lock(
        self, base: Proof, lock: LockedSet, environments: Sequence[Environment], known: Known
    ) -> Proof:
        files: set[ChosenFile] = set()
        gaps: dict[Gap, None] = {}
        for environment in environments:
            for foreign in lock.foreign_for(environment):
                text = (
                    f"{foreign.project}=={foreign.version}" if foreign.version else foreign.project
                )
                detail = f"the lock takes it from {foreign.detail}"
                gaps[
                    Gap(
                        project=foreign.project,
                        requirement=text,
                        reason=GapReason.NOT_OFFERED,
                        detail=detail,
                    )
                ] = None
            for package in lock.packages_for(environment):
                listing = await self._published.look(ProjectName(package.project))
                found = _locked_file(package, listing, environment)
                if isinstance(found, Gap):
                    gaps[_with_reason(found, known)] = None
                else:
                    files.add(found)
        for file in sorted(files):
            try:
                await anyio.to_thread.run_sync(check_bytes, file, self._published.layout)
            except Damaged as exc:
                text = f"{file.project}=={file.version}"
                gap = Gap(
                    project=file.project,
                    requirement=text,
                    reason=GapReason.DAMAGED,
                    detail=str(exc),
                )
                gaps[gap] = None
        return msgspec.structs.replace(base, files=tuple(sorted(files)), gaps=tuple(gaps))


def _locked_file(
    package: LockedPackage, listing: ProjectOffers, environment: Environment
) -> ChosenFile | Gap:
    """Return the published file that an installer takes for a package of a lock, or its gap."""
    text = f"{package.project}=={package.version}" if package.version else package.project

    def gap(reason: GapReason, detail: str) -> Gap:
        return Gap(project=package.project, requirement=text, reason=reason, detail=detail)

    chosen = package.choice(environment)
    if chosen is None and package.files:
        return gap(GapReason.NO_WHEEL, f"the lock names no file of it for {environment.name}")
    wanted = frozenset(chosen.digests if chosen is not None else package.digests)
    rows = [
        offer
        for offer in listing.offers
        if chosen is None or offer.file.filename == chosen.filename
    ]
    for offer in rows:
        digests = {f"{algorithm}:{digits}" for algorithm, digits in offer.file.digests}
        if digests & wanted or (chosen is not None and not wanted):
            file = offer.file
            return ChosenFile(
                index=offer.index,
                project=package.project,
                version=package.version or "",
                filename=file.filename,
                size=file.size,
                digests=file.digests,
            )
    name = _name_of(chosen, text)
    if rows and chosen is not None:
        here = sha256_of(rows[0].file)
        return gap(
            GapReason.REBUILT,
            f"{name} is published with other bytes than the lock names: sha256 {here}",
        )
    return gap(GapReason.NOT_OFFERED, f"{name} is not published")


def _name_of(chosen: LockedFile | None, text: str) -> str:
    return text if chosen is None else chosen.filename


def _unresolved(problem: str) -> Gap:
    return Gap(project="", requirement="", reason=GapReason.UNRESOLVED, detail=problem)


def _with_reason(gap: Gap, known: Known) -> Gap:
    """Return a gap with the reason that the last cycle knows for it."""
    if gap.reason not in _ONLY_AN_INDEX_KNOWS:
        return gap
    if known.result is not None:
        same = next((one for one in known.result.gaps if one.project == gap.project), None)
        if same is not None:
            return msgspec.structs.replace(gap, reason=same.reason, detail=same.detail)
    failure = known.failures.get(gap.project)
    if failure is not None:
        return msgspec.structs.replace(gap, reason=failure.reason, detail=failure.detail)
    index = known.listed.get(gap.project)
    if gap.reason is GapReason.NOT_OFFERED and index is not None:
        return msgspec.structs.replace(gap, detail=f"{index} lists it: add a want")
    return gap
