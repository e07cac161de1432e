"""Collect the facts of ``projects.json`` from an index: names, versions, dependencies, tags; no text and no code.

Run by hand, with a network, where the corpus should become newer::

    .venv/bin/python tests/corpus/collect.py

uv locks the requirements as they were on some days, which gives some hundred projects in several versions with the names
of their wheels; pip reports the metadata of each version, without its dependencies and without downloading a wheel.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

FILE = Path(__file__).with_name("projects.json")
REQUIREMENTS = ("fastapi[all]", "pandas", "jupyterlab", "pytest")
DAYS = ("2026-11-20", "2026-03-01", "2025-06-01")
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = {
    "linux": ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"],
    "win32": ["win_amd64"],
}
_PROJECT = """\
[project]
name = "corpus"
version = "1"
requires-python = ">=3.11,<3.14"
dependencies = {dependencies}
[tool.uv]
environments = ["sys_platform == 'linux'", "sys_platform == 'win32'"]
"""
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")

Corpus = dict[str, dict[str, dict[str, Any]]]


def lock(day: str, folder: Path) -> dict[tuple[str, str], list[str]]:
    """Return the wheels of each locked version, as the index was on a day."""
    text = _PROJECT.format(dependencies=json.dumps(list(REQUIREMENTS)))
    (folder / "pyproject.toml").write_text(text)
    (folder / "uv.lock").unlink(missing_ok=True)
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "lock", "--no-config", "--python", sys.executable, "--exclude-newer", f"{day}T00:00:00Z"]
    subprocess.run(command, cwd=folder, check=True)
    found = {}
    for package in tomllib.loads((folder / "uv.lock").read_text())["package"]:
        if "registry" in package["source"]:
            wheels = [wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", [])]
            found[package["name"], package["version"]] = sorted(wheels)
    return found


def report(pins: Sequence[str], python: str, platforms: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Return the metadata of some pins for one Python and platform."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "report.json"
        command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--quiet", "--no-deps"]
        command += ["--ignore-installed", "--report", str(out), "--target", f"{place}/t", "--only-binary", ":all:"]
        command += ["--python-version", python, *(f"--platform={one}" for one in platforms), *pins]
        if subprocess.run(command, check=False).returncode == 0:
            return [item["metadata"] for item in json.loads(out.read_text())["install"]]
    # one that does not fit after all hides the others
    return [one for pin in pins for one in report([pin], python, platforms)] if len(pins) > 1 else []


def fitting(wheels: Iterable[str], python: str, platforms: Sequence[str]) -> bool:
    """Return whether one of some wheels installs there."""
    number = python.replace(".", "")
    for name in wheels:
        for tag in parse_wheel_filename(name)[3]:
            if (tag.platform == "any" or tag.platform in platforms) and _is_for(tag, number):
                return True
    return False


def _is_for(tag: Tag, number: str) -> bool:
    is_stable = tag.abi == "abi3" and tag.interpreter.startswith("cp3")
    return tag.interpreter in {"py3", "py2", f"py{number}", f"cp{number}"} or is_stable


def collect() -> Corpus:
    """Return the corpus."""
    wheels: dict[tuple[str, str], list[str]] = {}
    corpus: Corpus = {}
    for day in DAYS:
        with tempfile.TemporaryDirectory() as place:
            locked = lock(day, Path(place))
        missing = {pin: names for pin, names in locked.items() if pin not in wheels}
        wheels |= locked
        for python in PYTHONS:
            for platforms in PLATFORMS.values():
                here = [pin for pin, names in missing.items() if fitting(names, python, platforms)]
                pins: dict[str, str] = {}
                for name, version in here:  # one version of each project at a time
                    pins.setdefault(name, version)
                for found in report([f"{n}=={v}" for n, v in pins.items()], python, platforms) if pins else []:
                    name = str(canonicalize_name(found["name"]))
                    requires = found.get("requires_dist", [])
                    facts = {"wheels": wheels[name, pins[name]], "requires": requires}
                    if found.get("requires_python"):
                        facts["requires-python"] = found["requires_python"]
                    corpus.setdefault(name, {})[pins[name]] = facts
                    missing.pop((name, pins[name]), None)
        print(day, len(locked), "projects;", len(missing), "without metadata:", sorted(missing)[:9], file=sys.stderr)
    return without_unasked_extras(corpus)


def without_unasked_extras(corpus: Corpus) -> Corpus:
    """Return the corpus without the dependencies of extras that nothing in it asks for, and with tags for names."""
    asked: dict[str, set[str]] = {}
    texts = [text for versions in corpus.values() for facts in versions.values() for text in facts["requires"]]
    for text in (*REQUIREMENTS, *texts):
        requirement = Requirement(text)
        asked.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    for name, versions in corpus.items():
        extras = {canonicalize_name(extra) for extra in asked.get(name, ())}
        for facts in versions.values():
            facts["requires"] = [text for text in facts["requires"] if _extra_of(text) in {None, *extras}]
            facts["wheels"] = sorted({file.removesuffix(".whl").split("-", 2)[2] for file in facts["wheels"]})
    return corpus


def _extra_of(text: str) -> str | None:
    found = _EXTRA.search(text)
    return canonicalize_name(found[1]) if found else None


if __name__ == "__main__":
    lines = [
        f"{json.dumps(name)}: {json.dumps(versions, sort_keys=True)}" for name, versions in sorted(collect().items())
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
