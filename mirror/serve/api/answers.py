"""From facts to the bytes of each answer of the API.

Blocking: called in the thread of the reading.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

import msgspec

from mirror.config import Config
from mirror.core.names import ProjectName
from mirror.core.times import utc_text
from mirror.core.words.direction_marks import escape_marks_in_json
from mirror.serve.api.objects import (
    ChangesObject,
    ListedChange,
    ListedProject,
    ProjectDependency,
    ProjectFile,
    ProjectIndex,
    ProjectObject,
    ProjectsObject,
    ProjectVersion,
    encode_problem,
)
from mirror.serve.facts.projects import FileFacts, load_project_facts
from mirror.serve.facts.reading import Reading, StateAccess
from mirror.serve.facts.search import load_search_facts
from mirror.serve.facts.tree_pages import NameList
from mirror.serve.facts.whole import hide_paths_in, load_status_facts
from mirror.state.shown.history import ChangeList, load_changes, load_history_start
from mirror.state.store import Store
from mirror.status.objects import status_object

DEFAULT_HITS: Final = 50
MAX_HITS: Final = 1000
DEFAULT_CHANGES: Final = 1000
MAX_CHANGES: Final = 10_000
_NUMBER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_TO_ROOT: Final = "../../../../"
"""From the address of a project's object to the base address of the server."""


class JsonAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An object as bytes, with its status."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK


def problem(status: HTTPStatus, text: str, *, oldest: int | None = None) -> JsonAnswer:
    """Return the answer of an error."""
    return JsonAnswer(body=encode_problem(text, oldest=oldest), status=status)


def answer_status(reading: Reading, config: Config) -> JsonAnswer:
    """Return the status of the mirror."""
    found = load_status_facts(reading, config, max_failures=None)
    if found is None:
        return _no_state(reading)
    shown = hide_paths_in(status_object(found), config.mirror.root)
    del shown["root"], shown["configuration"]
    shown.pop("tree", None)
    return JsonAnswer(body=escape_marks_in_json(msgspec.json.encode(shown)))


def answer_projects(
    reading: Reading, names: NameList, *, text: str, limit: str | None
) -> JsonAnswer:
    """Return the hits of a search."""
    most = parse_number(limit, default=DEFAULT_HITS, least=1, most=MAX_HITS)
    if most is None:
        return problem(HTTPStatus.BAD_REQUEST, f"limit: expected a number from 1 to {MAX_HITS:,}")
    found = load_search_facts(reading, names, text, most)
    projects = [
        ListedProject(
            project=hit.project, summary=hit.summary, version=hit.version, files=hit.files
        )
        for hit in found.hits
    ]
    return _encode(ProjectsObject(projects=projects, total=found.total))


def answer_project(reading: Reading, name: ProjectName) -> JsonAnswer:
    """Return one project."""
    found = load_project_facts(reading, name)
    if found is None:
        return problem(HTTPStatus.NOT_FOUND, f"no project {name} is here")
    return _encode(
        ProjectObject(
            project=found.name,
            summary=found.summary,
            status=found.status,
            indexes=[
                ProjectIndex(name=one.name, lists=one.lists, owns=one.owns) for one in found.indexes
            ],
            versions=[
                ProjectVersion(
                    version=version.version,
                    yanked=version.yanked,
                    files=list(map(_file, version.files)),
                )
                for version in found.versions
            ],
            dependencies=[
                ProjectDependency(requirement=d.requirement, project=d.project, held=d.held)
                for d in found.dependencies
            ],
        )
    )


def answer_changes(reading: Reading, *, since: str | None, limit: str | None) -> JsonAnswer:
    """Return the changes after a revision."""
    most = parse_number(limit, default=DEFAULT_CHANGES, least=1, most=MAX_CHANGES)
    after = parse_number(since, default=-1, least=0, most=10**15)
    if most is None:
        text = f"limit: expected a number from 1 to {MAX_CHANGES:,}"
        return problem(HTTPStatus.BAD_REQUEST, text)
    if after is None:
        return problem(HTTPStatus.BAD_REQUEST, "since: expected a revision, a number")
    found = reading.load(lambda store: _load_changes(store, after, most))
    if found is None:
        return _no_state(reading)
    if isinstance(found, int):
        text = f"the changes after revision {after} are not kept any more: the oldest is {found}"
        return problem(HTTPStatus.GONE, text, oldest=found)
    changes = [
        ListedChange(
            revision=change.revision,
            at=utc_text(change.at),
            project=change.project,
            filename=change.filename,
            action=change.action.value,
        )
        for change in found.changes
    ]
    return _encode(ChangesObject(revision=found.revision, changes=changes, more=found.more))


async def _load_changes(store: Store, since: int, limit: int) -> ChangeList | int:
    """Return the changes, or the oldest revision where they are not kept; -1 stands for it."""
    oldest = await load_history_start(store)
    if 0 <= since < oldest:
        return oldest
    return await load_changes(store, max(since, oldest), limit)


def parse_number(text: str | None, *, default: int, least: int, most: int) -> int | None:
    """Return a number of a query; None for any other text, and for one out of its range."""
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        return None
    return int(text)


def _file(file: FileFacts) -> ProjectFile:
    return ProjectFile(
        filename=file.filename,
        size=file.size,
        sha256=file.sha256,
        upload_time=file.upload_time,
        requires_python=file.requires_python,
        tags=list(file.tags),
        url=f"{_TO_ROOT}{file.address}",
    )


def _no_state(reading: Reading) -> JsonAnswer:
    if reading.access is StateAccess.MISSING:
        return problem(HTTPStatus.NOT_FOUND, "this mirror has no state here, only its tree")
    text = "the state can't be read at the moment: see the log of the server"
    if reading.access is StateAccess.OLDER:
        text = (
            "an earlier version of the program wrote the state: the next cycle brings it up to date"
        )
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, text)


def _encode(value: msgspec.Struct) -> JsonAnswer:
    return JsonAnswer(body=escape_marks_in_json(msgspec.json.encode(value)))
