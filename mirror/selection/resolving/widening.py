"""The files beyond a resolution: build requirements of source distributions, more versions, more
files of each version.

Build requirements are resolutions of their own, to a depth of 5, each project once. A further
version that can't be resolved is left out and named.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mirror.core.names import ProjectName
from mirror.core.offers import MetadataRefused
from mirror.selection.gaps import Gap, GapReason
from mirror.selection.resolving.results import ChosenFile, Result
from mirror.selection.resolving.walk import read_requirement, walk
from mirror.selection.targets import Environment
from mirror.selection.view.answers import Offers, RunAnswers
from mirror.selection.view.tables import ShownVersion, alias_of, read_distribution
from mirror.selection.wants import RequirementLine, Resolution

MAX_DEPTH = 5
"""Maximum depth of build requirements of build requirements."""

Run = Callable[[Resolution, Environment], Awaitable[tuple[Result, RunAnswers]]]
"""Resolves one list of requirements for one release."""


async def with_build_requirements(
    result: Result, answers: RunAnswers, environment: Environment, offers: Offers, run: Run
) -> Result:
    """Add the files that building the chosen source distributions takes."""
    waiting = [(file, answers) for file in result.files if not file.filename.endswith(".whl")]
    done: set[str] = set()
    found = [result]
    for _ in range(MAX_DEPTH):
        level, waiting = waiting, []
        for file, parent in level:
            if file.project in done:
                continue
            done.add(file.project)
            built, more = await _build(file, parent, environment, offers, run)
            found.append(built)
            waiting += more
        if not waiting:
            break
    return _merged(found)


async def _build(
    file: ChosenFile, answers: RunAnswers, environment: Environment, offers: Offers, run: Run
) -> tuple[Result, list[tuple[ChosenFile, RunAnswers]]]:
    """Resolve the build requirements of one source distribution."""
    shown = answers.tables[ProjectName(file.project)].shown[Version(file.version)]
    empty = Result(is_resolved=True)

    def gap(requirement: str, reason: GapReason, detail: str) -> Gap:
        return Gap(project=file.project, requirement=requirement, reason=reason, detail=detail)

    try:
        texts = await offers.build_requires(ProjectName(file.project), shown.offer)
    except MetadataRefused as exc:
        words = f"the build requirements of {file.filename} can't be read: {exc}"
        return msgspec.structs.replace(empty, gaps=(gap("", GapReason.FAILED, words),)), []
    lines = []
    gaps = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            gaps.append(
                gap(text, GapReason.FAILED, f"{file.filename} has it in its [build-system]")
            )
            continue
        if requirement.url is not None:
            detail = f"{text} is an address, which is never followed"
            gaps.append(gap(text, GapReason.NOT_OFFERED, detail))
            continue
        line = RequirementLine(
            requirement=requirement,
            project=canonicalize_name(requirement.name),
            origin=f"[build-system] of {file.filename}",
        )
        if line.applies(environment):
            lines.append(line)
    if not lines:
        return msgspec.structs.replace(empty, gaps=tuple(gaps)), []
    built, found = await run(Resolution(want=None, file=None, lines=tuple(lines)), environment)
    edges = [
        msgspec.structs.replace(edge, parent=edge.parent or file.project) for edge in built.edges
    ]
    files = tuple(msgspec.structs.replace(one, is_build=True) for one in built.files)
    more = [(one, found) for one in files if not one.filename.endswith(".whl")]
    words = f"to build {file.filename}"
    named = [msgspec.structs.replace(g, detail=f"{g.detail} ({words})") for g in built.gaps]
    return (
        msgspec.structs.replace(
            built, is_resolved=True, files=files, edges=tuple(edges), gaps=(*gaps, *named)
        ),
        more,
    )


def _merged(found: Sequence[Result]) -> Result:
    """Return the first result with the files, names and gaps of the others."""
    first = found[0]
    return msgspec.structs.replace(
        first,
        names=tuple(sorted({name for one in found for name in one.names})),
        files=tuple(sorted({file for one in found for file in one.files})),
        sought=tuple(sorted({file for one in found for file in one.sought})),
        gaps=tuple(dict.fromkeys(gap for one in found for gap in one.gaps)),
        edges=tuple(dict.fromkeys(edge for one in found for edge in one.edges)),
        warnings=tuple(dict.fromkeys(word for one in found for word in one.warnings)),
    )


async def with_newest(
    result: Result,
    answers: RunAnswers,
    source: Resolution,
    environment: Environment,
    count: int,
    run: Run,
) -> Result:
    """Add the newest versions of the projects that the want names itself, each resolved."""
    found = [result]
    roots = [line for line in source.lines if line.applies(environment)]
    chosen = {file.project: Version(file.version) for file in result.files}
    for project in dict.fromkeys(line.project for line in roots):
        table = answers.tables.get(ProjectName(project))
        if table is None or project not in chosen:
            continue
        wanted = [
            version
            for version in table.versions()
            if not table.shown[version].is_yanked
            and (chosen[project].is_prerelease or not version.is_prerelease)
            and all(
                line.requirement.specifier.contains(version, prereleases=True)
                for line in roots
                if line.project == project
            )
        ]
        for version in wanted[:count]:
            if version == chosen[project]:
                continue
            found.append(
                await _further(project, version, result, answers, source, environment, run)
            )
    return _merged(found)


async def _further(
    project: str,
    version: Version,
    result: Result,
    answers: RunAnswers,
    source: Resolution,
    environment: Environment,
    run: Run,
) -> Result:
    """Return the files of one more version; only a warning where it can't be resolved."""
    name = ProjectName(project)
    if await _fits_found_set(name, version, result, answers, source, environment):
        file = file_of(name, answers.tables[name].shown[version])
        return Result(is_resolved=True, files=(file,))
    pin = RequirementLine(
        requirement=Requirement(f"{project}=={version}"), project=project, origin="versions"
    )
    lines = tuple(line for line in source.lines if line.project != project)
    own = tuple(line for line in source.lines if line.project == project)
    asked = Resolution(
        want=source.want,
        file=source.file,
        lines=(pin, *own, *lines),
        constraints=source.constraints,
    )
    found, _ = await run(asked, environment)
    if found.is_resolved:
        return msgspec.structs.replace(found, gaps=())
    words = "; ".join(gap.detail for gap in found.gaps)
    warning = f"{project} {version} is left out: {words}"
    return Result(is_resolved=True, names=found.names, warnings=(warning,))


async def _fits_found_set(
    project: ProjectName,
    version: Version,
    result: Result,
    answers: RunAnswers,
    source: Resolution,
    environment: Environment,
) -> bool:
    """Return whether the found set meets the requirements of another version, and excludes it by
    no member.
    """
    if (project, version) not in answers.metadata:
        await answers.metadata_text(alias_of(project, version))
    if (project, version) not in answers.metadata:
        return False
    chosen = {ProjectName(file.project): [Version(file.version)] for file in result.files}
    chosen[project] = [version]
    roots = [line for line in source.lines if line.applies(environment)]
    for edge in walk(roots, chosen, answers.metadata, environment.markers):
        specifier = read_requirement(edge.requirement).requirement.specifier
        versions = chosen.get(ProjectName(edge.project), [])
        if not any(specifier.contains(one, prereleases=True) for one in versions):
            return False
    return True


def with_more_files(
    result: Result,
    answers: RunAnswers,
    environment: Environment,
    *,
    all_wheels: bool,
    all_sdists: bool,
) -> Result:
    """Add the other wheels of each chosen version that fit, and its source distribution."""
    if not (all_wheels or all_sdists) or not result.is_resolved:
        return result
    files = set(result.files)
    for file in result.files:
        name, version = ProjectName(file.project), Version(file.version)
        table = answers.tables.get(name)
        for offer in table.listing.offers if table is not None else ():
            read = read_distribution(offer.file.filename)
            if read is None or read.version != version or offer.hidden is not None:
                continue
            if not environment.admits(offer.file.labels.requires_python):
                continue
            fits = read.is_wheel and all_wheels and environment.rank(read.tags) is not None
            if fits or (not read.is_wheel and all_sdists):
                shown = ShownVersion(version=version, offer=offer, is_wheel=read.is_wheel)
                files.add(file_of(name, shown))
    known = {(file.index, file.filename): file for file in files}
    known |= {(file.index, file.filename): file for file in result.files}
    return msgspec.structs.replace(result, files=tuple(sorted(known.values())))


def file_of(project: ProjectName, shown: ShownVersion) -> ChosenFile:
    """Return a shown version as a chosen file."""
    file = shown.offer.file
    return ChosenFile(
        index=shown.offer.index,
        project=project,
        version=str(shown.version),
        filename=file.filename,
        size=file.size,
        digests=file.digests,
    )
