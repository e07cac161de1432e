"""Commands as typer wants them: groups, the global options of each, and its work.

The one place that imports late, because the whole of the program takes a second of CPU: the help of
all commands needs their arguments, the help of one command those of this command, and only a
command that runs imports its work. A timer runs ``sync --once`` and ``verify`` every few minutes
and a monitor ``status``: so the command that is asked for is alone described to typer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any, get_type_hints

import typer

from mirror.cli.arguments import Arguments
from mirror.cli.options import PARAMETERS, GlobalOptions
from mirror.exit_codes import ExitCode
from mirror.logs import configure_logging

_META_KEY = "mirror.options"
_WITH_VALUE = frozenset({"--config", "--root", "--wait", "--log-level", "--log-format"})
"""The global options that may stand before the command, each with a value."""

Run = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of commands: its help, and the place of the arguments of each, ``module:class``."""

    help: str
    commands: Mapping[str, str | Group]
    has_completion: bool = False
    """Whether it offers the shell's completion, where all its commands are described."""


def describe(group: Group, command: str | None = None) -> typer.Typer:
    """Return a group for typer: with this command alone, or with all where it has none of that
    name.
    """
    is_alone = command in group.commands
    app = _empty_group(group.help, has_completion=group.has_completion and not is_alone)
    chosen = [command] if command is not None and is_alone else list(group.commands)
    for name in chosen:
        found = group.commands[name]
        if isinstance(found, Group):
            app.add_typer(describe(found), name=name)
        else:
            kind: type[Arguments] = _load(found)
            settings = {"ignore_unknown_options": kind.ignores_unknown_options}
            app.command(name, context_settings=settings)(command_function(kind))
    return app


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


def command_function(kind: type[Arguments]) -> Run:
    """Return the function of a command for typer: its parameters are the fields of ``kind`` and the
    global options; it configures the log, imports the work, and raises its exit code.
    """

    def run(ctx: typer.Context, **values: Any) -> None:
        options = _merge(ctx, values)
        configure_logging(*options.log_choice)
        given = kind(**values)
        work: Callable[[GlobalOptions, Arguments], ExitCode] = _load(given.work)
        raise typer.Exit(int(work(options, given)))

    annotations = get_type_hints(kind, include_extras=True)
    own = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=annotation,
            default=getattr(kind, name, inspect.Parameter.empty),
        )
        for name, annotation in annotations.items()
    ]
    return _as_typer_function(run, kind.__name__, kind.__doc__, own)


def _load(place: str) -> Any:
    """Import ``module:name``."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _empty_group(help_text: str, *, has_completion: bool) -> typer.Typer:
    app = typer.Typer(
        rich_markup_mode=None,  # rich would cost more than all the rest of --help
        pretty_exceptions_enable=False,  # they show local variables, and secrets live there
        pretty_exceptions_show_locals=False,
        add_completion=has_completion,
    )
    app.callback(invoke_without_command=True)(_group_callback(help_text))
    return app


def _group_callback(help_text: str) -> Run:
    """Return the callback of a group of commands: it takes the global options, and without a
    command shows the help.
    """

    def run(ctx: typer.Context, **values: Any) -> None:
        _merge(ctx, values)
        if ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(ExitCode.USAGE)

    return _as_typer_function(run, "group", help_text, [])


def _merge(ctx: typer.Context, values: dict[str, Any]) -> GlobalOptions:
    """Remove the global options from ``values`` and let them override the earlier ones."""
    values.pop("version", None)  # its callback has done its work
    given = {field.name: values.pop(field.name, None) for field in fields(GlobalOptions)}
    merged: dict[str, Any] = ctx.meta.get(_META_KEY, {}) | {
        k: v for k, v in given.items() if v is not None
    }
    ctx.meta[_META_KEY] = merged
    return GlobalOptions(**merged)


def _as_typer_function(
    run: Run, name: str, help_text: str | None, own: list[inspect.Parameter]
) -> Run:
    """Give ``run`` the signature that typer reads: the context, ``own``, then the global
    options.
    """
    context = inspect.Parameter(
        "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=None)
        for name, annotation in PARAMETERS.items()
    ]
    parameters = [context, *own, *common]
    run.__name__, run.__doc__ = name, help_text
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
