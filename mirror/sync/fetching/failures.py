"""Failed files: their rows in the ledger, and the findings about their index, page and link."""

from __future__ import annotations

import anyio
import anyio.to_thread

from mirror.core.diff import Fetch
from mirror.errors import (
    AccessDenied,
    MirrorError,
    NotFound,
    Reason,
    RefusedElsewhere,
    Unavailable,
)
from mirror.sync.recording.events import (
    Failed,
)
from mirror.sync.recording.recorder import Recorder
from mirror.sync.work import IndexRun, Job, ProjectWork, asked_wait_s

_REFUSED_LINK_BYTES = 64 * 1024 * 1024
"""Maximum length of the refused links that one index's part remembers."""


class FileFailures:
    """Records the failed files of one index."""

    def __init__(self, run: IndexRun, recorder: Recorder) -> None:
        self._run, self._recorder = run, recorder

    async def record(self, work: ProjectWork, fetch: Job, error: MirrorError) -> None:
        """Record a failure; a refused link that may have expired has its page read again."""
        run = self._run
        if isinstance(error, AccessDenied) and error.ends_index:
            run.reach.end(error)
            await anyio.lowlevel.checkpoint()
        if isinstance(error, Unavailable) and not isinstance(error, RefusedElsewhere):
            await run.reach.record_unreachable(error)
        else:
            run.reach.record_answer()
        is_new_link = self._record_refused_link(work, fetch, error)
        if is_new_link or (work.is_retry and isinstance(error, NotFound)):
            run.pages.rereads[work.row.name] = work
        failure = work.failure(
            fetch.file.filename, error.reason, str(error), fetch, wait_s=asked_wait_s(error)
        )
        await self._recorder.put(Failed(work=work, failure=failure))

    async def record_bug(self, work: ProjectWork, wanted: Job, kind: str) -> None:
        """Record a file that failed by a fault of this program."""
        detail = f"{kind}: a bug of this program, see the log"
        failure = work.failure(wanted.file.filename, Reason.INTERNAL, detail, wanted)
        await self._recorder.put(Failed(work=work, failure=failure))

    def refusal_of(self, work: ProjectWork, fetch: Fetch) -> MirrorError | None:
        """Return the error of a link that was refused in this cycle: its page was read again, and
        an unchanged link has not expired.
        """
        key = (work.row.name, fetch.file.filename)
        url, refusal = self._run.refused.links.get(key, ("", None))
        return refusal if url == fetch.file.url else None

    def _record_refused_link(self, work: ProjectWork, fetch: Job, error: MirrorError) -> bool:
        """Record a refused link that may have expired in the queue; False for one that can't have.

        A link without a query never expires, and one that is equal when its page is read again has
        not.
        """
        is_refusal = isinstance(error, AccessDenied | NotFound | RefusedElsewhere)
        if not is_refusal or "?" not in fetch.file.url:
            return False
        key = (work.row.name, fetch.file.filename)
        before, _ = self._run.refused.links.get(key, ("", None))
        if before == fetch.file.url:
            return False
        if self._run.refused.link_bytes > _REFUSED_LINK_BYTES:
            return False  # its page is read again in the next cycle only
        self._run.refused.link_bytes += len(fetch.file.url)
        self._run.refused.links[key] = (fetch.file.url, error)
        return True
