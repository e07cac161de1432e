"""The ``--hash`` of requirement lines: it counts like the digest of a lock.

Of the chosen version the file with one of the digests is taken. Where no file has one, the index
has other bytes than the file names: they are followed or refused, as the want says.
"""

from __future__ import annotations

import msgspec

from mirror.core.names import ProjectName
from mirror.selection.gaps import Gap, GapReason
from mirror.selection.resolving.locked import digests_of, has_other_bytes
from mirror.selection.resolving.results import ChosenFile, Result
from mirror.selection.resolving.widening import file_of
from mirror.selection.targets import Environment
from mirror.selection.view.answers import RunAnswers
from mirror.selection.view.tables import VersionTable, build_table
from mirror.selection.wants import Resolution


def with_hashes(
    result: Result,
    source: Resolution,
    environment: Environment,
    answers: RunAnswers,
    *,
    refuses_others: bool,
) -> Result:
    """Return a result whose files have the digests of the lines, and the names of those that have
    not.

    ``refuses_others``: a file with other bytes is a gap.
    """
    asked = _digests_by_project(source, environment)
    if not asked or not result.is_resolved:
        return result
    files, rebuilt, gaps = [], list(result.rebuilt), list(result.gaps)
    for file in result.files:
        digests = asked.get(file.project)
        table = answers.tables.get(ProjectName(file.project))
        found = file
        if digests is not None and table is not None:
            found = _with_digest(file, digests, table, environment, answers)
            if _is_other(found, digests, table) and refuses_others:
                gaps.append(_gap(found))
            elif _is_other(found, digests, table):
                rebuilt.append(found.filename)
        files.append(found)
    return msgspec.structs.replace(
        result, files=tuple(sorted(files)), rebuilt=tuple(rebuilt), gaps=tuple(gaps)
    )


def without_refused(result: Result) -> Result:
    """Return a result without the files whose other bytes are refused: they are not mirrored."""
    refused = {gap.project for gap in result.gaps if gap.reason is GapReason.REBUILT}
    files = tuple(file for file in result.files if file.project not in refused)
    return msgspec.structs.replace(result, files=files)


def _digests_by_project(source: Resolution, environment: Environment) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for line in (*source.lines, *source.constraints):
        if line.hashes and line.applies(environment):
            found[line.project] = found.get(line.project, frozenset()) | frozenset(line.hashes)
    return found


def _with_digest(
    file: ChosenFile,
    digests: frozenset[str],
    table: VersionTable,
    environment: Environment,
    answers: RunAnswers,
) -> ChosenFile:
    """Return the best file of the same version with one of the digests, else the same file."""
    project = ProjectName(file.project)
    same = tuple(one for one in table.listing.offers if digests_of(one) & digests)
    listing = msgspec.structs.replace(table.listing, offers=same)
    shown = build_table(listing, environment, answers.shared.sdists).shown
    chosen = next((one for one in shown.values() if str(one.version) == file.version), None)
    return file if chosen is None else file_of(project, chosen)


def _is_other(file: ChosenFile, digests: frozenset[str], table: VersionTable) -> bool:
    """Return whether a file surely has none of the digests."""
    names = (file.index, file.filename)
    offers = (one for one in table.listing.offers if (one.index, one.file.filename) == names)
    return any(has_other_bytes(offer, digests) for offer in offers)


def _gap(file: ChosenFile) -> Gap:
    return Gap(
        project=file.project,
        requirement=f"{file.project}=={file.version}",
        reason=GapReason.REBUILT,
        detail=f"the listed {file.filename} has other bytes than --hash names",
    )
