"""What to do about each kind of gap of a want; pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "not-offered": "check the name, or add an index that offers it",
        "not-served": "change the rule of its owner that leaves all its files out",
        "left-out": "change the key of the configuration that is named",
        "no-wheel": "add an overlay index that has one, allow source distributions (`sdists`),"
        " or change the target",
        "no-version": "relax the requirement, or add an overlay index that has the version",
        "requires-python": "relax the requirement, or change the Python of the target",
        "withheld": "wait until the index releases it, or ask its operator",
        "yanked": "pin it with `==`, or relax the requirement",
        "cooldown": "wait until the cooldown ends, or name the project in `urgent`",
        "vulnerable": "relax the requirement, or name the advisory in `ignore-advisories`",
        "conflict": "change one of the requirements that exclude each other",
        "rebuilt": 'rewrite the lock (`mirror lock rewrite`), or set `on-rebuilt = "follow"`',
        "too-large": "raise `limits.file-size`",
        "failed": "the next cycle tries it again; `mirror status` has the failure",
        "damaged": "run `mirror verify --repair`",
        "unproved": "look at the project, then name it in `accept-unproved`",
        "unresolved": "correct the file or the line that is named",
    }
)
"""Advice by the reason of a gap."""


def advice_for_gap(reason: str) -> str:
    """Return the advice; an empty text for a reason of another version."""
    return ADVICE.get(reason, "")
