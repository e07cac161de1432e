"""Room on a full disk: partial downloads are deleted for what must be written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from mirror.errors import DiskFull, StateError
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger

_log = get_logger(__name__)


async def with_room(holdings: Holdings, write: Callable[[], Awaitable[None]], *, what: str) -> None:
    """Call ``write``; where the disk is full, delete the partial downloads, and call it again.

    The deleted ones are fetched again. ``what`` names what needs the room, for the log. Raises
    what ``write`` raises where nothing could be deleted, or where that did not help.
    """
    try:
        await write()
    except (DiskFull, StateError) as exc:
        if isinstance(exc, StateError) and not exc.is_full:
            raise
        removed = await anyio.to_thread.run_sync(holdings.files.sweep_staging)
        if not removed:
            raise
        reason = f"the disk is full, and {what} some room"
        _log.warning("staging.swept", files=removed, reason=reason)
        await write()
