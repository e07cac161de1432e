"""Opens every object of a command or a cycle once and passes it in: from a configuration to a cycle
that can run.

Order: errors of the configuration are found before anything is touched, an unwritable root before
any request is made, and the lock is held during every write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

import anyio
import anyio.to_thread
import msgspec

from mirror.config import Config, IndexConfig, Limits, MirrorSettings
from mirror.core.kept_links import KeptLinks, is_masked, masked_root
from mirror.core.policy import Selection, compile_selections
from mirror.errors import AccessDenied, ConfigError, LockHeld, MirrorError, StateError, TreeError
from mirror.state.cycles import load_last_cycle
from mirror.state.entries.held import has_blobs
from mirror.state.entries.pages import load_last_revision
from mirror.state.entries.rebuilt import is_rebuild_unfinished
from mirror.state.listing.sources import SourceRow, load_let_out, load_sources, record_sources
from mirror.state.meta import load_meta
from mirror.state.store import (
    Store,
    check_integrity,
    is_of_an_older_version,
    open_copy,
    open_store,
    open_store_for_reading,
)
from mirror.sync.forker import Forker
from mirror.sync.pool import Width
from mirror.sync.rebuild import set_aside_state
from mirror.sync.report import IndexCounters, Report
from mirror.sync.work import Clock, Cycle, IndexRun, Options
from mirror.tree.check import iter_projects
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout, create_tree
from mirror.tree.lock import hold_async
from mirror.tree.owner import check_owner, check_places
from mirror.tree.pages import PageStore
from mirror.upstream.credentials import CredentialSource, credential_source
from mirror.upstream.flat import FlatClient
from mirror.upstream.index import IndexClient
from mirror.upstream.probe import Probe, probe
from mirror.upstream.retry import RetryPolicy
from mirror.upstream.session import IndexSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One configured index with its open session."""

    config: IndexConfig
    selection: Selection
    session: IndexSession
    client: IndexClient | FlatClient
    denied: MirrorError | None
    """The error of its credential, where it could not be read."""

    async def recalled(self, source: SourceRow, options: Options, store: Store) -> Upstream:
        """Take over the state's record of how the index was read.

        Only ``--allow-shrink`` reads an index without a credential that was read with one before;
        not narrowed to some projects, since it counts for all.
        """
        self.client.expect(source.validators, await load_let_out(store, source))
        is_meant = options.allow_shrink and not options.projects
        if self.denied is not None or not source.had_credential or is_meant:
            return self
        try:
            await self.session.require_credential()
        except AccessDenied as exc:
            return replace(self, denied=exc)
        return self


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
    forker: Forker | None = None,
) -> AsyncIterator[Cycle]:
    """Yield a cycle that is ready to run, with the tree's lock held; ``--dry-run`` takes none and
    works on a copy.

    ``credentials``: the sources that a daemon keeps from cycle to cycle, so that a command is not
    run for each. The daemon's cycle goes on with the other indexes where one's credential is
    malformed; else that is a ``ConfigError``. State and lock are opened for each cycle: between two
    of them another command may repair, replace or move them. ``retry_policy``: replaces the usual
    one. ``forker``: the fork server of the worker processes.

    Raises ``ConfigError``, ``TreeError``, ``StateError`` or ``LockHeld`` before any request is
    made.
    """
    layout = Layout(config.mirror.root)
    if not options.dry_run:
        await check_user(config.mirror)
    async with contextlib.AsyncExitStack() as stack:
        upstreams = [
            await stack.enter_async_context(u) for u in _upstreams(config, options, env, credentials, retry_policy)
        ]
        if options.dry_run:
            store = await stack.enter_async_context(open_copy(config.mirror.state))
        else:
            await anyio.to_thread.run_sync(create_tree, layout)
            await stack.enter_async_context(hold_async(layout.tree_lock, wait_s=wait_s))
            store = await stack.enter_async_context(open_store(config.mirror.state))
            await check_tree_matches(store, layout)
            await check_tree_is_there(store, layout)
        yield await _build_cycle(config, options, layout, store, upstreams, clock, forker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """An existing tree with its state, for the commands that need no upstream."""

    layout: Layout
    store: Store
    maintenance: Cycle
    """Not a cycle: publishing pages requires one; its number is the last cycle's."""
    was_rebuilt: bool = False


@contextlib.asynccontextmanager
async def opened_tree(
    settings: MirrorSettings, limits: Limits, *, wait_s: float = 0.0, clock: Clock = time.time
) -> AsyncIterator[Tree]:
    """Yield the tree with its lock held, for a command that writes. Raises ``TreeError``, ``StateError``, ``LockHeld``."""
    layout = Layout(settings.root)
    await check_user(settings)
    if not await anyio.Path(settings.state).exists():
        raise await anyio.to_thread.run_sync(_no_state, settings, layout)
    async with hold_async(layout.tree_lock, wait_s=wait_s), open_store(settings.state) as store:
        await check_tree_matches(store, layout)
        await anyio.to_thread.run_sync(create_tree, layout)
        yield await _build_tree(settings, limits, layout, store, clock)


async def make_state(settings: MirrorSettings, *, wait_s: float = 0.0) -> None:
    """Make an empty tree with its state. Raises ``LockHeld``, ``TreeError``, or ``StateError`` where pages are there."""
    layout = Layout(settings.root)
    await check_user(settings)
    await anyio.to_thread.run_sync(create_tree, layout)
    async with hold_async(layout.tree_lock, wait_s=wait_s), open_store(settings.state) as store:
        await check_tree_matches(store, layout)


@contextlib.asynccontextmanager
async def opened_tree_for_reading(
    settings: MirrorSettings, limits: Limits, *, clock: Clock = time.time, may_note: bool = False
) -> AsyncIterator[Tree]:
    """Yield the tree without a lock, also while another process works on it.

    Raises ``TreeError``, ``StateError``.

    ``may_note``: the state takes small notes where it can be written, such as the time of a
    verification; the command then counts as one that writes.
    """
    layout = Layout(settings.root)
    if may_note:
        await check_user(settings)
    if not await anyio.Path(settings.state).exists():
        raise await anyio.to_thread.run_sync(_no_state, settings, layout)
    if may_note and await is_of_an_older_version(settings.state):
        await _upgrade(settings, layout)
    async with open_store_for_reading(settings.state, may_note=may_note) as store:
        await check_tree_matches(store, layout)
        yield await _build_tree(settings, limits, layout, store, clock)


async def _upgrade(settings: MirrorSettings, layout: Layout) -> None:
    """Bring a state up to this version, unless a process of an older one may still work on it."""
    with contextlib.suppress(LockHeld, TreeError):
        async with hold_async(layout.daemon_lock), hold_async(layout.tree_lock), open_store(settings.state):
            pass


@contextlib.asynccontextmanager
async def opened_tree_for_repair(
    settings: MirrorSettings, limits: Limits, *, wait_s: float = 0.0, clock: Clock = time.time
) -> AsyncIterator[Tree]:
    """Yield the tree with its lock held; a state that is missing, damaged or not the tree's is set aside for a new one."""
    layout = Layout(settings.root)
    await check_user(settings)
    if not await anyio.Path(layout.simple).is_dir() and not await anyio.Path(settings.state).exists():
        raise await anyio.to_thread.run_sync(_no_state, settings, layout)
    await anyio.to_thread.run_sync(create_tree, layout)
    async with hold_async(layout.tree_lock, wait_s=wait_s):
        is_usable = await _is_usable(settings, layout)
        if not is_usable:
            await anyio.to_thread.run_sync(set_aside_state, settings.state)
        async with open_store(settings.state) as store:
            tree = await _build_tree(settings, limits, layout, store, clock)
            yield replace(tree, was_rebuilt=not is_usable)


async def check_user(settings: MirrorSettings) -> None:
    """Raise ``WrongUser`` where another user owns the state, before a command writes anything.

    Raises ``TreeError`` where another user could redirect the writes.
    """
    await anyio.to_thread.run_sync(check_owner, settings.root, settings.state)
    await anyio.to_thread.run_sync(check_places, Layout(settings.root))


async def with_known_indexes(config: Config) -> Config:
    """Return ``config`` with the indexes that the state remembers, their credentials looked up as by default."""
    async with open_store_for_reading(config.mirror.state) as store:
        known = [s for s in await load_sources(store) if s.configured]
    for source in known:
        if is_masked(source.url):
            problem = (
                "the state does not keep its address, which is a secret: pass --config FILE, which names its source"
            )
            raise ConfigError(where=f"index {source.name!r}", problem=problem)
    indexes = tuple(IndexConfig(name=s.name, url=s.url, format="flat" if s.is_flat else "simple") for s in known)
    return msgspec.structs.replace(config, indexes=indexes)


async def _is_usable(settings: MirrorSettings, layout: Layout) -> bool:
    if not await anyio.Path(settings.state).exists():
        return False
    try:
        async with open_store(settings.state) as store:
            await check_tree_matches(store, layout)
            await check_integrity(store)
    except StateError as exc:
        if exc.is_damage:
            return False
        raise
    return True


async def _build_tree(settings: MirrorSettings, limits: Limits, layout: Layout, store: Store, clock: Clock) -> Tree:
    last = await load_last_cycle(store)
    maintenance = Cycle(
        id=last.id if last else 0,
        store=store,
        files=FileStore(layout, metadata_limit_bytes=limits.metadata_size, disk_reserve_bytes=limits.disk_reserve),
        pages=PageStore(layout),
        options=Options(),
        report=Report(cycle=0, started_at=clock()),
        clock=clock,
        runs=(),
        max_shrink=settings.max_shrink,
    )
    return Tree(layout=layout, store=store, maintenance=maintenance)


def _no_state(settings: MirrorSettings, layout: Layout) -> StateError:
    if layout.simple.is_dir():
        return StateError(
            path=str(settings.state),
            problem="it is missing beside a tree with pages; run `mirror verify --repair` to rebuild it from them",
            is_damage=True,
        )
    return StateError(
        path=str(settings.state), problem="there is no mirror here: check --root, or run `mirror sync --once`"
    )


async def check_tree_matches(store: Store, layout: Layout) -> None:
    """Raise ``StateError`` where the tree has pages that this state has never written."""
    if await is_rebuild_unfinished(store):
        problem = "its rebuilding was interrupted; run `mirror verify --repair` again"
        raise StateError(path=str(store.path), problem=problem, is_damage=True)
    on_disk = await anyio.to_thread.run_sync(PageStore(layout).root_serial)
    known = max(await load_last_revision(store), int(await load_meta(store, "root_revision") or 0))
    if not known and await anyio.to_thread.run_sync(_has_pages, layout):
        on_disk = on_disk or 1
    if on_disk is not None and on_disk > known:
        raise StateError(
            path=str(store.path),
            problem=f"{layout.simple} holds pages that this state does not know (revision {on_disk}, known {known}):"
            " the state is missing or older than the tree; run `mirror verify --repair` to rebuild it from the tree,"
            " or restore the newer state",
            is_damage=True,
        )


async def check_tree_is_there(store: Store, layout: Layout) -> None:
    """Raise ``StateError`` where the pages that this state has written are gone, or older ones are
    in their place.

    A cycle asks only for changes since the state, so it would never write those pages again.
    """
    written = int(await load_meta(store, "root_revision") or 0)
    on_disk = await anyio.to_thread.run_sync(PageStore(layout).root_serial)
    if (on_disk or 0) < written:
        found = "no root page of ours" if on_disk is None else f"an older root page (revision {on_disk})"
        raise StateError(
            path=str(store.path),
            problem=f"{layout.simple} holds {found}, this state wrote revision {written}: the tree was lost, damaged or"
            " replaced by an older one; run `mirror verify --repair` to mend it from the state, or check `root`",
        )


def _has_pages(layout: Layout) -> bool:
    return any((layout.simple / name).is_dir() for name in iter_projects(layout))


def _upstreams(
    config: Config,
    options: Options,
    env: Mapping[str, str],
    credentials: Mapping[str, CredentialSource] | None,
    retry_policy: RetryPolicy | None,
) -> Sequence[contextlib.AbstractAsyncContextManager[Upstream]]:
    unknown = set(options.indexes) - {index.name for index in config.indexes}
    if unknown:
        raise ConfigError(where="--index", problem=f"no index is named {min(unknown)!r} in {config.source}")
    return [
        _open_upstream(config, index, selection, env, credentials, retry_policy)
        for index, selection in _selections(config)
        if not options.indexes or index.name in options.indexes
    ]


def _selections(config: Config) -> list[tuple[IndexConfig, Selection]]:
    selections = compile_selections([index.policy(config.limits) for index in config.indexes])
    return list(zip(config.indexes, selections, strict=True))


@contextlib.asynccontextmanager
async def _open_upstream(
    config: Config,
    index: IndexConfig,
    selection: Selection,
    env: Mapping[str, str],
    credentials: Mapping[str, CredentialSource] | None,
    retry_policy: RetryPolicy | None,
) -> AsyncIterator[Upstream]:
    source = credential_source(index, env, config.indexes) if credentials is None else credentials[index.name]
    async with IndexSession(index, config.limits, source, env, retry_policy=retry_policy) as session:
        denied: MirrorError | None = None
        try:
            await session.prepare()
        except AccessDenied as exc:
            denied = exc
        except ConfigError as exc:
            if credentials is None:
                raise
            where = source.describe()
            denied = AccessDenied(
                url=index.url, index=index.name, status=None, source=where, ends_index=True, detail=str(exc)
            )
        pages = IndexClient(session, index, config.limits)
        client: IndexClient | FlatClient = pages
        if index.format == "flat":
            client = FlatClient(pages, max_files=config.limits.files_per_project)
        yield Upstream(config=index, selection=selection, session=session, client=client, denied=denied)


async def _build_cycle(
    config: Config,
    options: Options,
    layout: Layout,
    store: Store,
    upstreams: Sequence[Upstream],
    clock: Clock,
    forker: Forker | None,
) -> Cycle:
    sources = await record_sources(store, [(index.name, _kept_url(index)) for index in config.indexes])
    store.links = {
        sources[index.name].id: KeptLinks(secret_root=index.url) for index in config.indexes if index.has_secret_url
    }
    report = Report(cycle=0, started_at=clock())
    known = [await upstream.recalled(sources[upstream.config.name], options, store) for upstream in upstreams]
    runs = tuple(_build_run(config, upstream, sources[upstream.config.name]) for upstream in known)
    report.indexes = {run.name: run.counters for run in runs}
    return Cycle(
        id=0,
        store=store,
        files=FileStore(
            layout,
            metadata_limit_bytes=config.limits.metadata_size,
            disk_reserve_bytes=config.limits.disk_reserve,
            promises=forker.promises if forker is not None else None,
        ),
        pages=PageStore(layout),
        options=options,
        report=report,
        clock=clock,
        runs=runs,
        max_shrink=config.mirror.max_shrink,
        has_blobs=await has_blobs(store),
        has_overlays=any(index.overlay for index in config.indexes),
        policies=tuple(index.policy(config.limits) for index in config.indexes),
        root_digests={index.name: selection.root_digest for index, selection in _selections(config)},
        forker=forker,
    )


def _kept_url(index: IndexConfig) -> str:
    return masked_root(index.url) if index.has_secret_url else index.url


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
        max_shrink=config.mirror.max_shrink if upstream.config.max_shrink is None else upstream.config.max_shrink,
        ended=upstream.denied,
    )


async def probe_indexes(config: Config, names: Sequence[str], env: Mapping[str, str]) -> list[Probe]:
    """Ask some indexes of the configuration, or all, for the features that they support.

    Raises ``ConfigError``.
    """
    _check_names(config, names)
    found = []
    for index, selection in _selections(config):
        if not names or index.name in names:
            async with IndexSession(
                index, config.limits, credential_source(index, env, config.indexes), env
            ) as session:
                found.append(await probe(session, index, config.limits, selection))
    return found


def _check_names(config: Config, names: Sequence[str]) -> None:
    unknown = set(names) - {index.name for index in config.indexes}
    if unknown:
        raise ConfigError(where="--index", problem=f"no index is named {min(unknown)!r} in {config.source}")
