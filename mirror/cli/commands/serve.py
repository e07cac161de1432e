"""``mirror serve``: the tree over HTTP, read-only, also while another process writes the mirror."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import run_async, write_out
from mirror.exit_codes import ExitCode
from mirror.logs import get_logger

if TYPE_CHECKING:
    from mirror.config import Config
    from mirror.core.store_address import StoreAddress

_MOST_WORKERS = 32


def serve(
    options: GlobalOptions,
    *,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            show_default=False,
            help="Where to listen. Default: serve.listen, else 127.0.0.1:8080.",
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
    tree: Annotated[
        str | None,
        typer.Option(
            "--tree",
            metavar="URL",
            show_default=False,
            help="Serve the tree at this address, s3://BUCKET/PREFIX: stateless, without a root.",
        ),
    ] = None,
) -> ExitCode:
    """Serve the tree to installers until a signal ends it."""
    # 1067 ms
    from mirror.config import check_listen
    from mirror.notify import ServiceManager
    from mirror.serve.connections.addresses import DEFAULT, bind, inherited_sockets
    from mirror.serve.processes.setup import (
        make_setup,
        urls_of,
        warn_of_plain_passwords,
    )
    from mirror.serve.processes.supervisor import Supervisor

    config, store = _load(options, tree)
    settings = config.serve
    address, where = (
        (listen, "--listen") if listen else (settings.listen or DEFAULT, "serve.listen")
    )
    check_listen(address, where)
    setup = make_setup(config, store=store)
    sockets = inherited_sockets(os.environ) or bind(address, where=where)
    warn_of_plain_passwords(sockets, settings)
    manager = ServiceManager(os.environ)
    supervisor = Supervisor(setup, sockets, workers=workers or settings.workers, manager=manager)
    addresses = urls_of(sockets, settings)

    def started() -> None:
        shown = str(store or config.mirror.root)
        write_out(f"Serving {shown} at {' and '.join(addresses)}")
        get_logger(__name__).info("serve.started", root=shown, addresses=addresses)

    supervisor.run(started)
    return ExitCode.OK


def _load(options: GlobalOptions, tree: str | None) -> tuple[Config, StoreAddress | None]:
    """Return the configuration and the object store to serve from; None: the root."""
    # 1028 ms
    from mirror.config import config_for_address, parse_tree
    from mirror.jobs.served_store import find_store
    from mirror.serve.processes.setup import check_root

    if tree is None:
        config = options.load_tree_config()
        store = run_async(find_store, config.mirror)
        if store is None:
            check_root(config.mirror.root)
        return config, store
    address = parse_tree(tree, where="--tree")
    return config_for_address(options.config, env=os.environ), address
