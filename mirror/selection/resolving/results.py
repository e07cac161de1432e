"""The result of one resolution: its files, or its gaps; kept in the state as JSON."""

from __future__ import annotations

import msgspec

from mirror.core.model import Digests
from mirror.selection.gaps import EXPLAINED, Gap, Instead
from mirror.selection.resolving.walk import Edge
from mirror.state.wants.needs import StoredResolution


class ChosenFile(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A file of a set."""

    index: str
    project: str
    version: str
    filename: str
    size: int | None = None
    digests: Digests = ()
    is_build: bool = False
    """Only building another file of the set takes it."""
    is_unproved: bool = False
    """A source distribution whose dependencies are known only by running it."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one resolution, for all releases of its Python."""

    is_resolved: bool
    is_void: bool = False
    """Nothing was resolved yet, since something could not be asked for; no failure of the want."""
    releases: tuple[str, ...] = ()
    """One release of each group that answers alike."""
    names: tuple[str, ...] = ()
    """All projects that were asked for, sorted."""
    files: tuple[ChosenFile, ...] = ()
    sought: tuple[ChosenFile, ...] = ()
    """Files that would be taken if they could be had."""
    gaps: tuple[Gap, ...] = ()
    instead: tuple[Instead, ...] = ()
    rebuilt: tuple[str, ...] = ()
    """Files that have other bytes than a lock names, and are followed."""
    edges: tuple[Edge, ...] = ()
    warnings: tuple[str, ...] = ()
    unknown_extras: tuple[str, ...] = ()
    """One sentence for each extra that the want asks for and the chosen version does not have."""

    @property
    def is_failure(self) -> bool:
        """Whether it makes a cycle partial: a gap that is nobody's decision."""
        return not (self.is_resolved or self.is_void) and any(
            gap.reason not in EXPLAINED for gap in self.gaps
        )

    @property
    def is_installable(self) -> bool:
        """Whether the set installs, as far as the listings show."""
        return self.is_resolved and not self.gaps


def decode_result(stored: StoredResolution) -> Result:
    """Return a recorded result."""
    return msgspec.json.decode(stored.answer, type=Result)


def failed(gaps: tuple[Gap, ...], **more: object) -> Result:
    """Return a result without files."""
    return msgspec.structs.replace(Result(is_resolved=False, gaps=gaps), **more)


def union(results: list[Result]) -> Result:
    """Return one result for several groups of releases: all of their sets, resolved where all
    are.
    """
    return Result(
        is_resolved=all(one.is_resolved for one in results),
        releases=tuple(dict.fromkeys(release for one in results for release in one.releases)),
        names=tuple(sorted({name for one in results for name in one.names})),
        files=tuple(sorted({file for one in results for file in one.files})),
        sought=tuple(sorted({file for one in results for file in one.sought})),
        gaps=tuple(dict.fromkeys(gap for one in results for gap in one.gaps)),
        instead=tuple(dict.fromkeys(item for one in results for item in one.instead)),
        rebuilt=tuple(dict.fromkeys(name for one in results for name in one.rebuilt)),
        edges=tuple(dict.fromkeys(edge for one in results for edge in one.edges)),
        warnings=tuple(dict.fromkeys(word for one in results for word in one.warnings)),
        unknown_extras=tuple(
            dict.fromkeys(words for one in results for words in one.unknown_extras)
        ),
    )
