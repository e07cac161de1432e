"""A manifest that nobody signed does not fill the memory of either side before it is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.handmade_bundles import PROGRAM, Far, Site, State, some_file

FIRST = State({"aa": [some_file("aa", "1.0")]}, 1)
LIMIT_BYTES = 512 << 20


def limited(words: list[object]) -> subprocess.CompletedProcess[str]:
    """Run a program that gets an error for more than half a GiB of memory."""
    code = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2);"
    code += " os.execv(sys.argv[2], sys.argv[2:])"
    command = [sys.executable, "-c", code, str(LIMIT_BYTES), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def spoil(site: Site, kind: str) -> Path:
    """Make a bundle whose manifest has 1 GiB: without bytes on the disk, or as blanks within its JSON."""
    path = site.make(FIRST).path
    manifest = path / "bundle.json"
    if kind == "sparse":
        with manifest.open("r+b") as file:
            file.truncate(1 << 30)
    else:
        with manifest.open("r+b") as file:
            file.seek(0)
            for _ in range(100):
                file.write(b" " * (1 << 20))
    return path


@pytest.mark.parametrize("kind", ["sparse", "blanks"])
def test_the_far_side(site: Site, far: Far, kind: str) -> None:
    """receive.py looks at size and signature first: exit code 7, nothing applied."""
    place = spoil(site, kind)
    done = limited([sys.executable, "-I", PROGRAM, place, "--root", far.root, "--site", "lab", "--trust", far.trust])
    assert (done.returncode, "Memory" in done.stderr) == (7, False), done.stderr
    assert not (far.public / "simple").exists()


def test_a_missing_signature(site: Site, far: Far) -> None:
    """Without a signature the manifest is not read at all."""
    place = spoil(site, "sparse")
    (place / "bundle.json.sig").unlink()
    done = limited([sys.executable, "-I", PROGRAM, place, "--root", far.root, "--site", "lab", "--trust", far.trust])
    assert (done.returncode, "bundle.json.sig: can't be read" in done.stderr) == (7, True), done.stderr


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_the_scanning_station(site: Site, command: str) -> None:
    """`mirror bundle inspect` and `verify` refuse it in bounded memory as well."""
    place = spoil(site, "sparse")
    done = limited([sys.executable, "-m", "mirror", "bundle", command, place])
    assert (done.returncode, "is no JSON" in done.stderr) == (7, True), done.stderr
