"""Decides which blobs may be served, for each request, also while another process writes the state.

Blocking, one thread at a time. Raises ``StateError`` where the state can't be read.
"""

from __future__ import annotations

import sqlite3
from enum import Enum
from pathlib import Path
from typing import Final

from mirror.core.names import Sha256
from mirror.state.rows import values_of
from mirror.state.shown.live_reader import LiveReader

# By the name of the project: a withdrawal by the owner also withdraws the files of later indexes.
_HAS_ADVICE: Final = "SELECT 1 FROM sqlite_master WHERE name = 'advised'"
_NO_MALWARE: Final = """
    AND NOT EXISTS (SELECT 1 FROM advised a WHERE a.project = e.project
        AND a.filename = e.filename AND a.kind = 'withdrawn')"""
_QUESTION: Final = """
    SELECT e.valid_to IS NULL OR NOT EXISTS (
        SELECT 1 FROM project w JOIN source o ON o.id = w.source
        WHERE w.name = p.name AND o.position <= s.position
            AND (w.withdrawn IS NOT NULL OR w.status = 'quarantined')){malware}
    FROM entry e JOIN project p ON p.id = e.project JOIN source s ON s.id = p.source
    WHERE e.sha256 = ?1 AND e.filename = ?2 AND e.valid_to IS {isnt} NULL"""
_IS_BLOB: Final = "SELECT 1 FROM blob WHERE sha256 = ? AND filename = ?"


class Verdict(Enum):
    """The state's verdict on a blob."""

    SERVED = "served"
    UNKNOWN = "unknown"
    WITHDRAWN = "withdrawn"


class BlobState:
    """The state as the server asks it for each file."""

    def __init__(self, path: Path) -> None:
        self._reader = LiveReader(path)

    def exists(self) -> bool:
        """Return whether there is a state at all; True where permissions hide it."""
        return self._reader.exists()

    def judge(self, sha256: Sha256, filename: str) -> Verdict:
        """Return the state's current verdict on a blob."""
        return self._reader.read(lambda connection: _ask(connection, sha256, filename))

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._reader.close()


def _ask(connection: sqlite3.Connection, sha256: Sha256, filename: str) -> Verdict:
    if not values_of(connection.execute(_IS_BLOB, (sha256, filename))):
        return Verdict.UNKNOWN
    # A state of an older version has no advisories yet.
    malware = _NO_MALWARE if values_of(connection.execute(_HAS_ADVICE)) else ""
    opened, closed = (_QUESTION.format(isnt=isnt, malware=malware) for isnt in ("", "NOT"))
    question = f"{opened} UNION ALL {closed}"
    answers = values_of(connection.execute(question, (sha256, filename)))
    return Verdict.SERVED if not answers or any(answers) else Verdict.WITHDRAWN
