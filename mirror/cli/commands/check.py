"""``mirror check``: the proof that wants install from the published pages.

Works from the tree and the state, without a lock; asks no index. ``--json`` prints one object on
one line, ``{"format": 1, "results": […]}``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import run_async, write_json, write_out
from mirror.cli.text import safe
from mirror.core.words.amounts import counted, size
from mirror.exit_codes import ExitCode

if TYPE_CHECKING:
    from mirror.selection.proof.answers import Proof


def check(
    options: GlobalOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WANT|FILE]...",
            show_default=False,
            help="Wants of the configuration, or requirement and lock files. Default: all wants.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME", show_default=False, help="Only in this target."),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", metavar="NAME", show_default=False, help="Check this snapshot."),
    ] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False,
) -> ExitCode:
    """Prove offline that wants install, and name each gap.

    The proof reads the published tree only.
    """
    proofs = run_async(_prove, options, names or [], target, snapshot)
    if json:
        results = [proof.as_json() for proof in proofs]
        write_json({"format": 1, "results": results})
    else:
        write_out("\n".join(_lines(proofs)))
    return ExitCode.OK if all(proof.is_installable for proof in proofs) else ExitCode.PARTIAL


async def _prove(
    options: GlobalOptions, names: list[str], target: str | None, snapshot: str | None
) -> list[Proof]:
    from mirror.jobs.prove import prove_tree  # 864 ms

    config = options.load_tree_config()
    return await prove_tree(config, os.environ, names=names, target=target, snapshot=snapshot)


def _lines(proofs: list[Proof]) -> list[str]:
    """Return one line for each proof, and one for each gap below it."""
    from mirror.cli.words.advisories import vulnerable_words  # 3 ms

    lines = []
    for proof in proofs:
        what = " ".join(part for part in (proof.want, proof.file) if part) or "requirements"
        verdict = "installs" if proof.is_installable else "DOES NOT INSTALL"
        held = size(sum(file.size or 0 for file in proof.unique_files))
        files = f": {counted(len(proof.unique_files), 'file')}, {held}" if proof.files else ""
        lines.append(safe(f"{what} in {proof.target} {verdict}{files}"))
        for gap in proof.gaps:
            about = gap.requirement or gap.project
            named = f"{about}: {gap.reason.value}" if about else gap.reason.value
            lines.append(safe(f"  {named}: {gap.detail}"))
        lines += [
            safe(f"  {one.project} {one.version} instead of {one.hidden}: {one.reason.value}")
            for one in proof.instead
        ]
        lines += [safe(f"  warning: {warning}") for warning in proof.warnings]
        lines += [safe(f"  rebuilt: {filename}") for filename in proof.rebuilt]
        lines += [safe(f"  vulnerable: {vulnerable_words(one)}") for one in proof.vulnerable]
        lines += [safe(f"  withdrawn: {filename}") for filename in proof.withdrawn]
    return lines
