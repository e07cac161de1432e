"""What the program imports before it does anything: the less, the sooner it answers."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from harness.program import clean_environment
from mirror.cli import main

LIBRARIES = {
    "aiohttp",
    "aiosqlite",
    "anyio",
    "keyring",
    "msgspec",
    "packaging",
    "rich",
    "selectolax",
    "structlog",
    "yarl",
}
STANDARD = {"asyncio", "concurrent", "email", "http", "multiprocessing", "sqlite3", "ssl", "tomllib", "zipfile"}
# The modules of core are light; what would be heavy there comes from the libraries above.
OWN = {
    f"mirror.{name}"
    for name in ("config", "holdings", "publishing", "state", "sync", "tree", "upkeep", "upstream", "wiring")
}


def imported(tmp_path, *arguments: str) -> set[str]:
    """Return the modules that a run of the program imports, packages of ours in two steps."""
    names = modules(tmp_path, *arguments)
    return {".".join(name.split(".")[:2]) if name.startswith("mirror.") else name.partition(".")[0] for name in names}


def modules(tmp_path, *arguments: str) -> set[str]:
    """Return the full names of the modules that a run of the program imports."""
    command = [sys.executable, "-X", "importtime", "-m", "mirror", *arguments]
    # Measuring coverage imports much by itself.
    env = {name: value for name, value in clean_environment(tmp_path).items() if not name.startswith("COV")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", done.stderr, re.MULTILINE)
    assert "mirror.cli" in names
    return set(names)


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_answers_import_nothing_heavy(tmp_path, option):
    """The version and the help need no library but the one that reads the command line, and little of Python's own."""
    assert imported(tmp_path, option) & (LIBRARIES | STANDARD | OWN) == set()


@pytest.mark.parametrize("command", ["sync", "config", "init"])
def test_help_of_a_command(tmp_path, command):
    """The help of a command needs none of our libraries either, nor what the command itself works with."""
    assert imported(tmp_path, command, "--help") & (LIBRARIES | OWN | {"asyncio", "sqlite3", "ssl"}) == set()


def test_version_does_not_even_read_the_command_line(tmp_path):
    """``--version`` alone does without typer."""
    assert imported(tmp_path, "--version") & {"typer", "click"} == set()


def test_configuration_needs_no_network(tmp_path):
    """Commands about the configuration import nothing that connects, parses pages or opens the state.

    ``config check`` loads credentials, for which it needs a part of ``upstream``.
    """
    forbidden = {"aiohttp", "aiosqlite", "keyring", "selectolax", "sqlite3", "yarl"}
    forbidden |= OWN - {"mirror.config", "mirror.upstream"}
    imported(tmp_path, "init", "mirror.toml")
    assert imported(tmp_path, "config", "check") & forbidden == set()
    forbidden |= {"anyio", "mirror.upstream"}
    assert imported(tmp_path, "init", "other.toml") & forbidden == set()
    for command in ("show", "schema"):
        assert imported(tmp_path, "config", command) & forbidden == set()


NOT_IN_A_QUIET_CYCLE = {
    "objects": ("mirror.tree.objects", "configparser", "obstore"),
    "advisories": ("mirror.advisories", "mirror.core.advisories.osv", "anyio.from_thread"),
    "wants": ("mirror.selection.cycle", "mirror.sync.needs.pages", "mirror.sync.needs.metadata", "tarfile"),
    "versions": ("packaging",),
    "html": ("selectolax", "html", "mirror.core.pages.parse_html"),
    "flat pages": ("mirror.upstream.flat",),
    "words": ("mirror.cli.words", "mirror.cli.progress", "rich", "structlog"),
    "others": ("mirror.serve", "mirror.bundle", "mirror.daemon", "mirror.upkeep", "aiohttp.web", "multiprocessing"),
}
MOST_OF_OURS = 280
"""Modules of ours that a cycle without a change may import: each costs 0.2 to 1 ms of every cycle by hand or timer. A module
that is split into two costs 0.2 ms more than before.
"""


def test_a_quiet_cycle(index, tmp_path, monkeypatch):
    """A cycle in which nothing changed imports nothing that only other configurations and commands need."""
    monkeypatch.chdir(tmp_path)
    text = f'[mirror]\nroot = "m"\n[limits]\ndisk-reserve = "0"\n[[index]]\nname = "main"\nurl = "{index.url}"\n'
    (tmp_path / "mirror.toml").write_text(text)
    assert main(["sync", "--once"]) == 0
    names = modules(tmp_path, "sync", "--once", "--json")
    for what, unwanted in NOT_IN_A_QUIET_CYCLE.items():
        starts = tuple(f"{name}." for name in unwanted)
        found = {name for name in names if f"{name}.".startswith(starts)}
        assert found == set(), what
    ours = {name for name in names if name.partition(".")[0] == "mirror"}
    assert len(ours) <= MOST_OF_OURS, sorted(ours)
