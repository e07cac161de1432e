"""One file on its way from an index into staging: downloaded, checked, and kept for the next try
where it is cut off.

Used by the process that runs the cycle and by those that only fetch.
"""

from __future__ import annotations

import anyio
import anyio.to_thread
import msgspec

from mirror.core.model import Digests
from mirror.core.names import digests_to_compare
from mirror.errors import AccessDenied, BadFile, TooLarge, Unavailable, UpstreamError
from mirror.holdings.tree import TreeFiles
from mirror.logs import get_logger
from mirror.tree.disk.failures import tree_errors
from mirror.tree.file_form import form_problem
from mirror.tree.staging import StagedFile
from mirror.upstream.download import FileRequest, algorithms_for, download, fetch_metadata
from mirror.upstream.limits.memory import PageLease
from mirror.upstream.session import IndexSession

_log = get_logger(__name__)


class FetchJob(msgspec.Struct, frozen=True, kw_only=True):
    """One file to fetch, whole: its listing, and the key of its partial file in staging."""

    key: str
    request: FileRequest
    metadata: Digests = ()
    """Digests of the metadata to be fetched with it
    (``core.files.distributions.metadata_to_fetch``).
    """
    may_outgrow: bool = False
    """The limit of the request is its room in staging: a larger one stays there until it has more.
    """


async def fetch_to_staging(
    session: IndexSession, files: TreeFiles, job: FetchJob, lease: PageLease | None = None
) -> tuple[StagedFile, bytes | None]:
    """Return the file, whole and checked, and its metadata where that was requested and available.

    ``lease`` holds the room for the metadata.

    Raises ``UpstreamError``, ``IntegrityError``, ``TreeError``. An interrupted file stays in
    staging.
    """
    staged = await files.open_staged(job.key, algorithms_for(job.request.digests))
    try:
        await download(session, job.request, staged)
        await _check_form(job.request, staged)
        metadata = await fetch_job_metadata(session, job, files.metadata_limit_bytes, lease)
    except (Unavailable, AccessDenied, anyio.get_cancelled_exc_class()):
        await staged.keep()
        raise
    except BaseException as exc:
        if job.may_outgrow and isinstance(exc, TooLarge):
            await staged.keep()
        else:
            await staged.discard()
        raise
    return staged, metadata


async def _check_form(request: FileRequest, staged: StagedFile) -> None:
    """Raise ``BadFile`` where no digest was compared and the bytes don't have the form that the
    name requires.
    """
    if digests_to_compare(request.digests):
        return

    def find_problem() -> str:
        with staged.open_source() as source, tree_errors(request.filename):
            return form_problem(source, request.filename)

    is_small = staged.in_memory == staged.written
    if problem := find_problem() if is_small else await anyio.to_thread.run_sync(find_problem):
        raise BadFile(filename=request.filename, problem=problem)


async def fetch_job_metadata(
    session: IndexSession, job: FetchJob, limit_bytes: int, lease: PageLease | None = None
) -> bytes | None:
    """Return the advertised metadata of a file that is not a wheel; a wheel's own is extracted when
    it is placed.

    None where it can't be fetched: a file is of use without it. It is requested again when its page
    is read again. Raises ``AccessDenied`` where the whole index denies access.
    """
    if not job.metadata:
        return None
    try:
        url = f"{job.request.url}.metadata"
        return await fetch_metadata(session, url, job.metadata, limit_bytes, lease=lease)
    except UpstreamError as exc:
        if isinstance(exc, AccessDenied) and exc.ends_index:
            raise
        _log.warning(
            "metadata.failed", index=session.name, filename=job.request.filename, cause=str(exc)
        )
        return None
