"""The order that starts a server as a process of another program, and that process's answer."""

from __future__ import annotations

from typing import Any

import msgspec

from mirror.config import Config
from mirror.logs import LogFormat

MODULE = "mirror.serve"
"""What ``python -m`` runs: it reads the order as one line from its standard input, writes its
answer as one line, and ends when its standard input does.
"""


class ServerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that the server needs; its configuration is checked."""

    config: Config
    sockets: tuple[int, ...]
    """Descriptors that listen."""
    log_level: str
    log_format: LogFormat | None


class ServerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests are answered; else the place and the reason of a failure."""

    where: str = ""
    problem: str = ""


def encode_spec(spec: ServerSpec) -> bytes:
    """Return an order as one line. Addresses and credentials of indexes stay behind."""
    indexes = (msgspec.structs.replace(index, url="", auth=None) for index in spec.config.indexes)
    config = msgspec.structs.replace(spec.config, indexes=tuple(indexes))
    return msgspec.json.encode(msgspec.structs.replace(spec, config=config), enc_hook=str) + b"\n"


def decode_spec(line: bytes) -> ServerSpec:
    """Return the order of a line. Raises ``msgspec.MsgspecError``."""
    return msgspec.json.decode(line, type=ServerSpec, dec_hook=_decode)


def _decode(kind: type, value: Any) -> Any:
    return kind(value)
