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

from mirror.config import WantConfig
from mirror.core.names import ProjectName
from mirror.core.offers import Offer, ProjectOffers
from mirror.selection.gaps import Gap, GapReason, Instead
from mirror.selection.proof.judge import Damaged, check_bytes, judge
from mirror.selection.proof.published import Published, sha256_of
from mirror.selection.resolving.locked import digests_of
from mirror.selection.resolving.program import NO_UV
from mirror.selection.resolving.results import ChosenFile, Result
from mirror.selection.resolving.runs import LazyResolver, policy_of
from mirror.selection.targets import Environment
from mirror.selection.view.tables import read_distribution
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

    @property
    def unique_files(self) -> list[ChosenFile]:
        """Its files, each once, also where a build takes one that the want needs too."""
        return list({(file.project, file.filename): file for file in self.files}.values())

    def as_json(self) -> dict[str, Any]:
        """Return the object of ``mirror check``."""
        return {
            "want": self.want,
            "file": self.file,
            "target": self.target,
            "installable": self.is_installable,
            "files": len(self.unique_files),
            "bytes": sum(file.size or 0 for file in self.unique_files),
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
        self,
        source: WantSource,
        environments: Sequence[Environment],
        known: Known,
        want: WantConfig | None,
    ) -> Proof:
        """Return the proof for all releases of one Python on one platform."""
        base = Proof(want=source.want, file=source.file, target=environments[0].name)
        match source:
            case UnresolvedFile(problem=problem):
                return msgspec.structs.replace(base, gaps=(_unresolved(problem),))
            case LockedSet():
                return await self._prove_lock(base, source, environments, known, want)
            case Resolution() if self._resolver is None:
                return msgspec.structs.replace(base, gaps=(_unresolved(NO_UV),))
            case Resolution():
                assert self._resolver is not None
                return await self._prove_resolution(base, source, environments, known, want)

    async def _prove_resolution(
        self,
        base: Proof,
        source: Resolution,
        environments: Sequence[Environment],
        known: Known,
        want: WantConfig | None,
    ) -> Proof:
        assert self._resolver is not None
        resolver = await self._resolver.get()
        files: set[ChosenFile] = set()
        gaps: dict[Gap, None] = {}
        for result in await resolver.resolve_groups(
            source, environments, policy_of(want, sdists="where-no-wheel")
        ):
            files.update(result.files)
            gaps |= dict.fromkeys(_with_reason(gap, known) for gap in result.gaps)
            environment = next(one for one in environments if one.release in result.releases)
            if result.is_resolved:
                found = await anyio.to_thread.run_sync(
                    self._judge, result.files, source, environment
                )
                gaps |= dict.fromkeys(_with_reason(gap, known) for gap in found)
        found = list(gaps)
        if found and known.result is not None and not known.result.is_resolved:
            # nothing of it could be mirrored: only the last cycle knows why
            found = [*known.result.gaps, *(g for g in found if g.reason is GapReason.DAMAGED)]
        return msgspec.structs.replace(
            base,
            files=tuple(sorted(files)),
            gaps=tuple(found),
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
        self,
        base: Proof,
        lock: LockedSet,
        environments: Sequence[Environment],
        known: Known,
        want: WantConfig | None,
    ) -> Proof:
        files: set[ChosenFile] = set()
        gaps: dict[Gap, None] = {}
        rebuilt: dict[str, None] = {}
        may_follow = want is not None and want.on_rebuilt == "follow"
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
                found = _locked_file(package, listing, environment, may_follow=may_follow)
                if isinstance(found, Gap):
                    gaps[_with_reason(found, known)] = None
                    continue
                files.add(found[0])
                if found[1]:
                    rebuilt[found[0].filename] = None
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
        return msgspec.structs.replace(
            base, files=tuple(sorted(files)), gaps=tuple(gaps), rebuilt=tuple(rebuilt)
        )


def _locked_file(
    package: LockedPackage, listing: ProjectOffers, environment: Environment, *, may_follow: bool
) -> tuple[ChosenFile, bool] | Gap:
    """Return the published file that an installer takes for a package of a lock, and whether it was
    rebuilt; or its gap.
    """
    text = f"{package.project}=={package.version}" if package.version else package.project

    def gap(reason: GapReason, detail: str) -> Gap:
        return Gap(project=package.project, requirement=text, reason=reason, detail=detail)

    chosen = package.choice(environment)
    if chosen is None and package.files:
        return gap(GapReason.NO_WHEEL, f"the lock names no file of it for {environment.name}")
    wanted = frozenset(chosen.digests if chosen is not None else package.digests)
    rows = _rows_of(package, chosen, listing, environment)
    for offer in rows:
        if digests_of(offer) & wanted or (chosen is not None and not wanted):
            return _file_of(package, offer), False
    if rows and may_follow:
        return _file_of(package, rows[0]), True
    name = _name_of(chosen, text)
    if rows:
        here = sha256_of(rows[0].file)
        detail = f"{name} is published with other bytes than the lock names: sha256 {here}"
        return gap(GapReason.REBUILT, detail)
    return gap(GapReason.NOT_OFFERED, f"{name} is not published")


def _rows_of(
    package: LockedPackage,
    chosen: LockedFile | None,
    listing: ProjectOffers,
    environment: Environment,
) -> list[Offer]:
    """Return the published files that a package of a lock may mean: by name, else by version."""
    if chosen is not None:
        return [offer for offer in listing.offers if offer.file.filename == chosen.filename]
    found = []
    for offer in listing.offers:
        read = read_distribution(offer.file.filename)
        if read is None or str(read.version) != (package.version or "").removeprefix("=="):
            continue
        if not read.is_wheel or environment.rank(read.tags) is not None:
            found.append(offer)
    return found


def _file_of(package: LockedPackage, offer: Offer) -> ChosenFile:
    return ChosenFile(
        index=offer.index,
        project=package.project,
        version=package.version or "",
        filename=offer.file.filename,
        size=offer.file.size,
        digests=offer.file.digests,
    )


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
