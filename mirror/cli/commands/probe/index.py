"""``mirror probe``: the features of an index, or of each."""

from __future__ import annotations

import os
from pathlib import Path

from mirror import config as sources
from mirror.cli.arguments.probe import ProbeArguments
from mirror.cli.commands.probe.words import describe_probe
from mirror.cli.configuration import load_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.exit_codes import ExitCode, exit_code_for, first_of
from mirror.wiring.probing import probe_indexes


def probe(options: GlobalOptions, given: ProbeArguments) -> ExitCode:
    """Show the features of the named index, or of all."""
    env = dict(os.environ)
    if given.index is not None and "://" in given.index:
        # Nothing is written, so the root is of no matter.
        root = options.root or Path(os.sep)
        config = sources.load_config(None, env=env, root=root, index_url=given.index)
        names = []
    else:
        config, names = load_config(options), [given.index] if given.index is not None else []
    found = run_async(probe_indexes, config, names, env)
    if given.json:
        write_json({"format": 1, "indexes": [one.as_json() for one in found]})
    else:
        lines = [line for one in found for line in describe_probe(f"Index {one.index}", one)]
        write_out("\n".join(lines))
    return first_of(exit_code_for(one.error) for one in found if one.error is not None)
