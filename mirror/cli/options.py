"""The options that every command takes, before or after its name; a value after the name wins."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Literal, ParamSpec

import typer

from mirror.cli.outcome import show_version
from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode
from mirror.logs import configure_logging, get_logger

if TYPE_CHECKING:
    from mirror.config import Config

P = ParamSpec("P")

_META_KEY = "mirror.options"


RequireProof = Annotated[
    bool,
    typer.Option("--require-proof", help="Refuse while a want does not install (exit code 7)."),
]
"""Of each command that publishes or sends a state of the tree."""


class LogLevel(str, Enum):
    """The lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(str, Enum):
    """How it is logged."""

    CONSOLE = "console"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalOptions:
    """The merged values of the options that every command takes."""

    config: Path | None = None
    root: Path | None = None
    wait_s: float = 0.0
    log_level: LogLevel | None = None
    log_format: LogFormat | None = None

    @property
    def is_interactive(self) -> bool:
        """Whether a person sees stderr on a terminal that can redraw: progress is shown, and the
        log is shorter.
        """
        if self.log_format is LogFormat.JSON or os.environ.get("TERM") in {
            None,
            "",
            "dumb",
            "unknown",
        }:
            return False
        try:
            return sys.stderr is not None and sys.stderr.isatty()
        except ValueError:
            return False

    @property
    def log_choice(self) -> tuple[str, Literal["console", "json"] | None]:
        """Level and format of the log; without a format, the stream decides."""
        level = self.log_level or (LogLevel.WARNING if self.is_interactive else LogLevel.INFO)
        return level.value, self.log_format.value if self.log_format else None

    def load_config(self, *, index_url: str | None = None) -> Config:
        """Return the configuration that these options, the environment and the files give."""
        from mirror.config import load_config  # 32 ms

        return load_config(self.config, env=os.environ, root=self.root, index_url=index_url)

    def has_configuration(self) -> bool:
        """Return whether a configuration file is named, or exists in a usual place."""
        from mirror.config import find_config  # 31 ms

        return find_config(self.config, os.environ) is not None

    def load_tree_config(self, *, needs_settings: bool = False) -> Config:
        """Return the configuration for a command that needs no more than the tree.

        With ``--root`` and no ``--config``, a configuration found in a usual place counts only if
        it is this tree's; else everything is as by default, and there are no indexes. One that is
        broken counts as not there, unless the command ``needs_settings``, such as a retention, that
        it may have for this root.
        """
        from mirror.config import config_for_tree, config_of_root  # 32 ms

        try:
            return config_for_tree(self.config, env=os.environ, root=self.root)
        except ConfigError as exc:
            if self.root is None or self.config is not None or needs_settings:
                raise
            found = config_of_root(env=os.environ, root=self.root)

            get_logger(__name__).warning(
                "config.ignored", problem=str(exc), root=str(found.mirror.root)
            )
            return found


def version_option(value: bool | None) -> None:
    """Print the version and end, if the option is given."""
    if value:
        show_version()
        raise typer.Exit


def _parse_wait(text: str) -> float:
    from mirror.config import parse_duration  # 32 ms

    try:
        return parse_duration(text)
    except ValueError as exc:
        raise typer.BadParameter('expected a duration such as "30s" or "5m"') from exc


_PARAMETERS: Mapping[str, Any] = {
    "config": Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            show_default=False,
            help="Configuration; else $MIRROR_CONFIG, ./mirror.toml, /etc/mirror/mirror.toml.",
        ),
    ],
    "root": Annotated[
        Path | None,
        typer.Option("--root", metavar="DIR", show_default=False, help="Root of the tree."),
    ],
    "wait_s": Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="DURATION",
            parser=_parse_wait,
            show_default=False,
            help="How long to wait for another process that works on this mirror. Default: 0.",
        ),
    ],
    "log_level": Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level",
            show_default=False,
            help="Minimum level of the log. Default: warning on a terminal, else info.",
        ),
    ],
    "log_format": Annotated[
        LogFormat | None,
        typer.Option(
            "--log-format", show_default=False, help="Default: console on a terminal, else json."
        ),
    ],
    "version": Annotated[
        bool | None,
        typer.Option(
            "--version",
            is_eager=True,
            callback=version_option,
            show_default=False,
            help="Show the version.",
        ),
    ],
}


def with_global_options(
    command: Callable[Concatenate[GlobalOptions, P], ExitCode | None],
) -> Callable[..., None]:
    """Return ``command`` as typer wants it: with the global options in its signature, its result
    the exit code.

    ``command`` takes the ``GlobalOptions`` first, then its own parameters; the log is configured
    when it starts.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(ctx: typer.Context, **values: Any) -> None:
        options = _merge(ctx, values)
        _configure_logging(options)
        code = command(options, **values)  # type: ignore[call-arg]
        raise typer.Exit(int(code or ExitCode.OK))

    return _as_typer_function(run, command, own)


def group_callback(help_text: str) -> Callable[..., None]:
    """Return the callback of a group of commands: it takes the global options, and without a
    command shows the help.
    """

    def run(ctx: typer.Context, **values: Any) -> None:
        _merge(ctx, values)
        if ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(ExitCode.USAGE)

    run.__doc__ = help_text
    return _as_typer_function(run, run, [])


def _merge(ctx: typer.Context, values: dict[str, Any]) -> GlobalOptions:
    """Remove the global options from ``values`` and let them override the earlier ones."""
    values.pop("version", None)  # its callback has done its work
    given = {field.name: values.pop(field.name, None) for field in fields(GlobalOptions)}
    merged: dict[str, Any] = ctx.meta.get(_META_KEY, {}) | {
        k: v for k, v in given.items() if v is not None
    }
    ctx.meta[_META_KEY] = merged
    return GlobalOptions(**merged)


def _configure_logging(options: GlobalOptions) -> None:
    configure_logging(*options.log_choice)


def _as_typer_function(
    run: Callable[..., None], named: Callable[..., Any], own: list[inspect.Parameter]
) -> Callable[..., None]:
    """Give ``run`` the signature that typer reads: the context, ``own``, then the global
    options.
    """
    context = inspect.Parameter(
        "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=None)
        for name, annotation in _PARAMETERS.items()
    ]
    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *common]
    run.__name__, run.__doc__ = named.__name__, named.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
