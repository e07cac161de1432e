"""Flat pages (find-links): one page that lists the files of many projects.

The files are grouped by the project in their names, as ``packaging`` reads them, so that each group
is a project's page. A file whose name holds no project is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from mirror.core.model import ListedFile, ProjectPage, RefusedFile, RootPage, Validators
from mirror.core.names import ProjectName, normalize_project
from mirror.errors import UnsafeName

ANY = ProjectName("flat")
"""Placeholder for the project of a flat page while the page is read: it has none."""

MAX_UNREAD_NAMES = 1000

_COMPANION_ENDINGS = (".asc", ".sig", ".sigstore", ".provenance", ".attestation")


class FlatPage(msgspec.Struct, frozen=True, kw_only=True):
    """A flat page, read and grouped."""

    root: RootPage
    projects: Mapping[ProjectName, ProjectPage]


def project_of_filename(filename: str) -> ProjectName | None:
    """Return the project in a file's name, or None where ``packaging`` can't read it."""
    # 6 ms, only for flat pages
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    ending = next((e for e in _COMPANION_ENDINGS if filename.endswith(e)), "")
    name = filename.removesuffix(ending)
    try:
        parsed = parse_wheel_filename(name) if name.endswith(".whl") else parse_sdist_filename(name)
        return normalize_project(parsed[0])
    except (InvalidWheelFilename, InvalidSdistFilename, UnsafeName):
        return None


def group_files(page: ProjectPage) -> FlatPage:
    """Return the projects of a flat page, which was read as the page of one project."""
    files: dict[ProjectName, list[ListedFile]] = {}
    refused: dict[ProjectName, list[RefusedFile]] = {}
    unread: list[str] = []
    for file in page.files:
        if project := project_of_filename(file.filename):
            files.setdefault(project, []).append(file)
        else:
            unread.append(file.filename)
    for one in page.refused:
        if project := project_of_filename(one.name):
            refused.setdefault(project, []).append(one)
        else:
            unread.append(one.name)
    names = sorted(files.keys() | refused.keys())
    root = RootPage(
        projects=dict.fromkeys(names),
        is_cut=not page.is_whole,
        unread=len(unread),
        unread_names=tuple(dict.fromkeys(unread[:MAX_UNREAD_NAMES])),
        warnings=page.warnings,
    )
    projects = {
        name: msgspec.structs.replace(
            page,
            name=name,
            files=tuple(files.get(name, ())),
            refused=tuple(refused.get(name, ())),
            warnings=(),
        )
        for name in names
    }
    return FlatPage(root=root, projects=projects)


def validators_of_part(page: ProjectPage) -> Validators:
    """Return the validators by which a change of one project's part of a flat page is noticed."""
    part = msgspec.json.encode((page.files, page.refused, page.is_whole))
    return Validators(digest=hashlib.sha256(part).hexdigest())
