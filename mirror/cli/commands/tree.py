"""``mirror tree``: move a tree between disks and object stores.

``copy --json`` prints one object: ``{"format": 1, "projects": 1, "snapshots": 0, "files": 2,
"copied": 2, "present": 0, "bytes_copied": 3, "damage": [{"path": "…", "detail": "…"}]}``; ``adopt
--json``: ``{"format": 1, "is_rebuilt": false, "projects": 1, "files": 2, "lost": [], "foreign":
[]}``.
"""

from __future__ import annotations

import os
from functools import partial

from mirror.cli.arguments.tree import TreeAdoptArguments, TreeCopyArguments
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import folded, safe, stdout_width
from mirror.core.words.amounts import counted, size
from mirror.exit_codes import ExitCode
from mirror.jobs.adopt import adopt_tree
from mirror.jobs.tree_copy import copy_between
from mirror.upkeep.copying.copy import CopyReport
from mirror.upkeep.stores.adopt import Adoption


def copy(options: GlobalOptions, given: TreeCopyArguments) -> ExitCode:
    """Copy a tree to another disk or object store.

    Every file is verified; an interrupted copy continues.
    """
    report = copy_between(given.source, given.target, env=dict(os.environ), wait_s=options.wait_s)
    if given.json:
        write_json(report.as_json())
    else:
        write_out("\n".join(folded(_describe(report, given.source, given.target), stdout_width())))
    return ExitCode.DAMAGED if report.damage else ExitCode.OK


def adopt(options: GlobalOptions, given: TreeAdoptArguments) -> ExitCode:
    """Let this root write to a tree that another one filled.

    Also to one that `mirror tree copy` filled.
    """
    config, done = load_tree_config(options, needs_settings=True), Adoption()
    run = partial(adopt_tree, config, env=dict(os.environ), wait_s=options.wait_s, into=done)
    run_async(run)
    if given.json:
        write_json(done.as_json())
    else:
        write_out("\n".join(folded(_describe_adoption(done), stdout_width())))
    return ExitCode.DAMAGED if done.lost else ExitCode.OK


def _describe_adoption(done: Adoption) -> list[str]:
    how = "the state was rebuilt from the pages" if done.is_rebuilt else "the state fits the tree"
    files = counted(done.files, "file")
    lines = [f"{counted(done.projects, 'project')} with {files}: {how}"]
    lines += [f"lost, and taken off its page: {safe(key)}" for key in done.lost]
    lines += [f"foreign, left alone: {safe(key)}" for key in done.foreign]
    if done.lost:
        lines.append("The next `mirror sync` fetches what its index still lists.")
    return lines


def _describe(report: CopyReport, source: str, target: str) -> list[str]:
    files = counted(report.files, "file")
    done = f"{report.copied:,} copied ({size(report.bytes_copied)})"
    if report.present:
        done += f", {report.present:,} of an earlier run"
    lines = [f"{counted(report.projects, 'project')} with {files}: {done}"]
    if report.snapshots:
        lines.append(f"{counted(report.snapshots, 'snapshot')} with them")
    if not report.damage:
        where = safe(target)
        lines.append(f"{where} is whole. Before a root writes there: `mirror tree adopt`")
        return lines
    lines += [f"damaged: {safe(one.path)}: {one.detail}" for one in report.damage]
    lines.append(
        f"The copy is unfinished: repair {safe(source)} with `mirror verify --repair`,"
        " then run it again; it goes on where it was."
    )
    return lines
