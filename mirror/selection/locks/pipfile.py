"""The format Pipfile.lock, specification 6: versions with digests, without names of files."""

from __future__ import annotations

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from mirror.selection.documents import Table
from mirror.selection.locks.values import (
    check_count,
    checked_digest,
    checked_project,
    read_marker,
    shown_index,
    unknown_version,
)
from mirror.selection.markers import either_marker
from mirror.selection.wants import ForeignPackage, LockedPackage, LockedSet, LockFormat

CATEGORIES = ("default", "develop")
_SPECIFICATION = 6
_FOREIGN = {"git": "a repository", "hg": "a repository", "svn": "a repository"}
_FOREIGN |= {"bzr": "a repository", "path": "a local path", "file": "an address of its own"}
_UNPINNED = "whatever its index lists: the lock pins no version"
"""Of a requirement that Pipenv has not resolved, such as one for another platform than its own."""


def read_pipfile_lock(document: Table, *, want: str | None) -> LockedSet:
    """Return the packages of a Pipfile.lock: of ``default`` and ``develop``.

    Raises ``ConfigError``.
    """
    meta = document.table("_meta")
    if meta.values.get("pipfile-spec") != _SPECIFICATION:
        raise unknown_version(document, meta.values.get("pipfile-spec"), str(_SPECIFICATION))
    indexes = {s.optional_text("name"): s.optional_text("url") for s in meta.tables("sources")}
    packages: dict[tuple[str, str], LockedPackage] = {}
    foreign: list[ForeignPackage] = []
    for category in CATEGORIES:
        tables = document.table(category)
        names = tuple(tables.table(name) for name in tables.values)
        check_count(names, document, category)
        for name, table in zip(tables.values, names, strict=True):
            project = checked_project(name, table)
            marker = read_marker(table.optional_text("markers"), table, "markers")
            kind = next((key for key in _FOREIGN if key in table), None)
            stated = table.optional_text("version") or ""
            version = stated.removeprefix("==").strip("=")
            if kind is not None:
                if table.optional_text(kind) not in {".", "./"}:
                    detail = _FOREIGN[kind]
                    foreign.append(_foreign(project, version or None, detail, marker))
                continue
            if not version:
                raise table.error("missing: expected a text such as ==1.0", "version")
            if stated.startswith(("<", ">", "~", "!")) or not set("*,").isdisjoint(version):
                foreign.append(_foreign(project, None, _UNPINNED, marker))
                continue
            hashes = [checked_digest(text, table, "hashes") for text in table.texts("hashes")]
            _add(
                packages,
                LockedPackage(
                    project=canonicalize_name(project),
                    version=version,
                    digests=tuple(hashes),
                    names_only_digests=True,
                    index=shown_index(indexes.get(table.optional_text("index"))),
                    marker=marker,
                ),
            )
    return LockedSet(
        want=want,
        file=document.where,
        format=LockFormat.PIPFILE,
        packages=tuple(packages.values()),
        foreign=tuple(foreign),
    )


def _foreign(
    project: str, version: str | None, detail: str, marker: Marker | None
) -> ForeignPackage:
    return ForeignPackage(project=project, version=version, detail=detail, marker=marker)


def _add(packages: dict[tuple[str, str], LockedPackage], new: LockedPackage) -> None:
    """Add a package; one that stands in both categories counts once, where either marker holds."""
    key = (new.project, new.version or "")
    before = packages.get(key)
    if before is None:
        packages[key] = new
        return
    digests = tuple(dict.fromkeys((*before.digests, *new.digests)))
    packages[key] = LockedPackage(
        project=new.project,
        version=new.version,
        digests=digests,
        names_only_digests=True,
        index=before.index,
        marker=either_marker(before.marker, new.marker),
    )
