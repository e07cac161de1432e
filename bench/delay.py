"""``python -m bench.delay PORT TARGET MS``: a proxy on loopback by which each request arrives later; answers pass at once."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import cast


class _Pipe(asyncio.Protocol):
    """One side of a connection: hands what comes to the other side, after a time."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._early: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.other: _Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._hand_on, data)
        else:
            self._hand_on(data)

    def _hand_on(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        elif self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connect(self, other: _Pipe) -> None:
        self.other = other
        for data in self._early:
            self._hand_on(data)
        self._early.clear()

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        self._let_other_read(wanted=False)

    def resume_writing(self) -> None:
        self._let_other_read(wanted=True)

    def _let_other_read(self, *, wanted: bool) -> None:
        transport = self.other.transport if self.other is not None else None
        if transport is not None and not transport.is_closing():
            with contextlib.suppress(RuntimeError):
                (transport.resume_reading if wanted else transport.pause_reading)()


async def _serve(port: int, target: int, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    connecting: set[asyncio.Task[None]] = set()

    async def join(client: _Pipe) -> None:
        _, server = await loop.create_connection(lambda: _Pipe(0), "127.0.0.1", target)
        server.connect(client)
        client.connect(server)
        if client.transport is None or client.transport.is_closing():
            server.connection_lost(None)

    class Client(_Pipe):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = loop.create_task(join(self))
            connecting.add(task)
            task.add_done_callback(connecting.discard)

    server = await loop.create_server(lambda: Client(delay_s), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
