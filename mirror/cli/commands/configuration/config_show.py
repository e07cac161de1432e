"""``mirror config show|schema``: the effective configuration, and its keys."""

from __future__ import annotations

import json

from mirror.cli.arguments.configuration import ConfigSchemaArguments, ConfigShowArguments
from mirror.cli.configuration import load_config
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.config import effective_toml, json_schema
from mirror.exit_codes import ExitCode


def show(options: GlobalOptions, _given: ConfigShowArguments) -> ExitCode:
    """Print the effective configuration, without secrets."""
    write_out(effective_toml(load_config(options), hides_arguments=True).rstrip("\n"))
    return ExitCode.OK


def schema(_options: GlobalOptions, _given: ConfigSchemaArguments) -> ExitCode:
    """Print the JSON Schema of the configuration."""
    write_out(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return ExitCode.OK
