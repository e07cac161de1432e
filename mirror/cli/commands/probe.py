"""``mirror probe``: ask an index or an object store for its features, and print their consequences
for a mirror of it or in it.

``--json`` prints one object: ``{"format": 1, "indexes": [{"index": "default", "findings": [{"name":
"serials", "question": "…", "answer": "…", "meaning": "…"}], "error": null}]}``; for a store
``{"format": 1, "stores": [{"store": "s3://…", "findings": […], "policies": {"anonymous": {…},
"reader": {…}, "writer": {…}}, "lifecycle": {…}, "error": null}]}``. The exit code is that of the
first error.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import run_async, write_json, write_out
from mirror.cli.text import folded, safe, stdout_width, table
from mirror.exit_codes import ExitCode, exit_code_for, first_of

if TYPE_CHECKING:
    from mirror.tree.probing.findings import StoreProbe
    from mirror.upstream.probe import Probe


def probe(
    options: GlobalOptions,
    index: Annotated[
        str | None,
        typer.Argument(
            metavar="[INDEX or URL]",
            show_default=False,
            help="Default: every index. s3://BUCKET/PREFIX: an object store for the tree.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False,
) -> ExitCode:
    """Show the features of an index or object store."""
    if index is not None and index.startswith("s3:"):
        return _probe_store(index, json=json)

    # 649 ms
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
    found = run_async(probe_indexes, config, names, env)
    if json:
        write_json({"format": 1, "indexes": [one.as_json() for one in found]})
    else:
        write_out("\n".join(line for one in found for line in _describe(f"Index {one.index}", one)))
    return first_of(exit_code_for(one.error) for one in found if one.error is not None)


def _probe_store(text: str, *, json: bool) -> ExitCode:

    # 72 ms
    from mirror.config import parse_tree
    from mirror.tree.probing.questions import probe_store

    found = probe_store(parse_tree(text, where="URL"), dict(os.environ))
    if json:
        write_json({"format": 1, "stores": [found.as_json()]})
    else:
        write_out("\n".join([*_describe(f"Store {found.address}", found), *_rules(found)]))
    return exit_code_for(found.error) if found.error is not None else ExitCode.OK


def _rules(found: StoreProbe) -> list[str]:
    """Return the policies and the lifecycle rule to set, ready to paste."""
    import msgspec  # 13 ms

    bucket, policies = found.address.bucket, found.policies()
    parts = (
        (
            "Lifecycle rule; save as lifecycle.json, then",
            (
                f"aws s3api put-bucket-lifecycle-configuration --bucket {bucket}"
                " --lifecycle-configuration file://lifecycle.json"
            ),
            found.lifecycle(),
        ),
        (
            "Only where anybody may read: the bucket's policy; save as policy.json, then",
            f"aws s3api put-bucket-policy --bucket {bucket} --policy file://policy.json",
            policies["anonymous"],
        ),
        ("Policy of the user as which the mirror writes:", "", policies["writer"]),
        ("Policy of the user as which `mirror serve --tree` reads:", "", policies["reader"]),
    )
    lines: list[str] = []
    for title, command, value in parts:
        shown = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        lines += [title, *([f"  {command}"] if command else []), "", shown, ""]
    return lines


def _describe(title: str, found: Probe | StoreProbe) -> list[str]:
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
    return folded([title, *lines, ""], width)
