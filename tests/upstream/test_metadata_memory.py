"""Metadata of many files shares a bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from anyio import create_task_group
from anyio.lowlevel import checkpoint

from mirror.upstream.download import fetch_metadata
from mirror.upstream.limits.memory import METADATA_BYTES

MIB = 1 << 20


async def test_metadata_waits_for_room(
    serve: Callable[..., Awaitable[Any]], open_session: Callable[..., Awaitable[Any]]
) -> None:
    """Metadata that was fetched keeps its room until its caller has put it away; all have their turn."""
    body = b"m" * (40 * MIB)
    digests = (("sha256", hashlib.sha256(body).hexdigest()),)

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body)

    own = await serve(answer)
    session = await open_session(own.url)
    memory, held, most, done = session.metadata_memory, 0, 0, 0

    async def fetch(number: int) -> None:
        nonlocal held, most, done
        lease = memory.lease()
        with lease.body():
            found = await fetch_metadata(session, f"{own.url}{number}.metadata", digests, 64 * MIB, lease=lease)
            assert found is not None
            held += len(found)
            most = max(most, held)
            await checkpoint()
            held -= len(found)
            done += 1

    async with create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(fetch, number)
    assert done == 6
    assert most <= METADATA_BYTES
    assert (memory._bodies_bytes, memory._growing) == (0, {})
