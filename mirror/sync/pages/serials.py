"""Compare the serials of a page, of the root that lists it and of the published page.

A serial is the index's own count of changes: a page with a smaller one than its root states is
outdated, however it was served.
"""

from __future__ import annotations

from mirror.core.model import ProjectPage, Validators
from mirror.state.listing.due import ProjectRow


def has_same_serial(known: Validators, row: ProjectRow) -> bool:
    """Return whether the root lists a page with the serial that was read last."""
    return row.listed_serial is not None and known.serial == row.listed_serial


def is_stale(page: ProjectPage, row: ProjectRow) -> bool:
    """Return whether a page is older than the root that listed it."""
    return (
        page.serial is not None
        and row.listed_serial is not None
        and page.serial < row.listed_serial
    )


def is_older(page: ProjectPage, row: ProjectRow) -> bool:
    """Return whether a page is older than the published one."""
    held = row.validators.serial if row.validators else None
    return page.serial is not None and held is not None and page.serial < held


def with_serial(validators: Validators, row: ProjectRow) -> Validators:
    """Return validators with a serial: a page without its own is as new as the root that listed it,
    which was read before.
    """
    if validators.serial is not None or row.listed_serial is None:
        return validators
    return Validators(
        etag=validators.etag,
        last_modified=validators.last_modified,
        serial=row.listed_serial,
        digest=validators.digest,
    )
