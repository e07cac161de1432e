"""The addresses and times of a mirror's files as a lock names them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from mirror.state.entries.served_files import ServedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorAddress:
    """An index whose path ends in ``/simple`` or ``/simple/``, as the user wrote it."""

    index: str

    @property
    def without_slash(self) -> str:
        """The index without a slash at its end."""
        return self.index.rstrip("/")

    def file(self, held: ServedFile) -> str:
        """Return the address of a held file, which stays the same for ever."""
        base = self.without_slash.removesuffix("simple")
        digest = held.sha256
        return f"{base}files/{digest[:2]}/{digest[2:4]}/{digest}/{quote(held.filename, safe='')}"


def is_address(text: str) -> bool:
    """Return whether an index is an address of a server, not a folder."""
    return text.startswith(("http://", "https://"))


def read_time(upload_time: str | None) -> datetime | None:
    """Return the upload time of a held file, in UTC; None where no index gave one."""
    try:
        return None if upload_time is None else datetime.fromisoformat(upload_time).astimezone(UTC)
    except ValueError:
        return None
