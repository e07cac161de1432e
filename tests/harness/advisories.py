"""An OSV database as a site keeps it up: records in a folder, written as a test says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_FILLERS = 40


def osv(
    record_id: str, project: str, *, versions: Iterable[str] = (), fixed: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return a record about one project: of some versions, of all before ``fixed``, or without either."""
    affected: dict[str, Any] = {"package": {"ecosystem": "PyPI", "name": project}}
    if versions:
        affected["versions"] = list(versions)
    if fixed is not None:
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
    found = {"id": record_id, "modified": "2026-06-01T00:00:00Z", "affected": [affected], **more}
    if "severity" in more:
        found["database_specific"] = {"severity": found.pop("severity")}
    return found


class Database:
    """The folder, with so many records of other projects that one may leave without a loss."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for number in range(_FILLERS):
            self.add(osv(f"GHSA-{number}", f"other-{number}", versions=["1.0"]))

    def add(self, record: dict[str, Any]) -> None:
        """Write one record, new or instead of the one of its id, as if a minute ago."""
        path = self.folder / f"{record['id']}.json"
        path.write_text(json.dumps(record))
        before = time.time() - 60
        os.utime(path, (before, before))

    def remove(self, record_id: str) -> None:
        """Delete one record."""
        (self.folder / f"{record_id}.json").unlink()
