"""The format pdm.lock, version 4: files with names or, by ``static_urls``, with addresses."""

from __future__ import annotations

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

_FOREIGN = {"git": "a repository", "hg": "a repository", "svn": "a repository"}
_FOREIGN |= {"bzr": "a repository", "url": "an address of its own", "path": "a local path"}


def read_pdm_lock(document: Table, *, want: str | None) -> LockedSet:
    """Return the packages of a pdm.lock. Raises ``ConfigError``."""
    metadata = document.table("metadata")
    version = metadata.optional_text("lock_version") or ""
    if version.split(".")[0] != "4":
        raise unknown_version(document, None, "4")
    tables = document.tables("package")
    check_count(tables, document, "package")
    older_files = metadata.table("files")
    packages: dict[tuple[str, str], LockedPackage] = {}
    foreign: list[ForeignPackage] = []
    for table in tables:
        project = read_project(table)
        marker = read_marker(table.optional_text("marker"), table, "marker")
        kind = next((key for key in _FOREIGN if key in table), None)
        if kind is not None:
            if table.optional_text(kind) in {".", "./"}:
                continue
            found = ForeignPackage(
                project=project,
                version=table.optional_text("version"),
                detail=_FOREIGN[kind],
                marker=marker,
            )
            foreign.append(found)
            continue
        number = table.text("version")
        files = table.tables("files") or older_files.tables(f"{table.text('name')} {number}")
        before = packages.get((project, number))
        check_file_count(files, table)
        packages[project, number] = LockedPackage(
            project=project,
            version=number,
            files=tuple(_file(file) for file in files) or (before.files if before else ()),
            index=shown_index(table.optional_text("index")),
            marker=either_marker(before.marker, marker) if before else marker,
        )
    return LockedSet(
        want=want,
        file=document.where,
        format=LockFormat.PDM,
        packages=tuple(packages.values()),
        foreign=tuple(foreign),
    )


def _file(table: Table) -> LockedFile:
    return LockedFile(
        filename=read_filename(table, "file", "url"),
        digests=(checked_digest(table.text("hash"), table, "hash"),),
    )
