"""Decisions of ``mirror lock rewrite`` for each file of a lock, and words about them; pure.

Held files are kept. Files that are not held are left out, and rebuilt ones that no environment
needs. A rebuilt file that is needed takes the digests of the held one, where that is accepted;
else it is a problem, as is a package without a usable file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mirror.selection.locks.check import (
    CheckedFile,
    LockState,
    fits_nowhere,
    fitting,
    needing_environments,
    published,
    state_of,
)
from mirror.selection.locks.held import HeldFiles
from mirror.selection.targets import Environment
from mirror.selection.wants import LockedFile, LockedPackage, LockedSet, choose
from mirror.state.entries.served_files import ServedFile

FileKey = tuple[str, str | None, str]
"""Project, version and file name."""

VersionKey = tuple[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file that stays in the lock, and the held file that it means.

    ``is_rebuilt``: the lock takes digests, size and upload time of the held one.
    """

    held: ServedFile
    is_rebuilt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDigests:
    """The digests of the lock that stay for a version, and those that are added."""

    kept: frozenset[str]
    added: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True)
class LockRewrite:
    """The decisions for one lock."""

    files: dict[FileKey, KeptFile] = field(default_factory=dict)
    digests: dict[int, KeptDigests] = field(default_factory=dict)
    """By the place of the package in the lock."""
    unneeded: set[VersionKey] = field(default_factory=set)
    """Packages of which nothing stays, because no environment needs them."""
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def decide_rewrite(
    lock: LockedSet, held: HeldFiles, environments: Sequence[Environment], *, accepts_rebuilt: bool
) -> LockRewrite:
    """Return what to write into a lock. Blocks where digests other than sha256 are listed."""
    rewrite = LockRewrite()
    for place, (package, needing) in enumerate(needing_environments(lock, environments)):
        is_needed = bool(needing) or not environments
        if not package.names_only_digests:
            _decide_files(rewrite, package, held, needing, accepts_rebuilt, is_needed=is_needed)
        elif is_needed:
            decided = _decide_version(rewrite, package, held, needing, accepts_rebuilt)
            rewrite.digests[place] = decided
    rewrite.notes += [
        f"{package.project} {package.version or ''}".rstrip() + f": left as it is: {package.detail}"
        for package in lock.foreign
    ]
    return rewrite


def _decide_files(
    rewrite: LockRewrite,
    package: LockedPackage,
    held: HeldFiles,
    environments: Sequence[Environment],
    accepts_rebuilt: bool,  # noqa: FBT001 - passed on as it came
    *,
    is_needed: bool,
) -> None:
    states = {file.filename: state_of(package, file, held) for file in package.files}
    here = [f for f in package.files if states[f.filename].state is not LockState.MISSING]
    needed = _needed_files(rewrite, package, here, environments) if is_needed else set()
    for file in package.files:
        checked = states[file.filename]
        key = (package.project, package.version, file.filename)
        match checked.state:
            case LockState.HELD:
                named = held.named(package.project, file.filename)
                same = next(one for one in named if held.matches(one, file.digests))
                rewrite.files[key] = KeptFile(held=same)
            case LockState.MISSING:
                rewrite.notes.append(f"{file.filename}: left out: the mirror does not hold it")
            case LockState.REBUILT if file.filename not in needed:
                rewrite.notes.append(f"{file.filename}: left out: rebuilt, and needed by no target")
            case LockState.REBUILT if accepts_rebuilt:
                rewrite.files[key] = KeptFile(held=checked.here[0], is_rebuilt=True)
            case LockState.REBUILT:
                rewrite.problems.append(_rebuilt(file.filename, checked))
    stays = any(key[:2] == (package.project, package.version) for key in rewrite.files)
    if not is_needed and not stays:
        rewrite.unneeded.add((package.project, package.version))


def _needed_files(
    rewrite: LockRewrite,
    package: LockedPackage,
    here: Sequence[LockedFile],
    environments: Sequence[Environment],
) -> set[str]:
    """Return the needed ones of the files that are here; record environments without one."""
    name = f"{package.project} {package.version or ''}".rstrip()
    if not environments:
        if package.files and not here:
            rewrite.problems.append(
                f"{name}: the mirror holds none of its files ({len(package.files)})"
            )
        return {file.filename for file in here}
    needed: set[str] = set()
    for environment in environments:
        file = choose(here, environment)
        if file is None:
            listed = ", ".join(f.filename for f in package.files[:3]) or "no file"
            more = ", …" if len(package.files) > 3 else ""
            problem = f"the mirror holds nothing that fits {environment.name} of {listed}{more}"
            rewrite.problems.append(f"{name}: {problem}")
        else:
            needed.add(file.filename)
    return needed


def _decide_version(
    rewrite: LockRewrite,
    package: LockedPackage,
    held: HeldFiles,
    environments: Sequence[Environment],
    accepts_rebuilt: bool,  # noqa: FBT001 - passed on as it came
) -> KeptDigests:
    """Decide on the digests of a version whose lock names no files."""
    name = f"{package.project} {package.version}"
    of_version = held.of_version(package.project, f"=={package.version}")
    is_other_platform = fits_nowhere(package, of_version, held, environments)
    kept: dict[str, None] = {}
    added: dict[str, None] = {}
    for environment in environments or (None,):
        fits = fitting(of_version, environment)
        same = [file for file in fits if held.matches(file, package.digests)]
        where = f" for {environment.name}" if environment is not None else ""
        if same:
            kept.update(dict.fromkeys(_digests_of(package, same, held)))
        elif not fits or is_other_platform:
            rewrite.problems.append(f"{name}: the mirror holds none of its files{where}")
        elif accepts_rebuilt:
            added.update({f"sha256:{file.sha256}": None for file in published(fits)})
        else:
            checked = CheckedFile(
                project=package.project,
                version=package.version,
                filename=None,
                state=LockState.REBUILT,
                here=published(fits),
            )
            rewrite.problems.append(_rebuilt(f"{name}{where}", checked))
    dropped = [digest for digest in package.digests if digest not in kept]
    if dropped:
        count = "1 digest" if len(dropped) == 1 else f"{len(dropped)} digests"
        rewrite.notes.append(f"{name}: {count} left out: of files that the mirror does not hold")
    new = tuple(digest for digest in added if digest not in kept)
    return KeptDigests(kept=frozenset(kept), added=new)


def _digests_of(package: LockedPackage, files: Sequence[ServedFile], held: HeldFiles) -> list[str]:
    """Return the digests of the lock that are those of held files."""
    found = []
    for digest in package.digests:
        algorithm, _, digits = digest.partition(":")
        if any(held.digest(file, algorithm) == digits for file in files):
            found.append(digest)
    return found


def _rebuilt(name: str, checked: CheckedFile) -> str:
    index = f"{checked.index} has" if checked.index else "the mirror has"
    digests = ", ".join(f"sha256:{digest}" for digest in checked.sha256[:3])
    more = ", …" if len(checked.sha256) > 3 else ""
    advice = "--accept-rebuilt takes its digests"
    return f"{name}: rebuilt: {index} other bytes ({digests}{more}); {advice}"
