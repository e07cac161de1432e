"""The project of a file, read from its name as pip and ``packaging`` read it."""

from __future__ import annotations

import re

from mirror.core.model import Digests, ListedFile
from mirror.core.names import ProjectName, strongest_digest

WHEEL_ENDING = ".whl"
_SEPARATORS = re.compile(r"[-_.]+")

SDIST_ENDINGS = (
    ".tar.gz",
    ".zip",
    ".tgz",
    ".tar",
    ".tar.bz2",
    ".tbz",
    ".tar.xz",
    ".txz",
    ".tar.Z",
    ".tar.zst",
    ".tar.lz",
    ".tlz",
    ".tar.lzma",
)


def is_wheel(filename: str) -> bool:
    """Return whether a file is a wheel, whose metadata is part of its own bytes."""
    return filename.endswith(WHEEL_ENDING)


def is_foreign(filename: str, project: ProjectName) -> bool:
    """Return whether a wheel or source distribution is named after another project, so that pip
    ignores it on this page.

    Other kinds of files, and names that ``packaging`` can't read, are not judged.
    """
    # The name that ``packaging`` reads begins with this part, in which a wheel of a project with
    # hyphens has "_": reading the whole costs ten times as much, for each file of a page.
    if _SEPARATORS.sub("-", filename.partition("-")[0]).lower() == project:
        return False
    if filename.startswith(f"{project}-"):
        return False
    from packaging.utils import is_normalized_name  # 6 ms

    name = _distribution_name(filename)
    return (
        name is not None and is_normalized_name(name) and not f"{name}-".startswith(f"{project}-")
    )


def _distribution_name(filename: str) -> str | None:
    """Return the normalised name of the project that a wheel or source distribution of any ending
    is named after.
    """
    # 6 ms: most names begin with their project's, so that a cycle without a change needs none of it
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    from packaging.version import InvalidVersion

    if is_wheel(filename):
        try:
            return parse_wheel_filename(filename)[0]
        except (InvalidWheelFilename, InvalidVersion):
            return None
    for ending in SDIST_ENDINGS:
        if filename.endswith(ending):
            return sdist_project(f"{filename[: -len(ending)]}.tar.gz")
    return None


def belongs_to(filename: str, project: str) -> bool:
    """Return whether ``packaging`` reads the name as that of a source distribution of the
    project.
    """
    return sdist_project(filename) == project


def sdist_project(filename: str) -> str | None:
    """Return the project that ``packaging`` reads in the name of a source distribution; None where
    it reads none.
    """
    from packaging.utils import InvalidSdistFilename, parse_sdist_filename  # 6 ms
    from packaging.version import InvalidVersion  # 2 ms

    try:
        return parse_sdist_filename(filename)[0]
    except (InvalidSdistFilename, InvalidVersion):
        return None


def metadata_to_fetch(file: ListedFile, project: ProjectName) -> Digests:
    """Return the digests of the listed metadata that the mirror's page of the project may offer, or
    none.

    A wheel's metadata comes from its own bytes. Listed metadata of another file is believed with a
    strong digest, and only from the page of the project in the file's name.
    """
    if not file.metadata or strongest_digest(file.metadata) is None or is_wheel(file.filename):
        return ()
    return file.metadata if belongs_to(file.filename, project) else ()
