"""``mirror web-config``: a configuration with which nginx, Caddy or Apache serves the tree.

The templates next to the units in ``mirror/systemd`` are the only source: ``install-units`` and the
documentation use them too.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from mirror.cli.arguments.configuration import WebConfigArguments, WebServer
from mirror.cli.configuration import has_configuration, load_config
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.errors import ConfigError, shown_text
from mirror.exit_codes import ExitCode

DEFAULT_ROOT = Path("/var/lib/mirror")
"""The root in the templates, and in the systemd units."""
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._+/@:-]*")


def web_config(options: GlobalOptions, given: WebConfigArguments) -> ExitCode:
    """Print a web server's configuration that serves the tree."""
    write_out(render_web_config(given.server, _root(options)).rstrip("\n"))
    return ExitCode.OK


def render_web_config(server: WebServer, root: Path = DEFAULT_ROOT) -> str:
    """Return the configuration for one server. Raises ``ConfigError`` for an odd root."""
    check_plain(root, "--root")
    template = (files("mirror") / "systemd" / f"{server.value}.conf").read_text(encoding="utf-8")
    return template.replace(f"{DEFAULT_ROOT}/", f"{str(root).rstrip('/')}/")


def check_plain(path: Path, where: str) -> None:
    """Raise ``ConfigError`` for a path that a unit or a server's configuration would misread."""
    if not _PLAIN_PATH.fullmatch(str(path)) or ".." in path.parts:
        problem = "expected an absolute path of letters, digits and ._+@:- for a configuration file"
        raise ConfigError(where=where, problem=f"{problem}, got {shown_text(str(path))}")


def _root(options: GlobalOptions) -> Path:
    if options.root is not None:
        return options.root.absolute()
    return load_config(options).mirror.root if has_configuration(options) else DEFAULT_ROOT
