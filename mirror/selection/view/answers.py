"""The answers of the view: the tables of the projects that a run of the resolver asks for, and
their metadata, on demand.

Invariants: a name is answered once at an address, and stays answered so; an answer that
can't be had for a reason that is not the project's own makes the run void at once.
"""

from __future__ import annotations

from typing import Protocol

import anyio
import msgspec
from packaging.version import Version

from mirror.core.names import ProjectName
from mirror.core.offers import MetadataRefused, Offer, ProjectOffers
from mirror.errors import MirrorError
from mirror.selection.gaps import GapReason, gap_of_hidden
from mirror.selection.targets import Environment
from mirror.selection.view.metadata import (
    FileMetadata,
    MetadataProblem,
    read_metadata,
    render_metadata,
    render_refused,
)
from mirror.selection.view.tables import (
    Passed,
    Sdists,
    ShownVersion,
    VersionTable,
    alias_of,
    build_table,
    render_page,
    version_of_alias,
)

MAX_SDISTS = 20
"""Maximum number of source distributions of one project whose metadata one run reads."""
MAX_NAMES = 20_000
"""Maximum number of projects that one resolution may ask for."""


class Offers(Protocol):
    """Where listings and metadata come from: the indexes in a cycle, or the published pages."""

    async def list_offers(self, project: ProjectName) -> ProjectOffers:
        """Return the offers of a project. Raises ``MirrorError`` where nobody knows."""

    async def metadata(self, project: ProjectName, offer: Offer) -> bytes:
        """Return the core metadata of a file.

        Raises ``MetadataRefused`` where this file has none, ``MirrorError`` where nobody knows.
        """

    async def build_requires(self, project: ProjectName, offer: Offer) -> tuple[str, ...]:
        """Return the build requirements of a source distribution.

        Raises ``MetadataRefused``, ``MirrorError``.
        """


class TooManyNames(Exception):
    """A resolution has asked for more projects than any real one needs."""


class SharedAnswers:
    """The answers at one address of the view: for one environment, equal for each run.

    Runs share the resolver's cache, which knows a file by its name below the address.
    """

    def __init__(self, offers: Offers, environment: Environment, sdists: Sdists) -> None:
        self.offers, self.environment, self.sdists = offers, environment, sdists
        self.tables: dict[ProjectName, VersionTable] = {}
        self.metadata: dict[tuple[ProjectName, Version], FileMetadata] = {}
        self._pages: dict[ProjectName, bytes] = {}
        self._texts: dict[tuple[ProjectName, Version], bytes] = {}
        self._locks: dict[object, anyio.Lock] = {}

    async def table(self, project: ProjectName) -> VersionTable:
        """Return the table of a project, built at the first call. Raises ``MirrorError``."""
        async with self._locks.setdefault(project, anyio.Lock()):
            known = self.tables.get(project)
            if known is None:
                listing = await self.offers.list_offers(project)
                known = self.tables[project] = build_table(listing, self.environment, self.sdists)
        return known

    def page(self, project: ProjectName) -> bytes:
        """Return the page of a project whose table is built; it stays the same at this address."""
        if project not in self._pages:
            self._pages[project] = render_page(self.tables[project])
        return self._pages[project]

    async def text(self, project: ProjectName, shown: ShownVersion) -> bytes:
        """Return the metadata of a version for the resolver. Raises ``MirrorError``."""
        key = (project, shown.version)
        async with self._locks.setdefault(key, anyio.Lock()):
            if key not in self._texts:
                self._texts[key] = await self._read(project, shown)
        return self._texts[key]

    async def _read(self, project: ProjectName, shown: ShownVersion) -> bytes:
        version = shown.version
        try:
            data = await self.offers.metadata(project, shown.offer)
            read = read_metadata(data, project, version)
        except MetadataRefused as exc:
            reason, words = gap_of_hidden(exc.hidden)
            return self._pass(project, shown, reason, words)
        except MetadataProblem as exc:
            words = f"bad-file: {shown.offer.file.filename}: {exc}"
            return self._pass(project, shown, GapReason.FAILED, words)
        if not self.environment.admits(read.requires_python):
            asked = read.requires_python
            words = f"{project} {version} requires Python {asked}, not {self.environment.release}"
            return self._pass(project, shown, GapReason.REQUIRES_PYTHON, words)
        self.metadata[project, version] = read
        return render_metadata(read, project, version)

    def _pass(
        self, project: ProjectName, shown: ShownVersion, reason: GapReason, detail: str
    ) -> bytes:
        self.tables[project] = _without(self.tables[project], shown, reason, detail)
        return render_refused(project, shown.version)


class RunAnswers:
    """The answers of the view in one run: the names that it asked for, and why it may count for
    nothing.
    """

    def __init__(self, shared: SharedAnswers) -> None:
        self.shared, self.environment = shared, shared.environment
        self.tables: dict[ProjectName, VersionTable] = {}
        """Of all names that were asked for, also of those that no index lists."""
        self.metadata: dict[tuple[ProjectName, Version], FileMetadata] = {}
        self.void: Exception | None = None
        """Why the run counts for nothing."""
        self.has_failed = anyio.Event()
        """Set with ``void``: the resolver is ended at once."""
        self._sdists_read: dict[ProjectName, set[Version]] = {}
        self._limited: dict[ProjectName, list[ShownVersion]] = {}
        """Source distributions beyond the limit of this run."""

    async def page(self, project: ProjectName) -> bytes | None:
        """Return the page of a project, or None for a name that no index lists."""
        try:
            table = await self.shared.table(project)
            if project not in self.tables and len(self.tables) >= MAX_NAMES:
                raise TooManyNames
        except (MirrorError, TooManyNames) as exc:
            self._fail(exc)
            raise
        self._take(project)
        return self.shared.page(project) if table.listing.is_listed else None

    async def metadata_text(self, alias: str) -> bytes | None:
        """Return the metadata of the file that has an alias name; None for an unknown one."""
        found = version_of_alias(alias)
        if found is None:
            return None
        project, version = found
        table = self.shared.tables.get(project)
        shown = self._shown(table, version) if table is not None else None
        if shown is None or alias != alias_of(project, shown.version):
            return None
        if self._is_beyond(project, shown):
            self._take(project)
            return render_refused(project, version)
        try:
            text = await self.shared.text(project, shown)
        except MirrorError as exc:
            self._fail(exc)
            raise
        if (read := self.shared.metadata.get((project, version))) is not None:
            self.metadata[project, version] = read
        self._take(project)
        return text

    def _shown(self, table: VersionTable, version: Version) -> ShownVersion | None:
        """Return a version as the page shows it, also one whose metadata was refused since."""
        if version in table.shown:
            return table.shown[version]
        passed = table.passed.get(version)
        return passed.shown if passed is not None else None

    def _is_beyond(self, project: ProjectName, shown: ShownVersion) -> bool:
        """Return whether this run has read enough source distributions of a project."""
        if shown.is_wheel:
            return False
        read = self._sdists_read.setdefault(project, set())
        if shown.version not in read and len(read) >= MAX_SDISTS:
            self._limited.setdefault(project, []).append(shown)
            return True
        read.add(shown.version)
        return False

    def _take(self, project: ProjectName) -> None:
        """Remember the table of a project as this run sees it."""
        table = self.shared.tables[project]
        for shown in self._limited.get(project, ()):
            detail = (
                f"{project} {shown.version}: {MAX_SDISTS} source distributions were read before"
            )
            table = _without(table, shown, GapReason.UNPROVED, detail)
        self.tables[project] = table

    def _fail(self, error: Exception) -> None:
        if self.void is None:
            self.void = error
            self.has_failed.set()


def _without(
    table: VersionTable, shown: ShownVersion, reason: GapReason, detail: str
) -> VersionTable:
    """Return a table in which a shown version is passed over."""
    version = shown.version
    passed = Passed(
        version=version, reason=reason, detail=detail, offers=(shown.offer,), shown=shown
    )
    return msgspec.structs.replace(
        table,
        shown={v: one for v, one in table.shown.items() if v != version},
        passed={**table.passed, version: passed},
    )
