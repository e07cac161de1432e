"""The pages of the documentation that are generated from the program, as a whole or in part.

``python tests/docs/reference.py`` writes them; the suite fails where one is not what the program says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from man_page import render_man_page, walk_commands

from mirror.cli.app import PROGRAM
from mirror.cli.arguments.configuration import WebServer
from mirror.cli.commands.configuration.web_config import render_web_config
from mirror.cli.groups import describe
from mirror.config.show import json_schema

FOLDER = Path(__file__).resolve().parents[2] / "docs/reference"

_COMMANDS_HEAD = """\
# Commands

This page is generated from the program. Options that every command takes stand in the first table. Logs go to stderr,
results to stdout; `--json` prints one object with `"format": 1`.
"""

_CONFIGURATION_HEAD = """\
# Configuration keys

This page is generated from the program. `mirror init` writes a file in which every key is explained, `mirror config
check` checks one, `mirror config show` prints the effective configuration without secrets, and `mirror config schema`
prints the JSON Schema for editors.

The file is `--config`, else `$MIRROR_CONFIG`, `./mirror.toml`, `/etc/mirror/mirror.toml`. `MIRROR_ROOT` and
`MIRROR_INTERVAL` override the file, options of the command line override both. Relative paths start at the folder of
the file. An unknown key or a bad value is exit code 2, with the full path of the key and what was expected.

Durations are written `"90s"`, `"15m"`, `"1h30m"`, `"30d"`; sizes `"50MiB"` (2²⁰) or `"50MB"` (10⁶); shares `0.1` or
`"10%"`.
"""

_TABLE_HEADS = {
    "mirror": "`[mirror]`",
    "limits": "`[limits]`",
    "service": "`[service]`",
    "serve": "`[serve]`",
    "index": "`[[index]]`, one table for each index",
    "auth": "`[index.auth]`",
    "rules": "`[rules]`, and `[index.rules]` with other values for one index",
    "target": "`[[target]]`, one table for each kind of machine on which wants must install",
    "want": "`[[want]]`, one table for each set of packages that must be installable",
    "site": "`[[site]]`, one table for each place beyond the gap",
}


def render_commands() -> str:
    """Return the page of all commands with their arguments and options."""
    root = typer.main.get_command(describe(PROGRAM))
    shared = {name for parameter in root.params for name in parameter.opts}
    blocks = [_COMMANDS_HEAD, "## Options of every command\n", *_option_rows(root.params, hidden=set())]
    for name, command in walk_commands(root, "mirror"):
        blocks += [f"\n## `{name}`\n", f"{(command.help or '').strip()}\n", *_argument_lines(command)]
        blocks += _option_rows(command.params, hidden=shared)
    return "\n".join(blocks).rstrip() + "\n"


def render_configuration() -> str:
    """Return the page of all keys of a configuration file."""
    schema = json_schema()["properties"]
    blocks = [_CONFIGURATION_HEAD]
    for table, described in _tables(schema):
        blocks += [f"## {_TABLE_HEADS.get(table, f'`[{table}]`')}\n", "| key | default | meaning |", "|---|---|---|"]
        for key, value in described.items():
            if not _is_table(value):
                blocks.append(f"| `{table}.{key}` | {_default(value)} | {_cell(value['description'])} |")
        blocks.append("")
    return "\n".join(blocks).rstrip() + "\n"


def render_web_server() -> str:
    """Return the page of web servers as it is, with nginx's configuration as it is printed."""
    before, fence, rest = (FOLDER / _WEB_SERVER).read_text(encoding="utf-8").partition("```nginx\n")
    _old, closing, after = rest.partition("```\n")
    return before + fence + render_web_config(WebServer.NGINX) + closing + after


_WEB_SERVER = "../how-to/web-server.md"
PAGES = {
    "commands.md": render_commands,
    "configuration.md": render_configuration,
    "mirror.1": render_man_page,
    _WEB_SERVER: render_web_server,
}


def _argument_lines(command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    if not arguments:
        return []
    rows = [
        f"| `{p.make_metavar(typer.Context(command))}` | {_cell(getattr(p, 'help', '') or '')} |" for p in arguments
    ]
    return ["| argument | meaning |", "|---|---|", *rows, ""]


def _option_rows(parameters: list[Any], *, hidden: set[str]) -> list[str]:
    options = [p for p in parameters if p.param_type_name == "option" and not p.hidden and not hidden & set(p.opts)]
    if not options:
        return []
    rows = [f"| {_spelled(p)} | {_cell(p.help or '')} |" for p in options]
    return ["| option | meaning |", "|---|---|", *rows]


def _spelled(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if option.is_flag:
        return names
    return f"{names} `{option.make_metavar(typer.Context(typer.main.get_command(describe(PROGRAM))))}`".replace(
        "|", "\\|"
    )


def _tables(properties: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, schema in properties.items():
        described = schema.get("items", schema)["properties"]
        yield name, described
        for key, value in described.items():
            if _is_table(value) and key not in properties:
                yield key, value.get("items", value)["properties"]


def _is_table(schema: dict[str, Any]) -> bool:
    return "properties" in schema.get("items", schema)


def _default(schema: dict[str, Any]) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f"`{value}`" if value != "" else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for page, render in PAGES.items():
        (FOLDER / page).write_text(render(), encoding="utf-8")
        sys.stdout.write(f"wrote {FOLDER / page}\n")
