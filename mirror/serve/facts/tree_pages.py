"""The published pages as values, for facts that need no state."""

from __future__ import annotations

import msgspec

from mirror.core.files.versions import Yanked
from mirror.core.names import ProjectName
from mirror.serve.facts.reading import Reading

_JSON_PAGE = "index.v1_json"


class ListedBlob(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A file as the page of its project lists it."""

    filename: str
    hashes: dict[str, str]
    size: int = 0
    upload_time: str | None = None
    requires_python: str | None = None
    yanked: Yanked = False
    core_metadata: dict[str, str] | bool = False

    @property
    def sha256(self) -> str:
        """Its digest."""
        return self.hashes.get("sha256", "")

    @property
    def place(self) -> tuple[str, ...]:
        """Its path below ``public``."""
        digits = self.sha256
        return ("files", digits[:2], digits[2:4], digits, self.filename)


class PublishedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a project (PEP 792)."""

    status: str = "active"
    reason: str = ""


class PublishedPage(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A project's page."""

    name: str
    files: list[ListedBlob]
    project_status: PublishedStatus = PublishedStatus()


class _RootProject(msgspec.Struct, frozen=True):
    name: str


class _RootPage(msgspec.Struct, frozen=True):
    projects: list[_RootProject]


_decode_page = msgspec.json.Decoder(PublishedPage).decode
_decode_root = msgspec.json.Decoder(_RootPage).decode


def load_project_page(reading: Reading, name: ProjectName) -> PublishedPage | None:
    """Return a project's published page; None where there is none."""
    try:
        data, _ = reading.read_file(("simple", name, _JSON_PAGE))
        return _decode_page(data)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


class NameList:
    """The names of the root page, kept as one text until the page changes."""

    def __init__(self) -> None:
        self._signature: tuple[int, ...] = ()
        self._names = "\n"

    def load(self, reading: Reading) -> str:
        """Return all names, by name, each on its line, with a line break before the first."""
        place = ("simple", _JSON_PAGE)
        try:
            found = reading.file_status(place)
            signature = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if signature != self._signature:
                names = sorted(
                    project.name for project in _decode_root(reading.read_file(place)[0]).projects
                )
                self._names = "".join(f"\n{name}" for name in names) + "\n"
                self._signature = signature
        except (FileNotFoundError, msgspec.MsgspecError):
            return "\n"
        return self._names
