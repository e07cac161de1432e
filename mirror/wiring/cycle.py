"""Opens every object of a command or a cycle once and passes it in: from a configuration to a cycle
that can run.

Order: errors of the configuration are found before anything is touched, an unwritable root before
any request is made, and the lock is held during every write.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from mirror.config import Config, IndexConfig, MirrorSettings
from mirror.config.rules import judged_rules
from mirror.core.files.kept_links import KeptLinks, masked_root
from mirror.holdings.holdings import Clock, Holdings
from mirror.holdings.matching import check_tree
from mirror.holdings.opening import check_user
from mirror.holdings.tree_opening import (
    OpenTree,
    check_settings,
    locked_root,
    open_tree,
)
from mirror.selection.changes import check_change_of_wants
from mirror.state.entries.held import has_blobs
from mirror.state.listing.sources import (
    SourceRow,
    record_sources,
)
from mirror.state.missing.sights import has_sights
from mirror.state.store import Store, open_copy, open_store
from mirror.state.wants.needs import forget_wants
from mirror.sync.advisories.settings import AdvisorySettings
from mirror.sync.advisories.taking import check_database
from mirror.sync.cycle_parts import Cycle, CycleWants, Options, Terms, Transfers
from mirror.sync.reachability import Reachability
from mirror.sync.report import IndexCounters, Report
from mirror.sync.staging_room import StagingRoom
from mirror.sync.work import IndexAccess, IndexRun, Leaving
from mirror.tree.layout import Layout
from mirror.upstream.credentials import CredentialSource
from mirror.upstream.limits.retry import RetryPolicy
from mirror.wiring.dry_run import scratch_of, temporary_tree
from mirror.wiring.upstreams import (
    Upstream,
    check_names,
    platform_tags,
    selections_of,
    upstreams_of,
)
from mirror.workers.concurrency import AdaptiveLimit
from mirror.workers.fork_server import ForkServer

if TYPE_CHECKING:
    from mirror.selection.cycle.needs import CycleNeeds
    from mirror.sync.needs.listings import ListingCache


@contextlib.asynccontextmanager
async def opened_cycle(
    config: Config,
    options: Options,
    *,
    env: Mapping[str, str],
    wait_s: float = 0.0,
    clock: Clock = time.time,
    credentials: Mapping[str, CredentialSource] | None = None,
    retry_policy: RetryPolicy | None = None,
    fork_server: ForkServer | None = None,
) -> AsyncIterator[Cycle]:
    """Yield a cycle that is ready to run, with the tree's lock held; ``--dry-run`` takes none and
    works on a copy.

    ``credentials``: the sources that a daemon keeps from cycle to cycle, so that a command is not
    run for each. The daemon's cycle goes on with the other indexes where one's credential is
    malformed; else that is a ``ConfigError``. State and lock are opened for each cycle: between two
    of them another command may repair, replace or move them. ``retry_policy``: replaces the usual
    one. ``fork_server``: the fork server of the worker processes.

    Raises ``ConfigError``, ``TreeError``, ``StateError`` or ``LockHeld`` before any request is
    made.
    """
    layout = Layout(config.mirror.root)
    await anyio.to_thread.run_sync(check_settings, config.mirror, env)
    if not options.dry_run:
        await check_user(config.mirror)
    if not await anyio.Path(config.mirror.state).exists():
        await check_database(config.rules.advisories, None)
    async with contextlib.AsyncExitStack() as stack:
        check_names(config, options.indexes)
        upstreams, resting = [
            [
                await stack.enter_async_context(one)
                for one in upstreams_of(config, names, env, credentials, retry_policy)
            ]
            for names in (_read_names(config, options), _resting_names(config, options))
        ]
        opened = _opened_state(config.mirror, is_dry=options.dry_run, wait_s=wait_s)
        store = await stack.enter_async_context(opened)
        await check_database(config.rules.advisories, store)
        tree = await open_tree(
            store,
            config.mirror,
            config.limits,
            wait_s=wait_s if credentials is None else math.inf,  # the daemon waits by itself
            pending_bytes=fork_server.pending_bytes if fork_server is not None else None,
            env=env,
        )
        stack.push_async_callback(tree.writer.end)
        temporary = await stack.enter_async_context(
            temporary_tree(is_needed=options.dry_run and bool(config.wants))
        )
        cycle = await _build_cycle(
            config,
            options,
            layout,
            store,
            tree,
            upstreams,
            resting,
            env,
            clock,
            fork_server,
            is_once=credentials is None,
            temporary=temporary,
        )
        yield cycle


@contextlib.asynccontextmanager
async def _opened_state(
    settings: MirrorSettings, *, is_dry: bool, wait_s: float
) -> AsyncIterator[Store]:
    """Yield the state with the root's lock held, or a copy of it for a dry run."""
    if is_dry:
        async with open_copy(settings.state) as store:
            yield store
        return
    layout = Layout(settings.root)
    async with locked_root(settings, wait_s=wait_s), open_store(settings.state) as store:
        await check_tree(store, layout)
        yield store


def _read_names(config: Config, options: Options) -> frozenset[str]:
    """Return the indexes that a cycle reads."""
    return frozenset(options.indexes) or frozenset(index.name for index in config.indexes)


def _resting_names(config: Config, options: Options) -> frozenset[str]:
    """Return the indexes that a cycle of the daemon does not read, and that its wants may need."""
    if not config.wants or options.is_narrowed:
        return frozenset()
    return frozenset(index.name for index in config.indexes) - _read_names(config, options)


async def _build_cycle(
    config: Config,
    options: Options,
    layout: Layout,
    store: Store,
    tree: OpenTree,
    upstreams: Sequence[Upstream],
    resting: Sequence[Upstream],
    env: Mapping[str, str],
    clock: Clock,
    fork_server: ForkServer | None,
    *,
    is_once: bool,
    temporary: Path | None,
) -> Cycle:
    sources = await record_sources(
        store, [(index.name, _kept_url(index)) for index in config.indexes]
    )
    store.links = {
        sources[index.name].id: KeptLinks(secret_root=index.url)
        for index in config.indexes
        if index.has_secret_url
    }
    report = Report(cycle=0, started_at=clock())
    known = [
        await upstream.recalled(sources[upstream.config.name], options, store)
        for upstream in upstreams
    ]
    runs = tuple(_build_run(config, upstream, sources[upstream.config.name]) for upstream in known)
    report.indexes = {run.name: run.counters for run in runs}
    listings, needs = await _build_needs(
        config, options, store, layout, env, clock, is_once=is_once, temporary=temporary
    )
    return Cycle(
        holdings=Holdings(
            store=store,
            layout=layout,
            files=tree.files,
            pages=tree.pages,
            writer=tree.writer,
            client=tree.client,
            clock=clock,
            cycle=0,
        ),
        options=options,
        report=report,
        runs=runs,
        terms=await _terms(config, store, judged_at=report.started_at),
        wants=CycleWants(
            needs=needs,
            listings=listings,
            scratch=scratch_of(config, temporary),
            resting=tuple(_build_run(config, one, sources[one.config.name]) for one in resting),
            keep_unwanted_s=config.mirror.keep_unwanted_s,
        ),
        transfers=Transfers(
            room=StagingRoom(layout, tree.files.staging_limit_bytes),
            conditions=tree.conditions,
            fork_server=fork_server,
        ),
    )


async def _terms(config: Config, store: Store, *, judged_at: float) -> Terms:
    return Terms(
        judged_at=judged_at,
        has_blobs=await has_blobs(store),
        has_sights=await has_sights(store),
        has_overlays=any(index.overlay for index in config.indexes),
        policies=config.policies(platform_tags(config)),
        root_digests={
            index.name: selection.root_digest for index, selection in selections_of(config)
        },
        max_shrink=config.mirror.max_shrink,
        advisories=AdvisorySettings(
            path=config.rules.advisories,
            rules=judged_rules(config.rules),
            sites={site.name: site.wants() for site in config.sites},
        ),
    )


async def _build_needs(
    config: Config,
    options: Options,
    store: Store,
    layout: Layout,
    env: Mapping[str, str],
    clock: Clock,
    *,
    is_once: bool,
    temporary: Path | None,
) -> tuple[ListingCache | None, CycleNeeds | None]:
    """Return the needs of the configuration's wants, and the cache of listings.

    Raises ``ConfigError`` for a change that must not be silent.
    """
    had_wants = await check_change_of_wants(config, store)
    if not config.wants:
        if had_wants:
            await forget_wants(store)
        return None, None
    from mirror.selection.cycle.needs import CycleNeeds  # resolving takes 0.05 s to import
    from mirror.sync.needs.listings import ListingCache
    from mirror.tree.needed.cache import Cache

    needs = CycleNeeds(
        config,
        store,
        env=env,
        clock=clock,
        is_narrowed=options.is_narrowed,
        place=(temporary or layout.root) / "cache",
    )
    await needs.load(needs_uv=is_once)
    return ListingCache(Cache(layout.cache, writes_to=temporary and temporary / "cache")), needs


def _kept_url(index: IndexConfig) -> str:
    return masked_root(index.url) if index.has_secret_url else index.url


def _build_run(config: Config, upstream: Upstream, source: SourceRow) -> IndexRun:
    limits, session = config.limits, upstream.session
    maximum, shrink = limits.max_connections, upstream.config.max_shrink
    return IndexRun(
        source=source,
        selection=upstream.selection,
        access=IndexAccess(
            session=session,
            client=upstream.client,
            page_width=AdaptiveLimit(
                start=limits.pages,
                maximum=max(limits.pages, maximum),
                pushbacks=lambda: session.pushback,
            ),
            file_width=AdaptiveLimit(
                start=limits.downloads,
                maximum=max(limits.downloads, maximum),
                pushbacks=lambda: session.pushback,
            ),
        ),
        counters=IndexCounters(name=upstream.config.name),
        reach=Reachability(client=upstream.client, ended=upstream.denied),
        leaving=Leaving(max_shrink=config.mirror.max_shrink if shrink is None else shrink),
    )
