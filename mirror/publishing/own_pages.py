"""Read the pages of the mirror's own tree, live ones and those of snapshots, and write the latter
again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mirror.core.model import Entry, ListedFile, ProjectPage, ProjectView
from mirror.core.names import ProjectName, Sha256, check_sha256, normalize_project
from mirror.core.pages import parse_json
from mirror.core.pages.render_pages import RenderedPage, render_project
from mirror.errors import BadPage, UnsafeName
from mirror.tree.checking.single_files import read_page_file
from mirror.tree.pages import HTML, JSON_V1

_BASE = "https://tree.invalid/simple/"
"""Only to resolve the mirror's own relative links; never requested."""

MayOffer = Callable[[ProjectName, str, Sha256, Sha256], bool]
"""(project, filename, sha256, metadata sha256) -> whether a page may offer this metadata."""


def read_page(simple: Path, directory: str) -> ProjectPage | None:
    """Read one of the mirror's own pages: the JSON, else the HTML; None where neither is one of
    this project.
    """
    try:
        name: ProjectName = normalize_project(directory)
    except UnsafeName:
        return None
    if name != directory or (simple / directory).is_symlink():
        return None
    url = f"{_BASE}{name}/"
    for page in (JSON_V1, HTML):
        try:
            body = read_page_file(str(simple / directory / page))
            if page.endswith("json"):
                return parse_json.parse_project_page(body, project=name, url=url)
            from mirror.core.pages import parse_html  # its parser takes 0.02 s to import

            return parse_html.parse_project_page(body, project=name, url=url)
        except (OSError, BadPage):
            continue
    return None


def is_of_this_renderer(simple: Path, directory: str) -> bool:
    """Return whether a page that offers metadata was written under this version's rules, as its
    HTML shows.
    """
    try:
        return b"data-dist-info-metadata" not in read_page_file(str(simple / directory / HTML))
    except OSError:
        return False


def render_again(page: ProjectPage, may_offer: MayOffer) -> RenderedPage | None:
    """Render one of the mirror's own pages again: the same files and labels, and the metadata that
    it may offer.

    None where the page lacks a value that is needed.
    """
    entries = [_entry(page.name, file, may_offer) for file in page.files]
    whole = tuple(entry for entry in entries if entry is not None)
    if page.refused or len(whole) < len(entries):
        return None
    return render_project(
        ProjectView(name=page.name, meta=page.meta, entries=whole, serial=page.serial or 0)
    )


def _entry(project: ProjectName, file: ListedFile, may_offer: MayOffer) -> Entry | None:
    try:
        sha256 = check_sha256(dict(file.digests)["sha256"])
        listed = dict(file.metadata or ()).get("sha256")
        metadata = None if listed is None else check_sha256(listed)
    except (KeyError, ValueError):
        return None
    if file.size is None:
        return None
    if metadata is not None and not may_offer(project, file.filename, sha256, metadata):
        metadata = None
    return Entry(
        filename=file.filename,
        sha256=sha256,
        size=file.size,
        labels=file.labels,
        metadata_sha256=metadata,
    )
