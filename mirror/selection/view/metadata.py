"""The part of a file's core metadata that decides a resolution, and the text in which the resolver
reads it.

The text is rendered from the parsed values: an address in a dependency never reaches the
resolver, which would connect to it.
"""

from __future__ import annotations

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mirror.errors import shown_text

REFUSED_PYTHON = ">=99"
"""The ``Requires-Python`` by which the resolver passes over a version."""

_FIRST_STATIC = (2, 2)
"""From this version of the metadata on, a source distribution's own list of dependencies counts."""


class MetadataProblem(Exception):
    """The metadata can't be used; the text says why."""


class FileMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The dependencies of one file."""

    requires: tuple[str, ...] = ()
    """Each one that ``packaging`` reads, with its marker."""
    requires_python: str | None = None
    extras: tuple[str, ...] = ()
    is_dynamic: bool = False
    """Of a source distribution: its dependencies are known only by running it."""


def read_metadata(data: bytes, project: str, version: Version) -> FileMetadata:
    """Return the dependencies.

    Raises ``MetadataProblem``, also for the metadata of another project.
    """
    # it takes 0.02 s of CPU to import, with all licenses, and an idle cycle reads no metadata
    from packaging.metadata import parse_email

    raw, _unparsed = parse_email(data)
    name, text = raw.get("name", ""), raw.get("version", "")
    if canonicalize_name(name) != project:
        raise MetadataProblem(f"its metadata is of {shown_text(name) or 'no project'}")
    try:
        is_same = Version(text) == version
    except InvalidVersion:
        is_same = False
    if not is_same:
        raise MetadataProblem(f"its metadata is of version {shown_text(text) or '(none)'}")
    requires = []
    for line in raw.get("requires_dist", ()):
        try:
            Requirement(line)
        except InvalidRequirement as exc:
            raise MetadataProblem(
                f"its metadata has a dependency that can't be read: {shown_text(line)}"
            ) from exc
        requires.append(line)
    dynamic = {field.lower() for field in raw.get("dynamic", ())}
    return FileMetadata(
        requires=tuple(requires),
        requires_python=raw.get("requires_python"),
        extras=tuple(raw.get("provides_extra", ())),
        is_dynamic="requires-dist" in dynamic
        or _format(raw.get("metadata_version", "")) < _FIRST_STATIC,
    )


def _format(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        return ()


def render_metadata(metadata: FileMetadata, project: str, version: Version) -> bytes:
    """Return the text for the resolver.

    ``Requires-Python`` was judged before, so that it is left out.
    """
    lines = ["Metadata-Version: 2.1", f"Name: {project}", f"Version: {version}"]
    lines += [f"Provides-Extra: {extra}" for extra in metadata.extras]
    lines += [f"Requires-Dist: {_without_address(Requirement(text))}" for text in metadata.requires]
    return ("\n".join(lines) + "\n").encode()


def render_refused(project: str, version: Version) -> bytes:
    """Return the text of a version that the resolver must pass over."""
    lines = (
        "Metadata-Version: 2.1",
        f"Name: {project}",
        f"Version: {version}",
        f"Requires-Python: {REFUSED_PYTHON}",
    )
    return ("\n".join(lines) + "\n").encode()


def _without_address(requirement: Requirement) -> Requirement:
    """Return a requirement that nothing meets for one with an address, which is never followed."""
    if requirement.url is None:
        return requirement
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    return Requirement(f"{requirement.name}{extras}<0.dev0{marker}")
