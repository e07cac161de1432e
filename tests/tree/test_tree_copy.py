"""``mirror tree copy``: a tree goes to a store and back, verified; an interrupted copy goes on."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from harness.in_process import Mirror
from harness.snapshots import promote, snapshot
from harness.storing import Prefix
from mirror.cli import main
from mirror.core.names import ProjectName
from mirror.errors import LockHeld, TreeError
from mirror.exit_codes import ExitCode
from mirror.jobs import tree_copy
from mirror.jobs.tree_copy import copy_between
from mirror.upkeep.copying.copy import CopyReport
from mirror.upkeep.copying.disk import DiskTarget
from mirror.upkeep.copying.places import PageForms
from simulator import build_sdist, build_wheel


@pytest.fixture
async def root(simulator, tmp_path: Path) -> Path:
    """A small mirror with metadata, a large file, a name that must be escaped, a snapshot and a channel."""
    upstream = await simulator()
    upstream.state.publish("alpha", *build_wheel("alpha", "1.0+local.1"))
    upstream.state.publish("alpha", *build_wheel("alpha", "2.0", extra_files={"a.bin": "x" * 9_000_000}))
    upstream.state.publish("beta", *build_sdist("beta", "1.0"), yanked='"url":"../../files/ <a href="../../files/')
    mirror = Mirror(tmp_path / "from", {"main": upstream})
    await mirror.cycle()
    await snapshot(mirror, "s1")
    await promote(mirror, "s1", "stable")
    upstream.state.publish("gamma", *build_wheel("gamma", "1.0"))
    await mirror.cycle()
    return mirror.root


async def copied(source: Path | str, target: Path | str, env: dict[str, str]) -> CopyReport:
    """Copy a tree in a thread, as the command does it."""
    return await anyio.to_thread.run_sync(partial(copy_between, str(source), str(target), env=env))


async def test_two_copies_to_one_new_place(root, tmp_path, monkeypatch):
    """While a tree is copied to a place that was not there, a second copy to it is refused and touches nothing."""
    refused = []

    def copy_twice(*arguments: Any) -> None:
        with pytest.raises(LockHeld) as caught:
            copy_between(str(root), str(tmp_path / "to"), env={})
        refused.append(caught.value.path)
        copy_tree(*arguments)

    copy_tree = tree_copy.copy_tree
    monkeypatch.setattr(tree_copy, "copy_tree", copy_twice)
    report = await copied(root, tmp_path / "to", {})
    assert (report.damage, refused) == ([], [str(tmp_path / "to" / "tree.lock")])


def test_threads_write_the_first_pages_of_a_snapshot(tmp_path):
    """Threads that write the first pages of a snapshot at the same moment make its directory once."""
    target = DiskTarget(tmp_path / "to", disk_reserve_bytes=0)
    target.begin("from")
    form = PageForms(html=b"<html>", json=b"{}")
    together = threading.Barrier(4)

    def put(number: int, project: int) -> None:
        together.wait()
        target.put_page(f"s{number}", ProjectName(f"p{project}"), form)

    with ThreadPoolExecutor(4) as threads:
        for number in range(50):
            list(threads.map(put, [number] * 4, range(4)))
    target.end()
    for snapshot_directory in (tmp_path / "to/public/snapshots").iterdir():
        assert (snapshot_directory / "files").readlink() == Path("../../files")
        assert len(list(snapshot_directory.glob("simple/*/index.html"))) == 4


def contents(root: Path) -> dict[str, bytes | str]:
    """Return everything below ``public``: bytes of files, targets of links."""
    public = root / "public"
    return {
        str(path.relative_to(public)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in public.rglob("*")
        if path.is_symlink() or path.is_file()
    }


async def test_there_and_back(root, prefix: Prefix, tmp_path):
    """What comes back from a store is what went there, byte for byte; in the store it has the store's layout."""
    report = await copied(root, prefix.address, prefix.env)
    assert (report.projects, report.snapshots, report.files, report.damage) == (3, 1, 4, [])
    expected = contents(root)
    keys = prefix.keys()
    assert [key for key in keys if key.startswith("files/")] == sorted(k for k in expected if k.startswith("files/"))
    for name in ("alpha", "beta", "gamma"):
        assert prefix.read(f"simple/{name}/index.html") == expected[f"simple/{name}/index.html"]
        assert prefix.read(f"simple-json/{name}/index.html") == expected[f"simple/{name}/index.v1_json"]
    assert prefix.read("channels/stable") == b"s1\n"
    assert ".copy" not in keys
    assert not any("v1_" in key for key in keys)
    deep = prefix.read("snapshots/s1/simple/alpha/index.html")
    assert deep.count(b'<a href="../../../../files/') == 2
    assert deep.count(b"../../files/") == 2
    assert prefix.attributes("simple-json/alpha/index.html") == {
        "Content-Type": "application/vnd.pypi.simple.v1+json",
        "Cache-Control": "max-age=600",
    }

    back = tmp_path / "back"
    assert not (await copied(prefix.address, back, prefix.env)).damage
    assert contents(back) == expected
    assert not (back / "copy.json").exists()
    again = tmp_path / "again"
    assert not (await copied(back, again, {})).damage
    assert contents(again) == expected


@pytest.mark.parametrize("kind", ["bytes", "cut", "missing", "metadata", "page"])
async def test_damage(root, prefix: Prefix, tmp_path, kind):
    """Damage is named and leaves the copy unfinished; after a repair the copy goes on where it was."""
    kept = tmp_path / "kept"
    shutil.copytree(root, kept, symlinks=True)
    blob = next((root / "public").glob("files/*/*/*/gamma-1.0-*.whl"))
    path = {
        "metadata": blob.with_name(f"{blob.name}.metadata"),
        "page": root / "public/simple/gamma/index.v1_json",
    }.get(kind, blob)
    data = path.read_bytes()
    path.unlink()
    if kind != "missing":
        path.write_bytes(data[:-1] if kind == "cut" else data[:-1] + b"!")
    report = await copied(root, prefix.address, prefix.env)
    assert [kind == "page" or path.name in one.path for one in report.damage] == [True]
    keys = prefix.keys()
    assert "simple/alpha/index.html" in keys
    assert ".copy" in keys
    assert not any(key.startswith(("simple/gamma", "simple/index", "simple-json/index", "channels")) for key in keys)
    assert "snapshots/s1/simple/index.html" in keys

    path.write_bytes(data)
    again = await copied(root, prefix.address, prefix.env)
    assert again.damage == []
    assert again.present == 3
    assert contents(root) == contents(kept)
    keys = prefix.keys()
    assert {"simple/gamma/index.html", "simple/index.html", "channels/stable"} <= set(keys)
    assert ".copy" not in keys


@pytest.mark.parametrize("to_store", [True, False])
async def test_target_must_be_empty(root, prefix: Prefix, tmp_path, to_store):
    """Something else in TO, or the unfinished copy of another tree, is refused, and nothing is written."""
    target = prefix.address if to_store else str(tmp_path / "to")

    def write(name: str, text: str) -> None:
        if to_store:
            prefix.write(name, text.encode())
        else:
            (tmp_path / "to").mkdir(exist_ok=True)
            (tmp_path / "to" / name).write_text(text)

    async def refused() -> str:
        with pytest.raises(TreeError) as refusal:
            await copied(root, target, prefix.env)
        return str(refusal.value)

    mark = ".copy" if to_store else "copy.json"
    write(mark, '{"format": 1, "from": "/another"}')
    assert "an interrupted copy of /another lies here" in await refused()
    prefix.remove(mark) if to_store else (tmp_path / "to" / mark).unlink()
    write("foreign", "x")
    assert "is not empty (foreign)" in await refused()
    left = prefix.keys() if to_store else [path.name for path in (tmp_path / "to").iterdir()]
    assert left == ["foreign"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{tmp}/nothing", "{store}"], ExitCode.STORAGE, "there is no tree here"),
        (["{store}", "{tmp}/to"], ExitCode.STORAGE, "there is no tree here"),
        (["ftp://x/y", "{tmp}/to"], ExitCode.USAGE, "FROM: expected an address such as s3://"),
        (["{tmp}/nothing", "s3://B"], ExitCode.USAGE, "TO: expected the name of a bucket"),
        (["{store}", "{store}/to"], ExitCode.USAGE, "TO: {store}/to lies in FROM ({store})"),
        (["{store}/from", "{store}"], ExitCode.USAGE, "TO: FROM ({store}/from) lies in {store}"),
        (["s3://mirror", "{store}"], ExitCode.USAGE, "lies in FROM (s3://mirror)"),
        (["{store}", "{store}/"], ExitCode.USAGE, "TO: is the same place as FROM"),
        (["{tmp}", "{tmp}/to"], ExitCode.USAGE, "TO: {tmp}/to lies in FROM ({tmp})"),
        (["{tmp}/a/b", "{tmp}/to/../a"], ExitCode.USAGE, "TO: FROM ({tmp}/a/b) lies in"),
        (["{tmp}/link/a", "{tmp}/a"], ExitCode.USAGE, "TO: is the same place as FROM"),
        (["{store}x", "{store}"], ExitCode.STORAGE, "there is no tree here"),
        (["{tmp}/t", "{tmp}/to"], ExitCode.STORAGE, "there is no tree here"),
    ],
)
def test_refused_places(prefix: Prefix, tmp_path, monkeypatch, capsys, arguments, code, said):
    """A FROM that is not there is 6; a place that is none, or in the other, 2. TO stays untouched."""
    (tmp_path / "link").symlink_to(tmp_path)
    for name, value in prefix.env.items():
        monkeypatch.setenv(name, value)
    words = [word.format(tmp=tmp_path, store=prefix.address) for word in arguments]
    assert main(["tree", "copy", *words]) == code
    assert said.format(tmp=tmp_path, store=prefix.address) in capsys.readouterr().err
    assert prefix.keys() == []
    assert not (tmp_path / "to").exists()
