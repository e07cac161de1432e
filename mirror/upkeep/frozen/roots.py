"""Root pages of frozen states."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.core.names import ProjectName
from mirror.core.pages import parse_json
from mirror.errors import BadPage, TreeError


def parse_frozen_root(data: bytes, path: str) -> list[tuple[ProjectName, int]]:
    """Return the projects of a snapshot's root page. Raises ``TreeError``."""
    try:
        page = parse_json.parse_root_page(data, url="file:///")
    except BadPage as exc:
        problem = f"the snapshot can't be read ({exc}); delete it"
        raise TreeError(path=path, problem=problem) from exc
    return sorted((name, serial or 0) for name, serial in page.projects.items())


def names_of(projects: Sequence[tuple[ProjectName, int]]) -> list[ProjectName]:
    """Return the names without their revisions."""
    return [name for name, _ in projects]
