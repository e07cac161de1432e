"""The features of indexes, asked for outside of a cycle; nothing is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mirror.config import Config
from mirror.upstream.credentials import credential_source
from mirror.upstream.probe import Probe, probe
from mirror.upstream.session import IndexSession
from mirror.wiring.upstreams import check_names, selections_of


async def probe_indexes(
    config: Config, names: Sequence[str], env: Mapping[str, str]
) -> list[Probe]:
    """Ask some indexes of the configuration, or all, for the features that they support.

    Raises ``ConfigError``.
    """
    check_names(config, names)
    found = []
    for index, selection in selections_of(config):
        if not names or index.name in names:
            async with IndexSession(
                index, config.limits, credential_source(index, env, config.indexes), env
            ) as session:
                found.append(await probe(session, index, config.limits, selection))
    return found
