"""The columns of a page: the attributes of its project, and its validators."""

from __future__ import annotations

from typing import Protocol

import msgspec

from mirror.core.model import ProjectMeta, Validators
from mirror.core.names import ProjectName
from mirror.state.rows import Columns
from mirror.state.store import Row

FORGET_VALIDATORS = (
    "UPDATE project SET etag = NULL, last_modified = NULL, serial = NULL, digest = NULL WHERE"
)
"""Has the pages of some projects read again; to be followed by the condition that selects them."""


class MetaColumns(Protocol):
    """The columns of a project's own attributes."""

    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def status_reason(self) -> str | None: ...  # noqa: D102
    @property
    def versions(self) -> str | None: ...  # noqa: D102
    @property
    def extra(self) -> str: ...  # noqa: D102
    @property
    def extra_meta(self) -> str: ...  # noqa: D102


class ProjectKey(Columns, frozen=True):
    """A project of one index."""

    id: int
    name: ProjectName


def meta_of(row: MetaColumns) -> ProjectMeta:
    """Build the page's keys from the columns that hold them."""
    versions = row.versions
    return ProjectMeta(
        status=row.status,
        status_reason=row.status_reason,
        versions=tuple(msgspec.json.decode(versions, type=list[str]))
        if versions is not None
        else None,
        extra=row.extra,
        extra_meta=row.extra_meta,
    )


def meta_values(meta: ProjectMeta) -> Row:
    """Return the values of the columns of ``meta_of``, in their order."""
    versions = None if meta.versions is None else msgspec.json.encode(meta.versions).decode()
    return meta.status, meta.status_reason, versions, meta.extra, meta.extra_meta


class ValidatorColumns(Columns, frozen=True):
    """The columns that hold the validators of a page."""

    etag: str | None
    last_modified: str | None
    serial: int | None
    digest: str | None


def validators_of(row: ValidatorColumns) -> Validators | None:
    """Build the validators from their columns; None for a page that must be read."""
    if row.digest is None:
        return None
    return Validators(
        etag=row.etag, last_modified=row.last_modified, serial=row.serial, digest=row.digest
    )


def validator_values(validators: Validators) -> Row:
    """Return (etag, last_modified, serial, digest)."""
    return validators.etag, validators.last_modified, validators.serial, validators.digest
