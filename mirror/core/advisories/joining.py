"""Records that are one advisory, since ``aliases`` join them.

Two records are joined where one names the other, or where both name an id, whether that id has a
record of its own or not. A withdrawn record says nothing: neither versions, nor a severity, nor
aliases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mirror.core.advisories.ranges import Affected

if TYPE_CHECKING:
    from mirror.core.advisories.osv import OsvRecord


class Advisory(msgspec.Struct, frozen=True, array_like=True):
    """What all joined records say of one project."""

    ids: tuple[str, ...]
    """Of the records about this project, sorted."""
    names: tuple[str, ...]
    """Every id by which it is known, in lower case, sorted: ignoring one ignores all."""
    level: int
    parts: tuple[Affected, ...]


def join_records(records: Sequence[OsvRecord]) -> dict[str, list[Advisory]]:
    """Return the advisories by project, in the order of their ids."""
    live = [record for record in records if not record.is_withdrawn]
    by_name: dict[str, list[int]] = defaultdict(list)
    for number, record in enumerate(live):
        for name in _names(record):
            by_name[name].append(number)
    found: dict[str, list[Advisory]] = defaultdict(list)
    seen: set[int] = set()
    for number, record in enumerate(live):
        if number not in seen and record.affected:
            group = _group_of(number, live, by_name)
            seen |= group
            for project, advisory in _advisories_of([live[one] for one in sorted(group)]):
                found[project].append(advisory)
    return {project: sorted(of, key=lambda one: one.ids) for project, of in found.items()}


def _names(record: OsvRecord) -> set[str]:
    return {name.lower() for name in (record.id, *record.aliases)}


def _group_of(first: int, live: Sequence[OsvRecord], by_name: dict[str, list[int]]) -> set[int]:
    """Return the numbers of all records that are joined with one, itself among them."""
    group, todo = {first}, [first]
    while todo:
        for name in _names(live[todo.pop()]):
            # Each name is followed once: a name that many records share would be read for each.
            for number in by_name.pop(name, ()):
                if number not in group:
                    group.add(number)
                    todo.append(number)
    return group


def _advisories_of(group: Sequence[OsvRecord]) -> list[tuple[str, Advisory]]:
    names = tuple(sorted({name for record in group for name in _names(record)}))
    level = max(record.level for record in group)
    parts: dict[str, list[Affected]] = defaultdict(list)
    ids: dict[str, set[str]] = defaultdict(set)
    for record in group:
        for part in record.affected:
            parts[part.project].append(part)
            ids[part.project].add(record.id)
    return [
        (
            project,
            Advisory(
                ids=tuple(sorted(ids[project])),
                names=names,
                level=max(level, *(part.level for part in of)),
                parts=tuple(of),
            ),
        )
        for project, of in parts.items()
    ]
