"""Bare loops to compare with: what the same work costs with nothing but the library, and nothing but the disk.

``fill URL DIR``: root page, project pages, files, sha256 inline, rename; no state, no fsync, no metadata, no pages.
``fill-durable URL DIR``: the same with one syncfs for each batch.
``idle URL ETAGS``: conditional requests; makes the file of ETags where it is missing.
``hash DIR -``: sha256 of each file that is no metadata, one after the other.
``write CORPUS DIR``: the files of a corpus, one syncfs for each batch.
``put DIR ADDRESS``: each file into an object store, 32 at once.
"""

# ruff: noqa: ASYNC230, ASYNC240, PTH104, PTH123 - a bare loop blocks, and takes the shortest way

from __future__ import annotations

import asyncio
import base64
import ctypes
import hashlib
import json
import os
import sys
from pathlib import Path

_WORKERS = 16
_BATCH = 512
_PUTS = 32


async def _fill(url: str, target: Path, *, is_durable: bool = False) -> None:
    import aiohttp

    target.mkdir(parents=True)
    done = 0
    async with _client() as client:
        async with client.get(url) as response:
            names = [p["name"] for p in json.loads(await response.read())["projects"]]
        files: list[dict[str, str]] = []

        async def page(name: str) -> None:
            async with client.get(f"{url}{name}/") as response:
                listed = json.loads(await response.read())["files"]
            files.extend(
                {"url": url[: -len("simple/")] + f["url"].removeprefix("../../"), **f["hashes"]} for f in listed
            )

        async def file(wanted: dict[str, str]) -> None:
            hasher = hashlib.sha256()
            path = target / wanted["url"].rpartition("/")[2]
            with open(f"{path}.tmp", "wb", buffering=0) as output:
                async with client.get(wanted["url"], timeout=aiohttp.ClientTimeout(total=None)) as response:
                    async for chunk in response.content.iter_any():
                        hasher.update(chunk)
                        output.write(chunk)
            if hasher.hexdigest() != wanted["sha256"]:
                raise SystemExit(f"{path}: other bytes")
            os.rename(f"{path}.tmp", path)
            nonlocal done
            done += 1
            if is_durable and (done % _BATCH == 0 or done == len(files)):
                await asyncio.to_thread(_syncfs, target)

        await _each(names, page)
        await _each(files, file)


async def _idle(url: str, etags_file: Path) -> None:
    known: dict[str, str] = json.loads(etags_file.read_bytes()) if etags_file.exists() else {}
    async with _client() as client:
        async with client.get(url) as response:
            names = [p["name"] for p in json.loads(await response.read())["projects"]]
        etags = {}

        async def ask(name: str) -> None:
            headers = {"If-None-Match": known[name]} if name in known else {}
            async with client.get(f"{url}{name}/", headers=headers) as response:
                await response.read()
                if known and response.status != 304:
                    raise SystemExit(f"{name}: {response.status} instead of 304")
                etags[name] = response.headers["ETag"]

        await _each(names, ask)
    if not known:
        etags_file.write_text(json.dumps(etags))


def _client():  # noqa: ANN202 - aiohttp's, imported only where it is used
    import aiohttp

    from bench.upstream import PASSWORD, USER

    credential = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_WORKERS),
        headers={"Authorization": credential},
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=256 * 1024,
        raise_for_status=True,
    )


async def _each(items, work) -> None:  # noqa: ANN001
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_WORKERS):
            tasks.create_task(worker())


def _write(corpus: Path, target: Path) -> None:
    target.mkdir(parents=True)
    sources = sorted(corpus.glob("*"))
    for start in range(0, len(sources), _BATCH):
        for source in sources[start : start + _BATCH]:
            path = target / source.name
            with open(f"{path}.tmp", "wb", buffering=0) as output:
                output.write(source.read_bytes())
            os.rename(f"{path}.tmp", path)
        _syncfs(target)


def _hash(place: Path) -> None:
    for folder, _, names in os.walk(place):
        for name in names:
            if not name.endswith(".metadata"):
                with open(f"{folder}/{name}", "rb", buffering=0) as file:
                    hashlib.file_digest(file, "sha256").hexdigest()


def _put(place: Path, address: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import obstore
    from obstore.store import S3Store

    store = S3Store.from_url(address, client_options={"allow_http": True})  # the rest is in the environment

    def put(path: str) -> None:
        with open(path, "rb", buffering=0) as file:
            obstore.put(store, f"files/{os.path.relpath(path, place)}", file.read(), use_multipart=False)

    with ThreadPoolExecutor(_PUTS) as threads:
        for folder, _, names in os.walk(place):
            for done in [threads.submit(put, f"{folder}/{name}") for name in names]:
                done.add_done_callback(lambda one: one.result())


def _syncfs(place: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    directory = os.open(place, os.O_RDONLY)
    try:
        if libc.syncfs(directory):
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(directory)


if __name__ == "__main__":
    what, first, second = sys.argv[1:]
    match what:
        case "fill":
            asyncio.run(_fill(first, Path(second)))
        case "fill-durable":
            asyncio.run(_fill(first, Path(second), is_durable=True))
        case "idle":
            asyncio.run(_idle(first, Path(second)))
        case "hash":
            _hash(Path(first))
        case "put":
            _put(Path(first), second)
        case "write":
            _write(Path(first), Path(second))
