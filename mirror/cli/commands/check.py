"""``mirror check``: the proof that wants install from the published pages.

Works from the tree and the state, without a lock; asks no index. ``--json`` prints one object on
one line, ``{"format": 1, "results": […]}``.
"""

from __future__ import annotations

import os

from mirror.cli.arguments.check import CheckArguments
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import folded, safe, stdout_width
from mirror.cli.words.advisories import vulnerable_words
from mirror.core.words.amounts import counted, size
from mirror.exit_codes import ExitCode
from mirror.jobs.prove import prove_tree
from mirror.selection.proof.answers import Proof


def check(options: GlobalOptions, given: CheckArguments) -> ExitCode:
    """Prove offline that wants install, and name each gap.

    The proof reads the published tree only.
    """
    proofs = run_async(_prove, options, given.names or [], given.target, given.snapshot)
    if given.json:
        results = [proof.as_json() for proof in proofs]
        write_json({"format": 1, "results": results})
    else:
        write_out("\n".join(folded(_lines(proofs), stdout_width())))
    return ExitCode.OK if all(proof.is_installable for proof in proofs) else ExitCode.PARTIAL


async def _prove(
    options: GlobalOptions, names: list[str], target: str | None, snapshot: str | None
) -> list[Proof]:
    config = load_tree_config(options)
    return await prove_tree(config, os.environ, names=names, target=target, snapshot=snapshot)


def _lines(proofs: list[Proof]) -> list[str]:
    """Return one line for each proof, and one for each gap below it."""
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
