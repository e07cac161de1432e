"""Opens every object once and passes it in: from a configuration to a cycle that can run.

Order: what can be wrong with the configuration is found before anything is touched, an unwritable root before any request
is made, and the lock is held while anything is written.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.config import Config, IndexConfig
from mirror.core.policy import Selection, compile_selections
from mirror.core.render_pages import RENDERER
from mirror.errors import AccessDenied, ConfigError, StateError
from mirror.state.cycles import load_meta
from mirror.state.entries import has_blobs, load_last_revision
from mirror.state.listing import SourceRow, record_sources
from mirror.state.store import Store, open_copy, open_store
from mirror.sync.pool import Width
from mirror.sync.report import IndexCounters, Report
from mirror.sync.work import Clock, Cycle, IndexRun, Options
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout, create_tree
from mirror.tree.lock import hold_async
from mirror.tree.pages import PageStore
from mirror.upstream.credentials import credential_source
from mirror.upstream.index import IndexClient
from mirror.upstream.session import IndexSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One configured index with its open session."""

    config: IndexConfig
    selection: Selection
    session: IndexSession
    client: IndexClient
    denied: AccessDenied | None
    """Its credential could not be had."""


@contextlib.asynccontextmanager
async def opened_cycle(
    config: Config, options: Options, *, env: Mapping[str, str], wait_s: float = 0.0, clock: Clock = time.time
) -> AsyncIterator[Cycle]:
    """Yield a cycle that is ready to run, with the tree's lock held; ``--dry-run`` takes none and works on a copy.

    Raises ``ConfigError``, ``TreeError``, ``StateError`` or ``LockHeld`` before any request is made.
    """
    layout = Layout(config.mirror.root)
    async with contextlib.AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(u) for u in _upstreams(config, options, env)]
        if options.dry_run:
            store = await stack.enter_async_context(open_copy(config.mirror.state))
        else:
            create_tree(layout)
            await stack.enter_async_context(hold_async(layout.tree_lock, wait_s=wait_s))
            store = await stack.enter_async_context(open_store(config.mirror.state))
            await check_tree_matches(store, layout)
        yield await _build_cycle(config, options, layout, store, upstreams, clock)


async def check_tree_matches(store: Store, layout: Layout) -> None:
    """Raise ``StateError`` where pages are on disk that this state has never written."""
    on_disk = PageStore(layout).root_serial()
    known = max(await load_last_revision(store), int(await load_meta(store, "root_revision") or 0))
    if on_disk is not None and on_disk > known:
        raise StateError(
            path=str(store.path),
            problem=f"{layout.simple} holds pages that this state does not know (revision {on_disk}, known {known}):"
            " the state is missing or older than the tree; restore it from a backup",
        )


def _upstreams(
    config: Config, options: Options, env: Mapping[str, str]
) -> Sequence[contextlib.AbstractAsyncContextManager[Upstream]]:
    unknown = set(options.indexes) - {index.name for index in config.indexes}
    if unknown:
        raise ConfigError(where="--index", problem=f"no index is named {sorted(unknown)[0]!r} in {config.source}")
    selections = compile_selections([index.policy(config.limits) for index in config.indexes])
    return [
        _open_upstream(config, index, selection, env)
        for index, selection in zip(config.indexes, selections, strict=True)
        if not options.indexes or index.name in options.indexes
    ]


@contextlib.asynccontextmanager
async def _open_upstream(
    config: Config, index: IndexConfig, selection: Selection, env: Mapping[str, str]
) -> AsyncIterator[Upstream]:
    credentials = credential_source(index, env=env)
    async with IndexSession(index, config.limits, credentials, env) as session:
        denied = None
        try:
            await session.prepare()
        except AccessDenied as exc:
            denied = exc
        client = IndexClient(session, index, config.limits)
        yield Upstream(config=index, selection=selection, session=session, client=client, denied=denied)


async def _build_cycle(  # noqa: PLR0913 - the one place where everything meets
    config: Config, options: Options, layout: Layout, store: Store, upstreams: Sequence[Upstream], clock: Clock
) -> Cycle:
    sources = await record_sources(store, [(index.name, index.url) for index in config.indexes])
    report = Report(cycle=0, started_at=clock())
    runs = tuple(_build_run(config, upstream, sources[upstream.config.name]) for upstream in upstreams)
    report.indexes = {run.name: run.counters for run in runs}
    return Cycle(
        id=0,
        store=store,
        files=FileStore(
            layout, metadata_limit_bytes=config.limits.metadata_size, disk_reserve_bytes=config.limits.disk_reserve
        ),
        pages=PageStore(layout),
        options=options,
        report=report,
        clock=clock,
        runs=runs,
        max_shrink=config.mirror.max_shrink,
        renderer=RENDERER,
        has_blobs=await has_blobs(store),
    )


def _build_run(config: Config, upstream: Upstream, source: SourceRow) -> IndexRun:
    limits, session = config.limits, upstream.session
    return IndexRun(
        source=source,
        selection=upstream.selection,
        session=session,
        client=upstream.client,
        counters=IndexCounters(name=upstream.config.name),
        page_width=Width(
            start=limits.pages, maximum=max(limits.pages, limits.max_connections), pushbacks=lambda: session.pushback
        ),
        file_width=Width(
            start=limits.downloads,
            maximum=max(limits.downloads, limits.max_connections),
            pushbacks=lambda: session.pushback,
        ),
        ended=upstream.denied,
    )


