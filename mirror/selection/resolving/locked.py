"""The files of a lock, by name and digest: without a resolver.

A digest never overrides ownership: the owner's file is taken. Other bytes than the lock names are
followed or refused, as the want says.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from packaging.version import InvalidVersion, Version

from mirror.config import WantConfig
from mirror.core.names import ProjectName
from mirror.core.offers import Offer, ProjectOffers
from mirror.selection.gaps import Gap, GapReason, gap_of_hidden
from mirror.selection.resolving.results import ChosenFile, Result, failed, union
from mirror.selection.targets import Environment
from mirror.selection.view.answers import Offers
from mirror.selection.view.tables import build_table, read_distribution
from mirror.selection.wants import LockedFile, LockedPackage, LockedSet


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for one file of a lock."""

    file: ChosenFile | None = None
    sought: ChosenFile | None = None
    gap: Gap | None = None
    rebuilt: str = ""


async def resolve_lock(
    lock: LockedSet, environments: Sequence[Environment], want: WantConfig, offers: Offers
) -> Result:
    """Return the files of a lock for all releases of one Python. Raises ``MirrorError``."""
    results = []
    seen: set[tuple[LockedPackage, ...]] = set()
    for environment in reversed(environments):
        packages = lock.packages_for(environment)
        if packages in seen:
            continue
        seen.add(packages)
        found = [one for p in packages for one in await _files_of(p, environment, want, offers)]
        gaps = [one.gap for one in found if one.gap is not None]
        for foreign in lock.foreign_for(environment):
            text = f"{foreign.project}=={foreign.version}" if foreign.version else foreign.project
            detail = f"the lock takes it from {foreign.detail}"
            gap = Gap(
                project=foreign.project,
                requirement=text,
                reason=GapReason.NOT_OFFERED,
                detail=detail,
            )
            gaps.append(gap)
        results.append(
            msgspec.structs.replace(
                failed(tuple(dict.fromkeys(gaps)), releases=(environment.release,)),
                is_resolved=True,
                names=tuple(sorted({package.project for package in packages})),
                files=tuple(sorted({one.file for one in found if one.file is not None})),
                sought=tuple(sorted({one.sought for one in found if one.sought is not None})),
                rebuilt=tuple(dict.fromkeys(one.rebuilt for one in found if one.rebuilt)),
                warnings=(*lock.warnings, *lock.skipped),
            )
        )
    return union(results)


async def _files_of(
    package: LockedPackage, environment: Environment, want: WantConfig, offers: Offers
) -> list[_Found]:
    listing = await offers.list_offers(ProjectName(package.project))
    if want.lock_platforms == "all" and package.files:
        return [_named(package, file, listing, want) for file in package.files]
    if package.files:
        chosen = package.choice(environment)
        if chosen is None:
            detail = f"the lock names no file of it for {environment.name}"
            return [_Found(gap=_gap(package, GapReason.NO_WHEEL, detail))]
        return [_named(package, chosen, listing, want)]
    return [_by_digest(package, listing, environment, want)]


def _named(
    package: LockedPackage, file: LockedFile, listing: ProjectOffers, want: WantConfig
) -> _Found:
    """Return the owner's file of the name that a lock has."""
    offer = next((one for one in listing.offers if one.file.filename == file.filename), None)
    if offer is None:
        return _Found(gap=_missing(package, file.filename, listing))
    return _judged(package, offer, frozenset(file.digests), want)


def _by_digest(
    package: LockedPackage, listing: ProjectOffers, environment: Environment, want: WantConfig
) -> _Found:
    """Return the best file of a version, of those that have a digest of the lock if there is
    one.
    """
    version = _version_of(package)
    if version is None:
        return _Found(gap=_gap(package, GapReason.NO_VERSION, "the lock names no version of it"))
    same = [offer for offer in listing.offers if digests_of(offer) & set(package.digests)]
    for offers in (same, list(listing.offers)):
        narrowed = msgspec.structs.replace(listing, offers=tuple(offers))
        table = build_table(narrowed, environment, "where-no-wheel")
        if version in table.shown:
            return _judged(package, table.shown[version].offer, frozenset(package.digests), want)
        if version in table.passed and not same:
            passed = table.passed[version]
            return _Found(gap=_gap(package, passed.reason, passed.detail))
    return _Found(gap=_missing(package, f"{package.project} {version}", listing))


def _judged(
    package: LockedPackage, offer: Offer, digests: frozenset[str], want: WantConfig
) -> _Found:
    chosen = ChosenFile(
        index=offer.index,
        project=package.project,
        version=package.version or str(_version_in(offer)),
        filename=offer.file.filename,
        size=offer.file.size,
        digests=offer.file.digests,
    )
    if offer.hidden is not None:
        return _Found(sought=chosen, gap=_gap(package, *gap_of_hidden(offer.hidden)))
    if not has_other_bytes(offer, digests):
        return _Found(file=chosen)
    if want.on_rebuilt == "refuse":
        detail = f"{offer.index} has other bytes of {offer.file.filename} than the lock names"
        return _Found(gap=_gap(package, GapReason.REBUILT, detail))
    return _Found(file=chosen, rebuilt=offer.file.filename)


def digests_of(offer: Offer) -> set[str]:
    """Return the digests of a file in the form of a lock."""
    found = {f"{algorithm}:{digits}" for algorithm, digits in offer.file.digests}
    return found | ({f"sha256:{offer.held}"} if offer.held is not None else set())


def has_other_bytes(offer: Offer, digests: frozenset[str]) -> bool:
    """Return whether a file surely has none of some digests: of an algorithm that both name."""
    known = digests_of(offer)
    algorithms = {digest.partition(":")[0] for digest in known}
    comparable = {digest for digest in digests if digest.partition(":")[0] in algorithms}
    return bool(comparable) and not comparable & known


def _missing(package: LockedPackage, name: str, listing: ProjectOffers) -> Gap:
    if not listing.is_listed:
        reason = GapReason.LEFT_OUT if listing.rule else GapReason.NOT_OFFERED
        return _gap(package, reason, listing.rule or "no index that may own it lists it")
    if name in listing.left_out:
        return _gap(package, GapReason.LEFT_OUT, f"{name} is left out by {listing.left_out[name]}")
    others = f"; {' and '.join(listing.later)} may not own it" if listing.later else ""
    return _gap(package, GapReason.NOT_OFFERED, f"{listing.owner} does not list {name}{others}")


def _gap(package: LockedPackage, reason: GapReason, detail: str) -> Gap:
    text = f"{package.project}=={package.version}" if package.version else package.project
    return Gap(project=package.project, requirement=text, reason=reason, detail=detail)


def _version_of(package: LockedPackage) -> Version | None:
    try:
        return Version((package.version or "").removeprefix("=="))
    except InvalidVersion:
        return None


def _version_in(offer: Offer) -> Version | str:
    read = read_distribution(offer.file.filename)
    return read.version if read is not None else ""
