"""``mirror serve`` as a program: what ends it, what it says, whom it lets install; and read-only mounts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest
import uv

from harness.program import call_well, clean_environment
from harness.server import Server
from simulator import build_wheel


def test_address_in_use(tree, server):
    """A second server on an address ends with 2 and names it."""
    address = f"127.0.0.1:{server.address[1]}"
    done = tree.mirror.run("serve", "--root", tree.mirror.root, "--listen", address)
    assert done.returncode == 2
    assert address in done.stderr
    assert "in use" in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1", "x:99999", ":80", "no-such-host.invalid:1", "256.1.1.1:80"])
def test_address_that_is_none(tree, address):
    """An address that can't be listened on is 2."""
    assert tree.mirror.run("serve", "--root", tree.mirror.root, "--listen", address).returncode == 2


def test_nothing_to_serve(tree, tmp_path):
    """A root without a tree is 6."""
    done = tree.mirror.run("serve", "--root", tmp_path / "nothing")
    assert done.returncode == 6
    assert "mirror sync --once" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(tree, number):
    """A signal ends it with 0."""
    with Server(tree.mirror, "--workers", "2") as server:
        assert server.get("/simple/").status == 200
        assert server.end(number) == 0


def test_worker_that_is_killed(tree):
    """A process that is killed is replaced."""
    with Server(tree.mirror) as server:
        (pid,) = _children(server.process.pid)
        os.kill(pid, signal.SIGKILL)
        server.heard("worker.ended", pid=pid)
        assert server.get("/simple/").status == 200


def _children(pid: int) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], check=True, capture_output=True, text=True)
    return [int(word) for word in done.stdout.split()]


def test_pip_installs(server, tmp_path):
    """Pip installs from it, with what it depends on."""
    env = clean_environment(tmp_path, PIP_CONFIG_FILE=os.devnull, PIP_NO_CACHE_DIR="1")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
    call_well(
        [*pip, "--index-url", f"{server.url}simple/", "--target", tmp_path / "t", "demo-app"], env=env, cwd=tmp_path
    )
    assert (tmp_path / "t/demo_app/data.txt").read_text() == "x" * 100_000
    assert (tmp_path / "t/demo_lib-1.0.dist-info").is_dir()


def test_uv_installs(server, tmp_path):
    """The same with uv, by its metadata."""
    env = clean_environment(tmp_path, UV_NO_CONFIG="1", UV_PYTHON=sys.executable, UV_CACHE_DIR=str(tmp_path / "cache"))
    install = [uv.find_uv_bin(), "pip", "install", "--default-index", f"{server.url}simple", "--target", tmp_path / "t"]
    call_well([*install, "demo-app"], env=env, cwd=tmp_path)
    assert (tmp_path / "t/demo_lib-1.0.dist-info").is_dir()
    assert any(event["path"].endswith(".metadata") for event in server.events("request.answered"))


def _read_only(root) -> list[str]:
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(root)]


def _may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not _may_mount(), reason="mounting needs root")
@pytest.mark.parametrize("has_reader", [False, True], ids=["state-closed", "state-open"])
def test_read_only_mount(own, has_reader):
    """Where the root is mounted read-only for the server alone, it sees what is written elsewhere, and when it changes."""
    import sqlite3

    reader = sqlite3.connect(own.mirror.root / "state.db") if has_reader else None
    if reader is not None:
        reader.execute("SELECT count(*) FROM blob").fetchall()  # SQLite's side files stay while it is open
    try:
        with Server(own.mirror, before=_read_only(own.mirror.root)) as server:
            old, data = own.files["demo_app-1.0-py3-none-any.whl"]
            assert server.get(old).body == data
            for number in range(2, 5):
                own.index.state.publish("demo-app", *build_wheel("demo-app", f"{number}.0"))
                own.mirror.sync_well()
                own.learn()
                target, data = own.files[f"demo_app-{number}.0-py3-none-any.whl"]
                assert server.get(target).body == data
            own.index.state.status("demo-app", "quarantined")
            own.mirror.sync("--json")
            server.wait_until(lambda: server.get(old).status == 404)  # a positive answer counts for a second
            assert server.events("state.unreadable") == []
    finally:
        if reader is not None:
            reader.close()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root")
def test_other_user(own):
    """Another user, who may not read the state, serves what is public, with one warning."""
    for place in (own.mirror.work, *own.mirror.work.parents):
        if "pytest-of-" in str(place):
            place.chmod(0o755)
    before = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    if subprocess.run([*before, sys.executable, "-c", "import mirror"], check=False, capture_output=True).returncode:
        pytest.skip("another user can't run the interpreter")
    with Server(own.mirror, before=before) as server:
        for target, data in own.files.values():
            assert server.get(target).body == data
        assert len(server.events("state.unreadable")) == 1
