"""``mirror serve``: the tree over HTTP, read-only, also while another process writes the mirror."""

from __future__ import annotations

import os

from mirror.cli.arguments.serve import ServeArguments
from mirror.cli.configuration import load_tree_config
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.config import Config, check_listen, config_for_address, parse_tree
from mirror.core.store_address import StoreAddress
from mirror.exit_codes import ExitCode
from mirror.jobs.served_store import find_store
from mirror.logs import get_logger
from mirror.notify import ServiceManager
from mirror.serve.connections.addresses import DEFAULT, bind, inherited_sockets
from mirror.serve.processes.setup import check_root, make_setup, urls_of, warn_of_plain_passwords
from mirror.serve.processes.supervisor import Supervisor


def serve(options: GlobalOptions, given: ServeArguments) -> ExitCode:
    """Serve the tree to installers until a signal ends it."""
    config, store = _load(options, given.tree)
    settings = config.serve
    address, where = (
        (given.listen, "--listen") if given.listen else (settings.listen or DEFAULT, "serve.listen")
    )
    check_listen(address, where)
    setup = make_setup(config, store=store)
    sockets = inherited_sockets(os.environ) or bind(address, where=where)
    warn_of_plain_passwords(sockets, settings)
    manager = ServiceManager(os.environ)
    supervisor = Supervisor(
        setup, sockets, workers=given.workers or settings.workers, manager=manager
    )
    addresses = urls_of(sockets, settings)

    def started() -> None:
        shown = str(store or config.mirror.root)
        write_out(f"Serving {shown} at {' and '.join(addresses)}")
        get_logger(__name__).info("serve.started", root=shown, addresses=addresses)

    supervisor.run(started)
    return ExitCode.OK


def _load(options: GlobalOptions, tree: str | None) -> tuple[Config, StoreAddress | None]:
    """Return the configuration and the object store to serve from; None: the root."""
    if tree is None:
        config = load_tree_config(options)
        store = run_async(find_store, config.mirror)
        if store is None:
            check_root(config.mirror.root)
        return config, store
    address = parse_tree(tree, where="--tree")
    return config_for_address(options.config, env=os.environ), address
