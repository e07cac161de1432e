"""Pages of some projects, asked for outside of a cycle; nothing is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mirror.config import Config
from mirror.core.model import ProjectPage
from mirror.core.names import ProjectName
from mirror.errors import MirrorError, UpstreamError
from mirror.upstream.index import Read
from mirror.wiring.upstreams import open_upstream, selections_of

if TYPE_CHECKING:
    pass


async def read_project_pages(
    config: Config,
    asked: Mapping[str, Mapping[ProjectName, str | None]],
    env: Mapping[str, str],
) -> dict[ProjectName, ProjectPage | MirrorError]:
    """Ask indexes for the pages of some projects, outside of a cycle; nothing is recorded.

    ``asked``: by index, the projects with the addresses of their pages, None for the usual one.
    """
    found: dict[ProjectName, ProjectPage | MirrorError] = {}
    for index, selection in selections_of(config):
        if index.name not in asked:
            continue
        async with open_upstream(config, index, selection, env, None, None) as upstream:
            for name, address in asked[index.name].items():
                try:
                    if upstream.denied is not None:
                        raise upstream.denied
                    answer = await upstream.client.fetch_project(name, None, address)
                except UpstreamError as exc:
                    found[name] = exc
                else:
                    assert isinstance(answer, Read)  # without validators nothing is unchanged
                    found[name] = answer.page
    return found
