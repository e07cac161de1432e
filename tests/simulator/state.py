"""What a simulated index holds: projects, files and their labels, changed by plain method calls.

Every change gives its project a new serial and a new time of modification, and nothing else does; so validators and
serials of the rendered pages change exactly when the content does. A reader in another thread sees each project
before or after a change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from simulator.wheels import wheel_metadata

AUTO: Final = "auto"
"""Stands for what a real index would say of the file; None then means «not said»."""

_FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class SimulatedFile:
    """One file of a project, with everything that a page may say of it."""

    filename: str
    data: bytes
    requires_python: str | None = None
    yanked: bool | str = False
    upload_time: str | None = None
    size: int | None = None
    hashes: Mapping[str, str] | None = None
    """None: the algorithms of the simulator's settings; otherwise exactly these, right or wrong."""
    provenance: str | None = None
    metadata: bytes | None = None
    """What ``.metadata`` answers; None: 404."""
    core_metadata: bool | Mapping[str, str] | None = None
    """What the page advertises; None: what ``metadata`` says, if the simulator's settings advertise it."""
    directory: str = "files"
    """The first part of the file's path, such as ``python-upstream`` for a pass-through tier."""
    url: str | None = None
    """A URL to list instead of the simulator's own."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the file's JSON object."""
    html_attributes: Mapping[str, str] = field(default_factory=dict)
    """Further attributes of the file's anchor."""
    _digests: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Those that were asked for so far: each answer of a page asks for them again."""

    def hash(self, algorithm: str) -> str:
        """Return the digest of the bytes in hexadecimal digits."""
        if algorithm not in self._digests:
            self._digests[algorithm] = hashlib.new(algorithm, self.data, usedforsecurity=False).hexdigest()
        return self._digests[algorithm]


@dataclass(frozen=True, kw_only=True)
class SimulatedProject:
    """One project; replaced as a whole by each change."""

    name: str
    """Normalised: the name in URLs."""
    display_name: str
    files: Mapping[str, SimulatedFile] = field(default_factory=dict)
    listed: bool = True
    status: str | None = None
    status_reason: str | None = None
    versions: tuple[str, ...] | None = None
    """None: taken from the file names."""
    serial: int = 0
    modified: datetime = _FIRST_DAY
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further top-level keys of the project's JSON page."""
    extra_meta: Mapping[str, Any] = field(default_factory=dict)

    def offered(self) -> tuple[SimulatedFile, ...]:
        """Return the files of the page: none while the project is quarantined (PEP 792)."""
        return () if self.status == "quarantined" else tuple(self.files.values())

    def all_versions(self) -> list[str]:
        """Return the ``versions`` of PEP 700."""
        if self.versions is not None:
            return list(self.versions)
        return list(dict.fromkeys(v for v in map(_version_of, self.files) if v is not None))


class IndexState:
    """An index's content. Names may be given in any spelling; unknown ones raise ``KeyError``."""

    def __init__(self, *, first_serial: int = 1000) -> None:
        self.serial = first_serial
        self.projects: dict[str, SimulatedProject] = {}

    def publish(
        self,
        project: str,
        filename: str,
        data: bytes,
        *,
        upload_time: str | None = AUTO,
        size: int | Literal["auto"] | None = AUTO,
        metadata: bytes | Literal["auto"] | None = AUTO,
        **labels: Any,
    ) -> SimulatedFile:
        """Add a file, or replace the one of that name; ``labels`` are fields of ``SimulatedFile``."""
        if metadata == AUTO:
            metadata = wheel_metadata(data) if filename.endswith(".whl") and data[:2] == b"PK" else None
        current = self._find_or_create(project)
        file = SimulatedFile(
            filename=filename,
            data=data,
            upload_time=self._next_time().isoformat().replace("+00:00", ".000000Z")
            if upload_time == AUTO
            else upload_time,
            size=len(data) if size == AUTO else size,
            metadata=metadata,
            **labels,
        )
        self._store(replace(current, files={**current.files, filename: file}))
        return file

    def create_project(self, project: str, **attributes: Any) -> SimulatedProject:
        """Add a project without files, or change fields of ``SimulatedProject``, such as ``extra`` or ``versions``."""
        return self._store(replace(self._find_or_create(project), **attributes))

    def change(self, project: str, filename: str, **labels: Any) -> SimulatedFile:
        """Change labels of a file; its bytes as well, with ``data=``."""
        current = self[project]
        file = replace(current.files[filename], **labels)
        self._store(replace(current, files={**current.files, filename: file}))
        return file

    def yank(self, project: str, filename: str, reason: str | bool = True) -> None:
        """Mark a file as yanked (PEP 592)."""
        self.change(project, filename, yanked=reason)

    def unyank(self, project: str, filename: str) -> None:
        """Take the mark back."""
        self.change(project, filename, yanked=False)

    def replace(self, project: str, filename: str, data: bytes, **labels: Any) -> SimulatedFile:
        """Give a file other bytes under the same name, with size and metadata to match; the labels stay."""
        is_wheel = filename.endswith(".whl") and data[:2] == b"PK"
        derived: dict[str, Any] = {
            "data": data,
            "size": len(data),
            "metadata": wheel_metadata(data) if is_wheel else None,
        }
        return self.change(project, filename, **{**derived, **labels})

    def remove_file(self, project: str, filename: str) -> None:
        """Take a file off its project's page; its URL answers 404."""
        current = self[project]
        self._store(replace(current, files={n: f for n, f in current.files.items() if n != filename}))

    def unlist_project(self, project: str) -> None:
        """Take a project off the root page; its own page still answers."""
        self._store(replace(self[project], listed=False))

    def relist(self, project: str) -> None:
        """Put a project back onto the root page."""
        self._store(replace(self[project], listed=True))

    def delete_project(self, project: str) -> None:
        """Remove a project: not on the root page, and its own answers 404."""
        del self.projects[canonicalize_name(project)]
        self.serial += 1

    def status(
        self, project: str, status: str | None, reason: str | None = None, *, listed: bool | None = None
    ) -> None:
        """Set the status of PEP 792; ``listed=False`` also takes it off the root page, as PyPI does in quarantine."""
        current = self[project]
        listed = current.listed if listed is None else listed
        self._store(replace(current, status=status, status_reason=reason, listed=listed))

    def touch(self, project: str) -> None:
        """Give a project a new serial without any other change."""
        self._store(self[project])

    @property
    def modified(self) -> datetime:
        """The time of the last change."""
        return _FIRST_DAY + timedelta(seconds=self.serial)

    def __getitem__(self, project: str) -> SimulatedProject:
        return self.projects[canonicalize_name(project)]

    def _next_time(self) -> datetime:
        return _FIRST_DAY + timedelta(seconds=self.serial + 1)

    def _find_or_create(self, project: str) -> SimulatedProject:
        name = canonicalize_name(project)
        return self.projects.get(name) or SimulatedProject(name=name, display_name=project)

    def _store(self, project: SimulatedProject) -> SimulatedProject:
        self.serial += 1
        stored = replace(project, serial=self.serial, modified=self.modified)
        self.projects[stored.name] = stored
        return stored


@lru_cache(maxsize=1_000)
def _version_of(filename: str) -> str | None:
    try:
        if filename.endswith(".whl"):
            return str(parse_wheel_filename(filename)[1])
        return str(parse_sdist_filename(filename)[1])
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
