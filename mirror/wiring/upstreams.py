"""The indexes of a configuration, each with an open session."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from mirror.config import Config, IndexConfig
from mirror.core.policy import Selection, compile_selections
from mirror.errors import AccessDenied, ConfigError, MirrorError
from mirror.state.listing.sources import (
    SourceRow,
    load_served_projects,
)
from mirror.state.store import Store
from mirror.sync.cycle_parts import Options
from mirror.upstream.credentials import CredentialSource, credential_source
from mirror.upstream.index import IndexClient
from mirror.upstream.limits.retry import RetryPolicy
from mirror.upstream.session import IndexSession

if TYPE_CHECKING:
    from mirror.upstream.flat import FlatClient


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
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
        self.client.expect(source.validators, await load_served_projects(store, source))
        is_meant = options.allow_shrink and not options.projects
        if self.denied is not None or not source.had_credential or is_meant:
            return self
        try:
            await self.session.require_credential()
        except AccessDenied as exc:
            return msgspec.structs.replace(self, denied=exc)
        return self


def check_names(config: Config, names: Sequence[str]) -> None:
    """Raise ``ConfigError`` for a name that no index has."""
    unknown = set(names) - {index.name for index in config.indexes}
    if unknown:
        raise ConfigError(
            where="--index", problem=f"no index is named {min(unknown)!r} in {config.source}"
        )


def selections_of(config: Config) -> list[tuple[IndexConfig, Selection]]:
    """Return each index with its compiled rules."""
    selections = compile_selections(config.policies(platform_tags(config)))
    return list(zip(config.indexes, selections, strict=True))


def platform_tags(config: Config) -> frozenset[str]:
    """Return the tags of all targets where a rule asks for them."""
    if config.rules.platforms != "targets":
        return frozenset()
    from mirror.selection.targets import tag_names  # 7 ms: as for ``CycleNeeds``

    return tag_names(config.targets)


def upstreams_of(
    config: Config,
    names: Collection[str],
    env: Mapping[str, str],
    credentials: Mapping[str, CredentialSource] | None,
    retry_policy: RetryPolicy | None,
) -> Sequence[contextlib.AbstractAsyncContextManager[Upstream]]:
    """Return the indexes of these names, each to be opened."""
    return [
        open_upstream(config, index, selection, env, credentials, retry_policy)
        for index, selection in selections_of(config)
        if index.name in names
    ]


@contextlib.asynccontextmanager
async def open_upstream(
    config: Config,
    index: IndexConfig,
    selection: Selection,
    env: Mapping[str, str],
    credentials: Mapping[str, CredentialSource] | None,
    retry_policy: RetryPolicy | None,
) -> AsyncIterator[Upstream]:
    """Yield an index with its session, and with the error of its credential, if it has one."""
    source = (
        credential_source(index, env, config.indexes)
        if credentials is None
        else credentials[index.name]
    )
    async with IndexSession(
        index, config.limits, source, env, retry_policy=retry_policy
    ) as session:
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
                url=index.url,
                index=index.name,
                status=None,
                source=where,
                ends_index=True,
                detail=str(exc),
            )
        pages = IndexClient(session, index, config.limits)
        client: IndexClient | FlatClient = pages
        if index.format == "flat":
            from mirror.upstream.flat import FlatClient  # 1 ms

            client = FlatClient(pages, max_files=config.limits.files_per_project)
        yield Upstream(
            config=index, selection=selection, session=session, client=client, denied=denied
        )
