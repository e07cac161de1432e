"""Files that the pages of an index list and that a rule of the configuration leaves out.

For each project and rule the table ``left_out`` holds a count and names, at most ``MAX_NAMES``
names for one project. Rows are written when a page was read and its left-out files changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

import msgspec

from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction

MAX_NAMES = 1000
"""Maximum number of left-out names that are kept for one project of one index."""

LeftOutRows = dict[str, tuple[int, str]]
"""Rule -> number of files, and their first names as a JSON list."""


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """The files that one rule leaves out of one project's page."""

    rule: str
    """A key of the configuration such as ``exclude-files``, or another word that names the rule."""
    files: int
    names: tuple[str, ...]
    """Sorted; fewer than ``files`` where the page lists more than can be kept."""


async def enter_left_out(tx: Transaction, rows: Mapping[int, LeftOutRows]) -> None:
    """Record the left-out files of pages that were read, by the project's id."""
    known = await _load(tx, list(rows))
    changed = [project for project in rows if rows[project] != known.get(project, {})]
    await forget_left_out(tx, changed)
    await tx.executemany(
        "INSERT INTO left_out (project, rule, files, names) VALUES (?, ?, ?, ?)",
        [(project, rule, *values) for project in changed for rule, values in rows[project].items()],
    )
    skipped = [
        (sum(count for count, _ in found.values()), project) for project, found in rows.items()
    ]
    await tx.executemany("UPDATE project SET skipped = ? WHERE id = ? AND skipped != ?1", skipped)


async def forget_left_out(tx: Transaction, projects: Sequence[int]) -> None:
    """Forget the left-out files of some projects' pages."""
    await tx.executemany(
        "DELETE FROM left_out WHERE project = ?", [(project,) for project in projects]
    )
    await tx.executemany(
        "UPDATE project SET skipped = 0 WHERE id = ?", [(project,) for project in projects]
    )


async def load_left_out(store: Store, project: int) -> tuple[LeftOut, ...]:
    """Return the left-out files of one project of one index, by rule."""
    query = "SELECT rule, files, names FROM left_out WHERE project = ? ORDER BY rule"
    return tuple(await store.rows_as(LeftOut, query, (project,)))


async def count_left_out(store: Store, source: int) -> dict[str, int]:
    """Return how many files of one index each rule leaves out."""
    query = "SELECT rule, files FROM left_out_total WHERE source = ? AND files > 0 ORDER BY rule"
    return await store.mapping(query, (source,))


def left_out_rows(left_out: Mapping[str, str]) -> LeftOutRows:
    """Return the rows of one project (filename -> rule), with names of every rule while there is
    room.
    """
    counts = Counter(left_out.values())
    names: dict[str, list[str]] = {rule: [] for rule in counts}
    for name in islice(sorted(left_out), MAX_NAMES):
        names[left_out[name]].append(name)
    return {
        rule: (count, msgspec.json.encode(names[rule]).decode()) for rule, count in counts.items()
    }


def judged_again(known: Iterable[LeftOut], rules: Mapping[str, tuple[str, str]]) -> LeftOutRows:
    """Return the rows of one project after some files were judged again.

    ``rules``: the rule before and after, by file name; an empty one leaves the file in.
    """
    counts = Counter({one.rule: one.files for one in known})
    names = {one.rule: set(one.names) for one in known}
    for filename, (before, after) in rules.items():
        counts[before] -= 1
        names.get(before, set()).discard(filename)
        counts[after] += 1
        names.setdefault(after, set()).add(filename)
    room = MAX_NAMES
    rows: LeftOutRows = {}
    for rule in sorted(counts):
        if rule and counts[rule] > 0:
            shown = sorted(names.get(rule, ()))[:room]
            room -= len(shown)
            rows[rule] = (counts[rule], msgspec.json.encode(shown).decode())
    return rows


def without_files(rows: LeftOutRows, filenames: Collection[str]) -> LeftOutRows:
    """Return the rows of one project without some files, which stay on the pages."""
    found: LeftOutRows = {}
    for rule, (count, text) in rows.items():
        names: list[str] = msgspec.json.decode(text)
        left = [name for name in names if name not in filenames]
        remaining = count - len(names) + len(left)
        if remaining:
            found[rule] = (remaining, msgspec.json.encode(left).decode())
    return found


class _LeftOutColumns(Columns, frozen=True):
    project: int
    rule: str
    files: int
    names: str


async def _load(tx: Transaction, projects: Sequence[int]) -> dict[int, dict[str, tuple[int, str]]]:
    found: dict[int, dict[str, tuple[int, str]]] = {}
    for chunk in chunks(projects):
        for row in await tx.rows_as(
            _LeftOutColumns,
            f"SELECT project, rule, files, names FROM left_out WHERE project IN ({marks(chunk)})",
            chunk,
        ):
            found.setdefault(row.project, {})[row.rule] = (row.files, row.names)
    return found
