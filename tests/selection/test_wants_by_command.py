"""What the commands say of wants: the plan, ``why``, ``explain``, ``list`` and ``check``, from a real configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.program import Mirror, on_terminal
from mirror.cli.app import PROGRAM
from mirror.cli.groups import describe
from mirror.config.loading import config_of_root
from mirror.errors import ConfigError, NotProved
from mirror.exit_codes import exit_code_for
from mirror.selection.proof.checking import questions
from simulator import build_wheel

_TARGET = """
[[target]]
name = "linux"
python = ["3.12.4"]
platforms = ["linux-x86_64"]
"""


@pytest.fixture
def indexes(threaded_simulator, tmp_path: Path):
    """Two indexes, and a configuration with one want."""
    first, second = threaded_simulator(core_metadata=True), threaded_simulator(core_metadata=True)
    second.state.publish("app", *build_wheel("app", "1.0", requires=["lib>=1"]))
    first.state.publish("lib", *build_wheel("lib", "1.0"))
    first.state.publish("other", *build_wheel("other", "1.0"))
    tables = "".join(
        f'[[index]]\nname = "{name}"\nurl = "{index.url}"\nauth = {{ kind = "none" }}\n'
        for name, index in (("first", first), ("second", second))
    )
    (tmp_path / "wants.txt").write_text("app  # the one\n")
    want = '[[want]]\nname = "apps"\nfiles = ["wants.txt"]\n'
    config = tmp_path / "mirror.toml"
    config.write_text(f'[mirror]\nroot = "{tmp_path / "root"}"\n[limits]\ndisk-reserve = "0"\n{tables}{_TARGET}{want}')
    return config


def run(config: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(describe(PROGRAM), ["--config", str(config), *arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def test_commands_speak_of_wants(indexes: Path, tmp_path: Path):
    """A plan, a cycle, and the answers to «why is it here», «what did the first index lack», «does it install»."""
    plan = json.loads(run(indexes, "sync", "--once", "--dry-run", "--json"))["plan"]
    assert [(item["filename"], item["wants"]) for item in plan] == [
        ("lib-1.0-py3-none-any.whl", ["apps"]),
        ("app-1.0-py3-none-any.whl", ["apps"]),
    ]
    assert not (tmp_path / "root").exists()
    assert "linux/3.12.4/linux-x86_64" in run(indexes, "sync", "--once", "--dry-run")
    run(indexes, "sync", "--once")
    why = json.loads(run(indexes, "why", "lib", "--json"))["paths"]
    target = "linux/3.12.4/linux-x86_64"
    assert why == [{"want": "apps", "target": target, "path": ["app", "lib>=1"]}]
    assert json.loads(run(indexes, "why", "lib==9", "--json"))["paths"] == []
    assert run(indexes, "list", "--fallback") == "app==1.0\n"
    listed = json.loads(run(indexes, "list", "--json"))["projects"]
    assert {one["project"]: one["wants"] for one in listed} == {"app": ["apps"], "lib": ["apps"], "other": []}
    assert "no want needs it" in run(indexes, "list", "other")
    explained = json.loads(run(indexes, "explain", "lib-1.0-py3-none-any.whl", "--json"))["project"]
    assert explained["wants"] == ["apps"]
    [result] = json.loads(run(indexes, "check", "--json"))["results"]
    size = result.pop("bytes")
    assert size > 0
    assert result == {
        "want": "apps",
        "file": "wants.txt",
        "target": target,
        "installable": True,
        "files": 2,
        "rebuilt": [],
        "instead": [],
        "gaps": [],
    }
    status = json.loads(run(indexes, "status", "--json"))
    [noted] = status["wants"]
    assert (noted["want"], noted["installable"]) == ("apps", True)
    assert status["want_bytes"] == [{"want": "apps", "files": 2, "bytes": size, "own_bytes": size}]
    run(indexes, "snapshot", "create", "good", "--require-proof")
    run(indexes, "snapshot", "promote", "good", "--channel", "stable", "--require-proof")
    root = str(tmp_path / "root")
    alone = CliRunner().invoke(describe(PROGRAM), ["--root", root, "check", "--json"])
    assert (alone.exit_code, json.loads(alone.stdout)["results"][0]["installable"]) == (0, True)
    state = tmp_path / "root/state.db"
    repaired = CliRunner().invoke(describe(PROGRAM), ["--root", root, "verify", "--repair"])
    assert repaired.exit_code == 0, repaired.output
    (tmp_path / "bad.lock").write_text("\0")
    unreadable = CliRunner().invoke(describe(PROGRAM), ["--config", str(indexes), "check", str(tmp_path / "bad.lock")])
    assert isinstance(unreadable.exception, ConfigError)
    aside = state.rename(tmp_path / "aside.db")
    far = json.loads(run(indexes, "check", "--json"))["results"]
    assert [one["installable"] for one in far] == [True]
    aside.rename(state)
    for blob in (tmp_path / "root/public/files").rglob("lib-1.0*.whl"):
        blob.write_bytes(blob.read_bytes()[:-1])
    [result] = json.loads(run(indexes, "check", "apps", "--json", code=5))["results"]
    assert [(gap["project"], gap["reason"]) for gap in result["gaps"]] == [("lib", "damaged")]
    refused = CliRunner().invoke(
        describe(PROGRAM), ["--config", str(indexes), "snapshot", "create", "bad", "--require-proof"]
    )
    assert isinstance(refused.exception, NotProved)
    assert exit_code_for(refused.exception) == 7
    unknown = CliRunner().invoke(describe(PROGRAM), ["--config", str(indexes), "check", "nothing-of-this-name"])
    assert isinstance(unknown.exception, ConfigError)
    name = tmp_path / f"{'long-' * 12}name.txt"
    name.write_text("absent\n")
    mirror = Mirror(tmp_path)
    code, said = on_terminal(mirror, ["--config", str(indexes), "check", str(name)], {})
    lines = said.decode().splitlines()
    assert (code, lines[0]) == (5, str(name))  # a path is never broken; what follows it begins on a line of its own
    assert lines[1] == "  in linux/3.12.4/linux-x86_64 DOES NOT INSTALL"


def plan_of(config: Path, *, code: int = 0) -> dict[str, Any]:
    """Return the plan of a dry run: its items by action, and what comes and goes for wants."""
    report = json.loads(run(config, "sync", "--once", "--dry-run", "--json", code=code))
    actions: dict[str, list[str]] = {}
    for item in report["plan"]:
        assert item["size"] > 0
        actions.setdefault(item["action"], []).append(item["filename"])
    shown = {action: sorted(names) for action, names in actions.items()}
    shown["unwanted"] = [(one["index"], one["files"]) for one in report["unwanted"]]
    assert all(one["bytes"] > 0 for one in report["unwanted"])
    shown["wants"] = {(one["want"], one["target"]): one["files"] for one in report["want_plans"]}
    return {key: value for key, value in shown.items() if value}


def test_a_dry_run_shows_what_a_change_brings_and_lets_go(indexes: Path, tmp_path: Path):
    """A want more, less or narrower, a target more, a rule: bytes that come, leave, or are needed by no want any more."""
    run(indexes, "sync", "--once")
    text, on_linux = indexes.read_text(), "linux/3.12.4/linux-x86_64"
    assert plan_of(indexes) == {"wants": {("apps", on_linux): 0}}
    (tmp_path / "wants.txt").write_text("app\nother\n")
    assert plan_of(indexes) == {"fetch": ["other-1.0-py3-none-any.whl"], "wants": {("apps", on_linux): 1}}
    (tmp_path / "wants.txt").write_text("lib\nother\n")  # app stays until other is held, and is named all the same
    assert plan_of(indexes) == {
        "fetch": ["other-1.0-py3-none-any.whl"],
        "wants": {("apps", on_linux): 1},
        "unwanted": [("second", 1)],
    }
    said = run(indexes, "sync", "--once", "--dry-run")
    assert "second: 1 file that no want would need any more, " in said
    (tmp_path / "wants.txt").write_text("app\n")
    more = '[[want]]\nname = "more"\nrequirements = ["lib"]\ntargets = ["mac"]\n'
    mac = '[[target]]\nname = "mac"\npython = ["3.12.4"]\nplatforms = ["macos-arm64"]\n'
    indexes.write_text(f"{text}{mac}{more}")
    on_mac = "mac/3.12.4/macos-arm64"
    wants = {("apps", on_linux): 0, ("apps", on_mac): 0, ("more", on_mac): 0}
    assert plan_of(indexes) == {"wants": wants}
    indexes.write_text(text.replace('name = "first"', 'name = "first"\nexclude-files = ["lib-*"]'))
    assert plan_of(indexes, code=5)["remove"] == ["lib-1.0-py3-none-any.whl"]  # apps needs it: unresolved
    said = run(indexes, "sync", "--once", "--dry-run", code=5)
    assert "first: 1 file to remove from the pages, " in said
    indexes.write_text(text)
    assert plan_of(indexes) == {"wants": {("apps", on_linux): 0}}  # a plan changes nothing


@pytest.mark.parametrize("names", [(), ("wants.txt",)], ids=["wants", "a file"])
def test_a_root_without_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """Beyond the gap a root has no wants: the error asks for a configuration, not for another want."""
    monkeypatch.chdir(tmp_path)
    Path("wants.txt").write_text("app\n")
    with pytest.raises(ConfigError, match=r"configuration that has .*--config"):
        questions(config_of_root(env={}, root=tmp_path), names, None)
