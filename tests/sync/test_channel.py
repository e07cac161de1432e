"""Messages between two processes: whole, in order, and the end of the other side is told."""

from __future__ import annotations

import socket
from dataclasses import Field, fields
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror import errors
from mirror.workers.channel import Channel


async def connected() -> tuple[Channel, Channel, list[object], anyio.Event]:
    """Return two ends, what the second has received, and the event of its end."""
    received: list[object] = []
    ended = anyio.Event()
    one, other = socket.socketpair()
    first = await Channel.open(one, lambda _: None, lambda: None)
    second = await Channel.open(other, received.append, ended.set)
    return first, second, received, ended


async def closed(*channels: Channel) -> None:
    for channel in channels:
        channel.close()
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()


async def until(received: list[object], count: int) -> None:
    while len(received) < count:
        await anyio.lowlevel.checkpoint()


@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(), st.text(max_size=50)), max_size=30))
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


def _value_of(field: Field[Any]) -> object:
    if str(field.type).startswith("tuple"):
        return (field.name,)
    return field.name if str(field.type).startswith("str") else 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_errors_cross(kind: type[errors.MirrorError]) -> None:
    """Every error of the program arrives with all that it says."""
    first, second, received, _ = await connected()
    error = kind(**{field.name: _value_of(field) for field in fields(kind)})
    first.send(error)
    await until(received, 1)
    (arrived,) = received
    assert type(arrived) is kind
    assert vars(arrived) == vars(error)
    assert str(arrived) == str(error)
    await closed(first, second)
