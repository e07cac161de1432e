"""``mirror target list|show|here``, and the same table printed by the programs of the far side."""

import inspect
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mirror.bundle import receive, serve
from mirror.cli import main
from mirror.config import load_config

CONFIG = """\
[mirror]
root = "r"
[[index]]
name = "a"
url = "https://index.example/simple/"
[[target]]
name = "linux"
python = ["3.11", "3.13.1t"]
platforms = ["linux-x86_64", "macos-arm64"]
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command beside a configuration; return its exit code and its output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mirror.toml").write_text(CONFIG)

    def run(*words):
        code = main([*words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_list(run):
    """Targets are listed with their Pythons, platforms and oldest systems."""
    assert run("target", "list") == (
        0,
        "TARGET  PYTHON         PLATFORMS                  SYSTEM\n"
        "linux   3.11, 3.13.1t  linux-x86_64, macos-arm64  glibc 2.28, macOS 12.0\n",
        "",
    )
    assert json.loads(run("target", "list", "--json")[1]) == {
        "format": 1,
        "targets": [
            {
                "name": "linux",
                "python": ["3.11", "3.13.1t"],
                "platforms": ["linux-x86_64", "macos-arm64"],
                "glibc": None,
                "musl": None,
                "macos": None,
            }
        ],
    }


def test_show(run):
    """A target's environments are shown with their releases, markers and tags."""
    code, out, _err = run("target", "show", "linux")
    assert code == 0
    assert out.startswith("linux/3.11/linux-x86_64\n  releases: 3.11.0 to 3.11.18\n markers\n")
    assert '\n  sys_platform = "darwin"\n' in out
    assert "\n  cp313-cp313t-macosx_12_0_arm64\n" in out
    environments = json.loads(run("target", "show", "linux", "--json")[1])["target"]["environments"]
    assert [(e["name"], len(e["releases"])) for e in environments] == [
        ("linux/3.11/linux-x86_64", 19),
        ("linux/3.11/macos-arm64", 19),
        ("linux/3.13.1t/linux-x86_64", 1),
        ("linux/3.13.1t/macos-arm64", 1),
    ]
    assert environments[0]["markers"]["python_full_version"] == "3.11.18"
    assert environments[0]["tags"][:2] == ["cp311-cp311-linux_x86_64", "cp311-cp311-manylinux_2_28_x86_64"]


def test_an_unknown_target(run):
    """A target that is not there is wrong usage, with those that are."""
    assert run("target", "show", "mac") == (2, "", 'error: NAME: no target is named "mac"; known: linux\n')


def test_here_is_a_table_for_the_configuration(run, tmp_path):
    """What ``here`` prints can be added to a configuration, and is what the far side's programs print."""
    code, out, _err = run("target", "here")
    assert (code, out) == (0, serve.machine_target())
    (tmp_path / "again.toml").write_text(CONFIG + out)
    here = load_config(tmp_path / "again.toml", env={}).targets[1]
    assert here.python == (".".join(map(str, sys.version_info[:3])),)
    assert here.platforms == (f"linux-{platform.machine()}",)
    assert json.loads(run("target", "here", "--json")[1])["target"]["name"] == here.name
    for module in (serve, receive):
        command = [sys.executable, "-I", module.__file__, "--target"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == out


def test_both_programs_of_the_far_side_know_machines_alike():
    """The two programs travel alone, so each has the same functions of its own."""
    for name in ("machine_target", "_machine", "_libc_line"):
        assert inspect.getsource(getattr(serve, name)) == inspect.getsource(getattr(receive, name))


MACHINES = {
    "mac": ("Darwin", "arm64", 2**63, 'platforms = ["macos-arm64"]\nmacos = "14.5"\n'),
    "windows": ("Windows", "AMD64", 2**63, 'name = "windows-x86-64"'),
    "windows-arm": ("Windows", "ARM64", 2**63, 'platforms = ["windows-arm64"]\n'),
    "windows-32": ("Windows", "AMD64", 2**31, 'platforms = ["windows-x86"]\n'),
}


@pytest.mark.parametrize(("system", "machine", "size", "line"), MACHINES.values(), ids=MACHINES)
def test_other_machines(monkeypatch, system, machine, size, line):
    """Machines of other systems describe themselves in the words of targets."""
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "mac_ver", lambda: ("14.5.1", ("", "", ""), machine))
    monkeypatch.setattr(sys, "maxsize", size)
    assert line in serve.machine_target()


def test_a_machine_without_targets(monkeypatch, run):
    """A machine for which there are no targets is refused by name."""
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    expected = "Linux on s390x is not known: a mirror has no targets for it"
    assert run("target", "here") == (2, "", f"error: this machine: {expected}\n")


def test_the_programs_run_under_python_3_9():
    """The far side has Python 3.9: both programs print the table there too."""
    old = Path.home() / ".pyenv/versions/3.9.18/bin/python3"
    if not old.exists():
        pytest.skip("no Python 3.9 here")
    for module in (serve, receive):
        ran = subprocess.run([old, "-I", module.__file__, "--target"], check=True, capture_output=True, text=True)
        assert 'python = ["3.9.18"]' in ran.stdout
