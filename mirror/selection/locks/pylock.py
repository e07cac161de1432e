"""The format pylock.toml (PEP 751), checked by ``packaging.pylock``."""

from __future__ import annotations

from packaging.markers import Marker
from packaging.pylock import (
    Package,
    Pylock,
    PylockUnsupportedVersionError,
    PylockValidationError,
)

from mirror.core.names import HEX_LENGTHS
from mirror.errors import shown_text
from mirror.selection.documents import Table
from mirror.selection.locks.values import (
    check_count,
    check_file_count,
    checked_digest,
    checked_project,
    read_filename,
    read_marker,
    shown_index,
    unknown_version,
)
from mirror.selection.wants import (
    ForeignPackage,
    LockedFile,
    LockedPackage,
    LockedSet,
    LockFormat,
)


def read_pylock(document: Table, *, want: str | None) -> LockedSet:
    """Return the packages of a pylock.toml. Raises ``ConfigError``."""
    check_count(document.tables("packages"), document, "packages")
    try:
        lock = Pylock.from_dict(document.values)
    except PylockUnsupportedVersionError:
        raise unknown_version(document, None, "1.0") from None
    except PylockValidationError as exc:
        place = shown_text(exc.context or "", limit=80)
        raise document.error("is no valid pylock.toml here", place) from None
    except RecursionError:
        raise document.error("is no valid pylock.toml: nested too deeply") from None
    packages: list[LockedPackage] = []
    foreign: list[ForeignPackage] = []
    for package, table in zip(lock.packages, document.tables("packages"), strict=True):
        if package.is_direct or _has_only_paths(table):
            if found := _foreign(package, table):
                foreign.append(found)
        else:
            packages.append(_package(package, table))
    return LockedSet(
        want=want,
        file=document.where,
        format=LockFormat.PYLOCK,
        packages=tuple(packages),
        foreign=tuple(foreign),
    )


def _foreign(package: Package, table: Table) -> ForeignPackage | None:
    """Return a package from elsewhere; None for the project itself."""
    if package.directory is not None and package.directory.path in {".", "./"}:
        return None
    detail = "an address of its own"
    if package.vcs is not None:
        detail = "a repository"
    elif package.directory is not None:
        detail = "a local folder"
    elif package.archive is None or package.archive.path is not None:
        detail = "a local path"
    return ForeignPackage(
        project=checked_project(str(package.name), table, "name"),
        version=None if package.version is None else str(package.version),
        detail=detail,
        marker=_marker(table),
    )


def _has_only_paths(table: Table) -> bool:
    """Return whether each file of a package lies at a path near the lock."""
    listed = _listed(table)
    return bool(listed) and not any("url" in file for file in listed)


def _listed(table: Table) -> list[Table]:
    listed = list(table.tables("wheels"))
    return [*listed, table.table("sdist")] if "sdist" in table else listed


def _package(package: Package, table: Table) -> LockedPackage:
    """Return a package with the files that have an address; those at a path are no index's."""
    listed = [file for file in _listed(table) if "url" in file]
    check_file_count(listed, table)
    return LockedPackage(
        project=checked_project(str(package.name), table, "name"),
        version=table.optional_text("version"),
        files=tuple(_file(file) for file in listed),
        index=shown_index(package.index),
        marker=_marker(table),
    )


def _file(table: Table) -> LockedFile:
    hashes = table.table("hashes")
    known = [algorithm for algorithm in hashes.values if algorithm.lower() in HEX_LENGTHS]
    digests = (f"{algorithm}:{hashes.text(algorithm)}" for algorithm in known)
    return LockedFile(
        filename=read_filename(table, "name", "path", "url"),
        digests=tuple(checked_digest(digest, hashes) for digest in digests),
        size=table.optional_size("size"),
    )


def _marker(table: Table) -> Marker | None:
    return read_marker(table.optional_text("marker"), table, "marker")
