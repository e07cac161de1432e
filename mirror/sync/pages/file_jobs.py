"""The work that a page asks for, file by file: which files become jobs, and which are refused.

Refused files go to the ledger one by one while there is room in it, so that no page of a hostile
index fills the memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio.to_thread

from mirror.core.diff import ProjectChange
from mirror.core.model import ListedFile
from mirror.core.names import Sha256, digests_to_compare
from mirror.core.policy import FileRefusal
from mirror.errors import Reason, shown_text
from mirror.holdings.holdings import Holdings
from mirror.state.entries.held import HeldBlob, load_blobs
from mirror.state.missing.ledger import Failure, FailureRow
from mirror.sync.cycle_parts import PageScope
from mirror.sync.pages.page_pass import PagePass
from mirror.sync.pages.ruling import has_digests
from mirror.sync.work import IndexRun, Job, ProjectWork

_LARGE_BYTES = 1 << 30
"""A listed size from which on it is asked whether the disk could ever hold it: a smaller disk is
the one at fault.
"""

_MAX_REFUSED_OF_PAGE = 10_000
"""Maximum number of files of one page that are named one by one where they can't be taken."""
_MAX_REFUSED_OF_INDEX = 100_000
"""Maximum number for all pages of one index: each takes memory in the report."""
_MORE = "(more files)"
"""The name under which the ledger has all the others; it is no file's, since it has no ending."""


async def add_jobs(
    pages: PagePass, work: ProjectWork, change: ProjectChange, ledger: Mapping[str, FailureRow]
) -> set[str]:
    """Add the jobs and failures to the work; return the refused files that are skipped until
    their next try is due.
    """
    resting: set[str] = set()
    jobs: list[Job] = [*change.rehash, *change.metadata]
    failures = _refused_files(work, change.refusals, known=len(ledger))
    for fetch in change.fetch:
        failed = ledger.get(fetch.file.filename)
        if (
            failed is not None
            and not failed.is_due(pages.due.now)
            and _is_same_refused(failed, fetch.file)
        ):
            resting.add(fetch.file.filename)
        elif detail := await refusal_by_size(pages.scope, pages.run, fetch.file):
            failures.append(work.failure(fetch.file.filename, Reason.TOO_LARGE, detail, fetch))
        else:
            jobs.append(fetch)
    work.asked.jobs, work.asked.failures = jobs, tuple(failures)
    return resting


def _refused_files(
    work: ProjectWork, refusals: Sequence[FileRefusal], *, known: int
) -> list[Failure]:
    """Return the failures of files that can't be taken, one by one while there is room for them
    in the ledger.

    ``known``: rows of this page that are in the ledger already.
    """
    refused = work.run.refused
    unhashed = [
        r for r in refusals if r.reason is Reason.REFUSED_UNHASHED
    ]  # each can be accepted by its name
    refusals = [r for r in refusals if r.reason is not Reason.REFUSED_UNHASHED]
    room = min(_MAX_REFUSED_OF_PAGE, max(known, _MAX_REFUSED_OF_INDEX - refused.files))
    named = len(refusals) if len(refusals) <= room else max(room - 1, 0)
    refused.files += max(0, named - known)
    failures = [_refused(work, refusal) for refusal in (*unhashed, *refusals[:named])]
    if rest := refusals[named:]:
        first = f"{shown_text(rest[0].filename) or '(no name)'}: {rest[0].detail}"
        detail = f"{len(rest)} more files of this page can't be taken; the first is {first}"
        failures.append(work.failure(_MORE, Reason.BAD_FILE, detail))
    return failures


def _refused(work: ProjectWork, refusal: FileRefusal) -> Failure:
    return Failure(
        source=work.run.source.id,
        project=work.row.name,
        # an empty one would mean the page itself
        filename=shown_text(refusal.filename) or "(no name)",
        reason=refusal.reason,
        detail=refusal.detail,
        file=refusal.file,
    )


def _is_same_refused(failed: FailureRow, file: ListedFile) -> bool:
    """Return whether a file was refused as it is listed now; a link that ends has another query
    each time.
    """
    before = failed.file
    if failed.reason is not Reason.DENIED or before is None:
        return False
    return (before.url.partition("?")[0], before.digests) == (
        file.url.partition("?")[0],
        file.digests,
    )


async def refusal_by_size(scope: PageScope, run: IndexRun, file: ListedFile) -> str:
    """Return why a file is not fetched because of its listed size; empty where it is
    fetched.
    """
    if run.selection.too_large(file):
        return f"{file.size} bytes are listed, more than limits.file-size allows"
    room = scope.room.limit_bytes
    if room is not None and file.size is not None and file.size > room:
        return f"{file.size} bytes are listed, more than mirror.staging-size allows ({room})"
    if file.size is None or file.size < _LARGE_BYTES:
        return ""
    disk = await anyio.to_thread.run_sync(scope.holdings.files.disk_bytes)
    if disk is None or disk >= file.size:
        return ""
    return (
        f"{file.size} bytes are listed, more than the whole disk has ({disk});"
        " use a larger one, or limits.file-size"
    )


async def adopt_held(
    holdings: Holdings, work: ProjectWork, *, has_blobs: bool
) -> dict[str, HeldBlob]:
    """Return which of the jobs need no download, by filename, since their blob is held."""
    if not has_blobs:
        return {}
    listed = {
        job.file.filename: dict(job.file.digests)
        for job in work.asked.jobs
        if "sha256" in dict(job.file.digests)
    }
    wanted = {(digests["sha256"], filename) for filename, digests in listed.items()}
    found = (
        {name: held for (_sha, name), held in (await load_blobs(holdings.store, wanted)).items()}
        if wanted
        else {}
    )
    adopted: dict[str, HeldBlob] = {}
    for filename, held in found.items():
        digests = listed[filename]
        others = tuple(pair for pair in digests_to_compare(digests.items()) if pair[0] != "sha256")
        if not others or await has_digests(
            holdings.files, Sha256(digests["sha256"]), filename, others
        ):
            adopted[filename] = held
    return adopted
