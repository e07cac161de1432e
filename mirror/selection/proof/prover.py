"""``mirror check``: the proof that wants install from the published pages, without asking an index.

uv resolves against a view of the published pages; ``packaging`` judges its answer on the bytes of
the held files. A lock is proved without uv.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio.to_thread
import msgspec

from mirror.config import WantConfig
from mirror.core.names import ProjectName
from mirror.core.offers import Offer, ProjectOffers
from mirror.selection.gaps import Gap, GapReason
from mirror.selection.proof.answers import ProofAnswer, ProvedPart
from mirror.selection.proof.judge import Damaged, check_bytes, judge
from mirror.selection.proof.published import Published, sha256_of
from mirror.selection.resolving.lazy import LazyResolver, Void, policy_of
from mirror.selection.resolving.locked import digests_of
from mirror.selection.resolving.program import NO_UV
from mirror.selection.resolving.results import ChosenFile
from mirror.selection.targets import Environment
from mirror.selection.view.tables import Sdists, read_distribution
from mirror.selection.wants import (
    LockedFile,
    LockedPackage,
    LockedSet,
    Resolution,
    UnresolvedFile,
    WantSource,
)

SDISTS: Sdists = "where-no-wheel"
"""The source distributions that a client takes, regardless of the wants' settings."""


class Prover:
    """Proves wants from one set of published pages."""

    def __init__(
        self, published: Published, resolver: LazyResolver | None, *, metadata_limit_bytes: int
    ) -> None:
        """``resolver``: None where uv is not there; locks need none."""
        self._published, self._resolver = published, resolver
        self._metadata_limit_bytes = metadata_limit_bytes

    async def answer(
        self, source: WantSource, environments: Sequence[Environment], want: WantConfig | None
    ) -> ProofAnswer:
        """Return the answer for all releases of one Python. Raises ``TreeError``."""
        match source:
            case UnresolvedFile(problem=problem):
                return _unresolved(problem)
            case LockedSet():
                return await self._answer_lock(source, environments, want)
            case Resolution() if self._resolver is None:
                return _unresolved(NO_UV)
            case Resolution():
                assert self._resolver is not None
                resolver = await self._resolver.get()
                policy = policy_of(want, sdists=SDISTS)
                try:
                    found = await resolver.resolve_groups(source, environments, policy)
                except Void as exc:  # a published page that can't be read
                    raise exc.cause from exc
                parts = [
                    ProvedPart(
                        release=result.releases[0],
                        is_resolved=result.is_resolved,
                        files=result.files,
                        gaps=result.gaps,
                    )
                    for result in found
                ]
                names = tuple(sorted({name for result in found for name in result.names}))
                rebuilt = tuple(dict.fromkeys(name for one in found for name in one.rebuilt))
                unknown = dict.fromkeys(words for one in found for words in one.unknown_extras)
                answer = ProofAnswer(
                    parts=tuple(parts), names=names, rebuilt=rebuilt, unknown_extras=tuple(unknown)
                )
                return await self.judged(answer, source, environments)

    async def judged(
        self, answer: ProofAnswer, source: WantSource, environments: Sequence[Environment]
    ) -> ProofAnswer:
        """Return the answer with the judgement on the bytes of its files as they are now."""

        def judge_all() -> ProofAnswer:
            parts = [self._judge(part, source, environments) for part in answer.parts]
            return msgspec.structs.replace(answer, parts=tuple(parts))

        return await anyio.to_thread.run_sync(judge_all)

    def _judge(
        self, part: ProvedPart, source: WantSource, environments: Sequence[Environment]
    ) -> ProvedPart:
        held = self._published.held
        if not isinstance(source, Resolution):
            found = []
            for file in part.files:
                try:
                    check_bytes(file, held)
                except Damaged as exc:
                    text = f"{file.project}=={file.version}"
                    gap = Gap(
                        project=file.project,
                        requirement=text,
                        reason=GapReason.DAMAGED,
                        detail=str(exc),
                    )
                    found.append(gap)
            return msgspec.structs.replace(part, judged=tuple(found))
        if not part.is_resolved:
            return part
        environment = next(one for one in environments if one.release == part.release)
        gaps = judge(
            part.files,
            source.lines,
            environment,
            held,
            metadata_limit_bytes=self._metadata_limit_bytes,
        )
        return msgspec.structs.replace(part, judged=tuple(gaps))

    async def _answer_lock(
        self, lock: LockedSet, environments: Sequence[Environment], want: WantConfig | None
    ) -> ProofAnswer:
        files: set[ChosenFile] = set()
        gaps: dict[Gap, None] = {}
        rebuilt: dict[str, None] = {}
        names: set[str] = set()
        may_follow = want is not None and want.on_rebuilt == "follow"
        for environment in environments:
            for foreign in lock.foreign_for(environment):
                gap = Gap(
                    project=foreign.project,
                    requirement=f"{foreign.project}=={foreign.version}"
                    if foreign.version
                    else foreign.project,
                    reason=GapReason.NOT_OFFERED,
                    detail=f"the lock takes it from {foreign.detail}",
                )
                gaps[gap] = None
            for package in lock.packages_for(environment):
                names.add(package.project)
                listing = await self._published.list_offers(ProjectName(package.project))
                found = _locked_file(package, listing, environment, may_follow=may_follow)
                if isinstance(found, Gap):
                    gaps[found] = None
                    continue
                files.add(found[0])
                if found[1]:
                    rebuilt[found[0].filename] = None
        part = ProvedPart(files=tuple(sorted(files)), gaps=tuple(gaps))
        answer = ProofAnswer(parts=(part,), names=tuple(sorted(names)), rebuilt=tuple(rebuilt))
        return await self.judged(answer, lock, environments)


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


def _unresolved(problem: str) -> ProofAnswer:
    gap = Gap(project="", requirement="", reason=GapReason.UNRESOLVED, detail=problem)
    return ProofAnswer(parts=(ProvedPart(is_resolved=False, gaps=(gap,)),))
