"""``mirror serve``: the tree over HTTP, read-only, also while another process writes the mirror."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode

if TYPE_CHECKING:
    from mirror.config import Config
    from mirror.serve.tls import Certificate
    from mirror.serve.worker import Setup

_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")
_MOST_WORKERS = 32


def serve(
    options: GlobalOptions,
    *,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", metavar="HOST:PORT", show_default=False, help="Where to listen. Default: 127.0.0.1:8080."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            show_default=False,
            min=1,
            max=_MOST_WORKERS,
            help="Processes that answer requests. Default: serve.workers.",
        ),
    ] = None,
) -> ExitCode:
    """Serve the tree to pip, uv and other clients until a signal ends it."""
    import os

    from mirror.notify import ServiceManager
    from mirror.serve.addresses import DEFAULT, address_of, bind, inherited_sockets
    from mirror.serve.supervisor import Supervisor

    config = options.load_tree_config()
    _check_root(config)
    address = _checked_address(listen or DEFAULT, "--listen")
    sockets = inherited_sockets(os.environ) or bind(address, where="--listen")
    manager = ServiceManager(os.environ)
    supervisor = Supervisor(_setup(config), sockets, workers=workers or config.serve.workers, manager=manager)
    scheme = "https" if config.serve.certificate else "http"
    addresses = [f"{scheme}://{address_of(listening)}/" for listening in sockets]

    def started() -> None:
        from mirror.logs import get_logger

        write_out(f"Serving {config.mirror.root} at {' and '.join(addresses)}")
        get_logger(__name__).info("serve.started", root=str(config.mirror.root), addresses=addresses)

    supervisor.run(started)
    return ExitCode.OK


def _setup(config: Config) -> Setup:
    from mirror.serve import protocol
    from mirror.serve.worker import Setup
    from mirror.state.served import BlobState
    from mirror.tree.layout import Layout

    return Setup(
        layout=Layout(config.mirror.root),
        certificate=_certificate(config),
        state=BlobState(config.mirror.state),
        limits=protocol.ConnectionLimits(
            connections_per_client=config.serve.connections_per_client,
            header_s=protocol.HEADER_LIMIT_S,
            stall_s=protocol.STALL_LIMIT_S,
        ),
    )


def _certificate(config: Config) -> Certificate | None:
    if config.serve.certificate is None or config.serve.key is None:
        return None
    from mirror.serve.tls import Certificate

    return Certificate(config.serve.certificate, config.serve.key)


def _check_root(config: Config) -> None:
    """Raise ``TreeError`` where there is nothing to serve."""
    from mirror.errors import TreeError
    from mirror.tree.layout import Layout

    public = Layout(config.mirror.root).public
    try:
        is_there = public.is_dir()
    except OSError:
        is_there = False
    if not is_there:
        problem = "there is no mirror here, or this user may not read it: check --root, or run `mirror sync --once`"
        raise TreeError(path=str(public), problem=problem)


def _checked_address(listen: str, where: str) -> str:
    found = _LISTEN.fullmatch(listen)
    if found is None or int(found[1]) > 65_535:
        raise ConfigError(where=where, problem='expected HOST:PORT such as "127.0.0.1:8080" or "[::1]:8080"')
    return listen
