"""From the configuration to all that the processes of a server share."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from mirror.config import Config, is_loopback_host
from mirror.config.settings import ServeConfig
from mirror.core.store_address import StoreAddress
from mirror.errors import TreeError
from mirror.logs import get_logger
from mirror.serve.access.passwords import PasswordFile
from mirror.serve.access.proxies import Proxies
from mirror.serve.connections import protocol
from mirror.serve.connections.addresses import address_of
from mirror.serve.connections.tls import Certificate
from mirror.serve.processes.worker import Setup
from mirror.state.shown.served import BlobState
from mirror.tree.layout import Layout
from mirror.tree.objects.client import check_engine

_log = get_logger(__name__)


def make_setup(config: Config, *, store: StoreAddress | None = None) -> Setup:
    """Read certificate and passwords. Raises ``ConfigError`` for files that can't be used.

    ``store``: the tree in an object store, instead of the one below the root.
    """
    if store is not None:
        check_engine(store, os.environ)
    serve, certificate = config.serve, None
    if serve.certificate is not None and serve.key is not None:
        certificate = Certificate(serve.certificate, serve.key)
    proxies = Proxies(serve.trusted_proxies, url=serve.url)
    return Setup(
        config=config,
        layout=Layout(config.mirror.root),
        certificate=certificate,
        passwords=PasswordFile(serve.htpasswd) if serve.htpasswd is not None else None,
        proxies=proxies,
        state=BlobState(config.mirror.state),
        store=store,
        limits=protocol.ConnectionLimits(
            connections_per_client=serve.connections_per_client,
            header_s=protocol.HEADER_LIMIT_S,
            stall_s=protocol.STALL_LIMIT_S,
            uncounted=proxies.networks,
        ),
    )


def check_root(root: Path) -> None:
    """Raise ``TreeError`` where there is nothing to serve."""
    public = Layout(root).public
    try:
        is_there = public.is_dir()
    except OSError:
        is_there = False
    if not is_there:
        problem = "there is no mirror here, or this user may not read it"
        advice = "check --root, or run `mirror sync --once`"
        raise TreeError(path=str(public), problem=f"{problem}: {advice}")


def urls_of(sockets: list[socket.socket], serve: ServeConfig) -> list[str]:
    """Return the addresses of a server for its operator."""
    scheme = "https" if serve.certificate else "http"
    return [f"{scheme}://{address_of(listening)}/" for listening in sockets]


def warn_of_plain_passwords(sockets: list[socket.socket], serve: ServeConfig) -> None:
    """Log one warning where passwords would cross a network unencrypted."""
    if serve.htpasswd is None or serve.certificate is not None:
        return
    exposed = [
        address_of(listening)
        for listening in sockets
        if listening.family != socket.AF_UNIX and not is_loopback_host(listening.getsockname()[0])
    ]
    if exposed:
        advice = (
            "set serve.certificate and serve.key, or listen on loopback behind a proxy with TLS"
        )
        problem = "passwords would cross the network unencrypted"
        _log.warning("passwords.exposed", addresses=exposed, problem=problem, advice=advice)
