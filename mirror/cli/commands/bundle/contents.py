"""``mirror bundle inspect|verify``: the content of a bundle, and whether it is whole."""

from __future__ import annotations

from mirror.bundle import inspection, signing
from mirror.bundle.inspection import Inspection
from mirror.bundle.receive import describe_want
from mirror.cli.arguments.bundle import BundleInspectArguments, BundleVerifyArguments
from mirror.cli.displays import bytes_display
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_error, write_out
from mirror.cli.text import counted, safe, size
from mirror.exit_codes import ExitCode

_MOST_LINES = 200


def inspect(_options: GlobalOptions, given: BundleInspectArguments) -> ExitCode:
    """Show a bundle's content, site and signer.

    Does not read the volumes. Exit code 7 for a bad signature.
    """
    signing.check_tool()
    media = inspection.find_bundles(given.directories)
    found = inspection.inspect(media)
    if given.json:
        write_json(found.as_json())
    else:
        _show_contents(found)
        for problem in found.problems:
            write_error(f"error: {problem}" if found.is_signed else f"warning: {problem}")
    return ExitCode.DAMAGED if found.problems and found.is_signed else ExitCode.OK


def verify(options: GlobalOptions, given: BundleVerifyArguments) -> ExitCode:
    """Hash everything in a bundle and check its signature.

    Exit code 7 for damage, 5 for missing volumes.
    """
    signing.check_tool()
    media = inspection.find_bundles(given.directories)
    found = inspection.inspect(media, trust=given.trust)
    with bytes_display(
        options.is_interactive, sum(volume.size for volume in found.manifest.volumes), "hashing"
    ) as count_bytes:
        found = inspection.verify(found, media, count_bytes)
    if given.json:
        write_json(found.as_json())
    else:
        _show_contents(found)
        for problem in found.problems:
            write_error(f"error: {problem}")
        if not found.problems:
            write_out(
                "everything that lies here is whole"
                + ("" if found.is_trusted else "; trust was not checked")
            )
    if found.problems:
        return ExitCode.DAMAGED
    return ExitCode.PARTIAL if found.volumes_missing else ExitCode.OK


def _show_contents(found: Inspection) -> None:
    m = found.manifest
    write_out(
        f"{m.label}: {m.kind} for the site {m.site}, made {m.created_at} by {m.tool},"
        f" chain {m.chain[:8]}…"
    )
    if m.valid_until is not None:
        write_out(f"to be applied until {m.valid_until}")
    if m.base is None:
        write_out("complete: needs nothing from before")
    else:
        write_out(f"builds on {', '.join(str(r.sequence) for r in (m.base, *m.supersedes))}")
    total = sum(item.size for item in m.blobs)
    write_out(
        f"brings {counted(len(m.blobs), 'file')} ({size(total)}), {counted(len(m.pages), 'page')}"
    )
    if m.removed:
        write_out(f"takes away {counted(len(m.removed), 'project')}: {', '.join(m.removed[:20])}")
    changes = found.changes()
    for project, versions in list(changes.comes.items())[:_MOST_LINES]:
        write_out(f"  comes    {safe(project)} {safe(', '.join(versions))}")
    leaving = found.leaving or {}
    other = "other labels" if found.leaving is not None else "other labels, or versions that leave"
    relabelled = [project for project in changes.relabelled if project not in leaving]
    for project in relabelled[:_MOST_LINES]:
        write_out(f"  changes  {safe(project)}: {other}")
    for project, versions in list(leaving.items())[:_MOST_LINES]:
        write_out(f"  leaves   {safe(project)} {safe(', '.join(versions))}")
    for project in m.removed[:_MOST_LINES]:
        write_out(f"  goes     {project}")
    more = sum(
        max(len(names) - _MOST_LINES, 0)
        for names in (changes.comes, relabelled, leaving, m.removed)
    )
    if more:
        write_out(f"  … and {counted(more, 'more line')}: --json lists all")
    for result in (found.wants or [])[:_MOST_LINES]:
        write_out(f"  want     {safe(describe_want(result))}")
    state = m.state
    write_out(
        f"leads to {counted(state.projects, 'project')},"
        f" {counted(state.files, 'file')} ({size(state.bytes)})"
    )
    trusted = "" if found.is_trusted else " (not compared with a trust file)"
    unsigned = "THE SIGNATURE IS NOT GOOD" if found.is_signed else "NOT SIGNED"
    write_out(f"signed by {safe(found.signer)}{trusted}" if found.signer else unsigned)
    missing = f"; not here: {', '.join(found.volumes_missing)}" if found.volumes_missing else ""
    write_out(f"{counted(len(m.volumes), 'volume')}{missing}")
