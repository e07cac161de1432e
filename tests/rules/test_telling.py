"""What a rule left out, as a person finds it: report, ``explain``, ``status``, ``check`` and the project's page."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from mirror.cli import main
from mirror.exit_codes import ExitCode
from mirror.serve.facts.projects import load_project_facts
from mirror.serve.facts.reading import Reading
from mirror.serve.state_warning import StateWarning
from mirror.tree.layout import Layout
from mirror.tree.served import ServedTree
from simulator import build_sdist, build_wheel

CONFIGURATION = """
[mirror]
root = "m"

[limits]
disk-reserve = "0"

[rules]
min-age = "7d"
versions = ["lib<3"]

[[target]]
name = "linux"
python = ["3.12.4"]
platforms = ["linux-x86_64"]

[[index]]
name = "main"
url = "{url}"
"""


@pytest.fixture
def index(threaded_simulator):
    return threaded_simulator(core_metadata=True)


@pytest.fixture
def mirror(index, tmp_path, monkeypatch, capsys):
    """A mirror by the command line; the report of its first cycle."""
    for name in [name for name in os.environ if name.startswith("MIRROR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    index.state.publish("lib", *build_wheel("lib", "1.0"))
    index.state.publish("lib", *build_wheel("lib", "2.0"), upload_time="2199-01-01T00:00:00Z")
    index.state.publish("lib", *build_wheel("lib", "3.0"))
    index.state.publish("lib", *build_sdist("lib", "4.0"), upload_time="2199-01-02T00:00:00Z")
    index.state.publish("new", *build_wheel("new", "1.0"), upload_time="2199-01-02T00:00:00Z")
    Path("mirror.toml").write_text(CONFIGURATION.format(url=index.url), encoding="utf-8")
    assert main(["sync", "--once", "--json"]) == ExitCode.OK
    return json.loads(capsys.readouterr().out)


END, NEXT = "2199-01-08T00:00:00Z", "2199-01-09T00:00:00Z"


def printed(capsys, *words):
    code = main(list(words))
    return code, capsys.readouterr().out


def test_rules_tell(mirror, index, capsys):
    """Each file has its rule, the first in order, and the end of its cooldown wherever it is shown; nothing is asked."""
    [shown] = mirror["indexes"]
    assert (shown["left_out"], shown["cooldown_until"]) == ({"min-age": 3, "versions": 1}, END)
    assert (shown["files_skipped"], mirror["outcome"]) == (4, "complete")
    index.take_requests()
    _, out = printed(capsys, "explain", "lib", "--json")
    assert json.loads(out)["project"]["left_out"] == [
        {"filename": "lib-2.0-py3-none-any.whl", "rule": "min-age"},
        {"filename": "lib-3.0-py3-none-any.whl", "rule": "versions"},
        {"filename": "lib-4.0.tar.gz", "rule": "min-age"},
    ]
    _, out = printed(capsys, "explain", "lib")
    assert f"lib-2.0-py3-none-any.whl: min-age of main, until {END}" in " ".join(out.split())
    _, out = printed(capsys, "explain", "lib-2.0-py3-none-any.whl")
    assert f"main lists it, and min-age leaves it out, until {END}." in " ".join(out.split())
    _, out = printed(capsys, "status")
    assert f"main: the next cooldown of a file ends {END}" in " ".join(out.split())
    assert index.take_requests() == []


GAPS = {
    "lib==2.0": ("cooldown", f"until {END}"),
    "lib==3.0": ("left-out", "lib-3.0-py3-none-any.whl is left out by versions of main"),
    "lib>=4": ("cooldown", f"until {NEXT}"),
    "lib==9": ("no-version", "tree lists 1.0"),
    "new": ("cooldown", f"until {NEXT}"),
}


def test_check_names_the_rule_of_a_file_that_no_want_needed(mirror, index, capsys):
    """``check FILE`` takes its reasons from the state: a rule or a cooldown, and never asks an index."""
    index.take_requests()
    for requirement, (reason, words) in GAPS.items():
        Path("r.txt").write_text(requirement + "\n", encoding="utf-8")
        code, out = printed(capsys, "check", "r.txt", "--json")
        [result] = json.loads(out)["results"]
        assert (code, [gap["reason"] for gap in result["gaps"]]) == (ExitCode.PARTIAL, [reason]), requirement
        assert words in result["gaps"][0]["detail"]
    assert index.take_requests() == []


def test_replacements_that_wait_are_told(mirror, index, capsys):
    """Other bytes under a held name: the file is held, and its replacement is left out until its cooldown ends."""
    name = "lib-1.0-py3-none-any.whl"
    index.state.replace("lib", name, build_wheel("lib", "1.0", requires=("x",))[1])
    assert main(["sync", "--once"]) == ExitCode.OK
    capsys.readouterr()
    _, out = printed(capsys, "explain", name, "--json")
    project = json.loads(out)["project"]
    assert (project["held"], project["left_out"]) == ([name], [{"filename": name, "rule": "min-age"}])
    _, out = printed(capsys, "explain", name)
    assert "main lists other bytes of it now, which min-age leaves out, until 2" in " ".join(out.split())


def test_the_project_page_of_the_web(mirror, tmp_path):
    """The page for people has each left-out file with its rule, and until when; also where nothing is held."""
    reading = Reading(tmp_path / "m/state.db", ServedTree(Layout(tmp_path / "m")), StateWarning())
    with contextlib.closing(reading):
        facts, new = load_project_facts(reading, "lib"), load_project_facts(reading, "new")
    assert facts.left_out[:2] == (
        ("lib-2.0-py3-none-any.whl", f"min-age, until {END}"),
        ("lib-3.0-py3-none-any.whl", "versions"),
    )
    assert new.left_out == (("new-1.0-py3-none-any.whl", f"min-age, until {NEXT}"),)
