"""Wants over an index of real projects, beside what uv and pip do when they are asked directly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from corpus.index import load_corpus, publish_corpus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.pylock import Pylock

from harness.wants import WantingMirror, proofs
from mirror.config import TargetConfig
from mirror.selection.targets import Environment, environments
from simulator import ThreadedSimulator

WANTS = ("fastapi[all]", "pandas", "jupyterlab", "pytest")
TARGETS = (
    TargetConfig(name="old", python=("3.11.9",), platforms=("linux-x86_64",), glibc="2.28"),
    TargetConfig(name="arm", python=("3.13.1",), platforms=("linux-aarch64",), glibc="2.28"),
    TargetConfig(name="desk", python=("3.12.4",), platforms=("windows-x86_64",)),
)
HERE = TargetConfig(
    name="here",
    python=(".".join(map(str, sys.version_info[:3])),),
    platforms=(f"linux-{os.uname().machine}",),
    glibc="2.28",
)


@pytest.fixture(scope="module")
def upstream():
    with ThreadedSimulator(core_metadata=True) as index:
        publish_corpus(index.state)
        yield index


def uv(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run uv with nothing of this machine's configuration."""
    program = Path(sys.executable).with_name("uv")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    command = [program if program.exists() else "uv", *arguments, "--cache-dir", folder / "cache"]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=env)


def compiled(url: str, lines: Sequence[str], place: Environment, folder: Path) -> set[str] | None:
    """Return the wheels that uv and ``packaging.pylock`` choose from the index itself; None where there is no answer."""
    asked = folder / "asked.in"
    asked.write_text("".join(f"{line}\n" for line in lines))
    done = uv(
        *("pip", "compile", "--quiet", "--format", "pylock.toml", "--only-binary", ":all:", "--default-index", url),
        *("--python", sys.executable, "--python-version", place.uv_python_version),
        *("--python-platform", place.uv_python_platform, asked),
        folder=folder,
    )
    if done.returncode:
        return None
    lock = Pylock.from_dict(tomllib.loads(done.stdout))
    chosen = lock.select(environment=place.markers, tags=list(place.tags))
    return {wheel.filename for _, wheel in chosen}


PLACES = [environments(target)[0] for target in TARGETS]


@pytest.fixture(scope="module")
def chosen(upstream, tmp_path_factory: pytest.TempPathFactory) -> list[set[str] | None]:
    """The wheels that uv chooses for each of the targets."""
    folder = tmp_path_factory.mktemp("uv")
    return [compiled(upstream.url, WANTS, place, folder) for place in PLACES]


NAB = Path(sys.executable).with_name("nab")
HAS_NAB = NAB.exists()
_NAB_PLATFORMS = {
    "linux-x86_64": '{ id = "linux_x86_64", runs-on-libc = "2.28" }',
    "linux-aarch64": '{ id = "linux_aarch64", runs-on-libc = "2.28" }',
    "windows-x86_64": '"windows_amd64"',
}
_NAB_PROJECT = """\
[project]
name = "asked"
version = "0"
requires-python = ">=3.11"
dependencies = {lines}

[tool.nab]
dist-policy = "wheel-only"
build-policy = "never"
environment = {{ python = "{release}", platform = {platform} }}
indexes = [{{ name = "main", url = "{url}" }}]
"""


def second_opinion(url: str, lines: Sequence[str], place: Environment, folder: Path) -> set[str] | None:
    """Return the wheels that nab, a resolver of its own kind, chooses; None where there is no answer."""
    platform = _NAB_PLATFORMS[place.platform]
    text = _NAB_PROJECT.format(lines=json.dumps(list(lines)), release=place.release, platform=platform, url=url)
    (folder / "pyproject.toml").write_text(text)
    lock = folder / "pylock.toml"
    lock.unlink(missing_ok=True)
    command = [NAB, "lock", "pyproject.toml", "--no-cache", "--output", lock]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env, cwd=folder)
    if done.returncode:
        assert "error: cannot" in done.stderr, done.stderr  # it has understood the question
        return None
    chosen = Pylock.from_dict(tomllib.loads(lock.read_text())).select(environment=place.markers, tags=list(place.tags))
    return {wheel.filename for _, wheel in chosen}


@pytest.mark.skipif(not HAS_NAB, reason="nab is not there, which resolves a second time: pip install -e '.[dev]'")
def test_a_second_resolver_has_the_same_opinion(upstream, chosen, tmp_path: Path):
    """nab, asked directly, chooses the files that uv chose: for each target, from the index itself."""
    for place, files in zip(PLACES, chosen, strict=True):
        assert second_opinion(upstream.url, WANTS, place, tmp_path) == files


def test_real_requirements_for_three_targets(upstream, chosen, tmp_path: Path):
    """Exactly the files that an independent calculation picks are mirrored; all of it is proved, and installs from the
    tree where it can run.
    """
    mirror = WantingMirror(tmp_path / "mirror", {"main": upstream})
    mirror.targets = TARGETS
    mirror.want(*WANTS)
    report = anyio.run(mirror.cycle)
    assert report.failures == []
    folder = tmp_path / "uv"
    folder.mkdir()
    assert mirror.names() == {name for files in chosen for name in files or ()}
    found = anyio.run(proofs, mirror)
    assert [one["target"].partition("/")[0] for one in found if one["installable"]] == [one.name for one in TARGETS]
    tree = (mirror.root / "public/simple").as_uri()
    upstream.take_requests()
    for place in PLACES:
        options = ["--python-version", place.uv_python_version, "--python-platform", place.uv_python_platform]
        done = uv("pip", "install", "--dry-run", "--target", folder / "t", "--only-binary", ":all:", "--default-index",
                  f"{tree}/", *options, *WANTS, folder=folder)  # fmt: skip
        # over file:// uv knows no metadata but that of the wheels that it opens: no network is asked
        assert done.returncode == 0, done.stderr
    assert upstream.take_requests() == []


CORPUS = load_corpus()


@st.composite
def requirements(draw: st.DrawFn) -> list[str]:
    """Return a few requirements over the corpus, some with bounds that exclude versions."""
    lines = []
    for project in draw(st.lists(st.sampled_from(sorted(CORPUS)), min_size=1, max_size=4, unique=True)):
        bound = draw(st.sampled_from(["", "", "<=", ">=", "==", "<"]))
        version = draw(st.sampled_from(sorted(CORPUS[project])))
        lines.append(f"{project}{bound}{version}" if bound else project)
    return lines


@settings(
    max_examples=max(2, settings.default.max_examples // 50),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(lists=st.lists(requirements(), min_size=3, max_size=4))
def test_the_closure_is_what_uv_chooses(upstream, lists):
    """For any requirements the mirrored set equals that of ``uv pip compile`` asked directly, and none where uv has none;
    pip installs the first of them from the tree.
    """
    work = Path(tempfile.mkdtemp())
    try:
        mirror = WantingMirror(work / "mirror", {"main": upstream})
        mirror.targets = (HERE,)
        mirror.wants = tuple(w for number, lines in enumerate(lists) for w in mirror.wanted(*lines, name=f"w{number}"))
        anyio.run(mirror.cycle)
        place = environments(HERE)[0]
        expected = [compiled(upstream.url, lines, place, work) for lines in lists]
        query = "SELECT r.want, w.filename FROM wanted w JOIN resolution r ON r.id = w.resolution WHERE w.part = 'set'"
        rows = mirror.query(query)
        found = [{name for want, name in rows if want == f"w{number}"} for number in range(len(lists))]
        assert found == [files or set() for files in expected]
        first = next((lines for lines, files in zip(lists, expected, strict=True) if files), None)
        if HAS_NAB:  # two resolvers may choose otherwise, but not whether there is an answer
            opinion = second_opinion(upstream.url, lists[0], place, work)
            assert (opinion is None) == (expected[0] is None)
        if first is not None:
            pip = [
                sys.executable,
                "-m",
                "pip",
                "--isolated",
                "--disable-pip-version-check",
                "--no-cache-dir",
                "install",
            ]
            tree = f"{(mirror.root / 'public/simple').as_uri()}/"
            done = subprocess.run(
                [
                    *pip,
                    "--quiet",
                    "--no-deps" if len(first) > 3 else "--quiet",
                    "--index-url",
                    tree,
                    "--target",
                    work / "t",
                    *first,
                ],
                check=False,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
    finally:
        shutil.rmtree(work, ignore_errors=True)
