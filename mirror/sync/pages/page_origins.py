"""Report a page that another origin serves than at its last reading."""

from __future__ import annotations

from mirror.core.files.origins import origin_of_url
from mirror.core.names import ProjectName
from mirror.logs import get_logger
from mirror.sync.report import Events
from mirror.sync.work import IndexRun

_log = get_logger(__name__)


def report_origin(
    events: Events,
    run: IndexRun,
    project: ProjectName | None,
    *,
    before: str | None,
    after: str | None,
) -> None:
    """Report a page, the root's where ``project`` is None, whose origin has changed."""
    if before == after:
        return
    own = origin_of_url(run.source.url)
    event = {
        "event": "page-origin-changed",
        "index": run.name,
        "from": before or own,
        "to": after or own,
    }
    events.append(event if project is None else {**event, "project": project})
    _log.warning(
        "page.origin_changed",
        index=run.name,
        project=project,
        before=before or own,
        after=after or own,
    )
