"""The values of a verification: its order, and its findings."""

from __future__ import annotations

from typing import Any

import msgspec

from mirror.core.names import ProjectName
from mirror.errors import shown_text
from mirror.logs import get_logger
from mirror.state.blobs.lost import LostFile
from mirror.state.blobs.verified import BlobRow
from mirror.tree.checking.blobs import DamageKind

_log = get_logger(__name__)

SNAPSHOT = "snapshot "
"""Marks a file that only a snapshot lists, in the place of its index (``state.blobs``)."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """The share of the tree to check."""

    share: float = 1.0
    """Of the blobs, by number, the longest unverified first; below 1 only blobs are checked."""
    not_since: float | None = None
    """Only blobs that were not found whole since this time."""

    @property
    def is_whole(self) -> bool:
        """Whether pages and foreign files are checked too."""
        return self.share >= 1.0

    @property
    def is_all(self) -> bool:
        """Whether everything is checked, so that nothing else is damaged."""
        return self.is_whole and self.not_since is None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something on disk that is not as it should be."""

    damage: DamageKind
    path: str
    detail: str
    blob: BlobRow | None = None
    project: ProjectName | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the object of the report."""
        return {
            "damage": self.damage.value,
            "path": shown_path(self.path),
            "detail": shown_text(self.detail),
        }


class Verification(msgspec.Struct, kw_only=True):
    """The progress and findings of a run; live while it runs."""

    doing: str = "reading the state"
    blobs_total: int = 0
    bytes_total: int = 0
    blobs_checked: int = 0
    bytes_checked: int = 0
    pages_checked: int = 0
    stopped: bool = False
    """Set to end the run soon: the file being hashed is finished, no new one is begun."""
    rebuilt: bool = False
    """The state was lost and has been rebuilt from the tree."""
    leftovers: int = 0
    """Whole files that no row knows, as a kill may leave them: no damage, ``prune`` takes them
    away.
    """
    findings: list[Finding] = msgspec.field(default_factory=list)
    lost: list[LostFile] = msgspec.field(default_factory=list)
    """Files removed from the pages and still missing."""
    lost_to_snapshots: list[LostFile] = msgspec.field(default_factory=list)
    """Files that snapshots list and that are known to be lost."""
    closed: set[str] = msgspec.field(default_factory=set)
    """The paths whose mode keeps them from being read."""
    without_metadata: list[str] = msgspec.field(default_factory=list)
    """Files whose damaged metadata could not be made again: their pages no longer advertise any."""

    @property
    def repaired(self) -> int:
        """How many findings are mended, once ``repair`` is done."""
        return len(self.findings) - len({(file.sha256, file.filename) for file in self.lost})

    def as_json(self) -> dict[str, Any]:
        """Return the report object."""
        return {
            "format": 1,
            "blobs_checked": self.blobs_checked,
            "bytes_checked": self.bytes_checked,
            "pages_checked": self.pages_checked,
            "rebuilt": self.rebuilt,
            "leftovers": self.leftovers,
            "damage": [f.as_json() for f in self.findings],
        }

    def add(self, finding: Finding) -> None:
        """Add a finding and log it; an unreadable mode is found in two ways, and reported once."""
        if finding.damage is DamageKind.MODE:
            if finding.path in self.closed:
                return
            self.closed.add(finding.path)
        self.findings.append(finding)
        _log.error(
            "tree.damaged",
            damage=finding.damage.value,
            path=shown_path(finding.path),
            detail=shown_text(finding.detail),
        )


def is_of_snapshot(file: LostFile) -> bool:
    """Return whether only a snapshot lists a file, so that no cycle fetches it again."""
    return file.index.startswith(SNAPSHOT)


def shown_path(path: str) -> str:
    """Return a path fit for a line of text: a foreign one may hold any bytes."""
    return shown_text(path, limit=4096)
