"""Why a want does not install: the words of ``mirror check`` and of the report."""

from __future__ import annotations

from enum import Enum

import msgspec

from mirror.core.offers import Hidden
from mirror.core.rules.model import EXCLUDE_VULNERABLE, MIN_AGE
from mirror.errors import Reason


class GapReason(Enum):
    """The reason of one gap."""

    NOT_OFFERED = "not-offered"
    NOT_SERVED = "not-served"
    LEFT_OUT = "left-out"
    NO_WHEEL = "no-wheel"
    NO_VERSION = "no-version"
    REQUIRES_PYTHON = "requires-python"
    WITHHELD = "withheld"
    YANKED = "yanked"
    COOLDOWN = "cooldown"
    VULNERABLE = "vulnerable"
    CONFLICT = "conflict"
    REBUILT = "rebuilt"
    TOO_LARGE = "too-large"
    FAILED = "failed"
    DAMAGED = "damaged"
    UNPROVED = "unproved"
    UNRESOLVED = "unresolved"


EXPLAINED = frozenset(
    {
        GapReason.COOLDOWN,
        GapReason.VULNERABLE,
        GapReason.LEFT_OUT,
        GapReason.WITHHELD,
        GapReason.REBUILT,
        GapReason.UNPROVED,
    }
)
"""The gaps that make no cycle partial: somebody decided so, or only time can mend them."""

_OF_RULE = {MIN_AGE: GapReason.COOLDOWN, EXCLUDE_VULNERABLE: GapReason.VULNERABLE}
_OF_LEDGER = {Reason.WITHHELD: GapReason.WITHHELD, Reason.TOO_LARGE: GapReason.TOO_LARGE}


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is missing."""

    project: str
    requirement: str
    reason: GapReason
    detail: str

    def as_json(self) -> dict[str, str]:
        """Return the object of ``mirror check``."""
        return {
            "project": self.project,
            "requirement": self.requirement,
            "reason": self.reason.value,
            "detail": self.detail,
        }


class Instead(msgspec.Struct, frozen=True, kw_only=True):
    """An older version that is used, since a newer one can't be had."""

    project: str
    version: str
    hidden: str
    reason: GapReason

    def as_json(self) -> dict[str, str]:
        """Return the object of ``mirror check``."""
        return {
            "project": self.project,
            "version": self.version,
            "hidden": self.hidden,
            "reason": self.reason.value,
        }


def gap_of_hidden(hidden: Hidden) -> tuple[GapReason, str]:
    """Return the gap of a file that can't be had, and its words."""
    if hidden.reason is None:
        return _OF_RULE[hidden.rule], hidden.detail
    reason = reason_of_ledger(hidden.reason)
    is_plain = reason is not GapReason.FAILED
    return reason, hidden.detail if is_plain else f"{hidden.reason.value}: {hidden.detail}"


def reason_of_rule(rule: str) -> GapReason:
    """Return the gap of a file that a rule keeps out."""
    return _OF_RULE.get(rule, GapReason.LEFT_OUT)


def reason_of_ledger(reason: Reason) -> GapReason:
    """Return the gap of a file that stands in the ledger."""
    return _OF_LEDGER.get(reason, GapReason.FAILED)
