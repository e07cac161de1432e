"""A wheel's METADATA for people; pure.

The bytes are untrusted: from any bytes, values of bounded size come out, as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement

from mirror.core.files.summary import NO_VALUE, one_line, parse_summary, plain_text
from mirror.core.names import ProjectName, normalize_project
from mirror.errors import UnsafeName

_MAX_DESCRIPTION: Final = 200_000
_MAX_ITEMS: Final = 1_000
_ADDRESS: Final = re.compile(r"\s*<[^<>]*>\s*")


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """A requirement of a version."""

    requirement: str
    project: ProjectName | None
    """None where the text is not a requirement."""
    extra: str | None = None
    """The extra that brings it in; None where it is always needed."""


class ProjectMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What people want to know of a version; texts are empty where the metadata has none."""

    summary: str = ""
    license: str = ""
    author: str = ""
    description: str = ""
    requires_python: str = ""
    keywords: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """(label, address), by http or https only."""
    dependencies: tuple[Dependency, ...] = ()


def parse_project_metadata(data: bytes) -> ProjectMetadata:
    """Return the values of METADATA; fields that can't be read are left out."""
    try:
        raw: Mapping[str, Any] = parse_email(data)[0]
    # The standard library's parser of mail raises errors of many kinds on untrusted bytes.
    except Exception:  # noqa: BLE001
        return ProjectMetadata(summary=parse_summary(data))
    return ProjectMetadata(
        summary=parse_summary(data),
        license=one_line(raw.get("license_expression") or _license_of(raw)),
        author=_author(raw),
        description=plain_text(raw.get("description"))[:_MAX_DESCRIPTION].strip("\n"),
        requires_python=one_line(raw.get("requires_python")),
        keywords=_keywords(raw.get("keywords")),
        classifiers=tuple(one_line(one) for one in _items(raw, "classifiers")),
        links=_links(raw),
        dependencies=tuple(_dependency(one) for one in _items(raw, "requires_dist")),
    )


def _items(raw: Mapping[str, Any], key: str) -> list[str]:
    return [str(one) for one in (raw.get(key) or ())][:_MAX_ITEMS]


def _license_of(raw: Mapping[str, Any]) -> str:
    """Return the licence as one line; of a whole text the classifiers' names, or its first line."""
    lines = str(raw.get("license") or "").strip().splitlines()
    if len(lines) == 1 and lines[0] != NO_VALUE:
        return lines[0]
    prefix = "License :: "
    classifiers = (one for one in _items(raw, "classifiers") if one.startswith(prefix))
    named = [one.split(" :: ")[-1] for one in classifiers]
    return ", ".join(named) or (lines[0] if lines and lines[0] != NO_VALUE else "")


def _author(raw: Mapping[str, Any]) -> str:
    """Return names, without addresses of mail where there is a name."""
    for key in ("author", "author_email", "maintainer", "maintainer_email"):
        text = one_line(raw.get(key))
        if text and text != NO_VALUE:
            return one_line(_ADDRESS.sub("", text)) or text
    return ""


def _keywords(found: Any) -> tuple[str, ...]:
    items = found if isinstance(found, list) else str(found or "").split(",")
    return tuple(word for one in items if (word := one_line(one)))[:_MAX_ITEMS]


def _links(raw: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = {"Homepage": str(raw.get("home_page") or ""), **dict(raw.get("project_urls") or {})}
    named = ((one_line(label, 80), one_line(url)) for label, url in list(found.items())[:100])
    return tuple((label or "Link", url) for label, url in named if is_web_address(url))


def is_web_address(url: str) -> bool:
    """Return whether a link may be followed: http or https, with a host."""
    try:
        parts = urlsplit(url)
        is_of_web = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
    return is_of_web and url.isprintable() and " " not in url


def _dependency(text: str) -> Dependency:
    shown = one_line(text)
    try:
        requirement = Requirement(shown)
        project = normalize_project(requirement.name)
    except (InvalidRequirement, UnsafeName):
        return Dependency(requirement=shown, project=None)
    extra = re.search(r"""\bextra\s*==\s*["']([^"']+)["']""", str(requirement.marker or ""))
    return Dependency(requirement=shown, project=project, extra=extra[1] if extra else None)
