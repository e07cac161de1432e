"""Differences between a project's page in two states, as values: for ``snapshot diff`` and reports.

Pure.

A file that keeps its name and gets other bytes is replaced; one whose yank changes is yanked or
unyanked; any other change of its labels is a relabelling. A version is new when the older state had
no file of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mirror.core.model import Labels
from mirror.core.names import ProjectName


class PublishedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as a page of an older state listed it."""

    sha256: str
    size: int
    labels: Labels = Labels()

    @property
    def yanked(self) -> str | None:
        """None: not yanked; the reason otherwise."""
        return self.labels.yanked

    @property
    def other_labels(self) -> Labels:
        """The labels, those of a file that is not yanked."""
        return msgspec.structs.replace(self.labels, yanked=None)


class ProjectDifference(msgspec.Struct, frozen=True, kw_only=True):
    """The differences on one project's page; each tuple sorted."""

    name: ProjectName
    is_new: bool = False
    is_gone: bool = False
    versions_added: tuple[str, ...] = ()
    versions_removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    """Same file name, other bytes."""
    yanked: tuple[tuple[str, str], ...] = ()
    """(filename, reason)"""
    unyanked: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()
    bytes_added: int = 0
    """Of the new and the replaced files."""


def compare_project(
    name: ProjectName, before: Mapping[str, PublishedFile], after: Mapping[str, PublishedFile]
) -> ProjectDifference | None:
    """Return the differences between the files of two states, filename -> file; None where they are
    equal.
    """
    both = sorted(before.keys() & after.keys())
    same = [f for f in both if before[f].sha256 == after[f].sha256]
    replaced = tuple(f for f in both if before[f].sha256 != after[f].sha256)
    added = tuple(sorted(after.keys() - before.keys()))
    versions = {v for f in before if (v := file_version(f)) is not None}
    now = {v for f in after if (v := file_version(f)) is not None}
    found = ProjectDifference(
        name=name,
        is_new=not before and bool(after),
        is_gone=bool(before) and not after,
        versions_added=tuple(sorted(now - versions)),
        versions_removed=tuple(sorted(versions - now)),
        added=added,
        removed=tuple(sorted(before.keys() - after.keys())),
        replaced=replaced,
        yanked=tuple(
            (f, reason)
            for f in both
            if (reason := after[f].yanked) is not None and before[f].yanked != reason
        ),
        unyanked=tuple(f for f in both if before[f].yanked is not None and after[f].yanked is None),
        relabelled=tuple(f for f in same if before[f].other_labels != after[f].other_labels),
        bytes_added=sum(after[f].size for f in (*added, *replaced)),
    )
    return None if found == ProjectDifference(name=name) else found


def file_version(filename: str) -> str | None:
    """Return the version in a file name, or None."""
    # 6 ms, of which a cycle without a change needs nothing
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    try:
        if filename.endswith(".whl"):
            return str(parse_wheel_filename(filename)[1])
        return str(parse_sdist_filename(filename)[1])
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
