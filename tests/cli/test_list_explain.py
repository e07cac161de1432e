"""``mirror list`` and ``mirror explain``: what they print of a real mirror, from its root alone, while no index answers."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest

from mirror.cli import main
from mirror.exit_codes import ExitCode
from simulator import build_sdist, build_wheel, withheld

CONFIGURATION = """
[mirror]
root = "m"

[limits]
disk-reserve = "0"

[[index]]
name = "chainguard"
url = "{first}"
projects = ["lib", "far", "waits", "typo", "many"]
exclude-files = ["*.zip"]

[[index]]
name = "pypi"
url = "{second}"
exclude-projects = ["secret"]
"""

WHEEL, SDIST = build_wheel("lib", "1.0"), build_sdist("lib", "1.0")


@pytest.fixture
def indexes(threaded_simulator):
    """Two indexes."""
    return threaded_simulator(), threaded_simulator()


@pytest.fixture
def mirror(indexes, tmp_path, monkeypatch, capsys):
    """A mirror of two indexes after a cycle; its working directory is the current one."""
    for name in [name for name in os.environ if name.startswith("MIRROR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    first, second = indexes
    first.state.publish("lib", *WHEEL)
    first.state.publish("lib", *SDIST)
    first.state.publish("lib", "lib-1.0.zip", b"odd")
    first.state.publish("far", "far-1.0.tar.gz", b"x", directory="python-upstream")
    first.state.publish("waits", *build_wheel("waits", "1.0"))
    first.state.publish("waits", "waits-2.0.tar.gz", b"x", hashes={"sha256": "0" * 64})
    first.inject(withheld("POLICY_COOLDOWN"), filename=build_wheel("waits", "1.0")[0])
    for number in range(1002):
        first.state.publish("many", f"many-{number:04}.zip", b"x")
    first.state.publish("many", *build_wheel("many", "1.0"))
    for project in ("lib", "far", "secret", "own"):
        second.state.publish(project, *build_wheel(project, "1.0"))
    (tmp_path / "mirror.toml").write_text(CONFIGURATION.format(first=first.url, second=second.url))
    assert main(["sync", "--once"]) == ExitCode.PARTIAL
    capsys.readouterr()
    return tmp_path


@pytest.fixture
def unasked(mirror, indexes):
    """Fail where an index is asked for anything."""
    for index in indexes:
        index.take_requests()
    yield
    assert [index.take_requests() for index in indexes] == [[], []]


def printed(capsys, *words: str) -> str:
    assert main(list(words)) == ExitCode.OK
    out, err = capsys.readouterr()
    assert err == ""
    return out


def explained(capsys, *words: str) -> dict:
    shown = json.loads(printed(capsys, "explain", *words, "--json"))
    assert shown.keys() == {"format", "project"}
    assert shown["format"] == 1
    return shown["project"]


LIB = {
    "project": "lib",
    "indexes": [
        {"name": "chainguard", "lists": True, "owns": True},
        {"name": "pypi", "lists": True, "owns": False},
    ],
    "held": [WHEEL[0], SDIST[0]],
    "left_out": [{"filename": "lib-1.0.zip", "rule": "exclude-files"}],
    "wants": [],
}


def test_the_list_as_a_table(mirror, unasked, capsys):
    """One row for each project that an index lists or the configuration names."""
    assert printed(capsys, "list").splitlines() == [
        "PROJECT  OWNER       HELD  LEFT OUT  NOTE",
        "far      chainguard     0         1  not served",
        "lib      chainguard     2         1",
        "many     chainguard     1     1,002",
        "own      pypi           1         -",
        "typo     -              0         -  not offered",
        "waits    chainguard     0         -  1 withheld, 1 failed",
    ]


@pytest.mark.parametrize("where", [[], ["--root", "m"]], ids=["configuration", "root-alone"])
def test_the_list_as_json(mirror, unasked, capsys, where):
    """The same objects from the state alone."""
    if where:
        (mirror / "mirror.toml").unlink()
    shown = json.loads(printed(capsys, "list", "--json", *where))
    assert shown["format"] == 1
    projects = {project["project"]: project for project in shown["projects"]}
    assert list(projects) == ["far", "lib", "many", "own", "typo", "waits"]
    assert projects["lib"] == LIB
    assert projects["far"]["left_out"] == [{"filename": "far-1.0.tar.gz", "rule": "skip-url-patterns"}]
    assert len(projects["many"]["left_out"]) == 1000
    assert projects["typo"] == {
        "project": "typo",
        "indexes": [{"name": name, "lists": False, "owns": False} for name in ("chainguard", "pypi")],
        "held": [],
        "left_out": [],
        "wants": [],
    }


def test_the_list_by_a_pattern(mirror, capsys):
    """Patterns are those of projects; one that matches nothing prints a sentence, and an empty list as JSON."""
    assert [line.split()[0] for line in printed(capsys, "list", "L?B").splitlines()] == ["PROJECT", "lib"]
    assert json.loads(printed(capsys, "list", "LIB", "--json")) == {"format": 1, "projects": [LIB]}
    assert json.loads(printed(capsys, "list", "no.*", "--json")) == {"format": 1, "projects": []}
    assert printed(capsys, "list", "no.*").startswith("No project matches no.*:")


def test_a_project_explained(mirror, unasked, capsys):
    """Who lists it, who owns it, what is held and what a rule leaves out."""
    assert explained(capsys, "Lib") == LIB
    assert [line.partition(" (")[0] for line in printed(capsys, "explain", "lib").splitlines()] == [
        "Project lib",
        "  chainguard: lists it and owns it",
        "  pypi: lists it; chainguard owns it, so nothing of it comes from here",
        "Held",
        f"  {WHEEL[0]}",
        f"  {SDIST[0]}",
        "Left out",
        "  lib-1.0.zip: exclude-files of chainguard",
    ]


TEXTS = {
    "not-served": ("far", "not-served: chainguard lists it, all its files are left out, pypi may not own it"),
    "not-offered": ("typo", "not-offered: projects of chainguard names it, and no index that may own it lists it"),
    "excluded": ("secret", "pypi: left out by exclude-projects"),
    "not-named": ("own", "chainguard: left out by projects"),
    "unknown": ("nobody", "pypi: does not list it"),
    "withheld": ("waits", "waits-1.0-py3-none-any.whl: withheld:"),
    "failed": ("waits", "waits-2.0.tar.gz: digest-mismatch:"),
    "many": ("many", "2 more of chainguard, whose names are not kept (exclude-files 1,002 in all)"),
    "held-file": (WHEEL[0], "Held, from chainguard: "),
    "left-out-file": ("lib-1.0.zip", "Not held: chainguard lists it, and exclude-files leaves it out."),
    "failed-file": ("waits-2.0.tar.gz", "Not held: digest-mismatch at chainguard: the index lists"),
    "unlisted-file": ("lib-7.0.tar.gz", "chainguard: its page does not list it"),
    "file-of-nobody": ("nobody-7.0.tar.gz", "Not held: no index is known to list project nobody"),
    "unnamed-file": ("many-1001.zip", "it may be among these: 2 more of chainguard"),
    "named-file": ("many-0007.zip", "exclude-files leaves it out"),
}


@pytest.mark.parametrize(("name", "said"), TEXTS.values(), ids=TEXTS)
def test_each_reason_is_said(mirror, unasked, capsys, name, said):
    """A sentence for each way in which something is here or is not."""
    assert said in printed(capsys, "explain", name)


def test_a_file_as_json_is_its_project_with_that_file_alone(mirror, capsys):
    """Held, left out by which rule, or neither."""
    assert explained(capsys, WHEEL[0]) == LIB | {"held": [WHEEL[0]], "left_out": []}
    assert explained(capsys, "lib-1.0.zip") == LIB | {"held": []}
    assert explained(capsys, "lib-9.tar.gz") == LIB | {"held": [], "left_out": []}


def test_after_an_upgrade_the_missing_names_are_said(mirror, capsys):
    """Where an older version has read the page, its left-out files have no names: --full brings them."""
    with closing(sqlite3.connect(mirror / "m/state.db")) as connection:
        connection.execute("DELETE FROM left_out")
        connection.commit()
    for name in ("lib", "lib-1.0.zip"):
        assert (
            "1 file of chainguard without a name: an older version of this program read its page;"
            " `mirror sync --once --full` reads it again" in printed(capsys, "explain", name)
        )


def test_a_file_that_left_the_pages(mirror, capsys):
    """When it was published until is said too."""
    text = (mirror / "mirror.toml").read_text()
    (mirror / "mirror.toml").write_text(text.replace('["*.zip"]', '["*.zip", "lib-1.0.tar.gz"]'))
    main(["sync", "--once"])
    capsys.readouterr()
    said = printed(capsys, "explain", SDIST[0])
    assert "exclude-files leaves it out." in said
    assert "  It was published until 2" in said


def test_neither_works_without_a_state(tmp_path, capsys, monkeypatch):
    """Exit code 6 and one line; nothing is made."""
    monkeypatch.chdir(tmp_path)
    for words in (["list"], ["explain", "lib"]):
        assert main([*words, "--root", "m"]) == ExitCode.STORAGE
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_name_at_all(mirror, capsys):
    """A name that can't be a project or a file is wrong usage."""
    assert main(["explain", "../etc"]) == ExitCode.USAGE
    assert "not the name of a project" in capsys.readouterr().err
