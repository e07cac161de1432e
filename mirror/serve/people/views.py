"""From facts to pages: one function for each page. Blocking: called in the thread of a reading."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec

from mirror.config import Config
from mirror.core.names import ProjectName
from mirror.core.words.client_config import CLIENTS, render_client_config
from mirror.errors import TreeError
from mirror.serve.facts.arrivals import load_arrivals
from mirror.serve.facts.projects import ProjectFacts, VersionFacts, load_project_facts
from mirror.serve.facts.reading import Reading
from mirror.serve.facts.search import load_search_facts
from mirror.serve.facts.tree_pages import NameList
from mirror.serve.facts.wants import load_want_facts
from mirror.serve.facts.whole import (
    CycleNews,
    failure_groups,
    hide_paths,
    load_difference,
    load_growth_facts,
    load_news,
    load_snapshot_rows,
    load_status_facts,
)
from mirror.serve.people.address import INDEX_MARK, TRUST_MARK, client_address
from mirror.serve.people.chart import draw_growth
from mirror.serve.people.kept import Rendered
from mirror.serve.people.moods import index_lines, judge_fresh, judge_room, judge_wants, judge_whole
from mirror.serve.people.rendering import render
from mirror.state.frozen.snapshots import SnapshotRow
from mirror.status.value import Status
from mirror.tree.layout import Layout
from mirror.tree.snapshots import list_snapshots, load_channels

HTML: Final = "text/html; charset=utf-8"
ATOM: Final = "application/atom+xml; charset=utf-8"
SHOWN_HITS: Final = 20
_SHOWN_CYCLES: Final = 20
_LATEST_CYCLES: Final = 4
_SHOWN_FILES: Final = 1_000
_FEED_LINES: Final = 100
_NAMESPACE: Final = uuid.UUID("7f1f7d3e-3f0b-4a9e-8a55-6f5d3c2b9c11")


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """The mirror that the pages show."""

    config: Config
    layout: Layout
    names: NameList


def overview_page(reading: Reading, site: Site) -> Rendered:
    """Return the page of the mirror as a whole."""
    status = load_status_facts(reading, site.config, max_failures=0)
    values: dict[str, Any] = {"query": "", "found": None, "status": None}
    if status is None:
        return _overview(reading, site, values)
    held = [index.held for index in status.overview.indexes]
    size = sum(one.size for one in held)
    values |= {
        "status": {"indexes": index_lines(status)},
        "sizes": status.sizes,
        "fresh": judge_fresh(status),
        "whole": judge_whole(status),
        "disk": judge_room(status),
        "wants": judge_wants(status),
        "chart": draw_growth(load_growth_facts(reading), now=status.now),
        "news": load_news(reading, before=None, limit=_LATEST_CYCLES),
        "held_projects": sum(one.projects for one in held),
        "held_files": sum(one.files for one in held),
        "held_bytes": size,
    }
    return _overview(reading, site, values)


def search_page(reading: Reading, site: Site, text: str) -> Rendered:
    """Return the page of a search."""
    found = load_search_facts(reading, site.names, text, SHOWN_HITS)
    values = {"query": text, "found": found, "status": None}
    return _overview(reading, site, values)


def _overview(reading: Reading, site: Site, values: Mapping[str, Any]) -> Rendered:
    arrivals = None if values["status"] else load_arrivals(site.layout.root)
    names = 0 if values["status"] else site.names.load(reading).count("\n") - 1
    shown = {"held_projects": names, "arrivals": _with_some(arrivals), **values}
    return _page(reading, "overview.html", "./", "Overview", shown)


def project_page(reading: Reading, site: Site, name: ProjectName, version: str | None) -> Rendered:
    """Return the page of a project, with the files of its versions or of one of them."""
    project = load_project_facts(reading, name)
    if project is None:
        values: dict[str, Any] = {"name": name}
        page = _page(reading, "absent.html", "../../", "", values)
        return msgspec.structs.replace(page, status=HTTPStatus.NOT_FOUND)
    shown, unshown = _shown_versions(project, version)
    values = {
        "project": project,
        "shown": shown,
        "unshown": unshown,
        "index_mark": INDEX_MARK,
        "trust_mark": TRUST_MARK,
    }
    page = _page(reading, "project.html", "../../", "", _without_paths(values, site))
    return msgspec.structs.replace(page, has_address=True)


def _without_paths(values: dict[str, Any], site: Site) -> dict[str, Any]:
    """Return the values with details that show no path of the host."""
    project: ProjectFacts = values["project"]
    root = site.layout.root
    missing = tuple(
        msgspec.structs.replace(one, detail=hide_paths(one.detail, root)) for one in project.missing
    )
    return {**values, "project": msgspec.structs.replace(project, missing=missing)}


def _shown_versions(
    project: ProjectFacts, version: str | None
) -> tuple[list[VersionFacts], list[VersionFacts]]:
    """Return the versions whose files are shown, the newest usable one first, and the others."""
    if version is not None:
        chosen = [one for one in project.versions if (one.version or "") == version]
        if chosen:
            return chosen, [one for one in project.versions if one not in chosen]
    newest = [one for one in project.versions if one.version == project.newest]
    ordered = [*newest, *(one for one in project.versions if one not in newest)]
    shown: list[VersionFacts] = []
    count = 0
    for one in ordered:
        count += len(one.files)
        if shown and count > _SHOWN_FILES:
            break
        shown.append(one)
    return shown, ordered[len(shown) :]


def changes_page(reading: Reading, site: Site, before: int | None) -> Rendered:
    """Return the page of the changes, those of older cycles with ``before``."""
    news = load_news(reading, before=before, limit=_SHOWN_CYCLES)
    older = news[-1].cycle if len(news) == _SHOWN_CYCLES else None
    arrivals = None if news else load_arrivals(site.layout.root)
    values = {
        "news": news,
        "older": older,
        "before": before,
        "arrivals": _with_some(arrivals),
        "held_projects": 0 if news else site.names.load(reading).count("\n") - 1,
    }
    return _page(reading, "changes.html", "../", "Changes", values)


def changes_feed(reading: Reading) -> Rendered:
    """Return the Atom feed of the changes."""
    news = load_news(reading, before=None, limit=_SHOWN_CYCLES)
    feed_id = uuid.uuid5(_NAMESPACE, "changes")
    entries = [_entry(cycle) for cycle in news]
    values = {
        "feed_id": feed_id,
        "updated": max((cycle.at for cycle in news), default=0.0),
        "entries": entries,
    }
    return Rendered(body=render("changes.atom", values), content_type=ATOM, is_page=False)


def _entry(cycle: CycleNews) -> dict[str, Any]:
    counts = ", ".join(f"{count:,} {kind.value}" for kind, count in cycle.counts.items())
    lines = [
        f"{one.kind.value}: {one.project} {', '.join(one.versions)}".rstrip()
        + (f" ({one.reason})" if one.reason else "")
        for one in cycle.projects[:_FEED_LINES]
    ]
    left = len(cycle.projects) - len(lines) + cycle.more
    more = [f"and {left:,} more"] if left else []
    return {
        "id": uuid.uuid5(_NAMESPACE, f"{cycle.cycle} {cycle.at}"),
        "title": f"Cycle {cycle.cycle}: {counts}",
        "at": cycle.at,
        "anchor": f"#cycle-{cycle.cycle}",
        "text": "\n".join([*lines, *more]),
    }


def snapshots_page(reading: Reading, site: Site, first: str | None, second: str | None) -> Rendered:
    """Return the page of snapshots and channels, with the difference of two states."""
    channels = _channels(site.layout)
    rows = load_snapshot_rows(reading)
    shown = _snapshot_lines(rows, channels) or _lines_of_tree(site.layout, channels)
    difference = load_difference(reading, first, second) if first and second else None
    values = {"channels": channels, "snapshots": shown, "difference": difference}
    return _page(reading, "snapshots.html", "../", "Snapshots", values)


def _channels(layout: Layout) -> dict[str, str]:
    try:
        return load_channels(layout)
    except (OSError, TreeError):
        return {}


def _snapshot_lines(rows: list[SnapshotRow], channels: Mapping[str, str]) -> list[dict[str, Any]]:
    lines = []
    for row, older in zip(rows, [*rows[1:], None], strict=False):
        lines.append(
            {
                "name": row.name,
                "channels": [name for name, snapshot in channels.items() if snapshot == row.name],
                "note": row.note,
                "made_at": row.made_at,
                "projects": row.projects,
                "files": row.files,
                "bytes": row.bytes,
                "older": older.name if older else None,
            }
        )
    return lines


def _lines_of_tree(layout: Layout, channels: Mapping[str, str]) -> list[dict[str, Any]]:
    empty = dict.fromkeys(("made_at", "projects", "files", "bytes", "older"))
    return [
        {
            "name": name,
            "channels": [channel for channel, snapshot in channels.items() if snapshot == name],
            "note": "",
            **empty,
        }
        for name in reversed(_listed_snapshots(layout))
    ]


def _listed_snapshots(layout: Layout) -> list[str]:
    try:
        return list_snapshots(layout)
    except (OSError, TreeError):
        return []


def failures_page(reading: Reading, site: Site) -> Rendered:
    """Return the page of the ledger, each reason with what to do."""
    status = load_status_facts(reading, site.config, max_failures=500)
    values: dict[str, Any] = {"status": status}
    if status is not None:
        groups = failure_groups(status)
        shown = sum(len(group.rows) for group in groups)
        wants = judge_wants(status)
        values |= {
            "gaps": wants if wants is not None and wants.mood == "bad" else None,
            "groups": groups,
            "shown": shown,
            "total": max(status.overview.failed, shown),
            "damage": _damage(status, site.layout.root),
        }
    return _page(reading, "failures.html", "../", "Failures", values)


def wants_page(reading: Reading, site: Site) -> Rendered:
    """Return the page of the wants: targets, gaps, and what to do."""
    wants = load_want_facts(reading, site.layout.root)
    values = {"wants": wants, "installable": sum(one.is_installable for one in wants or ())}
    return _page(reading, "wants.html", "../", "Wants", values)


def _damage(status: Status, root: Path) -> list[dict[str, str]]:
    return [
        {
            "path": hide_paths(note.path, root),
            "damage": note.damage,
            "detail": hide_paths(note.detail, root),
        }
        for note in status.damage
    ]


def setup_page(reading: Reading, base: str) -> Rendered:
    """Return the page with the clients' configuration for one address of the server."""
    address = client_address(base)
    clients = [(name, render_client_config(name, address).rstrip("\n")) for name in CLIENTS]
    values = {"address": address, "clients": clients}
    return _page(reading, "setup.html", "../", "Setup", values)


def _with_some(arrivals: Any) -> Any:
    """Return the arrivals where there are some."""
    return arrivals if arrivals is not None and arrivals.applied else None


def _page(
    reading: Reading, template: str, root: str, page: str, values: Mapping[str, Any]
) -> Rendered:
    shown = {**values, "root": root, "page": page, "access": reading.access.value}
    return Rendered(body=render(template, shown), content_type=HTML)
