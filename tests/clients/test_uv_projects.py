"""uv resolves and locks against the tree, and a lock outlives caches, machines and later cycles."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

from harness.program import counters
from simulator import build_wheel

PROJECT = """\
[project]
name = "inside"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["demo-app", "demo-lib>=1"]
"""
LOCKED = {"demo-app": "1.0", "demo-lib": "1.2", "demo-src": "0.1"}


def installed(work: Path) -> dict[str, str]:
    """Return project -> version of what is in the project's environment."""
    infos = (path.name.removesuffix(".dist-info") for path in work.glob(".venv/lib/*/site-packages/demo_*.dist-info"))
    return {name.replace("_", "-"): version for name, version in sorted(info.split("-") for info in infos)}


def blobs(tree: Path) -> dict[str, str]:
    """Return file name -> sha256 of what the tree has."""
    return {path.name: path.parent.name for path in tree.glob("files/*/*/*/*") if path.suffix != ".metadata"}


def test_pip_compile(uv_client, served, tree):
    """``uv pip compile`` pins versions and the digests of all their files."""
    (uv_client.work / "wanted.in").write_text("demo-app\ndemo-lib>=1\n")
    compiled = uv_client.run_uv(served, "pip", "compile", "--generate-hashes", "--no-annotate", "wanted.in").stdout
    sha256 = blobs(tree)
    assert dict(re.findall(r"^([a-z-]+)==(\S+)", compiled, re.MULTILINE)) == LOCKED
    assert re.findall(r"--hash=sha256:(\w+)", compiled) == [
        sha256["demo_app-1.0-py3-none-any.whl"],
        sha256["demo_lib-1.2-py3-none-any.whl"],
        sha256["demo_src-0.1.tar.gz"],
    ]


def test_lock_says_what_the_page_says(uv_client, served, tree):
    """A lock has each file's digest, size and upload time, and its URL in the tree."""
    (uv_client.work / "pyproject.toml").write_text(PROJECT)
    uv_client.run_uv(served, "lock")
    lock = tomllib.loads((uv_client.work / "uv.lock").read_text())
    (locked,) = (package for package in lock["package"] if package["name"] == "demo-lib")
    (wheel,) = locked["wheels"]
    blob = next(tree.glob("files/*/*/*/demo_lib-1.2-py3-none-any.whl"))
    assert wheel["hash"] == f"sha256:{blob.parent.name}"
    assert wheel["size"] == blob.stat().st_size
    assert wheel["upload-time"].startswith("2026-06-01T00:00:00")
    where = wheel.get("url") or wheel["path"]
    assert where.endswith(blob.relative_to(tree).as_posix())


def test_lock_stays_good(uv_client, index, mirror, own_served):
    """What was locked installs again without a cache, also after the mirror went on, and the lock is unchanged."""
    (uv_client.work / "pyproject.toml").write_text(PROJECT)
    uv_client.run_uv(own_served, "lock")
    lock = (uv_client.work / "uv.lock").read_bytes()
    uv_client.run_uv(own_served, "sync", "--frozen")
    assert installed(uv_client.work) == LOCKED

    index.state.publish("demo-lib", *build_wheel("demo-lib", "1.4"))
    index.state.yank("demo-lib", "demo_lib-1.2-py3-none-any.whl", "superseded")
    assert counters(mirror.sync_well(), "files_new", "projects_changed") == {"files_new": 1, "projects_changed": 1}

    shutil.rmtree(uv_client.work / ".venv")
    uv_client.run_uv(own_served, "sync", "--frozen")
    assert installed(uv_client.work) == LOCKED
    uv_client.run_uv(own_served, "lock", "--check")
    assert (uv_client.work / "uv.lock").read_bytes() == lock

    uv_client.run_uv(own_served, "lock", "--upgrade")
    uv_client.run_uv(own_served, "sync", "--frozen")
    assert installed(uv_client.work) == {**LOCKED, "demo-lib": "1.4"}
