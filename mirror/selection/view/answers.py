"""The answers of one run of the resolver: the tables of the projects that it asks for, on demand, and
their metadata.

Invariants: a name is answered once in a run, and stays answered so; an answer that can't be had for a
reason that is not the project's own makes the run void at once, since the answer would be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import anyio
import msgspec
from packaging.version import Version

from mirror.core.names import ProjectName
from mirror.core.offers import MetadataRefused, Offer, ProjectOffers
from mirror.errors import MirrorError
from mirror.selection.gaps import GapReason, reason_of_ledger
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

    async def look(self, project: ProjectName) -> ProjectOffers:
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


class RunAnswers:
    """The answers of the view in one run."""

    def __init__(self, offers: Offers, environment: Environment, sdists: Sdists) -> None:
        self._offers, self.environment, self._sdists = offers, environment, sdists
        self.tables: dict[ProjectName, VersionTable] = {}
        """Of all names that were asked for, also of those that no index lists."""
        self.metadata: dict[tuple[ProjectName, Version], FileMetadata] = {}
        self.void: Exception | None = None
        """Why the run counts for nothing."""
        self.has_failed = anyio.Event()
        """Set with ``void``: the resolver is ended at once."""
        self._pages: dict[ProjectName, bytes] = {}
        self._texts: dict[tuple[ProjectName, Version], bytes] = {}
        self._sdists_read: Counter[ProjectName] = Counter()
        self._locks: dict[ProjectName, anyio.Lock] = {}

    async def table(self, project: ProjectName) -> VersionTable:
        """Return the table of a project, read at the first call. Raises ``MirrorError``."""
        async with self._locks.setdefault(project, anyio.Lock()):
            known = self.tables.get(project)
            if known is None:
                if len(self.tables) >= MAX_NAMES:
                    raise TooManyNames
                listing = await self._offers.look(project)
                known = build_table(listing, self.environment, self._sdists)
                self.tables[project] = known
        return known

    async def page(self, project: ProjectName) -> bytes | None:
        """Return the page of a project, or None for a name that no index lists."""
        try:
            table = await self.table(project)
        except (MirrorError, TooManyNames) as exc:
            self._fail(exc)
            raise
        if not table.listing.is_listed:
            return None
        if project not in self._pages:
            self._pages[project] = render_page(table)
        return self._pages[project]

    async def metadata_text(self, alias: str) -> bytes | None:
        """Return the metadata of the file that is shown under an alias name; None for an unknown one."""
        found = version_of_alias(alias)
        if found is None:
            return None
        project, version = found
        table = self.tables.get(project)
        shown = table.shown.get(version) if table is not None else None
        if shown is None or alias != alias_of(project, shown.version):
            return None
        text = self._texts.get((project, version))
        if text is None:
            try:
                text = await self._read(project, shown)
            except MirrorError as exc:
                self._fail(exc)
                raise
            self._texts[project, version] = text
        return text

    async def _read(self, project: ProjectName, shown: ShownVersion) -> bytes:
        version = shown.version
        if not shown.is_wheel:
            self._sdists_read[project] += 1
            if self._sdists_read[project] > MAX_SDISTS:
                detail = f"{project} {version}: {MAX_SDISTS} source distributions were read before"
                return self._pass(project, shown, GapReason.UNPROVED, detail)
        try:
            data = await self._offers.metadata(project, shown.offer)
            read = read_metadata(data, project, version)
        except MetadataRefused as exc:
            reason = reason_of_ledger(exc.hidden.reason)
            words = (
                f"{exc.hidden.reason.value}: {exc.hidden.detail}"
                if reason is GapReason.FAILED
                else exc.hidden.detail
            )
            return self._pass(project, shown, reason, words)
        except MetadataProblem as exc:
            return self._pass(
                project, shown, GapReason.FAILED, f"bad-file: {shown.offer.file.filename}: {exc}"
            )
        if not self.environment.admits(read.requires_python):
            detail = f"{project} {version} requires Python {read.requires_python}, not {self.environment.release}"
            return self._pass(project, shown, GapReason.REQUIRES_PYTHON, detail)
        self.metadata[project, version] = read
        return render_metadata(read, project, version)

    def _pass(
        self, project: ProjectName, shown: ShownVersion, reason: GapReason, detail: str
    ) -> bytes:
        """Move a version to those that are passed over."""
        table, version = self.tables[project], shown.version
        passed = Passed(version=version, reason=reason, detail=detail, offers=(shown.offer,))
        self.tables[project] = msgspec.structs.replace(
            table,
            shown={v: one for v, one in table.shown.items() if v != version},
            passed={**table.passed, version: passed},
        )
        return render_refused(project, version)

    def _fail(self, error: Exception) -> None:
        if self.void is None:
            self.void = error
            self.has_failed.set()


def names_of(answers: RunAnswers) -> Mapping[ProjectName, VersionTable]:
    """Return the tables by name, in their order: equal runs ask in any order."""
    return {name: answers.tables[name] for name in sorted(answers.tables)}
