"""Changes of a configuration file by a command: wants are added and removed, comments stay.

Pure: a text comes in, a text goes out. The caller checks the new configuration before it replaces
the old one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tomlkit
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from tomlkit.items import AoT

from mirror.errors import ConfigError, shown_text


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedConfig:
    """A configuration's new text, and one sentence for each change."""

    text: str
    changes: tuple[str, ...]


def add_requirements(
    text: str, want: str, requirements: Iterable[str], *, listed: Iterable[str] = ()
) -> EditedConfig:
    """Return the configuration with requirements added to a want, which is made where it is
    missing.

    ``listed``: indexes of which files are published that came by patterns; each gets
    ``select = "listed"``, so that a first want makes none of them unwanted.
    """
    document = tomlkit.parse(text)
    changes = [_keep_listed(document, index) for index in listed]
    table = _find_want(document, want)
    if table is None:
        table = tomlkit.table()
        table["name"] = want
        table["requirements"] = tomlkit.array()
        _append(document, table)
        changes.append(f"want {want}: added")
    if "requirements" not in table:
        table["requirements"] = tomlkit.array()
    there = table["requirements"]
    for requirement in requirements:
        if _canonical(requirement) in {_canonical(str(known)) for known in there}:
            changes.append(f"want {want}: {requirement} is there already")
        else:
            there.append(requirement)
            changes.append(f"want {want}: {requirement} added")
    return EditedConfig(text=tomlkit.dumps(document), changes=tuple(changes))


def remove_requirements(text: str, want: str, requirements: Iterable[str]) -> EditedConfig:
    """Return the configuration without a want, or without some of its requirements.

    A requirement is named as it is written, or by its project. A want of which nothing is left is
    removed. Raises ``ConfigError`` for a want or requirement that is not there.
    """
    document = tomlkit.parse(text)
    table = _find_want(document, want)
    if table is None:
        raise ConfigError(where="NAME", problem=f"no want is named {shown_text(want, limit=60)}")
    changes: list[str] = []
    there = table.get("requirements", [])
    named = tuple(requirements)
    for name in named:
        places = [n for n, known in enumerate(there) if _is_named(str(known), name)]
        if not places:
            problem = f"want {want} has no requirement {shown_text(name, limit=60)}"
            raise ConfigError(where="REQUIREMENT", problem=problem)
        for place in reversed(places):
            changes.append(f"want {want}: {there[place]} removed")
            del there[place]
    if not named or (not there and not table.get("files")):
        wants = document["want"]
        place = next(n for n, known in enumerate(wants) if known.get("name") == want)
        del wants[place]
        if not len(wants):
            del document["want"]
            changes.append(_NO_WANT_LEFT)
        changes.insert(0, f"want {want}: removed")
    return EditedConfig(text=tomlkit.dumps(document), changes=tuple(changes))


_NO_WANT_LEFT = (
    'no want is left: the next cycle stops (exit code 2) until each index has select = "listed"'
)


def _find_want(document: tomlkit.TOMLDocument, want: str) -> Any:
    """Return a want's table in the document; None where there is none of this name."""
    return next((table for table in document.get("want", []) if table.get("name") == want), None)


def _append(document: tomlkit.TOMLDocument, table: Any) -> None:
    """Add a want's table after the others, or at the end of the file."""
    wants = document.get("want")
    if wants is None:
        wants = tomlkit.aot()
        wants.append(table)
        if document.as_string() and not document.as_string().endswith("\n\n"):
            document.add(tomlkit.nl())
        document.add("want", wants)
    elif isinstance(wants, AoT):
        wants.append(table)
    else:
        inline = tomlkit.inline_table()
        inline.update(table)
        wants.append(inline)


def _keep_listed(document: tomlkit.TOMLDocument, index: str) -> str:
    tables = [table for table in document.get("index", []) if table.get("name") == index]
    for table in tables:
        table.add("select", "listed")
    return (
        f'index {index}: select = "listed" written, so that what is published by its patterns stays'
        " wanted"
    )


def _is_named(known: str, name: str) -> bool:
    """Return whether a requirement is the one that a user names, in whole or by its project."""
    if _canonical(known) == _canonical(name):
        return True
    try:
        return canonicalize_name(Requirement(known).name) == canonicalize_name(name)
    except InvalidRequirement:
        return False


def _canonical(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return text.strip()
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)
