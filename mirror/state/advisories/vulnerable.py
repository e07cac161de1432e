"""Published files that advisories name, as reports show them. Reading only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mirror.core.advisories.judging import AdvisoryBook, AdvisoryRule, version_in
from mirror.core.files.versions import parse_version
from mirror.core.names import ProjectName
from mirror.core.words.advisory_words import words_of_advisories, words_of_vulnerable
from mirror.state.advisories.advised import AdvisedKind, ReportedFile, load_published_advised
from mirror.state.advisories.records import NO_RULES_TEXT, load_advisory_note
from mirror.state.entries.held import load_listed_filenames
from mirror.state.rows import Columns
from mirror.state.store import Store

if TYPE_CHECKING:
    from packaging.version import Version

_MAX_NAMES = 1000


class VulnerableFile(msgspec.Struct, frozen=True, kw_only=True):
    """A held or needed file that advisories name."""

    project: str
    filename: str
    advisories: tuple[str, ...]
    level: str
    fixed: str | None
    """The first version in which it is fixed; None where the advisories name none."""
    fixed_held: bool
    """Whether a page lists a file of that version."""

    def as_json(self) -> dict[str, Any]:
        """Return the object of reports."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        return shown


async def load_vulnerable(
    store: Store, *, limit: int, project: ProjectName | None = None
) -> list[VulnerableFile]:
    """Return the published files that advisories name, of all projects or of one, by name."""
    found = await load_published_advised(
        store, AdvisedKind.VULNERABLE, limit=limit, project=project
    )
    return await with_fixed_held(store, found)


async def with_fixed_held(store: Store, files: Iterable[ReportedFile]) -> list[VulnerableFile]:
    """Return the files as they are reported, each with whether its fixed version is held."""
    held: dict[str, set[Version]] = {}
    shown = []
    for one in sorted(files, key=lambda file: (file.project, file.filename)):
        if one.project not in held:
            names = await load_listed_filenames(store, [one.project])
            versions = (version_in(filename, one.project) for _, filename in names)
            held[one.project] = {version for version in versions if version is not None}
        fixed = None if one.fixed is None else parse_version(one.fixed)
        shown.append(
            VulnerableFile(
                project=one.project,
                filename=one.filename,
                advisories=one.ids,
                level=one.level.word,
                fixed=one.fixed,
                fixed_held=fixed in held[one.project],
            )
        )
    return shown


async def load_not_judged(store: Store, project: ProjectName) -> list[str]:
    """Return the published local builds of a project of versions that advisories name."""
    kind = AdvisedKind.UNJUDGED
    found = await load_published_advised(store, kind, limit=_MAX_NAMES, project=project)
    return [one.filename for one in found]


class _WithdrawnColumns(Columns, frozen=True):
    filename: str
    ids: tuple[str, ...]


async def load_withdrawn_by_advisory(store: Store, project: ProjectName) -> list[tuple[str, str]]:
    """Return (filename, advisories) of a project's files that advisories took off the pages."""
    rows = await store.rows_as(
        _WithdrawnColumns,
        "SELECT DISTINCT a.filename, a.ids FROM project p JOIN advised a ON a.project = p.id"
        " WHERE p.name = ? AND a.kind = ? ORDER BY a.filename LIMIT ?",
        (project, AdvisedKind.WITHDRAWN.value, _MAX_NAMES),
    )
    return [(row.filename, ", ".join(row.ids)) for row in rows]


class _AdvisoriesColumns(Columns, frozen=True):
    advisories: str


async def load_advice_words(
    store: Store, project: ProjectName, left_out: Mapping[str, str]
) -> dict[str, str]:
    """Return words on a project's files that advisories name: held ones, and these left-out ones.

    ``left_out``: files, each with its index, whose rule counts.
    """
    words = {
        one.filename: "vulnerable: "
        + words_of_vulnerable(one.level, one.advisories, one.fixed, fixed_held=one.fixed_held)
        for one in await load_vulnerable(store, limit=_MAX_NAMES, project=project)
    }
    not_judged = "not judged: a local build of a version that an advisory names"
    words |= dict.fromkeys(await load_not_judged(store, project), not_judged)
    return words | await _load_words_of_left_out(store, project, left_out)


async def _load_words_of_left_out(
    store: Store, project: ProjectName, left_out: Mapping[str, str]
) -> dict[str, str]:
    query = "SELECT advisories FROM advisory WHERE project = ?"
    row = await store.row_as(_AdvisoriesColumns, query, (project,)) if left_out else None
    note = await load_advisory_note(store) if row is not None else None
    if row is None or note is None or not note.judged or note.judged == NO_RULES_TEXT:
        return {}
    book = AdvisoryBook({project: row.advisories.encode()})
    *named, others = note.judged.split("\n")
    texts = {index: text for index, _, text in (line.partition(": ") for line in named)}
    found = {
        filename: AdvisoryRule.of_text(book, texts.get(index, others)).find(project, filename)
        for filename, index in left_out.items()
    }
    return {
        filename: words_of_advisories(advice.level.word, advice.ids)
        for filename, advice in found.items()
        if advice is not None
    }
