"""When each file of a project was first published here, and which index it came from."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from mirror.core.names import ProjectName
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store


class FirstSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Where a published file came from. ``at``: seconds since the epoch."""

    index: str
    at: float


class _OriginRow(Columns, frozen=True):
    filename: str
    sha256: str
    index_name: str
    at: float

    @property
    def key(self) -> tuple[str, str]:
        return self.filename, self.sha256


async def load_origins(store: Store, name: ProjectName) -> dict[tuple[str, str], FirstSeen]:
    """Return the origin of each published file of a project, by (filename, sha256)."""
    columns = "SELECT e.filename, e.sha256, s.name AS index_name, min(r.at) AS at FROM project p"
    of_project = "JOIN source s ON s.id = p.source WHERE p.name = ? GROUP BY e.filename, e.sha256"
    # In two halves, since each has an index of its own.
    opened, closed = [
        await store.rows_as(
            _OriginRow,
            f"{columns} JOIN entry e ON e.project = p.id AND e.valid_to IS {condition}"
            f" JOIN revision r ON r.id = e.valid_from {of_project}",
            (name,),
        )
        for condition in ("NULL", "NOT NULL")
    ]
    before = {row.key: row.at for row in closed}
    return {
        row.key: FirstSeen(index=row.index_name, at=min(row.at, before.get(row.key, row.at)))
        for row in opened
    }


async def load_shown(store: Store, names: Collection[str]) -> set[str]:
    """Return which of some projects have a published page."""
    shown: set[str] = set()
    for chunk in chunks(sorted(names)):
        condition = f"shown = 1 AND name IN ({marks(chunk)})"
        shown.update(await store.values(f"SELECT name FROM about WHERE {condition}", chunk))
    return shown


async def load_summary(store: Store, name: ProjectName) -> str | None:
    """Return the summary of a project; None where none is recorded."""
    return next(iter(await store.values("SELECT summary FROM about WHERE name = ?", (name,))), None)


class NamedFile(Columns, frozen=True):
    """A published file of a project."""

    project: str
    filename: str
    yanked: str | None


async def load_files(store: Store, names: Collection[str]) -> dict[str, list[NamedFile]]:
    """Return the published files of some projects."""
    found: dict[str, list[NamedFile]] = {name: [] for name in names}
    for chunk in chunks(sorted(names)):
        for file in await store.rows_as(
            NamedFile,
            "SELECT p.name AS project, e.filename, e.yanked FROM project p"
            " JOIN entry e ON e.project = p.id AND e.valid_to IS NULL"
            f" WHERE p.name IN ({marks(chunk)})",
            chunk,
        ):
            found[file.project].append(file)
    return found
