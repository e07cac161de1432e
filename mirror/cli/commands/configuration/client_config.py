"""``mirror client-config``: ready configuration for pip, uv and others that use the mirror."""

from __future__ import annotations

from urllib.parse import urlsplit

from mirror.cli.arguments.configuration import ClientConfigArguments
from mirror.cli.configuration import has_configuration, load_config
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.config import ServeConfig, checked_url, is_loopback_host
from mirror.core.words.client_config import CLIENTS, ClientAddress, render_client_config
from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode

_DEFAULT_LISTEN = "127.0.0.1:8080"
"""Where `mirror serve` listens if nothing else is configured."""
_EVERY_ADDRESS = ("0.0.0.0:", "[::]:")
_NOTE_ON_EVERY_ADDRESS = (
    "# The server listens on each address of its machine: for other machines name one by --url.\n"
)


def client_config(options: GlobalOptions, given: ClientConfigArguments) -> ExitCode:
    """Print ready configuration for one client, or for all."""
    url, note = (given.url, "") if given.url is not None else _configured_url(options)
    address = client_address(url, where="--url")
    wanted = CLIENTS if given.client is None else (given.client.value,)
    write_out("\n".join(note + render_client_config(name, address) for name in wanted).rstrip("\n"))
    return ExitCode.OK


def client_address(url: str, *, where: str) -> ClientAddress:
    """Return the address of an index as it was written. Raises ``ConfigError`` without it."""
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
    serve = load_config(options).serve if has_configuration(options) else ServeConfig()
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
