"""The name of an unfinished download in staging."""

from __future__ import annotations

from mirror.core.model import ListedFile
from mirror.core.names import ProjectName


def staging_key(index: str, project: ProjectName, file: ListedFile) -> str:
    """Return the key of a file in staging: the same bytes by name and digest, whatever their
    URL.
    """
    digest = dict(file.digests).get("sha256") or " ".join(f"{a}={d}" for a, d in file.digests)
    return f"{index}/{project}/{file.filename}/{digest}"
