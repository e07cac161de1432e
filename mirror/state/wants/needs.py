"""What wants need, as the last cycle that judged them recorded it: resolutions, their files, the
names that they asked for.

A resolution is one requirement list or file for one target. Its rows of ``wanted`` have a part: the
files of its set; those of an earlier set, which stay wanted until the new one is held as a whole;
and files that it would take if they could be had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

import msgspec

from mirror.core.names import ProjectName
from mirror.state.meta import load_meta, load_metas
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction


class WantedAs(Enum):
    """Why a file is wanted."""

    SET = "set"
    EARLIER = "earlier"
    SOUGHT = "sought"


class Key(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One resolution. ``file`` is empty for the list ``requirements``."""

    want: str
    file: str
    target: str


class WantedFile(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A file that a resolution needs, by its name in an index's project."""

    index: str
    project: str
    filename: str


class StoredResolution(msgspec.Struct, frozen=True, kw_only=True):
    """A resolution as it is recorded. ``answer`` is the JSON of the selection."""

    id: int
    key: Key
    inputs: str
    answer: bytes


class NewResolution(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run."""

    key: Key
    inputs: str
    answer: bytes
    names: tuple[str, ...] = ()
    """The projects that it asked for."""
    files: tuple[WantedFile, ...] | None = None
    """None: it could not be resolved, and keeps its earlier set."""
    sought: tuple[WantedFile, ...] = ()


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """The wants and targets of the last cycle, as JSON of the configuration's values."""

    targets: bytes
    wants: bytes
    folder: str


class _ResolutionColumns(Columns, frozen=True):
    id: int
    want: str
    file: str
    target: str
    inputs: str
    answer: str


async def load_resolutions(store: Store) -> dict[Key, StoredResolution]:
    """Return all resolutions."""
    rows = await store.rows_as(
        _ResolutionColumns,
        "SELECT id, want, file, target, inputs, answer FROM resolution ORDER BY want, file, target",
    )
    found = {}
    for row in rows:
        key = Key(want=row.want, file=row.file, target=row.target)
        found[key] = StoredResolution(
            id=row.id, key=key, inputs=row.inputs, answer=row.answer.encode()
        )
    return found


class _AskedColumns(Columns, frozen=True):
    resolution: int
    project: str


async def load_asked(store: Store) -> dict[int, tuple[str, ...]]:
    """Return the names that each resolution asked for, by its id."""
    found: dict[int, list[str]] = {}
    for row in await store.rows_as(
        _AskedColumns, "SELECT resolution, project FROM asked ORDER BY resolution, project"
    ):
        found.setdefault(row.resolution, []).append(row.project)
    return {resolution: tuple(names) for resolution, names in found.items()}


async def load_wanted(store: Store) -> dict[tuple[str, str], frozenset[str]]:
    """Return the wanted filenames by (index, project)."""
    found: dict[tuple[str, str], set[str]] = {}
    query = 'SELECT DISTINCT index_name AS "index", project, filename FROM wanted'
    for file in await store.rows_as(WantedFile, query):
        found.setdefault((file.index, file.project), set()).add(file.filename)
    return {key: frozenset(names) for key, names in found.items()}


class _WantOfFile(Columns, frozen=True):
    filename: str
    want: str


async def load_wants_of(store: Store, project: str) -> dict[str, tuple[str, ...]]:
    """Return the wants of each file of a project, by filename."""
    found: dict[str, list[str]] = {}
    query = (
        "SELECT DISTINCT w.filename, r.want FROM wanted w JOIN resolution r ON r.id = w.resolution"
        " WHERE w.project = ? AND w.part != ? ORDER BY 1, 2"
    )
    for row in await store.rows_as(_WantOfFile, query, (project, WantedAs.EARLIER.value)):
        found.setdefault(row.filename, []).append(row.want)
    return {filename: tuple(wants) for filename, wants in found.items()}


async def record_resolution(store: Store, new: NewResolution, *, cycle: int, now: float) -> None:
    """Record the result of a run. The set before it stays wanted until the new one is held."""
    key = (new.key.want, new.key.file, new.key.target)
    async with store.transaction() as tx:
        await tx.execute(
            "INSERT INTO resolution (want, file, target, inputs, answer, cycle, made_at) VALUES"
            " (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (want, file, target) DO UPDATE SET inputs ="
            " excluded.inputs, answer = excluded.answer, cycle = excluded.cycle,"
            " made_at = excluded.made_at",
            (*key, new.inputs, new.answer.decode(), cycle, now),
        )
        resolution = await tx.value(
            "SELECT id FROM resolution WHERE want = ? AND file = ? AND target = ?", key
        )
        await tx.execute("DELETE FROM asked WHERE resolution = ?", (resolution,))
        names = [(resolution, name) for name in sorted(set(new.names))]
        await tx.executemany("INSERT INTO asked (resolution, project) VALUES (?, ?)", names)
        await tx.execute(
            "DELETE FROM wanted WHERE resolution = ? AND part = 'sought'", (resolution,)
        )
        if new.files is not None:
            await _replace_set(tx, resolution, new.files)
        await _insert(tx, resolution, new.sought, WantedAs.SOUGHT)


async def _replace_set(tx: Transaction, resolution: int, files: Sequence[WantedFile]) -> None:
    query = "SELECT EXISTS (SELECT 1 FROM wanted WHERE resolution = ? AND part = 'earlier')"
    if await tx.value(query, (resolution,)):  # the set before was never held as a whole
        await tx.execute("DELETE FROM wanted WHERE resolution = ? AND part = 'set'", (resolution,))
    else:
        await tx.execute(
            "UPDATE wanted SET part = 'earlier' WHERE resolution = ? AND part = 'set'",
            (resolution,),
        )
    await _insert(tx, resolution, files, WantedAs.SET)


async def _insert(
    tx: Transaction, resolution: int, files: Iterable[WantedFile], part: WantedAs
) -> None:
    await tx.executemany(
        "INSERT OR IGNORE INTO wanted (resolution, part, index_name, project,"
        " filename) VALUES (?, ?, ?, ?, ?)",
        [(resolution, part.value, one.index, one.project, one.filename) for one in files],
    )


async def record_inputs(store: Store, inputs: Mapping[int, tuple[str, bytes]]) -> None:
    """Replace digest and answer of resolutions whose result is unchanged."""
    async with store.transaction() as tx:
        await tx.executemany(
            "UPDATE resolution SET inputs = ?, answer = ? WHERE id = ?",
            [
                (digest, answer.decode(), resolution)
                for resolution, (digest, answer) in inputs.items()
            ],
        )


async def forget_resolutions(store: Store, resolutions: Sequence[int]) -> None:
    """Forget resolutions that no want has any more."""
    async with store.transaction() as tx:
        for table, column in (
            ("wanted", "resolution"),
            ("asked", "resolution"),
            ("resolution", "id"),
        ):
            await tx.executemany(
                f"DELETE FROM {table} WHERE {column} = ?", [(one,) for one in resolutions]
            )


_NOT_HELD = (
    "NOT EXISTS (SELECT 1 FROM source s JOIN project p ON p.source = s.id JOIN entry e ON"
    " e.project = p.id WHERE s.name = w.index_name AND p.name = w.project AND e.filename ="
    " w.filename AND e.valid_to IS NULL)"
)


class _MissingColumns(Columns, frozen=True):
    key: Key
    missing: WantedFile


async def load_missing(store: Store) -> list[tuple[Key, WantedFile]]:
    """Return the files of sets that are not published, with their resolutions."""
    rows = await store.rows_as(
        _MissingColumns,
        'SELECT r.want, r.file, r.target, w.index_name AS "index", w.project, w.filename'
        " FROM wanted w JOIN resolution r ON r.id = w.resolution"
        f" WHERE w.part = 'set' AND {_NOT_HELD} ORDER BY 1, 2, 3, 4, 5, 6",
    )
    return [(row.key, row.missing) for row in rows]


async def forget_earlier_sets(store: Store) -> int:
    """Forget the earlier sets whose new sets are held as a whole; return how many rows left."""
    where = (
        "part = 'earlier' AND resolution NOT IN"
        f" (SELECT w.resolution FROM wanted w WHERE w.part = 'set' AND {_NOT_HELD})"
    )
    if not await store.value(f"SELECT EXISTS (SELECT 1 FROM wanted WHERE {where})"):
        return 0
    async with store.transaction() as tx:
        return await tx.execute(f"DELETE FROM wanted WHERE {where}")


async def forget_wants(store: Store) -> None:
    """Forget all wants: the configuration has none, and without any its indexes select their files
    by patterns.
    """
    if not await has_wants(store):
        return
    async with store.transaction() as tx:
        for table in ("wanted", "asked", "resolution", "dropped_want"):
            await tx.execute(f"DELETE FROM {table}")
        await tx.execute("UPDATE source SET needed_since = NULL")
        await tx.execute("DELETE FROM meta WHERE key IN ('wants', 'targets', 'wants_folder')")


async def has_wants(store: Store) -> bool:
    """Return whether the last cycle had wants."""
    return bool(await load_meta(store, "wants") not in {None, "", "[]"})


async def record_remembered(store: Store, remembered: Remembered) -> None:
    """Remember the targets and wants of the configuration, for commands that have only the root."""
    values = {
        "targets": remembered.targets.decode(),
        "wants": remembered.wants.decode(),
        "wants_folder": remembered.folder,
    }
    known = await load_metas(store, values.keys())
    changed = [(key, value) for key, value in values.items() if known.get(key) != value]
    if changed:
        async with store.transaction() as tx:
            await tx.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", changed)


async def load_remembered(store: Store) -> Remembered | None:
    """Return the targets and wants of the last cycle; None where it had none."""
    known = await load_metas(store, ("wants", "targets", "wants_folder"))
    wants, targets = known.get("wants"), known.get("targets")
    if wants is None or targets is None:
        return None
    folder = known.get("wants_folder", "")
    return Remembered(targets=targets.encode(), wants=wants.encode(), folder=folder)


async def load_published_count(store: Store, index: str) -> int:
    """Return how many files of an index are published and in no want's set."""
    return int(
        await store.value(
            "SELECT count(*) FROM entry e JOIN project p ON p.id = e.project JOIN source s ON"
            " s.id = e.source WHERE s.name = ? AND e.valid_to IS NULL AND NOT EXISTS (SELECT 1"
            " FROM wanted w WHERE w.index_name = s.name AND w.project = p.name AND"
            " w.filename = e.filename)",
            (index,),
        )
    )


class NamedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A project of an index as its root lists it, due or not."""

    id: int
    name: ProjectName
    source: int
    is_absent: bool
    """Missing in the last look at the root."""


async def load_named(store: Store, names: Sequence[str]) -> list[NamedRow]:
    """Return the rows of some projects in all indexes whose roots list them."""
    found: list[NamedRow] = []
    for chunk in chunks(names):
        found += await store.rows_as(
            NamedRow,
            "SELECT p.id, p.name, p.source, p.absent_since IS NOT NULL AS is_absent FROM project"
            " p JOIN source s ON s.id = p.source WHERE s.configured = 1 AND p.listed = 1 AND"
            f" p.wanted = 1 AND p.name IN ({marks(chunk)})",
            tuple(chunk),
        )
    return found


class _WantOfProject(Columns, frozen=True):
    project: str
    want: str


async def load_wants_by_project(store: Store, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the wants that need files of some projects, by project."""
    found: dict[str, list[str]] = {}
    for chunk in chunks(names):
        rows = await store.rows_as(
            _WantOfProject,
            "SELECT DISTINCT w.project, r.want FROM wanted w JOIN resolution r ON r.id ="
            " w.resolution WHERE w.part != 'earlier' AND w.project IN"
            f" ({marks(chunk)}) ORDER BY 1, 2",
            tuple(chunk),
        )
        for row in rows:
            found.setdefault(row.project, []).append(row.want)
    return {project: tuple(wants) for project, wants in found.items()}


async def load_needed_indexes(store: Store) -> frozenset[str]:
    """Return the indexes of which only needed files are mirrored."""
    return frozenset(await store.values("SELECT name FROM source WHERE needed_since IS NOT NULL"))


class FallbackFile(msgspec.Struct, frozen=True, kw_only=True):
    """A published file that comes from another index than the first."""

    project: str
    filename: str
    index: str


async def load_fallback(store: Store) -> list[FallbackFile]:
    """Return the published files of all indexes after the first, by project and name."""
    return await store.rows_as(
        FallbackFile,
        'SELECT p.name AS project, e.filename, s.name AS "index" FROM entry e'
        " JOIN project p ON p.id = e.project JOIN source s ON s.id = e.source"
        " WHERE e.valid_to IS NULL AND s.configured = 1 AND s.position > 0 ORDER BY 1, 2",
    )
