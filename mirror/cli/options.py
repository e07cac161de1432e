"""The options that every command takes, before or after its name; a value after the name wins."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mirror.cli.outcome import show_version
from mirror.core.words.durations import parse_duration


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


def version_option(value: bool | None) -> None:
    """Print the version and end, if the option is given."""
    if value:
        show_version()
        raise typer.Exit


def _parse_wait(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise typer.BadParameter('expected a duration such as "30s" or "5m"') from exc


PARAMETERS: Mapping[str, Any] = {
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
