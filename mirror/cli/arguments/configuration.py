"""Arguments of the commands that write, check and show configurations, of units and clients too."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mirror.cli.arguments import Arguments
from mirror.core.words.client_config import CLIENTS

Client = Enum("Client", {name.upper(): name for name in CLIENTS}, type=str)  # type: ignore[misc]


class WebServer(str, Enum):
    """Which server is configured."""

    NGINX = "nginx"
    CADDY = "caddy"
    APACHE = "apache"


class InitArguments(Arguments):
    """Write a commented configuration to start from."""

    @property
    def work(self) -> str:
        """A configuration to fill in, or one from a project's file, which is read and resolved."""
        if self.from_file is None:
            return "mirror.cli.commands.configuration.init:init"
        return "mirror.cli.commands.configuration.init_from:init_from"

    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", show_default=False, help="Default: mirror.toml."),
    ] = None
    systemd: Annotated[
        bool, typer.Option("--systemd", help="One that fits the units of `mirror install-units`.")
    ] = False
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            show_default=False,
            help="A requirement file, project or lock: its needs become a want,"
            " this machine a target.",
        ),
    ] = None


class ConfigCheckArguments(Arguments):
    """Check the configuration and its credentials' sources."""

    work = "mirror.cli.commands.configuration.config_check:check"

    as_json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False


class ConfigShowArguments(Arguments):
    """Print the effective configuration, without secrets."""

    work = "mirror.cli.commands.configuration.config_show:show"


class ConfigSchemaArguments(Arguments):
    """Print the JSON Schema of the configuration."""

    work = "mirror.cli.commands.configuration.config_show:schema"


class ClientConfigArguments(Arguments):
    """Print ready configuration for one client, or for all."""

    work = "mirror.cli.commands.configuration.client_config:client_config"

    client: Annotated[
        Client | None,
        typer.Argument(
            metavar="[CLIENT]", show_default=False, help=f"One of {', '.join(CLIENTS)}."
        ),
    ] = None
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            show_default=False,
            help="The index as clients reach it, up to /simple/. Default: as configured.",
        ),
    ] = None


class WebConfigArguments(Arguments):
    """Print a web server's configuration that serves the tree."""

    work = "mirror.cli.commands.configuration.web_config:web_config"

    server: Annotated[WebServer, typer.Argument(show_default=False, help="The web server.")]


class InstallUnitsArguments(Arguments):
    """Install the systemd units and a matching configuration.

    The root is /var/lib/mirror, or the one of --root.
    """

    work = "mirror.cli.commands.configuration.install_units:install_units"

    destdir: Annotated[
        Path,
        typer.Option(
            "--destdir", metavar="DIR", help="Install below this directory, for packagers."
        ),
    ] = Path("/")
    program: Annotated[
        Path | None,
        typer.Option(
            "--program",
            metavar="FILE",
            show_default=False,
            help="The program that the units start. Default: this one.",
        ),
    ] = None
