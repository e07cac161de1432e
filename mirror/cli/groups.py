"""Groups of commands, and the groups of one command for those that run often.

A timer runs ``sync --once`` and ``verify`` every few minutes, and a monitor ``status``. To import
all other commands and to describe them to typer takes 0.1 s of CPU, more than an idle cycle; the
group of one command understands the same arguments for that command. Of the other commands, too,
the one that is asked for is alone described.
"""

from __future__ import annotations

from collections.abc import Sequence

import typer

from mirror.cli.options import group_callback, with_global_options

PROGRAM_HELP = "A verified, servable copy of Python package indexes."

_WITH_VALUE = frozenset({"--config", "--root", "--wait", "--log-level", "--log-format"})
"""The global options that may stand before the command, each with a value."""


def group(help_text: str, *, add_completion: bool = False) -> typer.Typer:
    """Return an empty group of commands that takes the global options."""
    group = typer.Typer(
        rich_markup_mode=None,  # rich would cost more than all the rest of --help
        pretty_exceptions_enable=False,  # they show local variables, and secrets live there
        pretty_exceptions_show_locals=False,
        add_completion=add_completion,
    )
    group.callback(invoke_without_command=True)(group_callback(help_text))
    return group


def command_of(arguments: Sequence[str]) -> str | None:
    """Return the name of the command: the first word that is neither a global option nor its value.

    None where there is none, or where an option is not known here.
    """
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            return word
        option, has_value, _value = word.partition("=")
        if option not in _WITH_VALUE:
            return None
        if not has_value:
            next(words, None)
    return None


def group_of(command: str | None) -> typer.Typer | None:
    """Return a group with only this command, or None where it is none of those that run often."""
    app = group(PROGRAM_HELP)
    match command:
        case "sync":
            from mirror.cli.commands.sync import sync  # 6 ms

            app.command("sync")(with_global_options(sync))
        case "status":
            from mirror.cli.commands.status import status  # 4 ms

            app.command("status")(with_global_options(status))
        case "verify":
            from mirror.cli.commands.upkeep import verify  # 5 ms

            app.command("verify")(with_global_options(verify))
        case "prune":
            from mirror.cli.commands.upkeep import prune  # 5 ms

            app.command("prune")(with_global_options(prune))
        case "serve":
            from mirror.cli.commands.serve import serve  # 5 ms

            app.command("serve")(with_global_options(serve))
        case _:
            return None
    return app


def only(app: typer.Typer, command: str | None) -> typer.Typer:
    """Return a group with this command of ``app`` alone; ``app`` itself, where it has none of that
    name.
    """
    commands = [one for one in app.registered_commands if one.name == command]
    groups = [one for one in app.registered_groups if one.name == command]
    if command is None or not (commands or groups):
        return app
    alone = group(PROGRAM_HELP)
    alone.registered_commands += commands
    alone.registered_groups += groups
    return alone
