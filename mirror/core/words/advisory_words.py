"""Advisories in a few words, for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def words_of_advisories(level: str, ids: Sequence[str]) -> str:
    """Return the level and the identifiers of the advisories that name a file."""
    return f"{level}, {', '.join(ids)}"


def words_of_vulnerable(
    level: str, ids: Sequence[str], fixed: str | None, *, fixed_held: bool
) -> str:
    """Return the advisories of a held file, and the version in which it is fixed."""
    named = words_of_advisories(level, ids)
    if fixed is None:
        return f"{named}; no fixed version is named"
    return f"{named}; fixed in {fixed}, which is {'' if fixed_held else 'not '}held"
