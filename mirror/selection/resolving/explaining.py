"""Why a resolution has no answer, and which older version it took: from the view's own tables.

The words of uv are only repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mirror.core.names import ProjectName
from mirror.core.offers import Offer, ProjectOffers
from mirror.core.rules.model import RULE_KEYS
from mirror.errors import shown_text
from mirror.selection.gaps import Gap, GapReason, Instead
from mirror.selection.resolving.walk import Edge, read_requirement
from mirror.selection.view.tables import Passed, VersionTable, later_words, read_distribution

_HIDDEN = frozenset(
    {
        GapReason.WITHHELD,
        GapReason.TOO_LARGE,
        GapReason.FAILED,
        GapReason.COOLDOWN,
        GapReason.VULNERABLE,
        GapReason.UNPROVED,
    }
)
_REFUSED = frozenset({GapReason.WITHHELD, GapReason.TOO_LARGE, GapReason.FAILED})
"""The reasons of the hidden versions whose files are asked for again."""
_SHOWN_VERSIONS = 5
_WORDS = 600
_PREAMBLE = re.compile(
    r"^(error: |× )?No solution found when resolving dependencies:? ?(cause:|╰─▶)? ?"
)
"""The resolver's words before the reason."""


def explain_gaps(
    edges: Sequence[Edge],
    constraints: Sequence[str],
    tables: Mapping[ProjectName, VersionTable],
    words: str,
) -> tuple[list[Gap], list[Passed]]:
    """Return the gaps, and the versions that were asked for and are passed over."""
    gaps: dict[tuple[str, str], Gap] = {}
    passed: list[Passed] = []
    for edge in edges:
        table = tables.get(ProjectName(edge.project))
        gap, which = _gap_of(edge, table) if table is not None else (None, [])
        if read_requirement(edge.requirement).requirement.url is not None:
            gap, which = _gap_of_address(edge), []
        if gap is not None:
            gaps.setdefault((gap.project, gap.requirement), gap)
        passed += which
    if not gaps:
        gaps = {
            (gap.project, gap.requirement): gap
            for gap in _conflicts(edges, constraints, tables, words)
        }
    if not gaps:
        gap = Gap(
            project="", requirement="", reason=GapReason.UNRESOLVED, detail=shown_words(words)
        )
        gaps[gap.project, gap.requirement] = gap
    return list(gaps.values()), passed


def explain_instead(
    chosen: Mapping[ProjectName, Version],
    edges: Sequence[Edge],
    constraints: Sequence[str],
    tables: Mapping[ProjectName, VersionTable],
) -> list[tuple[Instead, tuple[Offer, ...]]]:
    """Return the older versions that were taken, each with the files that it would take instead."""
    found = []
    for project, version in chosen.items():
        newer = [
            one
            for one in tables[project].passed.values()
            if one.version > version
            and one.reason in _HIDDEN
            and (version.is_prerelease or not one.version.is_prerelease)
        ]
        asked = _specifiers(project, edges, constraints)
        fitting = [
            one for one in newer if all(s.contains(one.version, prereleases=True) for s in asked)
        ]
        if fitting:
            best = max(fitting, key=lambda one: one.version)
            item = Instead(
                project=project, version=str(version), hidden=str(best.version), reason=best.reason
            )
            found.append((item, tuple(o for one in _sought(fitting) for o in one.offers)))
    return found


def _sought(passed: Sequence[Passed]) -> list[Passed]:
    """Return the versions whose files are asked for: the newest, and all that were refused before.

    Those stay in the ledger, and so stay hidden, as long as they are asked for.
    """
    best = max(passed, key=lambda one: one.version)
    return [
        one
        for one in passed
        if one.reason in _REFUSED
        and (one is best or any(offer.hidden is not None for offer in one.offers))
    ]


def shown_words(words: str) -> str:
    """Return the resolver's words on one line."""
    text = _PREAMBLE.sub("", re.sub(r"\s+", " ", words.replace("│", " ")).strip())
    return shown_text(text or "the resolver has no answer", _WORDS)


def _gap_of(edge: Edge, table: VersionTable) -> tuple[Gap | None, list[Passed]]:
    """Return the gap of one requirement alone, and the versions that are asked for again."""

    def gap(reason: GapReason, detail: str) -> Gap:
        return Gap(project=edge.project, requirement=edge.requirement, reason=reason, detail=detail)

    requirement = read_requirement(edge.requirement).requirement
    listing = table.listing
    if not listing.is_listed:
        if listing.rule:
            return gap(GapReason.LEFT_OUT, listing.rule), []
        return gap(GapReason.NOT_OFFERED, "no index that may own it lists it"), []
    if listing.rule:
        return gap(GapReason.NOT_OFFERED, f"{listing.owner} lists it, and it is {listing.rule}"), []
    shown = list(requirement.specifier.filter(table.shown))
    pins = any(
        one.operator in {"==", "==="} and "*" not in one.version for one in requirement.specifier
    )
    if any(pins or not table.shown[version].is_yanked for version in shown):
        return None, []
    if shown:
        detail = (
            f"{edge.project} {max(shown)} is yanked:"
            f" {table.shown[max(shown)].offer.file.labels.yanked or 'no reason given'}"
        )
        return gap(GapReason.YANKED, detail), []
    passed = list(requirement.specifier.filter(table.passed))
    if passed:
        best = table.passed[max(passed)]
        which = _sought([table.passed[v] for v in passed])
        if best.reason is GapReason.VULNERABLE:
            which.append(best)  # asked for by nobody; reports name what a want needs
        return gap(best.reason, best.detail), which
    return gap(*_no_version(table, requirement.specifier)), []


def _gap_of_address(edge: Edge) -> Gap:
    detail = f"{edge.requirement} is an address, which is never followed"
    return Gap(
        project=edge.project,
        requirement=edge.requirement,
        reason=GapReason.NOT_OFFERED,
        detail=detail,
    )


def _no_version(table: VersionTable, specifier: SpecifierSet) -> tuple[GapReason, str]:
    listing = table.listing
    barred = _left_out_by_rule(listing, specifier)
    if barred is not None:
        return GapReason.LEFT_OUT, barred
    if listing.left_out and not table.shown and not table.passed:
        rules = ", ".join(sorted(set(listing.left_out.values())))
        others = f", {' and '.join(listing.later)} may not own it" if listing.later else ""
        return (
            GapReason.NOT_SERVED,
            f"{listing.owner} lists it, all its files are left out by {rules}{others}",
        )
    for filename, rule in sorted(listing.left_out.items(), reverse=True):
        read = read_distribution(filename)
        if read is not None and specifier.contains(read.version, prereleases=True):
            return GapReason.LEFT_OUT, f"{filename} is left out by {rule}"
    versions = sorted({*table.shown, *table.passed}, reverse=True)
    newest = ", ".join(str(version) for version in versions[:_SHOWN_VERSIONS])
    more = ", …" if len(versions) > _SHOWN_VERSIONS else ""
    offers = (
        f"{listing.owner} lists {newest}{more}"
        if versions
        else f"{listing.owner} lists no file that installs"
    )
    return GapReason.NO_VERSION, f"{offers}{later_words(listing)}"


def _left_out_by_rule(listing: ProjectOffers, specifier: SpecifierSet) -> str | None:
    """Return words on the newest file that a requirement asks for and a rule leaves out."""
    found = []
    for filename, rule in listing.left_out.items():
        read = read_distribution(filename)
        is_asked = read is not None and specifier.contains(read.version, prereleases=True)
        if read is not None and is_asked and rule.partition(" of ")[0] in RULE_KEYS:
            found.append((read.version, filename, rule))
    if not found:
        return None
    _, filename, rule = max(found)
    return f"{filename} is left out by {rule}"


def _conflicts(
    edges: Sequence[Edge],
    constraints: Sequence[str],
    tables: Mapping[ProjectName, VersionTable],
    words: str,
) -> Iterable[Gap]:
    """Yield the projects on which requirements disagree, that the resolver names."""
    named = {
        name.lower().replace("_", "-") for name in re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", words)
    }
    for project in dict.fromkeys(edge.project for edge in edges):
        table = tables.get(ProjectName(project))
        if table is None or project not in named:
            continue
        asked = _specifiers(project, edges, constraints)
        if len(asked) < 2 or any(
            all(s.contains(v, prereleases=True) for s in asked) for v in table.shown
        ):
            continue
        texts = dict.fromkeys(_named(edge) for edge in edges if edge.project == project)
        limits = [
            f"{text} of the constraints"
            for text in constraints
            if read_requirement(text).project == project
        ]
        detail = f"{' and '.join([*texts, *limits])} exclude each other"
        yield Gap(
            project=project,
            requirement=next(edge.requirement for edge in edges if edge.project == project),
            reason=GapReason.CONFLICT,
            detail=shown_text(f"{detail}; {shown_words(words)}", 2 * _WORDS),
        )


def _named(edge: Edge) -> str:
    return f"{edge.requirement} of {edge.parent}" if edge.parent else edge.requirement


def _specifiers(
    project: str, edges: Sequence[Edge], constraints: Sequence[str]
) -> list[SpecifierSet]:
    texts = [edge.requirement for edge in edges if edge.project == project]
    texts += [text for text in constraints if read_requirement(text).project == project]
    found = dict.fromkeys(str(read_requirement(text).requirement.specifier) for text in texts)
    return [SpecifierSet(text) for text in found if text]
