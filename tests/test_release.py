"""The release command: the same bytes wherever it runs, a digest list, a bill of materials, a signature, a base by digest."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = "python@sha256:" + "a" * 64

pytestmark = [
    pytest.mark.usefixtures("unmeasured"),
    pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="needs a git checkout"),
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed"),
]


def run(checkout: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, checkout / ".ci/release.py", *arguments]
    env = {**os.environ, "PYTHONPATH": str(checkout), **variables}
    return subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, cwd=checkout, env=env)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("release") / "checkout")


def clone(place: Path) -> Path:
    safe = ["-c", f"safe.directory={ROOT}"]
    subprocess.run(["git", *safe, "clone", "-q", "--no-hardlinks", ROOT, place], check=True, capture_output=True)
    return place


@pytest.fixture
def key(tmp_path: Path) -> Path:
    made = tmp_path / "release-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made], check=True)
    return made


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir() if path.name != "SHA256SUMS.sig"}


def test_release(tmp_path, checkout, key):
    """Two checkouts, umasks and time zones make the same bytes; list and signature cover every file."""
    done = run(checkout, "--key", key, "--base", BASE, "--out", tmp_path / "first")
    assert done.returncode == 0, done.stderr
    other = clone(tmp_path / "elsewhere" / "deep")
    umask = os.umask(0o077)
    done = run(other, "--key", key, "--base", BASE, "--out", tmp_path / "second", TZ="Asia/Tokyo")
    os.umask(umask)
    assert done.returncode == 0, done.stderr
    found = contents(tmp_path / "first")
    assert found == contents(tmp_path / "second")

    sums = dict(reversed(line.split("  ")) for line in found.pop("SHA256SUMS").decode().splitlines())
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    assert {re.sub(r"\d+\.\d+\.\d+[^.-]*", "V", name) for name in sums} == {
        "offline_mirror-V-py3-none-any.whl",
        "offline_mirror-V.tar.gz",
        "offline_mirror-V.cdx.json",
        "requirements.lock",
        "build.lock",
        "Containerfile",
        "base-image",
    }
    public = key.with_suffix(".pub").read_text()
    (tmp_path / "trust").write_text(f'release namespaces="bundle@offline-mirror" {public}')
    verify = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "trust", "-I", "release", "-n", "bundle@offline-mirror"]
    with (tmp_path / "first/SHA256SUMS").open("rb") as data:
        command = [*verify, "-s", tmp_path / "first/SHA256SUMS.sig"]
        assert subprocess.run(command, stdin=data, check=False, capture_output=True).returncode == 0

    (sbom,) = [json.loads(data) for name, data in found.items() if name.endswith(".cdx.json")]
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==([^ ]+)", found["requirements.lock"].decode(), re.MULTILINE)
    assert [(c["name"], c["version"]) for c in sbom["components"]] == pinned
    assert all(c["properties"] for c in sbom["components"])
    (wheel,) = (tmp_path / "first").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "mirror/systemd/mirror.service" in archive.namelist()
        assert any(name.endswith(".data/data/share/man/man1/mirror.1") for name in archive.namelist())


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("", "BASE: expected an image by digest"),
        ("python:3.13-slim", "BASE: expected an image by digest"),
        ("python@sha256:abc", "BASE: expected an image by digest"),
        (f"{BASE} --privileged", "BASE: expected an image by digest"),
    ],
)
def test_base_without_a_digest(tmp_path, checkout, key, base, said):
    """An image that is named by a tag may be another one tomorrow: exit code 2, and nothing is written."""
    done = run(checkout, "--key", key, "--base", base, "--out", tmp_path / "out")
    assert (done.returncode, said in done.stderr, (tmp_path / "out").exists()) == (2, True, False)


def test_refused(tmp_path, checkout, key):
    """No key, an old release in the way, or changes that are not committed: exit code 2."""
    done = run(checkout, "--key", tmp_path / "absent", "--base", BASE, "--out", tmp_path / "out")
    assert (done.returncode, "KEY: expected a key" in done.stderr) == (2, True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/old").touch()
    done = run(checkout, "--key", key, "--base", BASE, "--out", tmp_path / "full")
    assert (done.returncode, "is not empty" in done.stderr) == (2, True)
    before = (checkout / "LICENSE").read_text()
    (checkout / "LICENSE").write_text(f"{before}changed")
    done = run(checkout, "--key", key, "--base", BASE, "--out", tmp_path / "out")
    (checkout / "LICENSE").write_text(before)
    assert (done.returncode, "not committed" in done.stderr) == (2, True)


def test_locks_name_every_dependency():
    """Each dependency of the project, the resolver and the store's client are pinned by digest in the lock that the container installs from."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["resolve"], *extras["store"]]
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0] for line in declared}
    lock = (ROOT / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([A-Za-z0-9._-]+)==[^\n]*\n((?: +--hash=[^\n]+\n)+)", lock, re.MULTILINE))
    assert names <= set(pinned)
    assert len(pinned) == len(re.findall(r"^[A-Za-z0-9]", lock, re.MULTILINE))
    containerfile = (ROOT / "Containerfile").read_text()
    assert containerfile.count("--require-hashes") == containerfile.count("-r requirements.lock") + containerfile.count(
        "-r build.lock"
    )
