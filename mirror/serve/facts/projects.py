"""The facts about one project: its versions and files, its metadata, what of it is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from mirror.core.files.project_metadata import ProjectMetadata, parse_project_metadata
from mirror.core.files.versions import VersionFiles, Yanked, group_versions, newest_version
from mirror.core.names import ProjectName
from mirror.core.words.advice import advice_for
from mirror.core.words.tag_words import describe_file, expand_tags
from mirror.serve.facts.reading import Reading
from mirror.serve.facts.tree_pages import ListedBlob, PublishedPage, load_project_page
from mirror.state.advisories.vulnerable import (
    VulnerableFile,
    load_advice_words,
    load_not_judged,
    load_vulnerable,
    load_withdrawn_by_advisory,
)
from mirror.state.listing.sources import load_sources
from mirror.state.missing.ledger import FailureRow
from mirror.state.missing.unserved import Unserved, load_unserved
from mirror.state.readers.lookup import IndexPart, ProjectPart, load_project, words_of_left_out
from mirror.state.shown.origins import FirstSeen, load_origins, load_shown, load_summary
from mirror.state.store import Store

_MAX_ADVISED = 1000


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A published file. ``first_seen``: seconds since the epoch."""

    filename: str
    size: int
    sha256: str
    upload_time: str | None
    requires_python: str | None
    yanked: Yanked
    words: str
    """What kind of file it is, or where the wheel runs."""
    tags: tuple[str, ...]
    address: str
    """Relative to the server's base address."""
    first_seen: float | None = None
    index: str | None = None
    has_metadata: bool = False


class VersionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A version with its files."""

    version: str | None
    yanked: Yanked
    is_prerelease: bool
    files: tuple[FileFacts, ...]


class DependencyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A requirement of the newest version."""

    requirement: str
    project: str | None
    held: bool
    extra: str | None = None


class IndexShare(msgspec.Struct, frozen=True, kw_only=True):
    """An index's part in a project."""

    name: str
    lists: bool
    owns: bool


class MissingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A file that an index lists, or the page itself, and that is not here."""

    filename: str | None
    index: str
    reason: str
    detail: str
    advice: str


class ProjectFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A project as pages and API show it."""

    name: ProjectName
    summary: str | None
    status: str
    status_reason: str
    newest: str | None
    versions: tuple[VersionFacts, ...]
    indexes: tuple[IndexShare, ...]
    missing: tuple[MissingFacts, ...]
    left_out: tuple[tuple[str, str], ...]
    """(filename, rule), with the end of a cooldown, or with the advisories."""
    vulnerable: tuple[VulnerableFile, ...]
    """Published files that advisories name."""
    not_judged: tuple[str, ...]
    """Published local builds of versions that advisories name."""
    withdrawn: tuple[tuple[str, str], ...]
    """(filename, advisories) of files that advisories took off the pages"""
    metadata: ProjectMetadata
    metadata_version: str | None
    """The version that ``metadata`` and ``dependencies`` are of."""
    dependencies: tuple[DependencyFacts, ...]

    @property
    def file_count(self) -> int:
        """Number of its files."""
        return sum(len(version.files) for version in self.versions)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for version in self.versions for file in version.files)


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """The state's facts about a project."""

    part: ProjectPart
    origins: Mapping[tuple[str, str], FirstSeen]
    summary: str | None
    vulnerable: tuple[VulnerableFile, ...]
    not_judged: tuple[str, ...]
    withdrawn: tuple[tuple[str, str], ...]
    advice: Mapping[str, str]


def load_project_facts(reading: Reading, name: ProjectName) -> ProjectFacts | None:
    """Return the facts about a project; None for one that is neither published nor known."""
    page = load_project_page(reading, name)
    known = reading.load(lambda store: _load_known(store, name))
    if page is None and (known is None or not _is_of_interest(known.part)):
        return None
    return _facts(reading, name, page or PublishedPage(name=name, files=[]), known)


async def _load_known(store: Store, name: ProjectName) -> _Known:
    sources, unserved = await load_sources(store), await load_unserved(store)
    part = await load_project(store, sources, unserved, name)
    return _Known(
        part=part,
        advice=await load_advice_words(store, name, part.advised_names()),
        origins=await load_origins(store, name),
        summary=await load_summary(store, name),
        vulnerable=tuple(await load_vulnerable(store, limit=_MAX_ADVISED, project=name)),
        not_judged=tuple(await load_not_judged(store, name)),
        withdrawn=tuple(await load_withdrawn_by_advisory(store, name)),
    )


def _is_of_interest(part: ProjectPart) -> bool:
    return bool(part.unserved) or any(index.lists or index.withdrawn for index in part.indexes)


def _facts(
    reading: Reading, name: ProjectName, page: PublishedPage, known: _Known | None
) -> ProjectFacts:
    files = {file.filename: file for file in page.files}
    groups = group_versions([(file.filename, file.yanked) for file in page.files])
    newest = newest_version(groups)
    metadata_of = _wheel_with_metadata(groups, newest, files)
    metadata = _load_metadata(reading, metadata_of[1]) if metadata_of else ProjectMetadata()
    summary = known.summary if known else None
    if metadata_of:
        summary = metadata.summary
    part = known.part if known else None
    origins = known.origins if known else {}
    return ProjectFacts(
        name=name,
        summary=summary or None,
        status=page.project_status.status,
        status_reason=page.project_status.reason,
        newest=newest.version if newest else None,
        versions=tuple(_version(group, files, origins) for group in groups),
        indexes=tuple(map(_index, part.indexes)) if part else (),
        missing=_missing(part) if part else (),
        left_out=tuple(words_of_left_out(known.part, known.advice)) if known else (),
        vulnerable=known.vulnerable if known else (),
        not_judged=known.not_judged if known else (),
        withdrawn=known.withdrawn if known else (),
        metadata=metadata,
        metadata_version=metadata_of[0] if metadata_of else None,
        dependencies=_dependencies(reading, metadata),
    )


def _version(
    group: VersionFiles,
    files: Mapping[str, ListedBlob],
    origins: Mapping[tuple[str, str], FirstSeen],
) -> VersionFacts:
    return VersionFacts(
        version=group.version,
        yanked=group.yanked,
        is_prerelease=group.is_prerelease,
        files=tuple(_file(files[filename], origins) for filename in group.filenames),
    )


def _file(file: ListedBlob, origins: Mapping[tuple[str, str], FirstSeen]) -> FileFacts:
    origin = origins.get((file.filename, file.sha256))
    return FileFacts(
        filename=file.filename,
        size=file.size,
        sha256=file.sha256,
        upload_time=file.upload_time,
        requires_python=file.requires_python,
        yanked=file.yanked,
        words=describe_file(file.filename),
        tags=tuple(expand_tags(file.filename)),
        address="/".join(quote(part, safe="") for part in file.place),
        first_seen=origin.at if origin else None,
        index=origin.index if origin else None,
        has_metadata=bool(file.core_metadata),
    )


def _wheel_with_metadata(
    groups: Sequence[VersionFiles], newest: VersionFiles | None, files: Mapping[str, ListedBlob]
) -> tuple[str | None, ListedBlob] | None:
    """Return the version and the wheel whose metadata is shown: of the newest version that has
    one.
    """
    ordered = [*([newest] if newest else []), *groups]
    for group in ordered:
        for filename in reversed(group.filenames):
            if files[filename].core_metadata:
                return group.version, files[filename]
    return None


def _load_metadata(reading: Reading, file: ListedBlob) -> ProjectMetadata:
    *place, filename = file.place
    try:
        data, _ = reading.read_file((*place, f"{filename}.metadata"))
    except OSError:
        return ProjectMetadata()
    return parse_project_metadata(data)


def _dependencies(reading: Reading, metadata: ProjectMetadata) -> tuple[DependencyFacts, ...]:
    names = {one.project for one in metadata.dependencies if one.project is not None}
    held = reading.load(lambda store: load_shown(store, names)) if names else set()
    if held is None:
        held = {name for name in names if _has_page(reading, name)}
    return tuple(
        DependencyFacts(
            requirement=one.requirement,
            project=one.project,
            held=one.project in held,
            extra=one.extra,
        )
        for one in metadata.dependencies
    )


def _has_page(reading: Reading, name: ProjectName) -> bool:
    try:
        reading.file_status(("simple", name, "index.v1_json"))
    except OSError:
        return False
    return True


def _index(part: IndexPart) -> IndexShare:
    return IndexShare(name=part.index, lists=part.lists, owns=part.owns)


def _missing(part: ProjectPart) -> tuple[MissingFacts, ...]:
    failed = [_missing_file(index.index, row) for index in part.indexes for row in index.failures]
    return (*failed, *(_missing_file(one.index, one) for one in part.unserved))


def _missing_file(index: str, row: FailureRow | Unserved) -> MissingFacts:
    return MissingFacts(
        filename=row.filename or None,
        index=index,
        reason=row.reason.value,
        detail=row.detail,
        advice=advice_for(row.reason, is_index=False),
    )
