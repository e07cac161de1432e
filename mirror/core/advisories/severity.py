"""The level of an advisory: by a word of its database, else by its CVSS scores."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

_LONGEST_VECTOR: Final = 512
_WORDS: Final = {"critical": 4, "high": 3, "moderate": 2, "medium": 2, "low": 1}


class Severity(IntEnum):
    """How bad an advisory is, from the mildest to the worst."""

    UNKNOWN = 0
    """It has no severity that can be read."""
    LOW = 1
    MODERATE = 2
    HIGH = 3
    CRITICAL = 4
    MALICIOUS = 5
    """It is malware."""

    @property
    def word(self) -> str:
        """The level as reports show it."""
        return self.name.lower()


def severity_of_word(word: object) -> Severity:
    """Return the level that a database names by a word; ``UNKNOWN`` for any other value."""
    return (
        Severity(_WORDS.get(word.strip().lower(), 0)) if isinstance(word, str) else Severity.UNKNOWN
    )


def severity_of_vectors(vectors: Iterable[str]) -> Severity:
    """Return the level of the highest base score among CVSS vectors of versions 2 to 4."""
    return max(map(_severity_of_vector, vectors), default=Severity.UNKNOWN)


@functools.lru_cache(maxsize=10_000)
def _severity_of_vector(vector: str) -> Severity:
    score = _base_score(vector.strip()) if len(vector) <= _LONGEST_VECTOR else None
    if score is None:
        return Severity.UNKNOWN
    if score >= 9.0:
        return Severity.CRITICAL
    if score >= 7.0:
        return Severity.HIGH
    return Severity.MODERATE if score >= 4.0 else Severity.LOW


def _base_score(vector: str) -> float | None:
    """Return the base score of a vector, from 0 to 10; None for any other text."""
    import cvss  # 0.06 s: only where a database has scores

    try:
        if vector.startswith("CVSS:4"):
            return float(cvss.CVSS4(vector).base_score)
        if vector.startswith("CVSS:"):
            return float(cvss.CVSS3(vector).scores()[0])
        return float(cvss.CVSS2(vector.strip("()")).scores()[0])
    except cvss.CVSSError:
        return None
