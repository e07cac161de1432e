"""``mirror lock check``: the held files among those that a lock's installer may choose.

For each environment the best file of each package counts, each once; without environments every
file of the lock. Reads blobs only for digests other than sha256.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from mirror.selection.locks.held import HeldFiles
from mirror.selection.targets import Environment
from mirror.selection.wants import LockedFile, LockedPackage, LockedSet, choose
from mirror.state.entries.served_files import ServedFile


class LockState(Enum):
    """The state of a lock's file in the mirror.

    ``REBUILT``: only other bytes of this name are here.
    """

    HELD = "held"
    MISSING = "missing"
    REBUILT = "rebuilt"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """One file of a lock, or one version in a lock that names no files."""

    project: str
    version: str | None
    filename: str | None
    state: LockState
    here: tuple[ServedFile, ...] = ()
    """With ``REBUILT``: the files that are here instead."""

    @property
    def index(self) -> str | None:
        """The index that owns the files that are here instead."""
        return next((file.index for file in self.here), None)

    @property
    def sha256(self) -> tuple[str, ...]:
        """The digests of the files that are here instead, each once."""
        return tuple(dict.fromkeys(file.sha256 for file in self.here))


def check_lock(
    lock: LockedSet, held: HeldFiles, environments: Sequence[Environment]
) -> tuple[CheckedFile, ...]:
    """Return the state of each file that counts, in the lock's order. Blocks."""
    found: list[CheckedFile] = []
    for package, needing in needing_environments(lock, environments):
        if environments and not needing:
            continue
        if package.names_only_digests:
            found.append(_check_version(package, held, needing))
        else:
            found += _check_files(package, held, needing)
    return tuple(found)


def needing_environments(
    lock: LockedSet, environments: Sequence[Environment]
) -> Iterator[tuple[LockedPackage, tuple[Environment, ...]]]:
    """Yield each package with the environments that need it: one of those that choose alike."""
    needing: dict[int, dict[object, Environment]] = {}
    for environment in environments:
        key = (environment.target, environment.platform, environment.tags)
        for package in lock.packages_for(environment):
            needing.setdefault(id(package), {}).setdefault(key, environment)
    for package in lock.packages:
        yield package, tuple(needing.get(id(package), {}).values())


def state_of(package: LockedPackage, file: LockedFile, held: HeldFiles) -> CheckedFile:
    """Return the state of one named file. Blocks."""
    here = held.named(package.project, file.filename)
    state = LockState.REBUILT if here else LockState.MISSING
    if any(held.matches(one, file.digests) for one in here):
        state = LockState.HELD
    return CheckedFile(
        project=package.project,
        version=package.version,
        filename=file.filename,
        state=state,
        here=published(here) if state is LockState.REBUILT else (),
    )


def published(files: Iterable[ServedFile]) -> tuple[ServedFile, ...]:
    """Return the files that pages list now; where they list none, all."""
    known = tuple(files)
    return tuple(file for file in known if file.is_published) or known


def fits_nowhere(
    package: LockedPackage,
    of_version: Sequence[ServedFile],
    held: HeldFiles,
    environments: Sequence[Environment],
) -> bool:
    """Return whether files with digests of the lock are held, and none fits any environment."""
    same = [file for file in of_version if held.matches(file, package.digests)]
    return bool(same) and not any(
        fitting(same, environment) for environment in environments or (None,)
    )


def fitting(files: Iterable[ServedFile], environment: Environment | None) -> list[ServedFile]:
    """Return the held files that an installer may choose: wheels first, the best first."""
    if environment is None:
        return list(files)
    placed = []
    for file in files:
        if environment.admits(file.requires_python):
            named = LockedFile(filename=file.filename)
            place = named.place(environment) if named.is_wheel else (1 << 30, (0, ""))
            if place is not None:
                placed.append((place, file))
    return [file for _place, file in sorted(placed, key=lambda pair: pair[0])]


def _check_files(
    package: LockedPackage, held: HeldFiles, environments: Sequence[Environment]
) -> list[CheckedFile]:
    chosen: dict[str, LockedFile] = {}
    lacks_file = False
    for environment in environments:
        file = choose(package.files, environment)
        lacks_file = lacks_file or file is None
        if file is not None:
            chosen[file.filename] = file
    if not environments:
        chosen = {file.filename: file for file in package.files}
    found = [state_of(package, file, held) for file in package.files if file.filename in chosen]
    unique = list({item.filename: item for item in found}.values())
    if lacks_file or not package.files:
        unique.append(
            CheckedFile(
                project=package.project,
                version=package.version,
                filename=None,
                state=LockState.MISSING,
            )
        )
    return unique


def _check_version(
    package: LockedPackage, held: HeldFiles, environments: Sequence[Environment]
) -> CheckedFile:
    """Return the state of a version whose lock names only digests, over all environments."""
    of_version = held.of_version(package.project, f"=={package.version}")
    filename: str | None = None
    states: set[LockState] = set()
    instead: dict[ServedFile, None] = {}
    for environment in environments or (None,):
        fits = fitting(of_version, environment)
        good = next((file for file in fits if held.matches(file, package.digests)), None)
        if good is not None:
            filename = filename or good.filename
            states.add(LockState.HELD)
        elif fits:
            states.add(LockState.REBUILT)
            instead.update(dict.fromkeys(published(fits)))
        else:
            states.add(LockState.MISSING)
    if fits_nowhere(package, of_version, held, environments):
        states.add(LockState.MISSING)
    order = (LockState.MISSING, LockState.REBUILT, LockState.HELD)
    state = next(state for state in order if state in states)
    return CheckedFile(
        project=package.project,
        version=package.version,
        filename=filename,
        state=state,
        here=tuple(instead) if state is LockState.REBUILT else (),
    )
