"""The objects of the API; the schema is made of these declarations.

Each carries ``"format": 1``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Format = Literal[1]
Time = Annotated[str, msgspec.Meta(description="A time in UTC, ISO 8601, to the second.")]
Whether = bool | str


class StatusCycle(msgspec.Struct, frozen=True, kw_only=True):
    """The cycle that ended last."""

    number: int
    started_at: Time
    finished_at: Time | None
    outcome: str | None
    exit_code: int | None


class StatusWorking(msgspec.Struct, frozen=True, kw_only=True):
    """The process that works on the mirror; ``cycle`` is null for other commands."""

    pid: int
    cycle: int | None
    started_at: Time | None


class StatusCredential(msgspec.Struct, frozen=True, kw_only=True):
    """The credential of an index, as the last cycle recorded it."""

    source: str
    expires_at: Time | None
    problem: str | None


class StatusUnread(msgspec.Struct, frozen=True, kw_only=True):
    """Files of a flat page whose names belong to no project."""

    files: int
    names: list[str]


class StatusIndex(msgspec.Struct, frozen=True, kw_only=True):
    """One index."""

    name: str
    url: str
    configured: bool
    projects_listed: int
    projects_held: int
    files: int
    bytes: int
    files_absent: int
    files_unhashed: int
    files_skipped: int
    files_unwanted: int
    unwanted_bytes: int
    unwanted_since: Time | None
    withheld: int
    failed: int
    last_success: Time | None
    stale: bool | None
    credential: StatusCredential | None
    names_unread: StatusUnread | msgspec.UnsetType = msgspec.UNSET


class StatusDaemon(msgspec.Struct, frozen=True, kw_only=True):
    """The running daemon."""

    pid: int
    doing: str
    since: Time | None
    next_cycle_at: Time | None


class StatusUpkeep(msgspec.Struct, frozen=True, kw_only=True):
    """The last upkeep."""

    finished_at: Time | None
    pruned: int
    pruned_bytes: int
    checked: int
    checked_bytes: int


class StatusDamage(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was found damaged."""

    path: str
    damage: str
    detail: str
    found_at: Time | None


class StatusDisk(msgspec.Struct, frozen=True, kw_only=True):
    """The disk of the tree."""

    free_bytes: int
    size_bytes: int
    growth_bytes_per_day: int | None
    days_until_full: float | None


class StatusWant(msgspec.Struct, frozen=True, kw_only=True):
    """The last proof of one want in one target, as in ``mirror check --json``."""

    want: str | None
    file: str | None
    target: str
    installable: bool
    files: int
    bytes: int
    rebuilt: list[str]
    instead: list[dict[str, str]]
    gaps: list[dict[str, str]]


class StatusNotServed(msgspec.Struct, frozen=True, kw_only=True):
    """A project that its owner lists and nobody serves."""

    index: str
    project: str
    detail: str


class StatusFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ledger; ``filename`` is null for a page."""

    index: str
    project: str | None
    filename: str | None
    reason: str
    detail: str
    url: str | None
    hashes: dict[str, str] | None
    size: int | None
    first_at: Time | None
    last_at: Time | None
    attempts: int
    next_at: Time | None


class StatusWantBytes(msgspec.Struct, frozen=True, kw_only=True):
    """The published files of a want; ``own_bytes``: of those that no other want needs."""

    want: str
    files: int
    bytes: int
    own_bytes: int


class StatusLargest(msgspec.Struct, frozen=True, kw_only=True):
    """One of the ten largest projects."""

    index: str
    project: str
    files: int
    bytes: int


class StatusAdvisories(msgspec.Struct, frozen=True, kw_only=True):
    """The advisories in force, and the number of files that they name."""

    date: Time | None
    taken: bool
    problem: str | None
    taken_at: Time | None
    records: int
    vulnerable: int
    not_judged: int
    withdrawn: int
    withdrawn_somewhere: int


class StatusObject(msgspec.Struct, frozen=True, kw_only=True):
    """``/-/api/v1/status``: as ``mirror status --json``, without paths of the host."""

    format: Format
    exit_code: int
    stale: bool | None
    cycle: StatusCycle | None
    working: StatusWorking | None
    interrupted: int | None
    indexes: list[StatusIndex]
    daemon: StatusDaemon | None
    upkeep: StatusUpkeep | None
    damage: list[StatusDamage]
    disk: StatusDisk | None
    want_bytes: list[StatusWantBytes]
    largest_projects: list[StatusLargest]
    wants: list[StatusWant]
    not_served: list[StatusNotServed]
    failures_total: int
    failures: list[StatusFailure]
    advisories: StatusAdvisories | msgspec.UnsetType = msgspec.UNSET


class ListedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project that the search found; ``version``: the newest that is neither yanked nor a
    pre-release, else the newest.
    """

    project: str
    summary: str | None
    version: str | None
    files: int


class ProjectsObject(msgspec.Struct, frozen=True, kw_only=True):
    """``/-/api/v1/projects``: the best hits; ``total`` counts up to 10,000."""

    format: Format = 1
    projects: list[ListedProject]
    total: int


class ProjectIndex(msgspec.Struct, frozen=True, kw_only=True):
    """An index's part in a project."""

    name: str
    lists: bool
    owns: bool


class ProjectFile(msgspec.Struct, frozen=True, kw_only=True):
    """A published file; ``url`` is relative to the address of the object."""

    filename: str
    size: int
    sha256: str
    upload_time: str | None
    requires_python: str | None
    tags: list[str]
    url: str


class ProjectVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version, the newest first; ``version`` is null for files whose names have none."""

    version: str | None
    yanked: Whether
    files: list[ProjectFile]


class ProjectDependency(msgspec.Struct, frozen=True, kw_only=True):
    """A requirement of the newest version; ``project`` is null for a text that is none."""

    requirement: str
    project: str | None
    held: bool


class ProjectObject(msgspec.Struct, frozen=True, kw_only=True):
    """``/-/api/v1/projects/<project>``."""

    format: Format = 1
    project: str
    summary: str | None
    status: str
    indexes: list[ProjectIndex]
    versions: list[ProjectVersion]
    dependencies: list[ProjectDependency]


class ListedChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a published file."""

    revision: int
    at: Time
    project: str
    filename: str
    action: Literal["add", "replace", "relabel", "remove"]


class ChangesObject(msgspec.Struct, frozen=True, kw_only=True):
    """``/-/api/v1/changes``: the changes after ``since``, oldest first, whole revisions.

    ``revision``: the value of ``since`` for the next request.
    """

    format: Format = 1
    revision: int
    changes: list[ListedChange]
    more: bool


_ADDRESSES = {
    "status": StatusObject,
    "projects": ProjectsObject,
    "projects/{project}": ProjectObject,
    "changes": ChangesObject,
}


def encode_problem(problem: str, *, oldest: int | None = None) -> bytes:
    """Return the object of an error."""
    shown = {} if oldest is None else {"oldest": oldest}
    return msgspec.json.encode({"format": 1, "problem": problem, **shown})


def render_schema() -> bytes:
    """Return the JSON Schema of every object."""
    kinds = list(_ADDRESSES.values())
    references, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The objects of a mirror, below /-/api/v1/",
        "format": 1,
        "addresses": dict(zip(_ADDRESSES, references, strict=True)),
        "anyOf": list(references),
        "$defs": definitions,
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"
