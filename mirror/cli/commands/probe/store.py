"""``mirror probe s3://…``: the features of an object store, with policies to paste."""

from __future__ import annotations

import os

import msgspec

from mirror.cli.arguments.probe import ProbeArguments
from mirror.cli.commands.probe.words import describe_probe
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.config import parse_tree
from mirror.exit_codes import ExitCode, exit_code_for
from mirror.tree.probing.findings import StoreProbe
from mirror.tree.probing.questions import probe_store as ask_store


def probe_store(_options: GlobalOptions, given: ProbeArguments) -> ExitCode:
    """Show the features of an object store."""
    found = ask_store(parse_tree(given.index or "", where="URL"), dict(os.environ))
    if given.json:
        write_json({"format": 1, "stores": [found.as_json()]})
    else:
        write_out("\n".join([*describe_probe(f"Store {found.address}", found), *_rules(found)]))
    return exit_code_for(found.error) if found.error is not None else ExitCode.OK


def _rules(found: StoreProbe) -> list[str]:
    """Return the policies and the lifecycle rule to set, ready to paste."""
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
