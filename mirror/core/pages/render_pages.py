"""Pages from entries: project and root pages as HTML and JSON (PEP 503, 592, 658, 691, 700, 714,
740, 792).

Invariants: equal views give equal bytes; every text of an index is escaped, so that no name, reason
or URL becomes markup; links are relative, so that a tree can be moved, served under any prefix or
read by ``file://``; a file's metadata is advertised only with the digest of the held sidecar; each
anchor is on one line; marks that turn text around are escaped.

``RENDERER`` goes up when the output for an equal view changes: pages of an older renderer are then
written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from mirror.core.files.labels import FILE_KEYS, TEXT_LABELS
from mirror.core.model import Entry, ProjectMeta, ProjectView
from mirror.core.names import ProjectName, Sha256
from mirror.core.words.direction_marks import HTML_REFERENCES, escape_marks_in_json

if TYPE_CHECKING:
    from packaging.version import Version

RENDERER: Final = 3

# Always 1.4: each file has its size (1.1), versions are listed (1.1), provenance (1.3) and status
# (1.4) are carried.
API_VERSION: Final = "1.4"

# Field of Labels, key in JSON, name in HTML: two labels are written before the yank, the others
# last.
_TEXTS: Final = tuple((name, label.key, label.attribute) for name, label in TEXT_LABELS.items())
_FIRST_TEXTS, _LAST_TEXTS = _TEXTS[:2], _TEXTS[2:]

# Never taken from unknown keys: keys that the renderer writes itself, older names of these keys,
# and signatures, which are not mirrored.
_FILE_KEYS: Final = FILE_KEYS | {"data-core-metadata"}
_PAGE_KEYS: Final = frozenset({"meta", "name", "versions", "files", "project-status"})
_STATUS_METAS: Final = {"status": "pypi:project-status", "reason": "pypi:project-status-reason"}
_META_KEYS: Final = frozenset({"api-version", "_last-serial"})

_PROJECTS_PER_CHUNK: Final = 2000
"""About 80 to 120 KB of a root page: few writes, flat memory."""

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
_PLAIN = re.compile(r"[A-Za-z0-9 _.,:;+=!~*@/()\[\]{}|^%$#?-]*").fullmatch
# Character references of other control characters mean something else or nothing in HTML; raw they
# may steer a terminal. A tab or line break is kept as a reference, so that one anchor stays on one
# line.
_ESCAPES: Final[Mapping[int, str]] = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\ufffd"),
    **{ord(char): f"&#{ord(char)};" for char in "\t\n\r"},
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
    ord("'"): "&#x27;",
    **HTML_REFERENCES,
}
_encode = msgspec.json.Encoder().encode
_decode_extra = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class RenderedPage(msgspec.Struct, frozen=True, kw_only=True):
    """A project's page in both forms."""

    html: bytes
    json: bytes


def render_project(view: ProjectView) -> RenderedPage:
    """Render a project's page; the files keep the order of the view."""
    anchors: list[str] = []
    files: list[Mapping[str, object]] = []
    for entry in view.entries:
        url = blob_url(entry.sha256, entry.filename)
        anchors.append(_anchor(entry, url))
        files.append(_json_file(entry, url))
    return RenderedPage(html=_project_html(view, anchors), json=_project_json(view, files))


def blob_url(sha256: Sha256, filename: str) -> str:
    """Return the relative link from a project's page to a blob; all but unreserved characters are
    percent-encoded.
    """
    name = filename if _UNRESERVED(filename) else quote(filename, safe="")
    return f"../../files/{sha256[:2]}/{sha256[2:4]}/{sha256}/{name}"


def iter_root_html(projects: Iterable[tuple[ProjectName, int]], serial: int) -> Iterator[bytes]:
    """Yield the HTML root page in chunks.

    ``projects``: (name, revision of its last change), sorted by name.
    """
    yield _head("Simple index", (("pypi:repository-version", API_VERSION),))
    remaining = iter(projects)
    while lines := [
        f'<a href="{name}/">{name}</a><br>\n' for name, _ in islice(remaining, _PROJECTS_PER_CHUNK)
    ]:
        yield "".join(lines).encode()
    yield _foot(serial).encode()


def iter_root_json(projects: Iterable[tuple[ProjectName, int]], serial: int) -> Iterator[bytes]:
    """Yield the JSON root page in chunks; each project carries its own ``_last-serial``, as PyPI's
    does.
    """
    meta = f'{{"api-version":"{API_VERSION}","_last-serial":{serial}}}'
    yield f'{{"meta":{meta},"projects":['.encode()
    remaining = iter(projects)
    separator = ""
    # A ProjectName needs no escaping: it consists of letters, digits and "-".
    while part := list(islice(remaining, _PROJECTS_PER_CHUNK)):
        yield (
            separator
            + ",".join([f'{{"name":"{name}","_last-serial":{own}}}' for name, own in part])
        ).encode()
        separator = ","
    yield b"]}\n"


def _project_json(view: ProjectView, files: list[Mapping[str, object]]) -> bytes:
    meta = {
        "api-version": API_VERSION,
        "_last-serial": view.serial,
        **_extra(view.meta.extra_meta, _META_KEYS),
    }
    page: dict[str, object] = {"meta": meta, "name": view.name}
    status = _shown_status(view.meta)
    if status:
        page["project-status"] = status
    page["versions"] = _versions(view)
    page["files"] = files
    page.update(_extra(view.meta.extra, _PAGE_KEYS))
    return escape_marks_in_json(_encode_text(page))


def _json_file(entry: Entry, url: str) -> Mapping[str, object]:
    """Return a file of a JSON page, in the order in which its keys are written."""
    labels = entry.labels
    file: dict[str, object] = {
        "filename": entry.filename,
        "url": url,
        "hashes": {"sha256": entry.sha256},
        "size": entry.size,
    }
    for name, key, _ in _FIRST_TEXTS:
        if (text := getattr(labels, name)) is not None:
            file[key] = text
    # An empty reason in JSON would read as false (PEP 592 as PEP 691 renders it).
    file["yanked"] = False if labels.yanked is None else labels.yanked or True
    if entry.metadata_sha256:
        file["core-metadata"] = {"sha256": entry.metadata_sha256}
    for name, key, _ in _LAST_TEXTS:
        if (text := getattr(labels, name)) is not None:
            file[key] = text
    if labels.extra != "{}":
        file.update(_extra(labels.extra, _FILE_KEYS))
    return file


def _extra(text: str, own_keys: frozenset[str]) -> Mapping[str, msgspec.Raw]:
    """Return the unknown keys of a JSON object, each value byte for byte; the renderer's own keys
    are left out.
    """
    if text == "{}":
        return {}
    return {key: value for key, value in _decode_extra(text).items() if key not in own_keys}


def _encode_text(value: object) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:
        # A lone surrogate is not text; only hostile pages have one.
        plain = msgspec.to_builtins(value, builtin_types=(msgspec.Raw,))
        return _encode(_without_surrogates(plain))


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


def _project_html(view: ProjectView, anchors: list[str]) -> bytes:
    status = _shown_status(view.meta)
    metas = [("pypi:repository-version", API_VERSION)]
    metas += [(_STATUS_METAS[key], text) for key, text in status.items()]
    shown = f"<p>Status: {_escape(': '.join(status.values()))}</p>\n" if status else ""
    head = _head(f"Links for {view.name}", metas)
    return head + f"{shown}{''.join(anchors)}{_foot(view.serial)}".encode("utf-8", "replace")


def _head(title: str, metas: Iterable[tuple[str, str]]) -> bytes:
    lines = "".join(
        f'<meta name="{name}" content="{_escape(content)}">\n' for name, content in metas
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{lines}<title>{title}</title>\n"
        f"</head>\n<body>\n<h1>{title}</h1>\n"
    ).encode("utf-8", "replace")


def _foot(serial: int) -> str:
    return f"</body>\n</html>\n<!--SERIAL {serial}-->\n"


def _anchor(entry: Entry, url: str) -> str:
    labels = entry.labels
    attributes = f'<a href="{url}#sha256={entry.sha256}" data-size="{entry.size}"'
    for name, _, attribute in _FIRST_TEXTS:
        if (text := getattr(labels, name)) is not None:
            attributes += f' {attribute}="{_escape(text)}"'
    if labels.yanked is not None:
        attributes += f' data-yanked="{_escape(labels.yanked)}"'
    if entry.metadata_sha256:
        # Without data-dist-info-metadata (PEP 658): pip 22.3 to 23.1 read the metadata by it, and
        # refuse each project whose metadata spells its name in another way than the link
        # («inconsistent Name»).
        attributes += f' data-core-metadata="sha256={entry.metadata_sha256}"'
    for name, _, attribute in _LAST_TEXTS:
        if (text := getattr(labels, name)) is not None:
            attributes += f' {attribute}="{_escape(text)}"'
    return f"{attributes}>{_escape(entry.filename)}</a><br>\n"


def _escape(text: str) -> str:
    return text if _PLAIN(text) else text.translate(_ESCAPES)


def _shown_status(meta: ProjectMeta) -> dict[str, str]:
    """Return the status as PEP 792 writes it, in this order; empty for the default (active, no
    reason).
    """
    if meta.status == "active" and not meta.status_reason:
        return {}
    shown = {"status": meta.status}
    if meta.status_reason:
        shown["reason"] = meta.status_reason
    return shown


def _versions(view: ProjectView) -> list[str]:
    """Return the listed versions verbatim, then those found only in the held files' names, sorted
    (PEP 440).
    """
    listed = list(view.meta.versions or ())
    known = set(listed)
    parsed: set[Version] | None = None
    found: set[Version] = set()
    for entry in view.entries:
        text = _version_text(entry.filename)
        if text is None or text in known:
            continue
        version = _parse_version(entry.filename, view.name)
        if version is None:
            continue
        known.add(text)
        if parsed is None:
            parsed = {valid for item in listed if (valid := _valid_version(item))}
        if version not in parsed:
            found.add(version)
    return listed + [str(version) for version in sorted(found)]


def _version_text(filename: str) -> str | None:
    """Return the probable version in a file's name, so that ``packaging`` parses each version only
    once.
    """
    if filename.endswith(".whl"):
        parts = filename.split("-", 2)
        return parts[1] if len(parts) == 3 else None
    for ending in (".tar.gz", ".zip"):
        if filename.endswith(ending):
            return filename[: -len(ending)].rpartition("-")[2]
    return None


def _parse_version(filename: str, project: ProjectName) -> Version | None:
    """Return the version in a wheel's or sdist's name; None for another project's or an odd
    name.
    """
    # 6 ms, of which a cycle that renders no page needs nothing
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        canonicalize_name,
        parse_sdist_filename,
        parse_wheel_filename,
    )
    from packaging.version import InvalidVersion

    try:
        if filename.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(filename)
        else:
            name, version = parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    return version if name == canonicalize_name(project) else None


def _valid_version(text: str) -> Version | None:
    from packaging.version import InvalidVersion, Version  # 2 ms

    try:
        return Version(text)
    except InvalidVersion:
        return None
