"""Ask one server for addresses over several connections, and measure it: requests, bytes, latencies.

Run as a program, so that its CPU and memory are not the benchmark's own. ``closed``: each connection asks again as soon as it
has its answer. ``paced``: requests begin at a fixed rate, whatever the server does, so that a client never takes the cores that
are measured. The answers are read from plain sockets: a client library would cost more than the fast servers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

_PIECE = 1 << 20


class _Connection:
    """One connection that is opened again where the server closes it."""

    def __init__(self, host: str, port: int, headers: str) -> None:
        self._host, self._port, self._headers = host, port, headers
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, target: str) -> int:
        """Ask once; return the size of the body. Raises ``SystemExit`` for another status than 200."""
        reader, writer = await self._opened()
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n{self._headers}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        if " 200" not in head[0]:
            raise SystemExit(f"{target}: {head[0]}")
        headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
        if headers.get("transfer-encoding") == "chunked":
            size = await _read_chunks(reader)
        elif "content-length" in headers:
            size = int(headers["content-length"])
            await _skip(reader, size)
        else:
            size = len(await reader.read(-1))
        is_old = head[0].startswith("http/1.0") and headers.get("connection") != "keep-alive"
        if (
            is_old
            or headers.get("connection") == "close"
            or not ("content-length" in headers or "transfer-encoding" in headers)
        ):
            await self.close()
        return size

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=_PIECE)
        return self._reader, self._writer

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _skip(reader: asyncio.StreamReader, size: int) -> None:
    while size:
        piece = await reader.read(min(size, _PIECE))
        if not piece:
            raise SystemExit("an answer was cut")
        size -= len(piece)


async def _read_chunks(reader: asyncio.StreamReader) -> int:
    total = 0
    while size := int((await reader.readline()).split(b";")[0], 16):
        await _skip(reader, size + 2)
        total += size
    await reader.readline()
    return total


async def _closed(connections: Sequence[_Connection], targets: Sequence[str], requests: int) -> tuple[list[float], int]:
    waiting = iter(range(requests))
    taken: list[float] = []
    total = 0

    async def work(connection: _Connection) -> None:
        nonlocal total
        for number in waiting:
            started = time.perf_counter()
            total += await connection.ask(targets[number % len(targets)])
            taken.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as tasks:
        for connection in connections:
            tasks.create_task(work(connection))
    return taken, total


async def _paced(
    connections: Sequence[_Connection], targets: Sequence[str], rate: float, until: Path | None, requests: int
) -> tuple[list[float], int]:
    """Ask at a rate until a file is there, or for a number of requests; latency counts from when a request was due."""
    idle = list(connections)
    taken: list[float] = []
    total = number = 0
    began = time.perf_counter()

    async def one(connection: _Connection, due: float, target: str) -> None:
        nonlocal total
        total += await connection.ask(target)
        taken.append(time.perf_counter() - due)
        idle.append(connection)

    async with asyncio.TaskGroup() as tasks:
        while number < requests if until is None else not os.path.lexists(until):  # noqa: ASYNC240
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            while not idle:  # noqa: ASYNC110 - all are busy: it waits, and its latency counts
                await asyncio.sleep(0.001)
            tasks.create_task(one(idle.pop(), due, targets[number % len(targets)]))
            number += 1
    return taken, total


def main() -> None:
    """Ask, and print one object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("targets", type=Path, help="a file of targets, one a line, asked for in turn")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=float, help="requests a second, paced")
    parser.add_argument("--until", type=Path, help="paced: until this file is there")
    parser.add_argument("--header", action="append", default=[])
    options = parser.parse_args()
    host, _, port = options.address.rpartition(":")
    targets = options.targets.read_text().splitlines()
    headers = "".join(f"{header}\r\n" for header in options.header)
    connections = [_Connection(host, int(port), headers) for _ in range(options.connections)]

    async def run() -> tuple[list[float], int]:
        if options.rate:
            return await _paced(connections, targets, options.rate, options.until, options.requests)
        return await _closed(connections, targets, options.requests)

    started = time.perf_counter()
    taken, total = asyncio.run(run())
    wall_s = time.perf_counter() - started
    taken.sort()
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "requests": len(taken),
                "bytes": total,
                "p50_ms": _part(taken, 0.5),
                "p95_ms": _part(taken, 0.95),
                "p99_ms": _part(taken, 0.99),
                "worst_ms": 1000 * taken[-1],
            }
        )
    )


def _part(taken: Sequence[float], share: float) -> float:
    return 1000 * taken[min(len(taken) - 1, int(share * len(taken)))]


if __name__ == "__main__":
    main()
