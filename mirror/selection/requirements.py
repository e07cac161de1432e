"""Requirement files in pip's format, read within bounds and without following anything outside.

What would lead to another place than the mirror's indexes makes the file fail: options of an
index, addresses, ``-r`` and ``-c`` to elsewhere. Options that only change how pip chooses are
warned of.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement

from mirror.core.names import HEX_LENGTHS, STRONG_DIGESTS, normalize_project
from mirror.errors import ConfigError, UnsafeName, shown_text
from mirror.selection.documents import MAX_PROJECT_BYTES, decode_text, read_document
from mirror.selection.wants import (
    LockedPackage,
    LockedSet,
    LockFormat,
    RequirementLine,
    Resolution,
)

MAX_DEPTH = 20
"""Maximum number of files that include each other in a chain."""
MAX_FILES = 200
MAX_LINES = 100_000

_COMMENT = re.compile(r"(?:^|\s)#.*$")
_ARCHIVES = (".whl", ".tar.gz", ".tgz", ".tar", ".zip", ".tar.bz2", ".tbz", ".tar.xz", ".txz")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:git|hg|svn|bzr)\+")
_LOCAL_ADDRESS = re.compile(r"file:(?://(?:localhost)?/|(?!//))", re.IGNORECASE)
_NAMED_ADDRESS = re.compile(r"([A-Za-z0-9._-]+\s*(?:\[[^\]]*\])?)\s*@\s*(\S+)")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
"""As pip writes it in a requirement file."""
_DRIVE = re.compile(r"[A-Za-z]:")
_HASH = re.compile(r"([A-Za-z0-9_]+)[:=]([0-9A-Fa-f]+)")

_INCLUDES = {"-r": "requirement", "--requirement": "requirement"}
_INCLUDES |= {"-c": "constraint", "--constraint": "constraint"}
_EDITABLE = ("-e", "--editable")
_OF_INDEX_WITH_VALUE: tuple[str, ...] = (
    "-i",
    "--index-url",
    "--pypi-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--trusted-host",
)
_OF_INDEX = ("--no-index",)
_WARNED_WITH_VALUE: tuple[str, ...] = (
    "--no-binary",
    "--only-binary",
    "--use-feature",
    "--global-option",
)
_WARNED_WITH_VALUE += ("--config-settings", "--config-setting", "-C", "--uploaded-prior-to")
_WARNED = ("--pre", "--prefer-binary", "--require-hashes")
_WITH_VALUE = (*_INCLUDES, *_EDITABLE, *_OF_INDEX_WITH_VALUE, *_WARNED_WITH_VALUE, "--hash")
_WITHOUT_VALUE = (*_OF_INDEX, *_WARNED)


class _RequirementReading(msgspec.Struct, kw_only=True):
    """The state of reading one file with all that it includes."""

    roots: tuple[Path, ...]
    folder: Path
    lines: list[RequirementLine] = msgspec.field(default_factory=list)
    constraints: list[RequirementLine] = msgspec.field(default_factory=list)
    skipped: list[str] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)
    done: set[tuple[Path, bool]] = msgspec.field(default_factory=set)
    leaves_elsewhere: bool = False
    """Name lines that lead elsewhere instead of failing: they stay as they are in a lock."""
    line_count: int = 0


def read_requirement_file(path: Path, *, want: str | None, folder: Path) -> Resolution:
    """Return the requirements of a file, with those of the files that it includes.

    ``folder``: that of the configuration; the file may include files below it and below its own.
    Raises ``ConfigError``, which names file and line.
    """
    roots = tuple(dict.fromkeys((folder.resolve(), path.parent.resolve())))
    reading = _RequirementReading(roots=roots, folder=folder)
    _read_file(reading, path, is_constraint=False, chain=())
    where = shown_path(path, folder)
    if not reading.lines:
        rest = f" ({reading.skipped[0]})" if reading.skipped else ""
        raise ConfigError(where=where, problem=f"names no requirement{rest}")
    return Resolution(
        want=want,
        file=where,
        lines=tuple(reading.lines),
        constraints=tuple(reading.constraints),
        skipped=tuple(reading.skipped),
        warnings=tuple(reading.warnings),
    )


def read_pinned_file(path: Path, *, folder: Path) -> LockedSet:
    """Return a requirement file as a lock: each line pinned by ``==``, with its digests.

    Options of an index and addresses are left alone and named. Raises ``ConfigError`` for a line
    that is not pinned.
    """
    roots = tuple(dict.fromkeys((folder.resolve(), path.parent.resolve())))
    reading = _RequirementReading(roots=roots, folder=folder, leaves_elsewhere=True)
    _read_file(reading, path, is_constraint=False, chain=())
    where = shown_path(path, folder)
    if not reading.lines:
        raise ConfigError(where=where, problem="names no requirement of an index")
    packages = []
    for line in reading.lines:
        version = line.pinned_version
        if version is None:
            raise ConfigError(where=line.origin, problem="is not pinned by ==: this is no lock")
        packages.append(
            LockedPackage(
                project=line.project,
                version=version,
                digests=line.hashes,
                names_only_digests=True,
                marker=line.requirement.marker,
                origin=line.origin,
            )
        )
    return LockedSet(
        want=None,
        file=where,
        format=LockFormat.REQUIREMENTS,
        packages=tuple(packages),
        skipped=tuple(reading.skipped),
    )


def parse_requirement(
    text: str, *, origin: str, hashes: Iterable[str] = ()
) -> RequirementLine | None:
    """Return one requirement; None for one at a local path.

    Raises ``ConfigError`` for one that can't be read or that names an address; it is not repeated.
    """
    named = _NAMED_ADDRESS.match(text)
    if named and _LOCAL_ADDRESS.match(named[2]):
        return None
    if named or _ADDRESS.match(text):
        name = f"{shown_text(named[1].strip(), limit=60)} " if named else ""
        problem = f"{name}names an address; the mirror takes files from its indexes only"
        raise ConfigError(where=origin, problem=problem)
    try:
        requirement = Requirement(text)
        project = normalize_project(requirement.name)
    except (InvalidRequirement, UnsafeName, RecursionError):
        raise ConfigError(where=origin, problem=_unreadable(text)) from None
    return RequirementLine(
        requirement=requirement, project=project, hashes=tuple(hashes), origin=origin
    )


def _unreadable(text: str) -> str:
    """Return the problem of a line, without the line."""
    variable = _VARIABLE.search(text)
    if variable is None:
        return "is no requirement that can be read; write one as `name>=1.0`"
    name = shown_text(variable[1], limit=60)
    return f"is no requirement that can be read: the variable {name} is not read, write its value"


def shown_path(path: Path, folder: Path) -> str:
    """Return a path for messages: relative to the configuration's folder where it is below it."""
    plain = Path(os.path.normpath(path))
    relative = plain.relative_to(folder) if plain.is_relative_to(folder) else plain
    return shown_text(str(relative))


def _read_file(
    reading: _RequirementReading, path: Path, *, is_constraint: bool, chain: tuple[Path, ...]
) -> None:
    where = shown_path(path, reading.folder)
    real = path.resolve()
    if (real, is_constraint) in reading.done:
        return
    reading.done.add((real, is_constraint))
    if len(chain) >= MAX_DEPTH or len(reading.done) > MAX_FILES:
        raise ConfigError(where=where, problem="too many files include each other")
    data = read_document(path, where=where, limit_bytes=MAX_PROJECT_BYTES)
    for number, text in _logical_lines(decode_text(data, where=where)):
        reading.line_count += 1
        if reading.line_count > MAX_LINES:
            raise ConfigError(where=where, problem=f"more than {MAX_LINES:,} lines")
        place = f"{where}:{number}"
        for kind, target in _read_line(reading, text, place, is_constraint=is_constraint):
            included = _included(reading, path.parent, target, place)
            if included.resolve() in (*chain, real):
                raise ConfigError(where=place, problem="includes itself")
            is_constraints = kind == "constraint"
            _read_file(reading, included, is_constraint=is_constraints, chain=(*chain, real))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number: continued lines joined, comments and blanks left out."""
    pieces: list[str] = []
    first = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        first = first if pieces else number
        is_comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not is_comment:
            pieces.append(raw[:-1])
            continue
        pieces.append(f" {raw}" if is_comment else raw)
        if joined := _COMMENT.sub("", "".join(pieces)).strip():
            yield first, joined
        pieces = []
    if joined := _COMMENT.sub("", "".join(pieces)).strip():
        yield first, joined


def _read_line(
    reading: _RequirementReading, text: str, place: str, *, is_constraint: bool
) -> list[tuple[str, str]]:
    """Record one line; return the files that it includes, each with its kind."""
    requirement, options = _split(text, place)
    if requirement:
        _read_requirement(reading, requirement, options, place, is_constraint=is_constraint)
        return []
    includes: list[tuple[str, str]] = []
    for name, value in options:
        if name in _INCLUDES:
            includes.append((_INCLUDES[name], value))
        elif name in _EDITABLE and _is_local(value):
            reading.skipped.append(f"{place}: {name} {shown_text(value, limit=60)} is a local path")
        elif name in _EDITABLE and reading.leaves_elsewhere:
            reading.skipped.append(f"{place}: {name} names an address")
        elif name in _EDITABLE:
            problem = f"{name} names an address; the mirror takes files from its indexes only"
            raise ConfigError(where=place, problem=problem)
        else:
            _judge_option(reading, name, place)
    return includes


def _read_requirement(
    reading: _RequirementReading,
    requirement: str,
    options: list[tuple[str, str]],
    place: str,
    *,
    is_constraint: bool,
) -> None:
    hashes: list[str] = []
    for name, value in options:
        if name == "--hash":
            hashes.append(_read_hash(value, place))
        else:
            _judge_option(reading, name, place)
    if reading.leaves_elsewhere and _is_address(requirement):
        reading.skipped.append(f"{place}: an address is left as it is")
        return
    is_local = _is_local(requirement)
    line = parse_requirement(requirement, origin=place, hashes=hashes) if not is_local else None
    if line is None:
        reading.skipped.append(f"{place}: {shown_text(requirement, limit=60)} is a local path")
    elif is_constraint:
        reading.constraints.append(line)
    else:
        reading.lines.append(line)


def _judge_option(reading: _RequirementReading, name: str, place: str) -> None:
    """Warn of an option that only changes how pip chooses. Raises ``ConfigError`` for others."""
    if name in {*_WARNED, *_WARNED_WITH_VALUE}:
        reading.warnings.append(f"{place}: {name} is not followed")
        return
    is_of_index = name in {*_OF_INDEX_WITH_VALUE, *_OF_INDEX}
    if is_of_index and reading.leaves_elsewhere:
        reading.skipped.append(f"{place}: {name} is left as it is")
        return
    if is_of_index:
        problem = f"{name} is not followed: the mirror takes files from its indexes only"
    else:
        problem = f"{name} is not expected here"
    raise ConfigError(where=place, problem=problem)


def _split(text: str, place: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the requirement of a line, without its options, and the options with their values."""
    words = text.split(" ")
    first = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    requirement = " ".join(words[:first]).strip()
    try:
        rest = shlex.split(" ".join(words[first:]))
    except ValueError:
        raise ConfigError(where=place, problem="its quotes don't match") from None
    options: list[tuple[str, str]] = []
    tokens = iter(rest)
    for token in tokens:
        name, value = _option(token, place)
        if value is None:
            value = next(tokens, None)
            if value is None:
                raise ConfigError(where=place, problem=f"{name} needs a value")
        options.append((name, value))
    return requirement, options


def _option(token: str, place: str) -> tuple[str, str | None]:
    """Return an option's name, and its value where the same word has it; empty for a flag."""
    name, equals, value = token.partition("=")
    if name in _WITHOUT_VALUE and not equals:
        return name, ""
    if name in _WITH_VALUE:
        return name, value if equals else None
    if not token.startswith("--") and token[:2] in _WITH_VALUE:
        return token[:2], token[2:]
    known = name.startswith("-") and name.isprintable()
    shown = f"the option {shown_text(name, limit=40)}" if known else "a word after an option"
    raise ConfigError(where=place, problem=f"{shown} is not known here")


def _read_hash(value: str, place: str) -> str:
    found = _HASH.fullmatch(value)
    algorithm = found[1].lower() if found else ""
    if (
        found is None
        or algorithm not in STRONG_DIGESTS
        or len(found[2]) != HEX_LENGTHS.get(algorithm)
    ):
        raise ConfigError(where=place, problem="--hash: expected sha256:… or a stronger digest")
    return f"{algorithm}:{found[2].lower()}"


def _is_address(text: str) -> bool:
    """Return whether a requirement is, or names, the address of another place."""
    return not _is_local(text) and bool(_ADDRESS.match(text) or _NAMED_ADDRESS.match(text))


def _is_local(text: str) -> bool:
    """Return whether a requirement is a path of this machine: never a file of an index."""
    bare = text.partition(" ;")[0].strip()
    without_extras = re.sub(r"\[[^\]]*\]$", "", bare)
    if _LOCAL_ADDRESS.match(bare):
        return True
    if _ADDRESS.match(bare) or _NAMED_ADDRESS.match(bare):
        return False
    is_path = "/" in without_extras or without_extras.startswith((".", "~"))
    return is_path or without_extras.lower().endswith(_ARCHIVES)


def _included(reading: _RequirementReading, base: Path, target: str, place: str) -> Path:
    """Return the file that ``-r`` or ``-c`` names, which must be below an allowed folder."""
    if _ADDRESS.match(target) and not _LOCAL_ADDRESS.match(target):
        raise ConfigError(where=place, problem="includes an address")
    try:
        path = base / target
        real = path.resolve()
    except (OSError, ValueError, RuntimeError):
        raise ConfigError(where=place, problem="includes a path that can't be read") from None
    if not any(real.is_relative_to(root) for root in reading.roots):
        shown = shown_text(target, limit=100)
        problem = f"{shown} is outside of the folder of the configuration and of the file"
        raise ConfigError(where=place, problem=problem)
    if not real.exists():
        shown = shown_text(target, limit=100)
        hint = "; write the path with /" if "\\" in target or _DRIVE.match(target) else ""
        raise ConfigError(where=place, problem=f"includes {shown}, which does not exist{hint}")
    return path
