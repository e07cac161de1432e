"""The published bytes by want and by project: what takes the room. Reading only.

The largest projects are one more pass over ``entry_counts`` (``overview``); wants are as large as
their sets.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mirror.state.store import Store

_LARGEST: Final = 10


class WantSize(msgspec.Struct, frozen=True, kw_only=True):
    """The published files of a want's sets."""

    want: str
    files: int
    size: int
    own_size: int
    """Bytes of those that no other want needs."""


class ProjectSize(msgspec.Struct, frozen=True, kw_only=True):
    """The published files of a project that come from one index."""

    index: str
    project: str
    files: int
    size: int


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Both."""

    wants: tuple[WantSize, ...] = ()
    projects: tuple[ProjectSize, ...] = ()
    """The largest ones, the largest first."""


async def load_sizes(store: Store) -> Sizes:
    """Return the bytes of all wants, and of the largest projects."""
    wants = await store.rows_as(
        WantSize,
        "WITH needed AS (SELECT DISTINCT r.want, e.id, e.size FROM wanted w"
        " JOIN resolution r ON r.id = w.resolution JOIN source s ON s.name = w.index_name"
        " JOIN project p ON p.source = s.id AND p.name = w.project"
        " JOIN entry e ON e.project = p.id AND e.filename = w.filename AND e.valid_to IS NULL"
        " WHERE w.part != 'sought'),"
        " shared AS (SELECT id, count(*) AS wants FROM needed GROUP BY id)"
        " SELECT want, count(*) AS files, sum(size) AS size,"
        " sum(CASE WHEN shared.wants = 1 THEN size ELSE 0 END) AS own_size"
        " FROM needed JOIN shared ON shared.id = needed.id GROUP BY want ORDER BY want",
    )
    projects = await store.rows_as(
        ProjectSize,
        'SELECT s.name AS "index", p.name AS project, x.files, x.size'
        " FROM (SELECT source, project, count(*) AS files, sum(size) AS size FROM entry"
        " WHERE valid_to IS NULL GROUP BY source, project ORDER BY size DESC LIMIT ?) x"
        " JOIN project p ON p.id = x.project JOIN source s ON s.id = x.source"
        " ORDER BY x.size DESC, p.name, s.position",
        (_LARGEST,),
    )
    return Sizes(wants=tuple(wants), projects=tuple(projects))
