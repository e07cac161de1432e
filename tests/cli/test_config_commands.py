"""``mirror init`` and ``mirror config``."""

import json
import os
import stat
from pathlib import Path

import pytest

from mirror.cli import main
from mirror.config import json_schema, load_config, render_default

FILE = '[mirror]\nroot = "/r"\n[[index]]\nname = "a"\nurl = "https://a/"\nauth = { kind = "bearer", token-env = "T" }\n'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty directory with an empty environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("MIRROR_CONFIG", "MIRROR_ROOT", "MIRROR_INTERVAL", "T"):
        monkeypatch.delenv(name, raising=False)
    umask = os.umask(0o077)
    yield
    os.umask(umask)


def test_init(capsys):
    """``mirror init`` writes a configuration that anyone may read, and says what comes next."""
    assert main(["init"]) == 0
    path = Path("mirror.toml")
    assert path.read_text() == render_default()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert capsys.readouterr() == (
        "Wrote mirror.toml. Next:\n"
        "  1. put your index and its credential's source into it "
        "(CHAINGUARD_PYTHON_IDENTITY_ID and CHAINGUARD_PYTHON_TOKEN for the first one)\n"
        "  2. mirror config check\n"
        "  3. mirror sync --once\n",
        "",
    )
    assert main(["config", "check"]) == 0


def test_init_elsewhere(capsys):
    """A file that is named gets the root that is named, and the next steps name the file."""
    assert main(["init", "other.toml", "--root", 'tree ü"']) == 0
    assert load_config(Path("other.toml"), env={}).mirror.root == Path.cwd() / 'tree ü"'
    assert "mirror --config other.toml sync --once" in capsys.readouterr().out


def test_init_takes_config_as_the_file():
    """--config names the file where no argument does."""
    assert main(["--config", "c.toml", "init"]) == 0
    assert Path("c.toml").read_text() == render_default()


def test_init_for_systemd(capsys, monkeypatch):
    """--systemd: the credential comes by LoadCredential=, the root is the units', and the next steps are root's."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert main(["init", "--systemd"]) == 0
    written = load_config(Path("mirror.toml"), env={})
    assert str(written.mirror.root) == "/var/lib/mirror"
    auth = written.indexes[0].auth
    assert (auth.kind, auth.username_credential, auth.password_credential) == ("basic", "index-username", "index-token")
    said = capsys.readouterr().out
    assert "write user name and token to /etc/mirror/index-username and /etc/mirror/index-token" in said
    assert "3. mirror install-units\n" in said
    assert main(["config", "check"]) == 0
    advice = capsys.readouterr().err.splitlines()[-1]
    assert advice == (
        "by hand: only the systemd units get it: run `systemctl start mirror-once` for one cycle, or another command by"
        " `systemd-run --pipe --wait --collect --uid=mirror -p LoadCredential=index-username:/etc/mirror/index-username"
        " -p LoadCredential=index-token:/etc/mirror/index-token mirror …`"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("there.toml", "is there already, and is never written over"),
        ("link.toml", "is there already, and is never written over"),
        ("absent/x.toml", "can't be written: No such file or directory"),
    ],
)
def test_init_refuses(capsys, name, said):
    """An existing file, or a link, is never written over; exit code 2."""
    Path("there.toml").write_text("mine")
    Path("link.toml").symlink_to("nowhere")
    assert main(["init", name]) == 2
    assert capsys.readouterr() == ("", f"error: {name}: {said}\n")
    assert (Path("there.toml").read_text(), Path("nowhere").exists()) == ("mine", False)


def test_init_leaves_nothing_half_written(capsys, monkeypatch):
    """A file that can't be written whole is taken away again; exit code 6."""

    def refuse(_descriptor: int, _mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    assert main(["init"]) == 6
    assert capsys.readouterr().err == "error: mirror.toml: can't be written: Operation not permitted\n"
    assert list(Path.cwd().iterdir()) == []


def test_check(capsys, monkeypatch):
    """A good configuration is confirmed with the number of its indexes."""
    monkeypatch.setenv("T", "hunter2")
    Path("mirror.toml").write_text(FILE)
    assert main(["config", "check"]) == 0
    assert capsys.readouterr() == ("mirror.toml: ok, 1 index\n", "")


def test_check_warns(capsys):
    """A credential's source that is not there now is a warning, not an error."""
    Path("mirror.toml").write_text(FILE + '[[index]]\nname = "b"\nurl = "https://b/"\n')
    assert main(["config", "check"]) == 0
    assert capsys.readouterr() == (
        "mirror.toml: ok, 2 indexes\n",
        "warning: index[0].auth.token-env: the variable T is not set\n",
    )


def test_check_json(capsys):
    """--json prints one object and nothing else."""
    Path("mirror.toml").write_text(FILE)
    assert main(["config", "check", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {
        "format": 1,
        "source": "mirror.toml",
        "indexes": ["a"],
        "warnings": ["index[0].auth.token-env: the variable T is not set"],
    }


@pytest.mark.parametrize("command", ["check", "show"])
def test_bad_configuration(capsys, command):
    """A configuration that is refused is one line and exit code 2."""
    Path("mirror.toml").write_text(FILE.replace("token-env", "tokn-env"))
    assert main(["config", command]) == 2
    assert capsys.readouterr() == ("", 'error: index[0].auth.tokn-env: unknown key; did you mean "token-env"?\n')


def test_show(capsys, monkeypatch):
    """What is shown is what counts, with overrides and without secrets, and loads again."""
    monkeypatch.setenv("MIRROR_INTERVAL", "5m")
    monkeypatch.setenv("T", "hunter2")
    Path("mirror.toml").write_text(FILE)
    assert main(["--root", "/line", "config", "show"]) == 0
    captured = capsys.readouterr()
    assert (captured.err, "hunter2" in captured.out) == ("", False)
    Path("shown.toml").write_text(captured.out)
    shown = load_config(Path("shown.toml"), env={})
    assert (shown.mirror.root, shown.mirror.interval_s, shown.indexes[0].name) == (Path("/line"), 300, "a")


def test_schema(capsys):
    """The schema is printed as JSON, and needs no configuration."""
    assert main(["config", "schema"]) == 0
    captured = capsys.readouterr()
    assert (captured.err, json.loads(captured.out)) == ("", json_schema())
