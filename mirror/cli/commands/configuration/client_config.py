"""``mirror client-config``: ready configuration for pip, uv and others that use the mirror."""

from __future__ import annotations

from enum import Enum
from typing import Annotated
from urllib.parse import urlsplit

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.core.words.client_config import CLIENTS, ClientAddress, render_client_config
from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode

_DEFAULT_LISTEN = "127.0.0.1:8080"
"""Where `mirror serve` listens if nothing else is configured."""
_EVERY_ADDRESS = ("0.0.0.0:", "[::]:")
_NOTE_ON_EVERY_ADDRESS = (
    "# The server listens on each address of its machine: for other machines name one by --url.\n"
)

Client = Enum("Client", {name.upper(): name for name in CLIENTS}, type=str)  # type: ignore[misc]


def client_config(
    options: GlobalOptions,
    client: Annotated[
        Client | None,
        typer.Argument(
            metavar="[CLIENT]", show_default=False, help=f"One of {', '.join(CLIENTS)}."
        ),
    ] = None,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            show_default=False,
            help="The index as clients reach it, up to /simple/. Default: as configured.",
        ),
    ] = None,
) -> ExitCode:
    """Print ready configuration for one client, or for all."""
    note = ""
    if url is None:
        url, note = _configured_url(options)
    address = client_address(url, where="--url")
    wanted = CLIENTS if client is None else (client.value,)
    write_out("\n".join(note + render_client_config(name, address) for name in wanted).rstrip("\n"))
    return ExitCode.OK


def client_address(url: str, *, where: str) -> ClientAddress:
    """Return the address of an index as it was written. Raises ``ConfigError`` without it."""
    from mirror.config import checked_url, is_loopback_host  # 39 ms

    if "@" in url.partition("://")[2].partition("/")[0]:
        problem = "take the user name and password out of it: clients read them elsewhere"
        raise ConfigError(where=where, problem=problem)
    checked_url(url, where=where)
    parts = urlsplit(url)
    if not parts.path.rstrip("/").endswith("/simple") or parts.path.endswith("//"):
        problem = "expected the address of an index, whose path ends in /simple or /simple/"
        raise ConfigError(where=where, problem=problem)
    is_exposed = parts.scheme == "http" and not is_loopback_host(parts.hostname or "")
    return ClientAddress(url=url, host=parts.netloc, is_exposed=is_exposed)


def _configured_url(options: GlobalOptions) -> tuple[str, str]:
    """Return the address that the configuration gives, and a line of comment or nothing."""
    from mirror.config import ServeConfig  # 40 ms

    serve = options.load_config().serve if options.has_configuration() else ServeConfig()
    if serve.url is not None:
        return f"{serve.url}simple/", ""
    listen = serve.listen or _DEFAULT_LISTEN
    scheme = "https" if serve.certificate is not None else "http"
    for every in _EVERY_ADDRESS:
        if listen.startswith(every):
            return (
                f"{scheme}://127.0.0.1:{listen.removeprefix(every)}/simple/",
                _NOTE_ON_EVERY_ADDRESS,
            )
    return f"{scheme}://{listen}/simple/", ""
