"""A server inside the daemon's unit: ``python -m mirror.serve`` (see ``spec``)."""

from __future__ import annotations

import os
import socket
import sys

import msgspec

from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode
from mirror.logs import configure_logging, get_logger
from mirror.notify import ServiceManager
from mirror.serve.processes.setup import make_setup, urls_of, warn_of_plain_passwords
from mirror.serve.processes.spec import ServerAnswer, decode_spec
from mirror.serve.processes.supervisor import Supervisor

_STDIN, _STDOUT = 0, 1


def main() -> ExitCode:
    """Serve until a signal, or until the parent is gone."""
    line = _read_line()
    if not line:
        return ExitCode.OK
    spec = decode_spec(line)
    config = spec.config
    configure_logging(spec.log_level, spec.log_format)
    sockets = [socket.socket(fileno=descriptor) for descriptor in spec.sockets]
    for listening in sockets:
        listening.set_inheritable(False)
    try:
        setup = make_setup(config, store=config.mirror.store_address)
    except ConfigError as exc:
        _answer(ServerAnswer(where=exc.where, problem=exc.problem))
        return ExitCode.USAGE
    warn_of_plain_passwords(sockets, config.serve)
    supervisor = Supervisor(
        setup,
        sockets,
        workers=config.serve.workers,
        manager=ServiceManager({}),
        lifeline=_STDIN,
    )

    def started() -> None:
        addresses = urls_of(sockets, config.serve)
        log = get_logger("mirror.serve")
        log.info("serve.started", root=str(config.mirror.root), addresses=addresses)
        _answer(ServerAnswer())

    supervisor.run(started)
    return ExitCode.OK


def _read_line() -> bytes:
    """Read one line without taking more from the pipe, which stays open."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(_STDIN, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


def _answer(answer: ServerAnswer) -> None:
    os.write(_STDOUT, msgspec.json.encode(answer) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
