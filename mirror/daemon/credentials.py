"""The credentials of all indexes over the life of a daemon: which were refused, which end soon."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Mapping

from mirror.config import Config
from mirror.core.schedule import expiry_step
from mirror.errors import AccessDenied, MirrorError
from mirror.jobs.after_cycle import warn_of_end
from mirror.logs import get_logger
from mirror.sync.work import IndexRun
from mirror.upstream.credentials import CredentialSource, credential_source

_log = get_logger(__name__)


class CredentialWatch:
    """The credential sources of a configuration, and what the indexes made of the credentials."""

    def __init__(self, sources: Mapping[str, CredentialSource]) -> None:
        self.sources = sources
        self._denied: dict[str, str | None] = {}
        """Indexes that denied access: the fingerprint of the refused credential."""
        self._warned: dict[str, tuple[float, int]] = {}

    def adopt(self, sources: Mapping[str, CredentialSource], changed: Collection[str]) -> None:
        """Take over the sources of a new configuration; an index that changed is no longer
        refused.
        """
        self.sources = sources
        self._denied = {
            name: fingerprint
            for name, fingerprint in self._denied.items()
            if name in sources and name not in changed
        }

    def record_answers(self, runs: Collection[IndexRun]) -> None:
        """Record which indexes of a cycle denied access, and with which credential."""
        for run in runs:
            self._denied.pop(run.name, None)
            if isinstance(run.reach.ended, AccessDenied):
                kept = run.access.session.credentials.kept
                self._denied[run.name] = kept.fingerprint() if kept is not None else None

    async def iter_replaced(self, config: Config) -> AsyncIterator[str]:
        """Yield each index whose refused credential has been replaced."""
        for name, refused in list(self._denied.items()):
            index = next((i for i in config.indexes if i.name == name), None)
            source = self.sources.get(name)
            if (
                index is None
                or source is None
                or (index.auth is not None and index.auth.runs_program)
            ):
                continue
            try:
                found = await source.load()
            except MirrorError:
                continue  # logged when it was refused
            if found is not None and found.fingerprint() != refused:
                self._denied.pop(name, None)  # a reload may have forgotten it
                _log.info("credential.changed", index=name, source=found.source)
                yield name

    def warn_of_ends(self) -> None:
        """Log each credential that ends soon, once for each of the days before its end."""
        for name, source in self.sources.items():
            expires_at = source.kept.expires_at if source.kept is not None else None
            days = expiry_step(expires_at, now=time.time())
            if expires_at is None or days is None or self._warned.get(name) == (expires_at, days):
                continue
            self._warned[name] = (expires_at, days)
            warn_of_end(name, source.describe(), expires_at, now=time.time())


def sources_of(
    config: Config,
    env: Mapping[str, str],
    kept: Mapping[str, CredentialSource],
    old: Config | None = None,
) -> dict[str, CredentialSource]:
    """Return the credential sources of all indexes; those of unchanged indexes are kept, with their
    credentials.
    """
    before = {index.name: index for index in old.indexes} if old is not None else {}
    found = {}
    for index in config.indexes:
        # The secrets hidden from a command depend on the other indexes too.
        is_command = index.auth is not None and index.auth.kind == "command"
        is_same = before.get(index.name) == index and (not is_command or old == config)
        found[index.name] = (
            kept[index.name] if is_same else credential_source(index, env, config.indexes)
        )
    return found
