"""The offers of the indexes of one project to somebody who needs it: the values between the cycle,
which reads pages, and the selection, which chooses files.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mirror.core.model import ListedFile
from mirror.core.names import ProjectName, Sha256
from mirror.errors import Reason

HIDING = frozenset(
    {
        Reason.WITHHELD,
        Reason.DENIED,
        Reason.NOT_FOUND,
        Reason.DIGEST_MISMATCH,
        Reason.SIZE_MISMATCH,
        Reason.BAD_FILE,
        Reason.UNSAFE_NAME,
        Reason.TOO_LARGE,
        Reason.REFUSED_UNHASHED,
        Reason.REDIRECT_REFUSED,
    }
)
"""The reasons in the ledger for which a file can't be had, whoever needs it."""


class Hidden(msgspec.Struct, frozen=True, kw_only=True):
    """Why a listed file can't be had."""

    reason: Reason | None = None
    """As in the ledger; None where a rule hides it."""
    rule: str = ""
    """The key of the rule that hides it for now."""
    detail: str


class MetadataRefused(Exception):
    """The metadata of one file can't be had, which is this file's fault alone."""

    def __init__(self, hidden: Hidden) -> None:
        super().__init__(hidden.detail)
        self.hidden = hidden


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One file that an index offers, or that the mirror publishes for it."""

    index: str
    file: ListedFile
    hidden: Hidden | None = None
    targets: tuple[str, ...] = ()
    """The only targets for which the file counts (``overlay-targets``); none: all."""
    held: Sha256 | None = None
    """The sha256 of the published blob; None where the file is not published."""


class ProjectOffers(msgspec.Struct, frozen=True, kw_only=True):
    """The offers of the index that owns a project, and of the overlays."""

    project: ProjectName
    offers: tuple[Offer, ...] = ()
    """By index in the order of the configuration, then as listed."""
    digest: str = ""
    """Equal digests: equal offers."""
    owner: str = ""
    """The index that owns the project; empty where no index lists it."""
    later: tuple[str, ...] = ()
    """Later indexes that list it too, and may not own it."""
    left_out: Mapping[str, str] = {}
    """The rule that leaves out each file that is listed and may not be mirrored."""
    rule: str = ""
    """The rule that leaves the whole project out, such as ``exclude-projects of pypi``."""

    @property
    def is_listed(self) -> bool:
        """Whether an index lists the project."""
        return bool(self.owner)


class WantPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The files that a cycle would fetch for one want in one target."""

    want: str
    file: str | None
    target: str
    files: int
    size: int
    gaps: tuple[str, ...] = ()
