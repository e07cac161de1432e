"""Wants that are locks: their files by name and digest, without a resolver."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from harness.in_process import failures
from harness.wants import WantingMirror, add, proofs
from mirror.config import WantConfig
from simulator import build_wheel


@pytest.fixture
async def index(simulator):
    return await simulator(core_metadata=True)


@pytest.fixture
def mirror(tmp_path: Path, index) -> WantingMirror:
    mirror = WantingMirror(tmp_path / "mirror", {"main": index})
    mirror.env = {"PATH": "/nowhere"}
    return mirror


def lock(path: Path, *packages: tuple[str, str, bytes]) -> None:
    """Write a pylock.toml of one wheel for each package."""
    lines = ['lock-version = "1.0"', 'created-by = "a test"']
    for name, version, data in packages:
        sha256 = hashlib.sha256(data).hexdigest()
        filename = f"{name}-{version}-py3-none-any.whl"
        lines += ["[[packages]]", f'name = "{name}"', f'version = "{version}"']
        lines += [
            f'wheels = [{{name = "{filename}", url = "https://x.example/{filename}", hashes = {{sha256 = "{sha256}"}}}}]'
        ]
    path.write_text("\n".join(lines) + "\n")


async def test_a_lock_is_mirrored_by_name_and_proved_without_uv(index, mirror, tmp_path):
    """Exactly the files of the lock; two versions of a project may be among them."""
    for version in ("1.0", "2.0", "3.0"):
        add(index, "app", version, "never-needed")
    wheels = [("app", version, build_wheel("app", version, requires=["never-needed"])[1]) for version in ("1.0", "2.0")]
    lock(tmp_path / "pylock.toml", *wheels[:1])
    mirror.wants = (WantConfig(name="locked", files=(str(tmp_path / "pylock.toml"),)),)
    report = await mirror.cycle()
    assert failures(report) == []
    assert mirror.names() == {"app-1.0-py3-none-any.whl"}
    [proof] = await proofs(mirror)
    assert (proof["installable"], proof["files"]) == (True, 1)
    lock(tmp_path / "pylock.toml", *wheels[1:])
    await mirror.cycle()
    assert "app-2.0-py3-none-any.whl" in mirror.names()


async def test_other_bytes_than_the_lock_names(index, mirror, tmp_path):
    """``follow``: the owner's file is taken and named; ``refuse``: it is a gap."""
    add(index, "app", "1.0")
    lock(tmp_path / "pylock.toml", ("app", "1.0", b"other bytes"))
    files = (str(tmp_path / "pylock.toml"),)
    mirror.wants = (WantConfig(name="locked", files=files),)
    await mirror.cycle()
    [proof] = await proofs(mirror)
    assert (proof["installable"], proof["rebuilt"]) == (True, ["app-1.0-py3-none-any.whl"])
    mirror.wants = (WantConfig(name="locked", files=files, on_rebuilt="refuse"),)
    await mirror.cycle()
    assert mirror.exit_code == 0
    [proof] = await proofs(mirror)
    assert [gap["reason"] for gap in proof["gaps"]] == ["rebuilt"]
