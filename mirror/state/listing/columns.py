"""The columns of a page: the attributes of its project, and its validators."""

from __future__ import annotations

import msgspec

from mirror.core.model import ProjectMeta, Validators
from mirror.core.names import ProjectName
from mirror.state.rows import Columns
from mirror.state.store import Row

FORGET_VALIDATORS = (
    "UPDATE project SET etag = NULL, last_modified = NULL, serial = NULL, digest = NULL WHERE"
)
"""Has the pages of some projects read again; to be followed by the condition that selects them."""


class ProjectKey(Columns, frozen=True):
    """A project of one index."""

    id: int
    name: ProjectName


META_COLUMNS = ", ".join(f"p.{name}" for name in ProjectMeta.__struct_fields__)
"""The columns of a project ``p`` that hold its own attributes."""
META_SETS = ", ".join(f"{name} = ?" for name in ProjectMeta.__struct_fields__)


def meta_values(meta: ProjectMeta) -> Row:
    """Return the values of ``META_SETS``, in their order."""
    versions = None if meta.versions is None else msgspec.json.encode(meta.versions).decode()
    return tuple({**msgspec.structs.asdict(meta), "versions": versions}.values())


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
