"""The versions that leave a site with a bundle: the near side knows them, and writes them into
``README.txt``, whose digest is signed; ``mirror bundle inspect`` reads them there.

``bundle.json`` can't have them: receivers of 0.1 refuse a key that they don't know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mirror.core.changes import compare_project
from mirror.core.names import ProjectName
from mirror.state.frozen.draft import BundleDraft
from mirror.state.frozen.shipments import ShipmentRow
from mirror.state.frozen.snapshots import load_files_at
from mirror.state.store import Store

_HEADING: Final = "VERSIONS THAT LEAVE"
_NONE: Final = "none"
_CHUNK: Final = 500

Leaving = Mapping[str, Sequence[str]]
"""Project -> versions, sorted."""


async def load_leaving(
    draft: BundleDraft, store: Store, bases: Sequence[ShipmentRow], revision: int
) -> dict[str, list[str]]:
    """Return the versions that one of the bases has, and the resulting state no longer has."""
    pages = (item.path.split("/") for item, _ in draft.iter_items("page"))
    changed = {parts[1] for parts in pages if len(parts) > 2}
    names = [ProjectName(name) for name in sorted(changed.union(draft.removed()))]
    found: dict[str, set[str]] = {}
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        after = await load_files_at(store, chunk, revision)
        for base in bases:
            before = await load_files_at(store, chunk, base.revision)
            for name in chunk:
                change = compare_project(name, before.get(name, {}), after.get(name, {}))
                if change is not None and change.versions_removed:
                    found.setdefault(name, set()).update(change.versions_removed)
    return {name: sorted(versions) for name, versions in found.items()}


def render_leaving(leaving: Leaving) -> str:
    """Return the section of ``README.txt``."""
    lines = [f"    {name} {', '.join(versions)}\n" for name, versions in leaving.items()]
    return f"\n{_HEADING}\n\n{''.join(lines) or f'    {_NONE}' + chr(10)}"


def parse_leaving(readme: str) -> dict[str, list[str]] | None:
    """Return the content of that section; None where a bundle of an older version has none."""
    _, heading, section = readme.rpartition(f"\n{_HEADING}\n\n")
    if not heading:
        return None
    found = {}
    for line in section.splitlines():
        name, _, versions = line.strip().partition(" ")
        if versions:
            found[name] = versions.split(", ")
    return found
