"""The download of a file as a job for this process or a worker: its key and its limits."""

from __future__ import annotations

from mirror.core.diff import Fetch
from mirror.core.files.distributions import metadata_to_fetch
from mirror.core.model import ListedFile
from mirror.core.names import ProjectName
from mirror.errors import (
    MirrorError,
    TooLarge,
)
from mirror.sync.staging_room import UNLISTED_BYTES, StagingRoom
from mirror.sync.work import ProjectWork
from mirror.upstream.download import FileRequest
from mirror.workers.transfer import FetchJob


class FileJobs:
    """Makes the jobs of one index."""

    def __init__(self, index: str, *, file_limit_bytes: int, room: StagingRoom) -> None:
        """``file_limit_bytes``: the largest file of the index; 0: no limit."""
        self._index, self._file_limit_bytes, self._room = index, file_limit_bytes, room

    def job_of(self, work: ProjectWork, fetch: Fetch, size: int | None = None) -> FetchJob:
        """Return the job of a file. ``size``: an unlisted one that is known by now."""
        file = fetch.file
        most_bytes, setting = self.size_limit()
        limit_bytes = most_bytes
        if self._room.limit_bytes is not None and file.size is None:
            limit_bytes = min(most_bytes, UNLISTED_BYTES if size is None else size)
        request = FileRequest(
            filename=file.filename,
            url=file.url,
            size=file.size,
            digests=file.digests,
            limit_bytes=limit_bytes,
            setting=setting,
        )
        metadata = metadata_to_fetch(file, work.row.name)
        return FetchJob(
            key=self.key_of(work, fetch),
            request=request,
            metadata=metadata,
            may_outgrow=limit_bytes < most_bytes,
        )

    def key_of(self, work: ProjectWork, fetch: Fetch) -> str:
        """Return the key of a file in staging."""
        return staging_key(self._index, work.row.name, fetch.file)

    def size_limit(self) -> tuple[int, str]:
        """Return the largest size of a file, and the key that sets it; 0: no limit."""
        limit_bytes = self._file_limit_bytes
        room = self._room.limit_bytes
        if room is not None and not 0 < limit_bytes <= room:
            return room, "mirror.staging-size"
        return limit_bytes, "limits.file-size"

    def has_outgrown(self, fetch: Fetch, error: MirrorError | None) -> bool:
        """Return whether a file of unlisted size was given up only since its room was too small."""
        if self._room.limit_bytes is None or fetch.file.size is not None:
            return False
        return isinstance(error, TooLarge) and error.limit_bytes < self.size_limit()[0]


def staging_key(index: str, project: ProjectName, file: ListedFile) -> str:
    """Return the key of a file in staging: the same bytes by name and digest, whatever their
    URL.
    """
    digest = dict(file.digests).get("sha256") or " ".join(f"{a}={d}" for a, d in file.digests)
    return f"{index}/{project}/{file.filename}/{digest}"
