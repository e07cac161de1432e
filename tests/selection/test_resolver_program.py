"""The resolver as a program: where it connects, and how it may end."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from harness.in_process import failures
from harness.wants import WantingMirror, add
from simulator import build_sdist


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_it_connects_to_the_view_alone(threaded_simulator, tmp_path: Path, unmeasured):
    """Of the whole cycle only uv's processes connect to the view's port, and to nothing else; no code of an index runs."""
    index = threaded_simulator(core_metadata=True)
    index.state.publish("app", *build_sdist("app", "1.0", requires=["lib"]))
    add(index, "lib", "1.0")
    config = tmp_path / "mirror.toml"
    config.write_text(
        f'[mirror]\nroot = "{tmp_path / "root"}"\n[limits]\ndisk-reserve = "0"\n'
        f'[[index]]\nname = "main"\nurl = "{index.url}"\nauth = {{ kind = "none" }}\n'
        '[[target]]\nname = "t"\npython = ["3.12.4"]\nplatforms = ["windows-x86_64"]\n'
        '[[want]]\nname = "apps"\nrequirements = ["app"]\n'
    )
    trace = tmp_path / "trace"
    traced = ["strace", "-f", "-qq", "-s", "200", "-e", "trace=connect,execve", "-o", str(trace)]
    program = [sys.executable, "-m", "mirror", "sync", "--once", "--config", str(config)]
    done = subprocess.run([*traced, *program], check=False, capture_output=True, timeout=300)
    if b"ptrace" in done.stderr:
        pytest.skip("processes can't be traced here")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    ports = {int(port) for line in lines for port in re.findall(r"sin_port=htons\((\d+)\)", line)}
    addresses = {address for line in lines for address in re.findall(r'inet_(?:addr|pton)\([^"]*"([^"]+)"', line)}
    assert addresses == {"127.0.0.1"}
    assert len(ports - {urlsplit(index.url).port}) == 2  # the views of the resolution and of the proof
    programs = {Path(name).name for line in lines for name in re.findall(r'execve\("([^"]+)"[^=]*= 0', line)}
    assert all(name == "uv" or name.startswith("python") for name in programs - {"mirror"})
    assert "resolver:" not in "".join(line for line in lines if "execve" in line)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo "evil==6.6.6"', "which it was not shown"),
        ("kill -9 $$", "ended by signal 9"),
        ("echo 'no idea' >&2; exit 2", "no idea"),
    ],
    ids=["invents", "dies", "fails"],
)
async def test_a_resolver_that_misbehaves(simulator, tmp_path: Path, script: str, words: str):
    """The want is unresolved, and the reason is named; nothing else of the cycle suffers."""
    index = await simulator(core_metadata=True)
    add(index, "app", "1.0")
    program = tmp_path / "uv"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo uv 9; exit; }}\n{script}\n')
    program.chmod(0o755)
    mirror = WantingMirror(tmp_path / "mirror", {"main": index})
    mirror.env = {"MIRROR_UV": str(program)}
    mirror.want("app")
    report = await mirror.cycle()
    assert [reason for *_, reason in failures(report)] == ["unresolved"]
    assert words in report.failures[0].detail
    assert mirror.exit_code == 5
