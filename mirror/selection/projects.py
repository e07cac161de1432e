"""Requirements of a project: ``pyproject.toml`` (PEP 621, PEP 735) and scripts (PEP 723)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from mirror.errors import ConfigError, shown_text
from mirror.selection.documents import (
    MAX_PROJECT_BYTES,
    Table,
    decode_text,
    parse_toml,
    read_document,
)
from mirror.selection.requirements import parse_requirement, shown_path
from mirror.selection.wants import RequirementLine, Resolution

_BLOCK = re.compile(
    r"^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$", re.MULTILINE
)
"""The regular expression of PEP 723."""

Include = Callable[[Iterable[str]], None]
"""Adds names of a table to those that are read."""


def read_pyproject(
    path: Path,
    *,
    want: str | None,
    folder: Path,
    extras: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
) -> Resolution:
    """Return the dependencies of a project, with those of the named extras and groups.

    Raises ``ConfigError`` for a file that can't be read, names nothing, lacks a named extra or
    group, or leaves its dependencies to its build.
    """
    where = shown_path(path, folder)
    document = _load(path, where)
    project = document.table("project")
    dynamic = project.texts("dynamic")
    itself = canonicalize_name(project.optional_text("name") or "")
    own = ((text, "project.dependencies") for text in project.texts("dependencies"))
    dependencies, named = _without_itself(own, itself, where)
    of_groups, more = _without_itself(_of_groups(document, groups), itself, where)
    chosen = (*extras, *named, *more)
    if "dependencies" in dynamic or (chosen and "optional-dependencies" in dynamic):
        problem = "is dynamic: only the project's build knows it; want its lock file instead"
        raise project.error(problem, "dependencies")
    sources = document.table("tool").table("uv").table("sources")
    texts = [*dependencies, *_of_extras(project, chosen, itself), *of_groups]
    return _resolution(want, where, texts, sources, project.optional_text("requires-python"))


def read_script(path: Path, *, want: str | None, folder: Path) -> Resolution:
    """Return the dependencies in a script's own metadata.

    Raises ``ConfigError`` for a script without them, and for two blocks.
    """
    where = shown_path(path, folder)
    data = read_document(path, where=where, limit_bytes=MAX_PROJECT_BYTES)
    text = decode_text(data, where=where)
    blocks = [found for found in _BLOCK.finditer(_unix_lines(text)) if found["type"] == "script"]
    if len(blocks) != 1:
        count = "no block" if not blocks else "more than one block"
        raise ConfigError(where=where, problem=f"has {count} of script metadata (PEP 723)")
    content = "".join(
        line.removeprefix("#").removeprefix(" ")
        for line in blocks[0]["content"].splitlines(keepends=True)
    )
    table = parse_toml(content.encode(), where=where)
    texts = [(text, "dependencies") for text in table.texts("dependencies")]
    sources = table.table("tool").table("uv").table("sources")
    return _resolution(want, where, texts, sources, table.optional_text("requires-python"))


def _load(path: Path, where: str) -> Table:
    data = read_document(path, where=where, limit_bytes=MAX_PROJECT_BYTES)
    return parse_toml(data, where=where)


def _unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _without_itself(
    texts: Iterable[tuple[str, str]], itself: str, where: str
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the requirements on other projects, and the extras of those on the project itself."""
    others: list[tuple[str, str]] = []
    extras: list[str] = []
    for text, place in texts:
        line = parse_requirement(text, origin=f"{where}: {place}")
        if line is not None and line.project == itself:
            extras += sorted(line.requirement.extras)
        else:
            others.append((text, place))
    return others, extras


def _of_extras(project: Table, extras: tuple[str, ...], itself: str) -> Iterator[tuple[str, str]]:
    """Yield the requirements of extras, each with its place, and of those that they include."""
    optional = project.table("optional-dependencies")

    def read(name: str, include: Include) -> Iterator[tuple[str, str]]:
        place = f"project.optional-dependencies.{shown_text(name, limit=60)}"
        for text in optional.texts(name):
            line = parse_requirement(text, origin=f"{project.where}: {place}")
            if line is not None and line.project == itself:
                include(sorted(line.requirement.extras))
            else:
                yield text, place

    def unknown(problem: str) -> ConfigError:
        return project.error(f"has no extra {problem}", "optional-dependencies")

    yield from _walk(optional, extras, read, unknown)


def _of_groups(document: Table, groups: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the requirements of dependency groups (PEP 735), each group that they include once."""
    table = document.table("dependency-groups")

    def read(name: str, include: Include) -> Iterator[tuple[str, str]]:
        items = table.values[name]
        place = f"dependency-groups.{shown_text(name, limit=60)}"
        for item in items if isinstance(items, list) else [None]:
            match item:
                case str():
                    yield item, place
                case {"include-group": str(included), **rest} if not rest:
                    include([included])
                case _:
                    problem = "expected requirements and { include-group = … }"
                    raise table.error(problem, name)

    def unknown(problem: str) -> ConfigError:
        where = f"{document.where}: dependency-groups"
        return ConfigError(where=where, problem=f"has no group {problem}")

    yield from _walk(table, groups, read, unknown)


def _walk(
    table: Table,
    chosen: tuple[str, ...],
    read: Callable[[str, Include], Iterator[tuple[str, str]]],
    unknown: Callable[[str], ConfigError],
) -> Iterator[tuple[str, str]]:
    """Yield the requirements of the chosen keys of a table, and of each key that these include,
    once.

    ``read`` yields those of one key; ``unknown`` makes the error for a key that is not there.
    """
    names = {canonicalize_name(name): name for name in table.values}
    waiting = [canonicalize_name(name) for name in chosen]
    seen: set[str] = set()

    def include(included: Iterable[str]) -> None:
        waiting.extend(canonicalize_name(name) for name in included)

    while waiting:
        key = waiting.pop(0)
        if key in seen:
            continue
        seen.add(key)
        if key not in names:
            known = shown_text(", ".join(sorted(names)) or "there is none")
            raise unknown(f'"{shown_text(key, limit=60)}"; known: {known}')
        yield from read(names[key], include)


def _resolution(
    want: str | None,
    where: str,
    texts: list[tuple[str, str]],
    sources: Table,
    requires_python: str | None,
) -> Resolution:
    lines: list[RequirementLine] = []
    skipped: list[str] = []
    elsewhere = {canonicalize_name(name): name for name in sources.values}
    for text, place in texts:
        origin = f"{where}: {place}"
        line = parse_requirement(text, origin=origin)
        source = None if line is None else elsewhere.get(canonicalize_name(line.project))
        if line is None or (source and _is_local_source(sources, source)):
            name = "a requirement" if line is None else line.project
            skipped.append(f"{origin}: {name} is a local path")
        else:
            lines.append(line)
    if not lines:
        rest = f" ({skipped[0]})" if skipped else ""
        raise ConfigError(where=where, problem=f"names no requirement{rest}")
    return Resolution(
        want=want,
        file=where,
        lines=tuple(lines),
        skipped=tuple(skipped),
        requires_python=requires_python,
    )


def _is_local_source(sources: Table, name: str) -> bool:
    """Return whether uv takes a project from a folder. Raises ``ConfigError`` for an address."""
    value = sources.values[name]
    listed = value if isinstance(value, list) else [value]
    tables = [item for item in listed if isinstance(item, dict)]
    if any("git" in table or "url" in table for table in tables):
        problem = "names an address; the mirror takes files from its indexes only"
        raise sources.error(problem, name)
    return bool(tables) and all("path" in table or "workspace" in table for table in tables)
