"""The format poetry.lock: 2.1 with a marker for each package, older ones without."""

from __future__ import annotations

from functools import reduce

from packaging.markers import Marker

from mirror.selection.documents import Table
from mirror.selection.locks.values import (
    check_count,
    check_file_count,
    checked_digest,
    read_filename,
    read_marker,
    read_project,
    shown_index,
    unknown_version,
)
from mirror.selection.markers import either_marker
from mirror.selection.wants import (
    ForeignPackage,
    LockedFile,
    LockedPackage,
    LockedSet,
    LockFormat,
)

_VERSIONS = ("1.0", "1.1", "2.0", "2.1")
_FOREIGN = {"git": "a git repository", "url": "an address of its own"}
_FOREIGN |= {"file": "a local path", "directory": "a local folder"}


def read_poetry_lock(document: Table, *, want: str | None) -> LockedSet:
    """Return the packages of a poetry.lock. Raises ``ConfigError``."""
    metadata = document.table("metadata")
    version = metadata.optional_text("lock-version")
    if version not in _VERSIONS:
        raise unknown_version(document, None, ", ".join(_VERSIONS))
    tables = document.tables("package")
    check_count(tables, document, "package")
    older_files = metadata.table("files")
    packages: list[LockedPackage] = []
    foreign: list[ForeignPackage] = []
    for table in tables:
        source = table.table("source")
        kind = source.optional_text("type") or "pypi"
        marker = _read_marker(table)
        if kind in _FOREIGN:
            foreign.append(
                ForeignPackage(
                    project=read_project(table),
                    version=table.optional_text("version"),
                    detail=_FOREIGN[kind],
                    marker=marker,
                )
            )
            continue
        files = table.tables("files") or older_files.tables(table.text("name"))
        check_file_count(files, table)
        packages.append(
            LockedPackage(
                project=read_project(table),
                version=table.text("version"),
                files=tuple(_file(file) for file in files),
                index=shown_index(source.optional_text("url")),
                marker=marker,
            )
        )
    return LockedSet(
        want=want,
        file=document.where,
        format=LockFormat.POETRY,
        packages=tuple(packages),
        foreign=tuple(foreign),
    )


def _file(table: Table) -> LockedFile:
    return LockedFile(
        filename=read_filename(table, "file"),
        digests=(checked_digest(table.text("hash"), table, "hash"),),
    )


def _read_marker(table: Table) -> Marker | None:
    """Return when a package counts: one marker, or one for each group, of which any may hold."""
    if not isinstance(table.values.get("markers", ""), dict):
        return read_marker(table.optional_text("markers"), table, "markers")
    of_groups = table.table("markers")
    groups = table.texts("groups")
    if any(group not in of_groups for group in groups):
        return None
    markers = [read_marker(of_groups.text(key), of_groups, key) for key in of_groups.values]
    return reduce(either_marker, markers) if markers else None
