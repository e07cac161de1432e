"""The pages of a simulated index, written as real servers write them; nothing here is shared with the mirror's own code.

JSON carries the keys that its API version knows (PEP 691, 700, 714, 740, 792), HTML what PyPI puts into its anchors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Mapping
from html import escape
from typing import Any

from simulator.settings import Settings
from simulator.state import IndexState, SimulatedFile, SimulatedProject

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_V1_TYPE = "application/vnd.pypi.simple.v1+html"
HTML_TYPE = "text/html"

Link = Callable[[SimulatedProject, SimulatedFile], str]
"""Gives the URL of a file as the page writes it, without a fragment."""

PageLink = Callable[[SimulatedProject], str]
"""Gives the URL of a project's page as the root writes it."""


def render_project(project: SimulatedProject, settings: Settings, link: Link, content_type: str) -> bytes:
    """Return a project's page."""
    if content_type == JSON_TYPE:
        return json.dumps(_project_json(project, settings, link)).encode()
    return _project_html(project, settings, link).encode()


def render_root(
    state: IndexState, settings: Settings, link: PageLink, content_type: str, only: Container[str] | None = None
) -> bytes:
    """Return the root page; ``only``: the projects that it lists, of those that are listed."""
    listed = [p for p in tuple(state.projects.values()) if p.listed and (only is None or p.name in only)]
    if content_type == JSON_TYPE:
        return json.dumps(_root_json(listed, state.serial, settings)).encode()
    return _root_html(listed, state.serial, settings, link).encode()


def render_flat(state: IndexState, settings: Settings, link: Link, content_type: str) -> bytes:
    """Return one page that lists the files of all projects."""
    listed = [p for p in tuple(state.projects.values()) if p.listed]
    if content_type == JSON_TYPE:
        files = [_file_json(f, settings, link(p, f)) for p in listed for f in p.offered()]
        return json.dumps({"meta": _meta(settings, state.serial, {}), "files": files}).encode()
    anchors = [_file_anchor(f, settings, link(p, f)) for p in listed for f in p.offered()]
    return _html_page("Index of files", [], anchors, None).encode()


def listed_hashes(file: SimulatedFile, settings: Settings) -> dict[str, str]:
    """Return the digests that the pages list for a file."""
    if file.hashes is not None:
        return dict(file.hashes)
    return {algorithm: file.hash(algorithm) for algorithm in settings.hashes}


def advertised_metadata(file: SimulatedFile, settings: Settings) -> bool | Mapping[str, str]:
    """Return what the pages say of a file's ``.metadata`` (PEP 658, 714)."""
    if file.core_metadata is not None:
        return file.core_metadata
    if file.metadata is None or not settings.core_metadata:
        return False
    return {"sha256": hashlib.sha256(file.metadata).hexdigest()}


def _project_json(project: SimulatedProject, settings: Settings, link: Link) -> dict[str, Any]:
    minor = settings.api_minor
    page: dict[str, Any] = {
        "meta": _meta(settings, project.serial, project.extra_meta),
        "name": project.name,
        "files": [_file_json(f, settings, link(project, f)) for f in project.offered()],
    }
    if minor >= 1:
        page["versions"] = project.all_versions()
    if minor >= 4 and project.status is not None:
        page["project-status"] = _without_none({"status": project.status, "reason": project.status_reason})
    return {**page, **project.extra}


def _file_json(file: SimulatedFile, settings: Settings, url: str) -> dict[str, Any]:
    minor = settings.api_minor
    metadata = advertised_metadata(file, settings)
    item: dict[str, Any] = {
        "filename": file.filename,
        "url": url,
        "hashes": listed_hashes(file, settings),
        "requires-python": file.requires_python,
        "yanked": file.yanked,
        "core-metadata": metadata,
        "data-dist-info-metadata": metadata,
    }
    if minor >= 1:
        item = {**item, **_without_none({"size": file.size, "upload-time": file.upload_time})}
    if minor >= 3:
        item["provenance"] = file.provenance
    return {**item, **file.extra}


def _root_json(listed: Iterable[SimulatedProject], serial: int, settings: Settings) -> dict[str, Any]:
    projects: list[dict[str, Any]] = [{"name": p.display_name} for p in listed]
    if settings.serials:
        projects = [{"_last-serial": p.serial, "name": p.display_name} for p in listed]
    return {"meta": _meta(settings, serial, {}), "projects": projects}


def _meta(settings: Settings, serial: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = {"api-version": f"1.{settings.api_minor}"}
    if settings.serials:
        meta["_last-serial"] = serial
    return {**meta, **extra}


def _project_html(project: SimulatedProject, settings: Settings, link: Link) -> str:
    metas = [_meta_tag("pypi:repository-version", f"1.{settings.api_minor}")]
    if settings.api_minor >= 4 and project.status is not None:
        metas.append(_meta_tag("pypi:project-status", project.status))
        if project.status_reason is not None:
            metas.append(_meta_tag("pypi:project-status-reason", project.status_reason))
    anchors = [_file_anchor(f, settings, link(project, f)) for f in project.offered()]
    return _html_page(f"Links for {project.name}", metas, anchors, project.serial if settings.serials else None)


def _file_anchor(file: SimulatedFile, settings: Settings, url: str) -> str:
    fragment = "&".join(f"{algorithm}={digits}" for algorithm, digits in listed_hashes(file, settings).items())
    metadata = advertised_metadata(file, settings)
    written = "true" if metadata is True else "&".join(f"{k}={v}" for k, v in metadata.items()) if metadata else None
    attributes: dict[str, str | None] = {
        "href": f"{url}#{fragment}" if fragment else url,
        "data-requires-python": file.requires_python,
        "data-yanked": None if file.yanked is False else "" if file.yanked is True else file.yanked,
        "data-dist-info-metadata": written,
        "data-core-metadata": written,
        "data-provenance": file.provenance,
        **file.html_attributes,
    }
    text = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items() if value is not None)
    return f"<a {text}>{escape(file.filename)}</a><br />"


def _root_html(listed: Iterable[SimulatedProject], serial: int, settings: Settings, link: PageLink) -> str:
    anchors = [f'<a href="{escape(link(p))}">{escape(p.display_name)}</a>' for p in listed]
    metas = [_meta_tag("pypi:repository-version", f"1.{settings.api_minor}")]
    return _html_page("Simple index", metas, anchors, serial if settings.serials else None)


def _html_page(title: str, metas: Iterable[str], anchors: Iterable[str], serial: int | None) -> str:
    head = "\n".join(f"    {line}" for line in metas)
    body = "\n".join(f"    {line}" for line in anchors)
    closing = "" if serial is None else f"<!--SERIAL {serial}-->"
    return (
        f"<!DOCTYPE html>\n<html>\n  <head>\n{head}\n    <title>{escape(title)}</title>\n  </head>\n"
        f"  <body>\n    <h1>{escape(title)}</h1>\n{body}\n  </body>\n</html>\n{closing}"
    )


def _meta_tag(name: str, content: str) -> str:
    return f'<meta name="{name}" content="{escape(content)}">'


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
