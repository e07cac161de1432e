"""The second judge of a proof: ``packaging`` alone, on the bytes of the held files, without view
and resolver.

Each chosen file must be there, whole, fit the environment, and each requirement of the want and of
the files' own metadata must be met by exactly one chosen version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import BinaryIO

from packaging.tags import Tag
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from mirror.core.names import ProjectName, Sha256
from mirror.errors import TreeError
from mirror.selection.gaps import Gap, GapReason
from mirror.selection.resolving.results import ChosenFile
from mirror.selection.resolving.walk import read_requirement, walk
from mirror.selection.targets import Environment
from mirror.selection.view.metadata import FileMetadata, MetadataProblem, read_metadata
from mirror.selection.wants import RequirementLine
from mirror.tree.needed.metadata import MetadataUnreadable, read_file_metadata
from mirror.tree.objects.opening import TreeOpener

_BLOCK_BYTES = 1 << 20


class Damaged(Exception):
    """A published file is missing, cut, or has other bytes; the text says which."""


def judge(
    files: Sequence[ChosenFile],
    roots: Sequence[RequirementLine],
    environment: Environment,
    reader: TreeOpener,
    *,
    metadata_limit_bytes: int,
) -> list[Gap]:
    """Return the gaps of a set of published files; nothing where it installs. Blocks."""
    gaps: list[Gap] = []
    metadata: dict[tuple[ProjectName, Version], FileMetadata] = {}
    chosen: dict[ProjectName, list[Version]] = {}
    for file in files:
        project, version = ProjectName(file.project), Version(file.version)
        if not file.is_build:
            chosen.setdefault(project, []).append(version)
        try:
            found = read_metadata(
                read_checked(file, reader, metadata_limit_bytes), project, version
            )
        except Damaged as exc:
            gaps.append(_gap(file, GapReason.DAMAGED, str(exc)))
            continue
        except (MetadataProblem, MetadataUnreadable) as exc:
            gaps.append(_gap(file, GapReason.FAILED, f"{file.filename}: {exc}"))
            continue
        metadata[project, version] = found
        gaps += _misfits(file, found, environment)
    for edge in walk(
        [r for r in roots if r.applies(environment)], chosen, metadata, environment.markers
    ):
        versions = chosen.get(ProjectName(edge.project), [])
        specifier = read_requirement(edge.requirement).requirement.specifier
        met = [version for version in versions if specifier.contains(version, prereleases=True)]
        if len(met) != 1 or len(versions) != 1:
            held = ", ".join(map(str, versions)) or "nothing"
            parent = f" of {edge.parent}" if edge.parent else ""
            detail = f"{edge.requirement}{parent} is met by {held}"
            reason = GapReason.CONFLICT if versions else GapReason.NOT_OFFERED
            gaps.append(
                Gap(
                    project=edge.project, requirement=edge.requirement, reason=reason, detail=detail
                )
            )
    return gaps


def check_bytes(file: ChosenFile, held: TreeOpener) -> None:
    """Read a published file whole and compare size and digest. Blocks. Raises ``Damaged``."""
    _open_checked(file, held).close()


def read_checked(file: ChosenFile, held: TreeOpener, limit_bytes: int) -> bytes:
    """Return the metadata in the bytes of a published file, which are compared with its row.

    Raises ``Damaged``, ``MetadataUnreadable``.
    """
    with _open_checked(file, held) as opened:
        return read_file_metadata(opened, file.filename, limit_bytes)


def _open_checked(file: ChosenFile, held: TreeOpener) -> BinaryIO:
    """Return a published file, open at its start, whose size and digest are right."""
    sha256 = Sha256(dict(file.digests).get("sha256", ""))
    try:
        opened = held.open_blob(sha256, file.filename)
    except FileNotFoundError:
        raise Damaged(f"{file.filename} is missing: run `mirror verify --repair`") from None
    except (OSError, TreeError) as exc:
        raise Damaged(f"{file.filename} can't be read: {exc}") from exc
    try:
        _compare(file, opened, sha256)
        opened.seek(0)
    except BaseException:
        opened.close()
        raise
    return opened


def _compare(file: ChosenFile, opened: BinaryIO, sha256: Sha256) -> None:
    hasher, size = hashlib.sha256(), 0
    try:
        while block := opened.read(_BLOCK_BYTES):
            hasher.update(block)
            size += len(block)
    except (OSError, TreeError) as exc:
        raise Damaged(f"{file.filename} can't be read: {exc}") from exc
    if file.size is not None and size != file.size:
        raise Damaged(
            f"{file.filename} has {size} bytes instead of {file.size}: run `mirror verify --repair`"
        )
    if hasher.hexdigest() != sha256:
        raise Damaged(
            f"{file.filename} has other bytes than its page lists: run `mirror verify --repair`"
        )


def _misfits(file: ChosenFile, metadata: FileMetadata, environment: Environment) -> list[Gap]:
    """Return why a file does not fit the environment."""
    gaps = []
    if file.filename.endswith(".whl"):
        tags: frozenset[Tag] = parse_wheel_filename(file.filename)[3]
        if not tags & set(environment.tags):
            gaps.append(
                _gap(file, GapReason.NO_WHEEL, f"{file.filename} does not fit {environment.name}")
            )
    if not environment.admits(metadata.requires_python):
        detail = (
            f"{file.filename} requires Python {metadata.requires_python}, not {environment.release}"
        )
        gaps.append(_gap(file, GapReason.REQUIRES_PYTHON, detail))
    return gaps


def _gap(file: ChosenFile, reason: GapReason, detail: str) -> Gap:
    return Gap(
        project=file.project,
        requirement=f"{file.project}=={file.version}",
        reason=reason,
        detail=detail,
    )
