"""The manual page ``mirror(1)``, in roff, from the program's own commands and options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from mirror.cli.app import PROGRAM
from mirror.cli.groups import describe

_HEAD = r""".\" Generated from the program: python tests/docs/reference.py
.TH MIRROR 1 "" "offline-mirror" "User Commands"
.SH NAME
mirror \- keep a verified, servable copy of Python package indexes
.SH SYNOPSIS
.B mirror
.RI [ OPTION ]...
.I COMMAND
.RI [ ARGUMENT ]...
.SH DESCRIPTION
.B mirror
crawls simple indexes (PEP 503 and 691), downloads what is new, verifies it, and keeps a tree that
pip and uv install from. It carries changes across an air gap in signed bundles.
.B mirror init
writes a commented configuration, and
.B mirror sync \-\-once
runs one cycle.
"""
_FILES = r""".SH FILES
.TP
.I ./mirror.toml, /etc/mirror/mirror.toml
The configuration, unless
.B \-\-config
or
.B MIRROR_CONFIG
names another.
.SH ENVIRONMENT
.TP
.B MIRROR_CONFIG
The configuration file.
.TP
.BR MIRROR_ROOT ", " MIRROR_INTERVAL
Override the configuration; options override both.
"""
_EXIT_CODES = {
    "0": "Done: everything wanted and offered is held.",
    "1": "An unexpected error, which is a bug.",
    "2": "Wrong usage or configuration; nothing was touched.",
    "3": "An upstream denied access as a whole.",
    "4": "An upstream can't be reached or trusted; of status: the mirror is stale.",
    "5": "Partial: some projects or files failed, and are tried again.",
    "6": "The tree or the state can't be written or is not there.",
    "7": "Damage remains, or a bundle or snapshot was refused.",
    "8": "Another process is working on this mirror.",
    "130, 143": "Stopped by SIGINT or SIGTERM; finished work is kept.",
}


def render_man_page() -> str:
    """Return the manual page: the synopsis, every command, every option, files and exit codes."""
    root = typer.main.get_command(describe(PROGRAM))
    shared = {name for parameter in root.params for name in parameter.opts}
    parts = [_HEAD, ".SH GLOBAL OPTIONS\n", *_options(root, hidden=set()), ".SH COMMANDS\n"]
    for name, command in walk_commands(root, "mirror"):
        arguments = [
            parameter.make_metavar(typer.Context(command))
            for parameter in command.params
            if parameter.param_type_name == "argument"
        ]
        parts.append(f".SS {_text(' '.join([name, *arguments]))}\n{_text(command.help or '')}\n")
        parts += _options(command, hidden=shared)
    parts += [_FILES, ".SH EXIT STATUS\n"]
    parts += [f".TP\n.B {code}\n{_text(meaning)}\n" for code, meaning in _EXIT_CODES.items()]
    return "".join(parts)


def walk_commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield each command with its full name, groups in depth."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk_commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _options(command: Any, *, hidden: set[str]) -> Iterator[str]:
    for option in command.params:
        is_shown = option.param_type_name == "option" and not option.hidden
        if is_shown and not hidden & set(option.opts):
            names = ", ".join(_text(name) for name in option.opts)
            metavar = "" if option.is_flag else option.make_metavar(typer.Context(command))
            value = f' " " {_text(metavar)}' if metavar else ""
            yield f'.TP\n.BI "{names}"{value}\n{_text(option.help or "")}\n'


def _text(text: str) -> str:
    """Return text for one line of roff: hyphens are minus signs, and no line begins with a control character."""
    line = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line
