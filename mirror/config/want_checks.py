"""The rules for ``[[target]]`` and ``[[want]]`` beyond their types; pure, without any look-up.

A requirement is never repeated in an error: its address may carry a password.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mirror.config.wants import (
    MAX_NEWEST,
    PLATFORMS,
    PYTHON_RELEASES,
    TargetConfig,
    WantConfig,
)
from mirror.core.names import normalize_project
from mirror.errors import ConfigError, UnsafeName, shown_text

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PYTHON = re.compile(r"(3\.[0-9]{1,2})(?:\.([0-9]{1,2}))?(t?)")
_GLIBC = re.compile(r"2\.[0-9]{1,2}")
_MUSL = re.compile(r"1\.[0-9]{1,2}")
_MACOS = re.compile(r"[0-9]{2}(?:\.[0-9]{1,2})?")
_NEWEST = re.compile(r"newest ([1-9][0-9]{0,3})")

_FIRST_FREE_THREADED = 13


def check_target(target: TargetConfig, where: str) -> None:
    """Raise ``ConfigError`` for an environment that can't be described to installers."""
    if not target.python:
        problem = 'expected releases such as ["3.11"], got none'
        raise ConfigError(where=f"{where}.python", problem=problem)
    if not target.platforms:
        problem = f"expected one or more of {', '.join(PLATFORMS)}, got none"
        raise ConfigError(where=f"{where}.platforms", problem=problem)
    for release in target.python:
        _check_python(release, f"{where}.python")
    for platform in target.platforms:
        _check_platform(platform, f"{where}.platforms")
    if target.glibc is not None and target.musl is not None:
        problem = "glibc is there too; a target has one of them: write two targets"
        raise ConfigError(where=f"{where}.musl", problem=problem)
    _check_version(target.glibc, _GLIBC, f"{where}.glibc", example="2.28")
    _check_version(target.musl, _MUSL, f"{where}.musl", example="1.2")
    _check_version(target.macos, _MACOS, f"{where}.macos", example="12.0")


def check_want(want: WantConfig, where: str, *, targets: frozenset[str]) -> None:
    """Raise ``ConfigError`` for a want that names nothing, or a thing that can't be."""
    if not want.requirements and not want.files:
        problem = 'names nothing: write requirements = ["flask"], or files = ["requirements.txt"]'
        raise ConfigError(where=where, problem=problem)
    for n, text in enumerate(want.requirements):
        check_requirement(text, f"{where}.requirements[{n}]")
    for key in ("files", "targets", "extras", "groups", "accept_unproved"):
        if not all(text and text.isprintable() for text in getattr(want, key)):
            problem = "expected printable characters, none empty"
            raise ConfigError(where=f"{where}.{key.replace('_', '-')}", problem=problem)
    check_target_names(want.targets, f"{where}.targets", targets=targets)
    found = _NEWEST.fullmatch(want.versions)
    if want.versions != "resolved" and (found is None or int(found[1]) > MAX_NEWEST):
        problem = f'expected "resolved" or "newest N", N from 1 to {MAX_NEWEST}'
        shown = shown_text(want.versions, limit=60)
        raise ConfigError(where=f"{where}.versions", problem=f'{problem}, got "{shown}"')
    for name in want.accept_unproved:
        try:
            normalize_project(name)
        except UnsafeName as exc:
            raise ConfigError(where=f"{where}.accept-unproved", problem=str(exc)) from exc


def check_target_names(names: tuple[str, ...], where: str, *, targets: frozenset[str]) -> None:
    """Raise ``ConfigError`` for a name that no ``[[target]]`` has."""
    for name in names:
        if name not in targets:
            known = ", ".join(sorted(targets)) or "there is none"
            problem = f'no target is named "{shown_text(name, limit=60)}"; known: {known}'
            raise ConfigError(where=where, problem=problem)


def check_requirement(text: str, where: str) -> Requirement:
    """Return a requirement such as ``flask>=3``.

    Raises ``ConfigError``, which does not repeat it.
    """
    # Only here: importing packaging's requirements takes 0.05 s, which targets alone don't need.
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
        normalize_project(requirement.name)
    except (InvalidRequirement, UnsafeName):
        problem = 'expected a requirement such as "flask>=3"; this one can\'t be read'
        if text.lstrip().startswith("-"):
            problem = (
                "is an option or names a file; name requirement files in the key files of the want"
            )
        elif "--hash" in text:
            problem = "has an option; write lines with --hash into a file that the key files names"
        raise ConfigError(where=where, problem=problem) from None
    if requirement.url is not None:
        problem = "names an address; the mirror takes files from its indexes only"
        raise ConfigError(where=where, problem=problem)
    return requirement


def _check_python(text: str, where: str) -> None:
    found = _PYTHON.fullmatch(text)
    minor = found[1] if found is not None else ""
    if found is None or minor not in PYTHON_RELEASES:
        known = ", ".join(PYTHON_RELEASES)
        problem = f'expected CPython releases such as "3.11", "3.11.2" or "3.13t", of {known}'
        raise ConfigError(where=where, problem=f'{problem}; got "{shown_text(text, limit=60)}"')
    if found[3] and int(minor.removeprefix("3.")) < _FIRST_FREE_THREADED:
        problem = f'"{text}": there is no free-threaded Python before 3.{_FIRST_FREE_THREADED}'
        raise ConfigError(where=where, problem=problem)


def _check_platform(text: str, where: str) -> None:
    if text not in PLATFORMS:
        problem = f"expected one or more of {', '.join(PLATFORMS)}"
        raise ConfigError(where=where, problem=f'{problem}; got "{shown_text(text, limit=60)}"')


def _check_version(text: str | None, form: re.Pattern[str], where: str, *, example: str) -> None:
    if text is not None and not form.fullmatch(text):
        shown = shown_text(text, limit=60)
        problem = f'expected a version such as "{example}", got "{shown}"'
        raise ConfigError(where=where, problem=problem)
