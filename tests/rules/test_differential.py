"""Pre-releases, yanks and specifiers, compared with the choices of uv and pip on the same pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.in_process import Mirror
from mirror.core.files.versions import version_of
from simulator import build_wheel

CASES = {
    "plain": (["1.0", "1.10", "1.9"], ""),
    "pre": (["1.0", "2.0rc1", "2.0.dev1", "1.1a1"], ""),
    "only-pre": (["2.0a1", "2.0rc1", "2.0.dev1"], ""),
    "post": (["1.0", "1.0.post1", "1.0.post1.dev1"], ""),
    "local": (["1.0", "1.0+a.1", "1.0+a.10"], "<=1.0"),
    "epoch": (["2024.1", "1!1.0"], ""),
    "below": (["1.0", "1.9.9", "2.0", "2.0rc1"], "<2"),
    "above": (["1.0", "1.0.post1", "1.0.1", "1.1"], ">1.0,<1.1"),
    "above-local": (["1.0", "1.0+x", "1.0.1"], ">1.0"),
    "not": (["1.0", "1.1", "1.2"], "!=1.2"),
    "not-any": (["1.0", "1.1", "1.1.5", "1.2"], "!=1.2,!=1.1.*"),
    "any": (["1.0", "1.4", "1.4.9", "1.5"], "==1.4.*"),
    "like": (["2.2", "2.3.1", "2.9", "3.0"], "~=2.2"),
    "like-more": (["2.2.0", "2.2.9", "2.3.0"], "~=2.2.0"),
    "padded": (["1", "1.0.1"], "==1.0.0"),
    "yanked": (["1.0", "1.1!", "1.2!"], ""),
    "yanked-below": (["1.0", "1.1!", "2.0"], "<2"),
    "yanked-pre": (["1.0rc1!", "1.0rc2", "0.9"], ""),
    "several": (["0.5", "1.0", "1.5", "2.0"], ">=1.0,<2,!=1.5"),
}
"""By project: its versions, a mark after the yanked ones; and a specifier."""


@pytest.fixture
async def index(simulator):
    index = await simulator(core_metadata=True)
    for project, (versions, _) in CASES.items():
        for text in versions:
            filename, data = build_wheel(project, text.removesuffix("!"))
            index.state.publish(project, filename, data, yanked=text.endswith("!"))
    return index


def run(command, folder):
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "UV_NO_CONFIG": "1", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def choices_of_uv(url, lines, folder):
    uv = Path(sys.executable).parent / "uv"
    out = run(
        [uv, "pip", "compile", "-q", "--no-header", "--no-annotate", "--no-cache", "--index-url", url, lines], folder
    )
    return dict(line.split("==") for line in out.split() if "==" in line)


def choices_of_pip(url, lines, folder):
    options = ["--dry-run", "--ignore-installed", "--no-deps", "--no-cache-dir", "--quiet", "--report", "-"]
    out = run([sys.executable, "-m", "pip", "install", *options, "--index-url", url, "-r", lines], folder)
    return {one["metadata"]["name"]: one["metadata"]["version"] for one in json.loads(out)["install"]}


async def test_uv_and_pip_choose_the_newest_that_the_rules_leave(index, tmp_path):
    """With ``where-needed``, no yanked files, the specifier and ``newest = 1`` the mirror has exactly the choice of each."""
    from anyio import to_thread

    lines = tmp_path / "r.txt"
    lines.write_text("".join(f"{project}{specifier}\n" for project, (_, specifier) in CASES.items()))
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    specifiers = tuple(f"{project}{specifier}" for project, (_, specifier) in CASES.items() if specifier)
    mirror.rules = {"pre_releases": "where-needed", "yanked": "never", "versions": specifiers, "newest": 1}
    await mirror.cycle()
    held = {project: [str(version_of(name)) for name in files] for project, files in mirror.files().items()}
    chosen = await to_thread.run_sync(choices_of_uv, index.url, lines, tmp_path)
    by_pip = await to_thread.run_sync(choices_of_pip, index.url, lines, tmp_path)
    assert chosen == by_pip
    assert {project: version in held.get(project, []) for project, version in chosen.items()} == dict.fromkeys(
        CASES, True
    )
    assert {p: v for p, v in held.items() if len(v) > 1}.keys() <= {
        "local"
    }  # local versions come with their public one
