"""Requirements in pyproject.toml and in scripts."""

import pytest

from mirror.selection.wants import UnresolvedFile

PROJECT = """
[project]
name = "My.App"
version = "1"
requires-python = ">=3.11"
dependencies = ["flask>=3", "lib"]
[project.optional-dependencies]
Web = ["uvicorn"]
all = ["my-app[web,db]", "rich"]
db = ["psycopg"]
loop = ["my_app[loop]", "x"]
[dependency-groups]
dev = ["pytest", {include-group = "Lint"}]
lint = ["ruff"]
own = ["my_app[web]", "z"]
round = [{include-group = "round"}, "a"]
[tool.uv.sources]
lib = { workspace = true }
torch = { index = "pytorch" }
"""

CHOSEN = {
    "plain": ({}, ["flask>=3"]),
    "extra": ({"extras": ("web",)}, ["flask>=3", "uvicorn"]),
    "extra-of-extras": ({"extras": ("all",)}, ["flask>=3", "rich", "psycopg", "uvicorn"]),
    "extra-of-itself": ({"extras": ("loop",)}, ["flask>=3", "x"]),
    "group": ({"groups": ("dev",)}, ["flask>=3", "pytest", "ruff"]),
    "group-of-an-extra": ({"groups": ("own",)}, ["flask>=3", "uvicorn", "z"]),
    "group-of-itself": ({"groups": ("round",)}, ["flask>=3", "a"]),
}


@pytest.mark.parametrize(("keys", "lines"), CHOSEN.values(), ids=CHOSEN)
def test_pyproject(read, keys, lines):
    """Dependencies come with those of the named extras and groups; a workspace's member is skipped."""
    found = read({"app/pyproject.toml": PROJECT}, **keys)
    assert [line.text for line in found.lines] == lines
    assert found.skipped == ("app/pyproject.toml: project.dependencies: lib is a local path",)
    assert found.requires_python == ">=3.11"


REFUSED = {
    "no-project": ("[tool.x]\n", {}, "pyproject.toml: names no requirement"),
    "dynamic": (
        '[project]\ndynamic = ["dependencies"]\n',
        {},
        "pyproject.toml: project.dependencies: is dynamic",
    ),
    "no-such-extra": (
        PROJECT,
        {"extras": ("nope",)},
        'pyproject.toml: project.optional-dependencies: has no extra "nope"; known: all, db, loop, web',
    ),
    "no-such-group": (
        PROJECT,
        {"groups": ("nope",)},
        'pyproject.toml: dependency-groups: has no group "nope"; known: dev, lint, own, round',
    ),
    "bad-group": (
        '[dependency-groups]\na = [{x = "hunter2"}]\n',
        {"groups": ("a",)},
        "pyproject.toml: dependency-groups.a: expected requirements",
    ),
    "address": (
        '[project]\ndependencies = ["a @ https://u:hunter2@h/a.whl"]\n',
        {},
        "pyproject.toml: project.dependencies: a names an address",
    ),
    "uv-address": (
        '[project]\ndependencies = ["a"]\n[tool.uv.sources]\na = { git = "https://hunter2@h" }\n',
        {},
        "pyproject.toml: tool.uv.sources.a: names an address",
    ),
    "types": ('[project]\ndependencies = "a"\n', {}, "pyproject.toml: project.dependencies: expected a list of texts"),
    "types-of-a-table": ("project = 1\n", {}, "pyproject.toml: project: expected a table"),
    "no-toml": ('[project]\nname = "hunter2', {}, "pyproject.toml: is not valid TOML (at "),
    "deep": ("a = " + "[" * 50_000, {}, "pyproject.toml: is not valid TOML"),
    "long-number": ("a = " + "1" * 50_000, {}, "pyproject.toml: is not valid TOML"),
}


@pytest.mark.parametrize(("text", "keys", "problem"), REFUSED.values(), ids=REFUSED)
def test_pyproject_refused(read, text, keys, problem):
    """A project that can't be read as asked fails in one line, without its values."""
    found = read({"pyproject.toml": text}, **keys)
    assert isinstance(found, UnresolvedFile)
    assert found.problem.startswith(problem)
    assert "hunter2" not in found.problem


SCRIPT = """#!/usr/bin/env python3
# /// other
# x
# ///

# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "requests<3",
#   "rich",
# ]
# ///
import requests
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_script(read, newline):
    """A script's own metadata names its requirements."""
    found = read({"run.py": SCRIPT.replace("\n", newline)})
    assert [(line.text, line.origin) for line in found.lines] == [
        ("requests<3", "run.py: dependencies"),
        ("rich", "run.py: dependencies"),
    ]
    assert found.requires_python == ">=3.11"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import os\n", "run.py: has no block of script metadata (PEP 723)"),
        (2 * SCRIPT, "run.py: has more than one block of script metadata (PEP 723)"),
        ("# /// script\n# dependencies = [\n# ///\n", "run.py: is not valid TOML"),
        ('# /// script\n# requires-python = ">=3"\n# ///\n', "run.py: names no requirement"),
    ],
    ids=["none", "two", "no-toml", "nothing"],
)
def test_script_refused(read, text, problem):
    """A script without readable metadata fails."""
    assert read({"run.py": text}).problem.startswith(problem)


def test_unknown_kinds_of_files(read):
    """A lock or TOML file of another name is no requirement file."""
    for name in ("x.lock", "Cargo.toml"):
        assert "is no file that is known here" in read({name: "flask\n"}).problem
