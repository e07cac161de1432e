"""The benchmark itself: corpora are the same for the same seed, and one round over a few files finds what it should."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )


def write_corpus(root: Path, *more: str, seed: int = 4) -> dict[str, bytes]:
    shape = ["--projects=5", "--files=2", "--file-bytes=4000", f"--seed={seed}"]
    done = run("bench.corpus", str(root), *shape, *more)
    assert (done.returncode, done.stderr) == (0, "")
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_corpus_depends_on_its_seed_alone(tmp_path):
    """The same seed gives the same bytes, another one other wheels."""
    first = write_corpus(tmp_path / "1")
    assert first == write_corpus(tmp_path / "2")
    assert len([name for name in first if name.endswith(".whl")]) == 10
    other = write_corpus(tmp_path / "3", seed=5)
    assert first.keys() == other.keys()
    assert {n for n in first if first[n] == other[n]} == {"simple/root-plain.json", "simple/root-serials.json"}


def test_a_release_changes_the_chosen_projects_only(tmp_path):
    """A release adds one version to a share of the projects, with new serials, and leaves all other pages."""
    before = write_corpus(tmp_path)
    after = write_corpus(tmp_path, "--release=0.4", "--generation=1")
    assert len(after.keys() - before.keys()) == 2
    changed = sorted(n for n in before if before[n] != after[n])
    assert [n.partition("/")[0] for n in changed] == ["pypi", "pypi", "simple", "simple", "simple"]
    serials = {p["name"]: p["_last-serial"] for p in json.loads(after["simple/root-serials.json"])["projects"]}
    assert sorted(serials.values())[-2:] == [1005, 1006]


@pytest.mark.skipif(NGINX is None or shutil.which("openssl") is None, reason="nginx or openssl is not installed")
def test_one_round_over_a_few_files(tmp_path):
    """One round measures each contender, verifies the mirror's tree, and keeps ratios, table and plot."""
    for name in ("tmpfs", "disk", "results"):
        (tmp_path / name).mkdir()
    places = [f"--{name}={tmp_path / name}" for name in ("tmpfs", "disk", "results")]
    cases = [
        f"--case={case}" for case in ("cold-small", "idle-serials", "changed", "verify-small", "load-pages", "search")
    ]
    done = run("bench", "--tiny", "--rounds=1", "--keep", *places, *cases)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "results/last.json").read_bytes())
    assert kept["cases"].keys() == {"cold-small", "idle-serials", "changed", "verify-small", "load-pages", "search"}
    cold = kept["cases"]["cold-small"]
    assert cold["figures"]["mirror"]["requests"] == 1 + 30 + 60
    assert cold["figures"]["bare loop"]["requests"] == 1 + 30 + 60
    assert cold["ratios"]["bare loop"]["median"] > 0
    assert kept["cases"]["idle-serials"]["figures"]["mirror"]["requests"] == 1
    assert kept["cases"]["load-pages"]["figures"].keys() >= {"mirror", "nginx"}
    assert kept["cases"]["load-pages"]["figures"]["mirror"]["requests"] == 1000  # the figures are of so many
    assert kept["cases"]["search"]["figures"]["mirror"]["requests"] == 50 + 20
    assert kept["cases"]["verify-small"]["figures"].keys() == {"mirror", "hashlib"}
    assert kept["cases"]["verify-small"]["python"].startswith(f"CPython {platform.python_version()}, with")
    assert "**1 % changed, serials in the root** (CPython" in (tmp_path / "results/table.md").read_text()
    assert (tmp_path / "results/plot.svg").read_text().startswith("<svg ")
    assert [path.name for name in ("tmpfs", "disk") for path in (tmp_path / name).iterdir()] == []
