"""Messages between two processes: whole, in order, and the end of the other side is told."""

from __future__ import annotations

import pickle
import socket
from typing import Any, get_type_hints

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror import errors
from mirror.workers.channel import Channel, Codec
from mirror.workers.messages import MAIN_END, WORKER_END, LogLine, RefusalAnswer, Stopped

ANY = Codec(encode=msgspec.msgpack.encode, decode=msgspec.msgpack.decode)


async def connected(
    first_codec: Codec = ANY, second_codec: Codec = ANY
) -> tuple[Channel, Channel, list[object], anyio.Event]:
    """Return two ends, what the second has received, and the event of its end."""
    received: list[object] = []
    ended = anyio.Event()
    one, other = socket.socketpair()
    first = await Channel.open(one, lambda _: None, lambda: None, first_codec)
    second = await Channel.open(other, received.append, ended.set, second_codec)
    return first, second, received, ended


async def closed(*channels: Channel) -> None:
    for channel in channels:
        channel.close()
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()


async def until(received: list[object], count: int) -> None:
    while len(received) < count:
        await anyio.lowlevel.checkpoint()


# Each example opens two sockets in an event loop of its own.
@settings(max_examples=25 if settings.default.derandomize else settings.default.max_examples)
@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(-(2**63), 2**63), st.text(max_size=50)), max_size=30))
def test_messages_come_whole_and_in_order(messages: list[object]) -> None:
    """Whatever is sent arrives as it was, one after the other."""

    async def run() -> list[object]:
        first, second, received, _ = await connected()
        for message in messages:
            first.send(message)
        await until(received, len(messages))
        await closed(first, second)
        return received

    assert anyio.run(run) == messages


async def test_large_messages() -> None:
    """A message of more than what fits into the socket comes in pieces, and is one."""
    first, second, received, _ = await connected()
    sent = [bytes([number]) * (1 << 20) for number in range(5)]
    for message in sent:
        first.send(message)
    await until(received, 5)
    assert received == sent
    await closed(first, second)


async def test_end_is_told() -> None:
    """When one side closes, the other is told; what is sent then goes nowhere."""
    first, second, received, ended = await connected()
    first.close()
    await ended.wait()
    second.send("too late")
    await closed(second)
    assert received == []


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MirrorError)]


def _value_of(name: str, hint: Any) -> object:
    text = str(hint)
    if text.startswith("tuple"):
        return (name,)
    return name if "str" in text else True if hint is bool else 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_errors_cross(kind: type[errors.MirrorError]) -> None:
    """Every error of the program arrives with all that it says."""
    first, second, received, _ = await connected(MAIN_END, WORKER_END)
    hints = get_type_hints(kind)
    error = kind(**{name: _value_of(name, hints[name]) for name in kind.field_names()})
    first.send(RefusalAnswer(number=1, error=error))
    await until(received, 1)
    arrived = received[0].error
    assert type(arrived) is kind
    assert arrived.values() == error.values()
    assert str(arrived) == str(error)
    await closed(first, second)


async def test_odd_values_of_an_error_cross() -> None:
    """A path that is no UTF-8 and a number of any size arrive, as a text and a number that can be shown."""
    first, second, received, _ = await connected(MAIN_END, WORKER_END)
    first.send(RefusalAnswer(number=1, error=errors.TreeError(path="/a\udcff", problem="x")))
    first.send(RefusalAnswer(number=2, error=errors.SizeMismatch(filename="a", expected_bytes=10**30, actual_bytes=1)))
    await until(received, 2)
    assert [str(message.error) for message in received] == [
        str(errors.TreeError(path="/a\\udcff", problem="x")),
        str(errors.SizeMismatch(filename="a", expected_bytes=2**63 - 1, actual_bytes=1)),
    ]
    await closed(first, second)


class Evil:
    """A value that would run code where pickle reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("code of a worker has run",))


NOT_MESSAGES = {
    "pickle": pickle.dumps(Evil()),
    "another type": msgspec.msgpack.encode(["FetchOrder", 1, "x"]),
    "no message": msgspec.msgpack.encode({"line": "x"}),
    "a wrong field": msgspec.msgpack.encode(["LogLine", 5]),
    "an error that is none": msgspec.msgpack.encode(
        ["WorkerReport", None, False, [["JobOutcome", 1, None, None, False, None, ["Evil", {}], None]]]
    ),
    "an error with other fields": msgspec.msgpack.encode(
        ["WorkerReport", None, False, [["JobOutcome", 1, None, None, False, None, ["NoRoom", {"x": 1}], None]]]
    ),
}


@pytest.mark.parametrize("sent", NOT_MESSAGES.values(), ids=NOT_MESSAGES)
async def test_other_bytes_of_a_worker_end_it(sent: bytes) -> None:
    """What is no message of a worker runs nothing in the main process, and is the worker's end; what came before counts."""
    raw = Codec(encode=bytes, decode=WORKER_END.decode)
    worker, main, received, ended = await connected(raw, MAIN_END)
    worker.send(MAIN_END.encode(LogLine(line="a")))
    worker.send(sent)
    worker.send(MAIN_END.encode(Stopped()))
    await ended.wait()
    assert received == [LogLine(line="a")]
    await closed(worker, main)
