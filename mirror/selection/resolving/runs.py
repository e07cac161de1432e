"""One resolution: a list of requirements for one Python of a target, from the view to the files.

Patch releases for which all markers and ``requires-python`` of the closure answer alike are one
group, resolved once, until no new group appears.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mirror.core.names import ProjectName
from mirror.errors import MirrorError
from mirror.selection.gaps import Gap, GapReason
from mirror.selection.resolving.explaining import explain_gaps, explain_instead, shown_words
from mirror.selection.resolving.hashes import with_hashes, without_refused
from mirror.selection.resolving.lazy import Policy, Void
from mirror.selection.resolving.program import Uv
from mirror.selection.resolving.results import Result, failed, union
from mirror.selection.resolving.uv import ResolverFailed, UvAnswer, run_uv
from mirror.selection.resolving.walk import counts, read_requirement, unknown_extras, walk
from mirror.selection.resolving.widening import (
    file_of,
    with_build_requirements,
    with_more_files,
    with_newest,
)
from mirror.selection.targets import Environment
from mirror.selection.view.answers import (
    MAX_NAMES,
    Offers,
    RunAnswers,
    SharedAnswers,
    TooManyNames,
)
from mirror.selection.view.tables import Sdists, ShownVersion
from mirror.selection.wants import RequirementLine, Resolution

if TYPE_CHECKING:
    from mirror.selection.view.server import ResolverView

_MAX_PINS = 5
"""Maximum number of runs in which pins on yanked releases are added."""
_CHANGING = ("python_full_version", "implementation_version")
"""The variables of markers that differ between patch releases."""


class Resolver:
    """Starts uv against the view, for the resolutions of one cycle or one proof."""

    def __init__(
        self,
        uv: Uv,
        view: ResolverView,
        offers: Offers,
        folder: Path,
        *,
        name: str,
        pre_releases: bool = False,
    ) -> None:
        """``folder``: of this process alone. ``name``: the cycle's, part of each address."""
        self._uv, self._view, self._offers = uv, view, offers
        self._folder, self._name = folder, name
        self._pre_releases = pre_releases
        self._numbers = itertools.count(1)
        self._shared: dict[str, SharedAnswers] = {}
        """By their address in the view."""

    async def resolve(
        self, source: Resolution, environments: Sequence[Environment], policy: Policy
    ) -> Result:
        """Resolve for all releases of one Python on one platform. Raises ``Void``."""
        return without_refused(union(await self.resolve_groups(source, environments, policy)))

    async def resolve_groups(
        self, source: Resolution, environments: Sequence[Environment], policy: Policy
    ) -> list[Result]:
        """Resolve once for each group of releases that answer alike. Raises ``Void``."""
        done: list[tuple[Environment, RunAnswers]] = []
        results: list[Result] = []
        while True:
            environment = _next_of(environments, done, source)
            if environment is None:
                return results
            answers = self._answers(environment, policy)
            result = await self._resolve_one(source, environment, answers)
            result = _with_unproved(result, answers, policy)
            result = with_hashes(
                result, source, environment, answers, refuses_others=policy.refuses_rebuilt
            )
            if result.is_resolved:
                result = await self._widened(result, source, environment, answers, policy)
            results.append(result)
            done.append((environment, answers))

    def _answers(self, environment: Environment, policy: Policy) -> RunAnswers:
        """Return the answers for a new run; runs for one environment share their reading."""
        address = self._address(environment, policy.sdists)
        if address not in self._shared:
            self._shared[address] = SharedAnswers(self._offers, environment, policy.sdists)
        return RunAnswers(self._shared[address])

    def _address(self, environment: Environment, sdists: Sdists) -> str:
        """Return the address of an environment in the view: it names the cycle and the target."""
        target = environment.name.replace("/", "-")
        kind = "wheels" if sdists == "never" else "all"
        return f"{self._name}-{target}-{environment.release}-{kind}"

    async def _widened(
        self,
        result: Result,
        source: Resolution,
        environment: Environment,
        answers: RunAnswers,
        policy: Policy,
    ) -> Result:
        """Add the files that a want needs beyond the resolution itself."""

        async def run(asked: Resolution, where: Environment) -> tuple[Result, RunAnswers]:
            own = self._answers(where, policy)
            found = await self._resolve_one(asked, where, own)
            return _with_unproved(found, own, policy), own

        result = with_more_files(
            result,
            answers,
            environment,
            all_wheels=policy.all_wheels,
            all_sdists=policy.all_sdists,
        )
        if policy.newest:
            result = await with_newest(result, answers, source, environment, policy.newest, run)
        return await with_build_requirements(result, answers, environment, self._offers, run)

    async def _resolve_one(
        self, source: Resolution, environment: Environment, answers: RunAnswers
    ) -> Result:
        roots = [line for line in source.lines if line.applies(environment)]
        constraints = [line.text for line in source.constraints if line.applies(environment)]
        lines = [line.text for line in source.lines]
        base = failed(
            (), releases=(environment.release,), warnings=(*source.warnings, *source.skipped)
        )
        for _ in range(_MAX_PINS):
            try:
                answer = await self._run(
                    lines, [line.text for line in source.constraints], environment, answers
                )
            except ResolverFailed as exc:
                gap = Gap(
                    project="",
                    requirement="",
                    reason=GapReason.UNRESOLVED,
                    detail=f"the resolver: {exc}",
                )
                return msgspec.structs.replace(base, gaps=(gap,), names=_names(answers))
            if answer.code == 0:
                return _resolved(base, answer, answers, roots, constraints)
            pins = [pin for pin in _yanked_pins(roots, answers) if pin not in lines]
            if not pins:
                break
            lines += pins
        return _unresolved(base, answer, answers, roots, constraints)

    async def _run(
        self,
        lines: Sequence[str],
        constraints: Sequence[str],
        environment: Environment,
        answers: RunAnswers,
    ) -> UvAnswer:
        number = next(self._numbers)
        folder = self._folder / f"run-{number}"
        await anyio.to_thread.run_sync(folder.mkdir)
        address = self._address(environment, answers.shared.sdists)
        with self._view.answering(address, answers) as url:
            answer = await run_uv(
                self._uv,
                lines,
                constraints,
                environment,
                folder=folder,
                url=url,
                hidden=self._view.secrets,
                stop=answers.has_failed,
                pre_releases=self._pre_releases,
            )
        match answers.void:
            case MirrorError() as error:
                raise Void(error)
            case TooManyNames():
                raise ResolverFailed(f"it asked for more than {MAX_NAMES:,} projects")
            case _:
                return answer


def questions_of(answers: RunAnswers, source: Resolution) -> tuple[frozenset[str], frozenset[str]]:
    """Return the markers and the ``requires-python`` by which patch releases may differ."""
    markers = {line.text for line in (*source.lines, *source.constraints)}
    markers |= {text for found in answers.metadata.values() for text in found.requires}
    changing = frozenset(text for text in markers if any(word in text for word in _CHANGING))
    limits = {found.requires_python for found in answers.metadata.values() if found.requires_python}
    for table in answers.tables.values():
        for offer in table.listing.offers:
            if offer.file.labels.requires_python:
                limits.add(offer.file.labels.requires_python)
    return changing, frozenset(limits)


def _next_of(
    environments: Sequence[Environment],
    done: Sequence[tuple[Environment, RunAnswers]],
    source: Resolution,
) -> Environment | None:
    """Return the newest release that is in no group that was resolved."""
    if not done:
        return environments[-1]
    markers: set[str] = set()
    limits: set[str] = set()
    for _, answers in done:
        found = questions_of(answers, source)
        markers |= found[0]
        limits |= found[1]

    def group(environment: Environment) -> tuple[bool, ...]:
        values = environment.markers
        asked = (read_requirement(text).requirement for text in sorted(markers))
        holds = [any(counts(one, values, extra) for extra in ("", *_extras(one))) for one in asked]
        return (*holds, *(environment.admits(limit) for limit in sorted(limits)))

    known = {group(environment) for environment, _ in done}
    return next((one for one in reversed(environments) if group(one) not in known), None)


def _extras(requirement: Requirement) -> list[str]:
    """Return the extras in a requirement's marker."""
    text = str(requirement.marker or "")
    return [part.split('"')[1] for part in text.split("extra == ")[1:] if part.startswith('"')]


def _names(answers: RunAnswers) -> tuple[str, ...]:
    return tuple(sorted(answers.tables))


def _resolved(
    base: Result,
    answer: UvAnswer,
    answers: RunAnswers,
    roots: Sequence[RequirementLine],
    constraints: Sequence[str],
) -> Result:
    chosen: dict[ProjectName, ShownVersion] = {}
    for line in answer.lines:
        found = _read_line(line)
        table = answers.tables.get(found[0]) if found is not None else None
        shown = table.shown.get(found[1]) if found is not None and table is not None else None
        if found is None or shown is None:
            detail = f"the resolver answered {shown_words(line)}, which it was not shown"
            gap = Gap(project="", requirement="", reason=GapReason.UNRESOLVED, detail=detail)
            return msgspec.structs.replace(base, gaps=(gap,), names=_names(answers))
        chosen[found[0]] = shown
    versions = {project: shown.version for project, shown in chosen.items()}
    markers = answers.environment.markers
    edges = walk(roots, {p: [v] for p, v in versions.items()}, answers.metadata, markers)
    instead = explain_instead(versions, edges, constraints, answers.tables)
    return msgspec.structs.replace(
        base,
        is_resolved=True,
        names=_names(answers),
        files=tuple(sorted(file_of(project, shown) for project, shown in chosen.items())),
        instead=tuple(item for item, _ in instead),
        sought=tuple(
            file_of(
                ProjectName(item.project),
                ShownVersion(version=Version(item.hidden), offer=offer, is_wheel=True),
            )
            for item, offers in instead
            for offer in offers
        ),
        edges=tuple(edges),
        unknown_extras=unknown_extras(edges, versions, answers.metadata),
    )


def _unresolved(
    base: Result,
    answer: UvAnswer,
    answers: RunAnswers,
    roots: Sequence[RequirementLine],
    constraints: Sequence[str],
) -> Result:
    seen: dict[ProjectName, list[Version]] = {}
    for project, version in answers.metadata:
        seen.setdefault(project, []).append(version)
    edges = walk(roots, seen, answers.metadata, answers.environment.markers)
    gaps, passed = explain_gaps(edges, constraints, answers.tables, answer.words)
    offers = [(one.version, offer) for one in passed for offer in one.offers]
    projects = {
        offer.file.filename: table.project
        for table in answers.tables.values()
        for offer in table.listing.offers
    }
    return msgspec.structs.replace(
        base,
        names=_names(answers),
        gaps=tuple(gaps),
        sought=tuple(
            file_of(
                projects[offer.file.filename],
                ShownVersion(version=version, offer=offer, is_wheel=True),
            )
            for version, offer in offers
        ),
        edges=tuple(edges),
    )


def _with_unproved(result: Result, answers: RunAnswers, policy: Policy) -> Result:
    """Mark the source distributions whose dependencies only their own code knows, and name them."""
    if not result.is_resolved:
        return result
    files, gaps = [], list(result.gaps)
    for file in result.files:
        read = answers.metadata.get((ProjectName(file.project), Version(file.version)))
        is_sdist = not file.filename.endswith(".whl")
        is_unproved = is_sdist and read is not None and read.is_dynamic
        files.append(msgspec.structs.replace(file, is_unproved=is_unproved))
        if is_unproved and file.project not in policy.accept_unproved:
            detail = f"{file.filename}: its dependencies are known only by running it"
            text = f"{file.project}=={file.version}"
            gap = Gap(
                project=file.project, requirement=text, reason=GapReason.UNPROVED, detail=detail
            )
            gaps.append(gap)
    return msgspec.structs.replace(result, files=tuple(files), gaps=tuple(gaps))


def _read_line(line: str) -> tuple[ProjectName, Version] | None:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    pins = [one for one in requirement.specifier if one.operator == "=="]
    return (
        (ProjectName(canonicalize_name(requirement.name)), Version(pins[0].version))
        if len(pins) == 1
        else None
    )


def _yanked_pins(roots: Sequence[RequirementLine], answers: RunAnswers) -> list[str]:
    """Return the pins of dependencies on yanked releases: pip takes them, uv only from a line."""
    seen: dict[ProjectName, list[Version]] = {}
    for project, version in answers.metadata:
        seen.setdefault(project, []).append(version)
    pins = []
    for edge in walk(roots, seen, answers.metadata, answers.environment.markers):
        requirement = read_requirement(edge.requirement).requirement
        table = answers.tables.get(ProjectName(edge.project))
        if (
            not edge.parent
            or table is None
            or [one.operator for one in requirement.specifier] != ["=="]
        ):
            continue
        matching = list(requirement.specifier.filter(table.shown))
        if len(matching) == 1 and table.shown[matching[0]].is_yanked:
            pins.append(f"{edge.project}=={matching[0]}")
    return list(dict.fromkeys(pins))
