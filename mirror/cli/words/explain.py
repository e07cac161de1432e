"""Why a project or a file is held or not, in sentences.

Pure: values from the state in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from mirror.cli.text import counted, safe, size
from mirror.core.names import ProjectName
from mirror.core.rules.model import MIN_AGE
from mirror.core.times import utc_text
from mirror.state.readers.lookup import words_of_cooldown

if TYPE_CHECKING:
    from mirror.core.policy import Selection
    from mirror.state.readers.lookup import IndexPart, ProjectPart

_SHOWN = 20


def describe_project(
    project: ProjectPart,
    selections: Mapping[str, Selection],
    advice: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Return the indexes that list a project, its owner, its held files, and its missing files with
    the reasons.

    ``advice``: words on the files that advisories name.
    """
    lines = [f"Project {project.name}"]
    lines += [f"  {part.index}: {_part(part, project, selections)}" for part in project.indexes]
    lines += [f"  {one.reason.value}: {one.detail}" for one in project.unserved]
    lines += _held(project, advice)
    lines += _left_out(project, advice)
    lines += _failures(project)
    return [safe(line) for line in lines]


def describe_file(
    project: ProjectPart,
    filename: str,
    selections: Mapping[str, Selection],
    *,
    left_at: float | None,
    advice: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Return whether a file is held and why not; ``left_at``: when it left the pages, if it was
    there.
    """
    lines = [f"File {filename} of project {project.name}"]
    lines += [f"  {line}" for line in _file(project, filename, selections)]
    if filename in advice:
        lines.append(f"  Advisories: {advice[filename]}")
    if left_at is not None and not any(file.filename == filename for file in project.held):
        lines.append(f"  It was published until {utc_text(left_at)}.")
    return [safe(line) for line in lines]


def _part(part: IndexPart, project: ProjectPart, selections: Mapping[str, Selection]) -> str:
    """Return the relation of one index to a project, in words."""
    selection = selections.get(part.index)
    name = ProjectName(project.name)
    if not part.configured:
        return "left the configuration; its files stay until `mirror sync --once --allow-shrink`"
    if selection is not None and (rule := selection.rule_against_project(name)):
        return f"left out by {rule}"
    if not part.root_known:
        return "its root was never read, so its list of projects is unknown"
    if not part.lists:
        return (
            "does not list it"
            if selection is not None
            else "does not list it, or its patterns leave it out"
        )
    if not part.wanted:
        return "lists it; its project patterns leave it out"
    return f"lists it{_ownership(part, project, selection)}{_last_reading(part)}"


def _ownership(part: IndexPart, project: ProjectPart, selection: Selection | None) -> str:
    if part.owns:
        return " and owns it"
    adds = any(file.index == part.index for file in project.held)
    if adds or (selection is not None and selection.policy.overlay):
        return " and adds files to it (overlay)"
    if project.owner is None:
        return "; it waits, since the root of an earlier index was never read"
    return f"; {project.owner} owns it, so nothing of it comes from here"


def _last_reading(part: IndexPart) -> str:
    """Return the result of the last reading of the page, where it is remarkable."""
    if part.withdrawn:
        return f"; withdrawn by the index ({part.withdrawn})"
    if part.absent:
        return "; missing in the last look at the root, it leaves if the next look confirms it"
    return ""


def _held(project: ProjectPart, advice: Mapping[str, str]) -> Iterator[str]:
    if not project.held:
        yield "Held: nothing"
        return
    total = sum(file.size for file in project.held)
    yield f"Held ({counted(len(project.held), 'file')}, {size(total)}):"
    for file in project.held[:_SHOWN]:
        absent = (
            "; missing upstream, served until the next look confirms it" if file.is_absent else ""
        )
        named = f": {advice[file.filename]}" if file.filename in advice else ""
        yield f"  {file.filename} ({file.index}, {size(file.size)}{absent}){named}"
    yield from _more(len(project.held))


def _left_out(project: ProjectPart, advice: Mapping[str, str]) -> Iterator[str]:
    named = project.left_out()
    unnamed = sum(part.unnamed for part in project.indexes)
    if named or unnamed:
        yield f"Left out ({counted(len(named) + unnamed, 'file')}):"
    for filename, rule, index in named[:_SHOWN]:
        until = words_of_cooldown(project, index, filename)
        advised = f": {advice[filename]}" if filename in advice else ""
        yield f"  {filename}: {rule} of {index}{until}{advised}"
    yield from _more(len(named))
    yield from (f"  {line}" for line in _unnamed(project))


def _unnamed(project: ProjectPart) -> Iterator[str]:
    for part in project.indexes:
        if not part.unnamed:
            continue
        if not part.left_out:
            yield (
                f"{counted(part.unnamed, 'file')} of {part.index} without a name: an older"
                " version of this program read its page;"
                " `mirror sync --once --full` reads it again"
            )
        else:
            rules = ", ".join(f"{one.rule} {one.files:,}" for one in part.left_out)
            yield (
                f"{part.unnamed:,} more of {part.index}, whose names are not kept ({rules} in all)"
            )


def _failures(project: ProjectPart) -> Iterator[str]:
    rows = [row for part in project.indexes for row in part.failures]
    if rows:
        yield f"Not held ({len(rows):,}):"
    for row in rows[:_SHOWN]:
        detail = row.detail.removeprefix(f"{row.filename}: ")
        yield f"  {row.filename or 'its page'}: {row.reason.value}: {detail}"
    yield from _more(len(rows))


def _more(count: int) -> Iterator[str]:
    if count > _SHOWN:
        yield f"  and {count - _SHOWN:,} more"


def _file(
    project: ProjectPart, filename: str, selections: Mapping[str, Selection]
) -> Iterator[str]:
    held = next((file for file in project.held if file.filename == filename), None)
    if held is not None:
        yield f"Held, from {held.index}: {size(held.size)}, sha256 {held.sha256}"
        if held.is_absent:
            yield "The last look at its page missed it; it leaves if the next look confirms that."
        for part in project.indexes:
            if until := words_of_cooldown(project, part.index, filename):
                rest = f"which {MIN_AGE} leaves out{until}"
                yield f"{part.index} lists other bytes of it now, {rest}."
        return
    found = [*_against(project, filename)]
    yield from found
    if not found:
        yield from _not_listed(project, selections)


def _against(project: ProjectPart, filename: str) -> Iterator[str]:
    """Yield why a file that an index lists is not held."""
    for part in project.indexes:
        for row in part.failures:
            if row.filename == filename:
                detail = row.detail.removeprefix(f"{filename}: ")
                yield f"Not held: {row.reason.value} at {part.index}: {detail}"
        for one in part.left_out:
            if filename in one.names:
                until = words_of_cooldown(project, part.index, filename)
                yield f"Not held: {part.index} lists it, and {one.rule} leaves it out{until}."


def _not_listed(project: ProjectPart, selections: Mapping[str, Selection]) -> Iterator[str]:
    """Yield the known facts about a file that no page is known to list."""
    readers = [part for part in project.indexes if part.lists and part.wanted]
    if not readers:
        yield f"Not held: no index is known to list project {project.name}:"
        yield from (
            f"  {part.index}: {_part(part, project, selections)}" for part in project.indexes
        )
        return
    yield "Not held:"
    for part in readers:
        if not part.owns and project.owner is not None and not _is_overlay(part, selections):
            yield f"  {part.index}: {_part(part, project, selections)}"
        elif part.withdrawn:
            yield f"  {part.index}: withdrew the project ({part.withdrawn})"
        elif any(not row.filename for row in part.failures):
            yield f"  {part.index}: its page could not be read: {_page_failure(part)}"
        elif not part.page_read:
            yield f"  {part.index}: its page was not read yet"
        elif not part.unnamed:
            yield f"  {part.index}: its page does not list it"
    yield from (f"  it may be among these: {line}" for line in _unnamed(project))


def _page_failure(part: IndexPart) -> str:
    return next(f"{row.reason.value}: {row.detail}" for row in part.failures if not row.filename)


def _is_overlay(part: IndexPart, selections: Mapping[str, Selection]) -> bool:
    selection = selections.get(part.index)
    return selection is not None and selection.policy.overlay
