"""The digest of all that a resolution, or a proof, depends on: equal digests, equal answers.

Two digests: of whole listings, which is cheap, and equal where nothing changed at all; and of the
rows that the view showed, which counts where a listing changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import msgspec

from mirror.config import WantConfig
from mirror.core.names import ProjectName
from mirror.core.offers import ProjectOffers
from mirror.selection.targets import Environment
from mirror.selection.view.tables import Sdists, build_table, rows_of
from mirror.selection.wants import LockedSet, Resolution, UnresolvedFile, WantSource

_TABLES = 1
"""The version of the view's rules. Another one has everything resolved again."""


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """The digests of the inputs of one answer."""

    listings: str
    """Of all listings as they are: equal where nothing at all changed."""
    rows: str
    """Of the rows that the view showed."""


class Listings(Protocol):
    """The listings of the projects that an answer asked for."""

    async def digest(self, project: ProjectName) -> str:
        """Return the digest of a project's listing. Raises ``MirrorError``."""

    async def list_offers(self, project: ProjectName) -> ProjectOffers:
        """Return a project's listing. Raises ``MirrorError``."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question, without the listings that its answer depends on."""

    source: WantSource
    want: WantConfig | None
    environments: tuple[Environment, ...]
    uv_version: str | None
    sdists: Sdists
    counts_all_files: bool
    """Whether files count that the view does not show: other wheels, source distributions."""
    pre_releases: bool = False
    """Whether pre-releases are taken like other versions."""

    def described(self) -> list[object]:
        """Return all on which the answer depends except the listings."""
        want = self.want
        return [
            _TABLES,
            self.uv_version if isinstance(self.source, Resolution) else None,
            _described(self.source),
            [
                self.sdists,
                self.counts_all_files,
                *(
                    []
                    if want is None
                    else [
                        want.versions,
                        want.wheels,
                        want.sdists,
                        want.accept_unproved,
                        want.lock_platforms,
                        want.on_rebuilt,
                    ]
                ),
            ],
            [
                [one.release, one.uv_python_platform, len(one.tags), str(one.tags[0])]
                for one in self.environments
            ],
            self.environments[0].tags_digest,
            *(["pre-releases"] if self.pre_releases else []),
        ]


async def digest_of_listings(asked: Asked, names: Sequence[str], listings: Listings) -> str:
    """Return the first digest alone. Raises ``MirrorError`` where a listing is not known."""
    digests = [[name, await listings.digest(ProjectName(name))] for name in sorted(names)]
    return _digest([asked.described(), digests])


async def inputs_of(
    asked: Asked, releases: Sequence[str], names: Sequence[str], listings: Listings
) -> Inputs:
    """Return both digests for the names that an answer asked for. Raises ``MirrorError``."""
    chosen = [one for one in asked.environments if one.release in releases]
    rows = [asked.described()]
    for name in sorted(names):
        listing = await listings.list_offers(ProjectName(name))
        if asked.counts_all_files:
            rows.append([name, listing.digest])
        rows += [
            [name, one.release, rows_of(build_table(listing, one, asked.sdists))] for one in chosen
        ]
    whole = await digest_of_listings(asked, names, listings)
    return Inputs(listings=whole, rows=_digest(rows))


def _described(source: WantSource) -> list[object]:
    match source:
        case Resolution(lines=lines, constraints=constraints):
            hashes = [[one.text, *one.hashes] for one in (*lines, *constraints) if one.hashes]
            texts = [[line.text for line in lines], [line.text for line in constraints]]
            return [*texts, hashes] if hashes else [*texts]
        case LockedSet():
            return [repr(source)]
        case UnresolvedFile(problem=problem):
            return [problem]


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()
