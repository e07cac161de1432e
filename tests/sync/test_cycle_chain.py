"""A mirror of a mirror, and a tree that is moved: what we publish is an index like others."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from harness.in_process import Mirror, counters, failures, offered
from simulator import build_sdist, build_wheel

JSON_TYPE = "application/vnd.pypi.simple.v1+json"


@asynccontextmanager
async def served(public: Path, *, negotiates: bool) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve a tree as a static server does; yield the URL of its index and the paths that were asked for."""
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        path = public / request.path.lstrip("/")
        if path.is_dir():
            wants_json = negotiates and JSON_TYPE in request.headers.get("Accept", "")
            path /= "index.v1_json" if wants_json else "index.html"
        if not path.is_file():
            return web.Response(status=404)
        types = {".v1_json": JSON_TYPE, ".html": "text/html"}
        return web.Response(body=path.read_bytes(), content_type=types.get(path.suffix, "application/octet-stream"))

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/simple/", asked
    finally:
        await runner.cleanup()


def second_mirror(root: Path, url: str, mirror_of: Callable[..., Mirror]) -> Mirror:
    mirror = mirror_of(None, root=root.name, main=_Address(url))
    assert mirror.root == root
    return mirror


class _Address:
    def __init__(self, url: str) -> None:
        self.url = url


def publish(index):
    index.state.publish(
        "alpha", *build_wheel("alpha", "1.0+local.1", requires_python=">=3.8"), requires_python=">=3.8", extra={"x": 1}
    )
    index.state.publish("alpha", *build_sdist("alpha", "1.0"), yanked="why & <so>")
    index.state.publish("beta", *build_wheel("beta", "1.0"))
    index.state.create_project("alpha", extra={"x-page": [1]}, status="archived")


async def test_a_mirror_of_a_mirror_idles_with_one_request(simulator, mirror_of, tmp_path):
    """Our revisions are serials: a second mirror is equal, costs one request while nothing changes, and follows."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    async with served(mirror.root / "public", negotiates=True) as (url, asked):
        second = second_mirror(tmp_path / "second", url, mirror_of)
        report = await second.cycle()
        assert (second.files(), failures(report)) == (offered(index), [])
        pages = [mirror.page("alpha"), second.page("alpha")]
        for page in pages:
            del page["meta"]["_last-serial"]
        assert pages[0] == pages[1]
        asked.clear()
        before = second.footprint()

        await second.cycle()
        assert (asked, second.footprint()) == (["/simple/"], before)

        index.state.publish("beta", *build_wheel("beta", "2.0"))
        index.state.yank("beta", build_wheel("beta", "1.0")[0])
        await mirror.cycle()
        asked.clear()
        report = await second.cycle()
        assert second.files() == offered(index)
        assert asked[:2] == ["/simple/", "/simple/beta/"]
        assert len(asked) == 3
        assert counters(report)["files_new"] == 1
        assert second.labels("beta", build_wheel("beta", "1.0")[0])["yanked"] is True


async def test_a_mirror_of_a_mirror_through_html(simulator, mirror_of, tmp_path):
    """A static server that only knows index.html is enough: files, marks, sizes and upload times arrive."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    async with served(mirror.root / "public", negotiates=False) as (url, asked):
        second = second_mirror(tmp_path / "second", url, mirror_of)
        report = await second.cycle()
        assert (second.files(), failures(report)) == (offered(index), [])
        for filename, labels in {f: mirror.labels("alpha", f) for f in mirror.files()["alpha"]}.items():
            assert second.labels("alpha", filename) == {k: v for k, v in labels.items() if k != "x"}
        asked.clear()
        before = second.footprint()

        await second.cycle()
        assert (asked, second.footprint()) == (["/simple/", "/simple/alpha/", "/simple/beta/"], before)


async def test_removals_pass_through_a_mirror(simulator, mirror_of, tmp_path):
    """Files and projects that leave the first mirror leave the second one by its own two looks."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    async with served(mirror.root / "public", negotiates=True) as (url, _asked):
        second = second_mirror(tmp_path / "second", url, mirror_of)
        await second.cycle()
        index.state.unlist_project("beta")
        index.state.remove_file("alpha", build_sdist("alpha", "1.0")[0])
        for _ in range(2):
            await mirror.cycle()
        for _ in range(2):
            await second.cycle()
        assert second.files() == mirror.files() == offered(index)


async def test_a_mirror_that_starts_anew_is_followed(simulator, mirror_of, tmp_path):
    """When the first mirror is made again from nothing, its serials go back, and the second still follows."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    for number in range(2, 6):
        index.state.publish("beta", *build_wheel("beta", f"{number}.0"))
        await mirror.cycle()
    async with served(mirror.root / "public", negotiates=True) as (url, _asked):
        second = second_mirror(tmp_path / "second", url, mirror_of)
        await second.cycle()
        shutil.rmtree(mirror.root)
        index.state.publish("alpha", *build_wheel("alpha", "2.0"))
        index.state.publish("beta", *build_wheel("beta", "6.0"))
        await mirror.cycle()

        report = await second.cycle()

        assert (second.files(), failures(report)) == (offered(index), [])
