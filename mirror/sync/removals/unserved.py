"""At the end of a cycle: configured names that no index offers, and projects that nobody serves.

Both are judged from the state alone, after all pages are recorded. A name is judged only where the
roots of all indexes are known, so that an outage makes nothing «not offered».
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mirror.core.model import IndexPolicy
from mirror.core.names import ProjectName, projects_of_filename
from mirror.core.policy import Selection, literal_names
from mirror.core.rules.model import RULE_KEYS
from mirror.errors import Reason, TreeError
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.state.entries.pages import load_marked
from mirror.state.listing.sources import load_sources
from mirror.state.missing.unserved import (
    Unserved,
    load_file_place,
    load_offered_names,
    load_owner,
    load_skipped_projects,
    load_unserved,
    record_unserved,
)
from mirror.state.store import Store
from mirror.sync.cycle_parts import Options, Terms
from mirror.sync.report import Report, Shown, shown_failure

_log = get_logger(__name__)

_LOGGED = 20
_EVENTS = {
    Reason.NOT_OFFERED: "project.not_offered",
    Reason.NOT_SERVED: "project.not_served",
    Reason.STORAGE: "project.unwritten",
}


async def judge_unserved(
    holdings: Holdings,
    options: Options,
    terms: Terms,
    unwritten: Mapping[ProjectName, TreeError],
) -> None:
    """Bring the state's judgement up to date, and log its new rows."""
    store = holdings.store
    found = await _not_served(store, terms)
    if await _are_roots_known(store, terms):
        found += await _projects_not_offered(store, terms.policies)
        if not options.dry_run:  # a plan has no files yet
            found += await _files_not_offered(store, terms.policies)
    else:
        found += await _still_asked_for(store, terms.policies)
    found += await _unwritten(holdings.store, unwritten)
    unique = {one.key: one for one in reversed(found)}
    new = await record_unserved(store, list(unique.values()), holdings.clock())
    for one in new[:_LOGGED]:
        _log.warning(
            _EVENTS[one.reason],
            index=one.index,
            project=one.project,
            filename=one.filename or None,
            detail=one.detail,
        )
    if len(new) > _LOGGED:
        _log.warning(
            "projects.not_served", more=len(new) - _LOGGED, advice="`mirror status` names them"
        )


async def record_unwritten(holdings: Holdings, unwritten: Mapping[ProjectName, TreeError]) -> None:
    """Bring up to date which projects' pages could not be written, after a cycle that judges
    nothing else.
    """
    known = await load_unserved(holdings.store)
    others = [one for one in known if one.reason is not Reason.STORAGE]
    still = [one for one in known if one.reason is Reason.STORAGE]
    marked = (
        {
            name
            for chunk in [await load_marked(holdings.store, "", len(still) + 1)]
            for name in chunk
        }
        if still
        else set()
    )
    found = {one.key: one for one in still if one.project in marked}
    found |= {one.key: one for one in await _unwritten(holdings.store, unwritten)}
    await record_unserved(holdings.store, [*others, *found.values()], holdings.clock())


async def _unwritten(store: Store, unwritten: Mapping[ProjectName, TreeError]) -> list[Unserved]:
    found = []
    for name, error in unwritten.items():
        index, is_withdrawn = await load_owner(store, name)
        what = (
            "withdrawn by the index, and STILL PUBLISHED: its page can't be written: "
            if is_withdrawn
            else ""
        )
        found.append(
            Unserved(
                index=index,
                project=name,
                reason=Reason.STORAGE,
                detail=f"{what}{error}",
                is_literal=True,
            )
        )
    return found


async def add_unserved(store: Store, report: Report) -> None:
    """Add missing names to the report: all projects that nobody serves, and literally configured
    names as failures.
    """
    unwritten: list[Shown] = []
    for one in await load_unserved(store):
        shown = shown_failure(one.index, one.project, one.filename, one.reason, one.detail)
        if one.reason is Reason.STORAGE:
            unwritten.append(shown)
        elif one.is_literal:
            report.failures.append(shown)
        if one.reason is Reason.NOT_SERVED and not one.filename:
            report.not_served.append(shown)
    # Withdrawn files that are still published are named first.
    unwritten.sort(key=lambda shown: not shown.detail.startswith("withdrawn"))
    report.failures[:0] = unwritten


async def _are_roots_known(store: Store, terms: Terms) -> bool:
    sources = {source.name: source for source in await load_sources(store)}
    return all(
        (source := sources.get(policy.name)) is not None
        and source.root_read is not None
        and source.selection == terms.root_digests.get(policy.name)
        for policy in terms.policies
    )


async def _not_served(store: Store, terms: Terms) -> list[Unserved]:
    policies = {policy.name: policy for policy in terms.policies}
    literal = {name for policy in terms.policies for name in literal_names(policy.projects)}
    found = []
    for project in await load_skipped_projects(store):
        if project.index not in policies:
            continue
        others = [
            name for name in project.others if name in policies and not policies[name].overlay
        ]
        found.append(
            Unserved(
                index=project.index,
                project=project.name,
                reason=Reason.NOT_SERVED,
                detail=_detail(project.index, others),
                is_literal=project.name in literal,
            )
        )
    return found


def _detail(index: str, others: Sequence[str]) -> str:
    barred = f", {' and '.join(others)} may not own it" if others else ""
    return f"{index} lists it, all its files are left out{barred}"


async def _still_asked_for(store: Store, policies: Sequence[IndexPolicy]) -> list[Unserved]:
    """Return the earlier judgement of names that the configuration still contains: they can't be
    judged again now.
    """
    asked = {
        name for policy in policies for name in literal_names((*policy.projects, *policy.files))
    }
    known = await load_unserved(store)
    return [
        one
        for one in known
        if one.reason is Reason.NOT_OFFERED and (one.filename or one.project) in asked
    ]


async def _projects_not_offered(store: Store, policies: Sequence[IndexPolicy]) -> list[Unserved]:
    asked: dict[str, str] = {}
    for policy in policies:
        if not policy.listed_by_config:
            selection = Selection(policy)
            for name in literal_names(policy.projects):
                if selection.wants_project(ProjectName(name)):
                    asked.setdefault(name, policy.name)
    missing = asked.keys() - await load_offered_names(store, asked.keys())
    return [
        Unserved(
            index=asked[name],
            project=name,
            reason=Reason.NOT_OFFERED,
            detail=f"projects of {asked[name]} names it, and no index that may own it lists it",
            is_literal=True,
        )
        for name in sorted(missing)
    ]


async def _files_not_offered(store: Store, policies: Sequence[IndexPolicy]) -> list[Unserved]:
    asked = {
        name: policy
        for policy in reversed(policies)
        for name in literal_names(policy.files)
        if Selection(policy).wants_filename(name)
    }
    overlays = {policy.name for policy in policies if policy.overlay}
    found = []
    for name, policy in sorted(asked.items(), key=lambda item: item[0]):
        projects = projects_of_filename(name)
        place = await load_file_place(store, name, projects, overlays=overlays)
        if place.is_had or not place.is_known or place.rule in RULE_KEYS:
            continue
        found.append(
            _missing_file(
                name, policy, projects, rule=place.rule, index=place.index, project=place.project
            )
        )
    return found


def _missing_file(
    name: str, policy: IndexPolicy, projects: Sequence[str], *, rule: str, index: str, project: str
) -> Unserved:
    if rule:
        return Unserved(
            index=index,
            project=project,
            filename=name,
            reason=Reason.NOT_SERVED,
            detail=f"files of {policy.name} names it, {index} lists it, and {rule} leaves it out",
            is_literal=True,
        )
    return Unserved(
        index=policy.name,
        project=projects[0] if projects else "",
        filename=name,
        reason=Reason.NOT_OFFERED,
        detail=f"files of {policy.name} names it, and no page of an index that may own its"
        " project lists it",
        is_literal=True,
    )
