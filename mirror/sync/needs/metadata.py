"""The core metadata of files that a resolution asks for: of a held file from its own bytes, else as
the index offers it, else out of the whole file.

Metadata belongs to (index, project, filename, digest). Metadata that was not taken from the held
file is provisional: an index may lie in it, so that it is compared once the file is held.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import BinaryIO, TypeVar

import anyio.to_thread

from mirror.core.files.distributions import is_wheel
from mirror.core.names import ProjectName, Sha256, strongest_digest
from mirror.core.offers import Hidden, MetadataRefused, Offer
from mirror.errors import (
    AccessDenied,
    IntegrityError,
    MirrorError,
    NotFound,
    Reason,
    RedirectRefused,
    RefusedElsewhere,
    TooLarge,
    Withheld,
)
from mirror.holdings.holdings import Holdings
from mirror.sync.cycle_parts import CycleWants
from mirror.sync.fetching.jobs import staging_key
from mirror.sync.work import IndexRun
from mirror.tree.disk.writing import Buffer
from mirror.tree.needed.metadata import (
    MetadataUnreadable,
    read_file_metadata,
    read_held_metadata,
    read_held_pyproject,
    read_pyproject,
)
from mirror.tree.objects.opening import tree_opener
from mirror.upstream.download import FileRequest, fetch_checked_metadata
from mirror.workers.transfer import FetchJob, fetch_to_staging

_KIND = "metadata"

T = TypeVar("T")


class MetadataReader:
    """The metadata of the files that one cycle's resolutions ask for."""

    def __init__(self, holdings: Holdings, wants: CycleWants, runs: Mapping[str, IndexRun]) -> None:
        self._files, self._wants, self._runs = holdings.files, wants, runs
        self._held = tree_opener(holdings.layout, holdings.client)
        self._in_memory: dict[str, bytes] = {}

    async def read(self, project: ProjectName, offer: Offer) -> bytes:
        """Return the metadata of a file. Raises ``MetadataRefused``, ``MirrorError``."""
        if offer.held is not None:
            return await self._of_held(offer.held, offer)
        key = _key(project, offer)
        known = self._in_memory.get(key) or await self._load(key, offer)
        if known is None:
            known = await self._ask(project, offer)
            self._in_memory[key] = known
            await self._save(key, offer, known)
        return known

    async def read_pyproject(self, project: ProjectName, offer: Offer) -> bytes | None:
        """Return pyproject.toml of a source distribution, or None where it has none.

        Raises ``MetadataRefused``, ``MirrorError``.
        """
        files, filename = self._files, offer.file.filename
        limit = files.metadata_limit_bytes
        if offer.held is not None:
            try:
                return await anyio.to_thread.run_sync(
                    read_held_pyproject, self._held, offer.held, filename, limit
                )
            except MetadataUnreadable as exc:
                raise MetadataRefused(Hidden(reason=Reason.BAD_FILE, detail=str(exc))) from exc
        key = f"{_key(project, offer)}\npyproject.toml"
        known = self._in_memory.get(key) or await self._load(key, offer)
        if known is None:
            reader = partial(read_pyproject, filename=filename, limit_bytes=limit)
            known = await self._guarded(project, offer, reader) or b""
            self._in_memory[key] = known
            await self._save(key, offer, known)
        return known or None

    async def corrected(self, project: ProjectName, offer: Offer) -> bool:
        """Return whether a held file has other metadata than its index offered before it was
        held.
        """
        key = _key(project, offer)
        known = self._in_memory.get(key) or await self._load(key, offer)
        if known is None or offer.held is None:
            return False
        try:
            own = await self._of_held(offer.held, offer)
        except MetadataRefused:
            return True
        if own == known:
            return False
        self._in_memory[key] = own
        await self._save(key, offer, own)
        return True

    async def _of_held(self, sha256: Sha256, offer: Offer) -> bytes:
        files, filename = self._files, offer.file.filename
        try:
            return await anyio.to_thread.run_sync(
                read_held_metadata, self._held, sha256, filename, files.metadata_limit_bytes
            )
        except MetadataUnreadable as exc:
            raise MetadataRefused(Hidden(reason=Reason.BAD_FILE, detail=str(exc))) from exc

    async def _ask(self, project: ProjectName, offer: Offer) -> bytes:
        run, file = self._runs[offer.index], offer.file
        limit = self._files.metadata_limit_bytes
        if file.metadata is not None and is_wheel(file.filename):
            url = f"{file.url}.metadata"
            # where it is advertised and not there, as some indexes do for all files: the wheel's
            with contextlib.suppress(NotFound), _refusals(run):
                return await fetch_checked_metadata(run.access.session, url, file.metadata, limit)
        reader = partial(read_file_metadata, filename=file.filename, limit_bytes=limit)
        found = await self._guarded(project, offer, reader)
        assert found is not None
        return found

    async def _guarded(
        self, project: ProjectName, offer: Offer, reader: Callable[[Buffer | BinaryIO], T]
    ) -> T:
        run = self._runs[offer.index]
        try:
            with _refusals(run):
                return await self._from_whole_file(run, project, offer, reader)
        except NotFound as exc:
            raise MetadataRefused(_hidden(exc)) from exc

    async def _from_whole_file(
        self,
        run: IndexRun,
        project: ProjectName,
        offer: Offer,
        reader: Callable[[Buffer | BinaryIO], T],
    ) -> T:
        """Fetch the file into staging, where it is found again if it is chosen, and read it
        there.
        """
        file, files = offer.file, self._wants.scratch or self._files
        request = FileRequest(
            filename=file.filename,
            url=file.url,
            size=file.size,
            digests=file.digests,
            limit_bytes=run.selection.policy.file_size_limit,
        )
        key = staging_key(run.name, project, file)
        staged, _ = await fetch_to_staging(
            run.access.session, files, FetchJob(key=key, request=request)
        )
        try:
            with staged.open_source() as source:
                return await anyio.to_thread.run_sync(reader, source)
        except MetadataUnreadable as exc:
            raise MetadataRefused(
                Hidden(reason=Reason.BAD_FILE, detail=f"{file.filename}: {exc}")
            ) from exc
        finally:
            await staged.keep()

    async def _load(self, key: str, offer: Offer) -> bytes | None:
        listings = self._wants.listings
        if listings is None or strongest_digest(offer.file.digests) is None:
            return None
        return await anyio.to_thread.run_sync(listings.cache.load, _KIND, key)

    async def _save(self, key: str, offer: Offer, data: bytes) -> None:
        # Without a strong digest another file may have the same name tomorrow.
        if self._wants.listings is not None and strongest_digest(offer.file.digests) is not None:
            await anyio.to_thread.run_sync(self._wants.listings.cache.save, _KIND, key, data)


@contextlib.contextmanager
def _refusals(run: IndexRun) -> Iterator[None]:
    """Turn the refusal of one file into ``MetadataRefused``; ``NotFound`` stays."""
    try:
        yield
    except AccessDenied as exc:
        if exc.ends_index:
            run.reach.end(exc)
            raise
        raise MetadataRefused(_hidden(exc)) from exc
    except (Withheld, TooLarge, IntegrityError, RedirectRefused, RefusedElsewhere) as exc:
        raise MetadataRefused(_hidden(exc)) from exc


def _key(project: ProjectName, offer: Offer) -> str:
    digests = " ".join(f"{algorithm}={digits}" for algorithm, digits in offer.file.digests)
    return f"{offer.index}\n{project}\n{offer.file.filename}\n{digests}"


def _hidden(error: MirrorError) -> Hidden:
    return Hidden(reason=error.reason, detail=str(error))
