"""``mirror probe``: ask an index for its features, and print their consequences for a mirror of it.

``--json`` prints one object: ``{"format": 1, "indexes": [{"index": "default", "findings": [{"name":
"serials", "question": "…", "answer": "…", "meaning": "…"}], "error": null}]}``. The exit code is
that of the first error of an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.exit_codes import ExitCode, exit_code_for, first_of

if TYPE_CHECKING:
    from mirror.upstream.probe import Probe


def probe(
    options: GlobalOptions,
    index: Annotated[
        str | None,
        typer.Argument(metavar="[INDEX or URL]", show_default=False, help="Default: every index."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False,
) -> ExitCode:
    """Ask an index what it supports."""
    import os
    from pathlib import Path

    import anyio

    from mirror.config import load_config
    from mirror.wiring import probe_indexes

    env = dict(os.environ)
    if index is not None and "://" in index:
        # Nothing is written, so the root is of no matter.
        config, names = (
            load_config(None, env=env, root=options.root or Path(os.sep), index_url=index),
            [],
        )
    else:
        config, names = options.load_config(), [index] if index is not None else []
    found = anyio.run(probe_indexes, config, names, env)
    if json:
        import msgspec

        write_out(
            msgspec.json.encode({"format": 1, "indexes": [one.as_json() for one in found]}).decode()
        )
    else:
        write_out("\n".join(line for one in found for line in _describe(one)))
    return first_of(exit_code_for(one.error) for one in found if one.error is not None)


def _describe(found: Probe) -> list[str]:
    from mirror.cli.text import folded, safe, stdout_width, table

    rows = [("QUESTION", "ANSWER", "WHAT IT MEANS")]
    rows += [(finding.name, safe(finding.answer), finding.meaning) for finding in found.findings]
    width = stdout_width()
    if width is not None and width < max(map(len, table(rows))):
        lines = [
            line
            for f in found.findings
            for line in (f"{f.name}: {safe(f.answer)}", f"  {f.meaning}")
        ]
    else:
        lines = table(rows)
    if found.error is not None:
        lines.append(f"ended: {safe(str(found.error))}")
    return folded([f"Index {found.index}", *lines, ""], width)
