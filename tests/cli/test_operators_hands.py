"""Commands in an operator's hands: wrong names, broken configurations, modes, and what a plan says."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from mirror.cli import main
from mirror.exit_codes import ExitCode
from simulator import build_sdist

pytestmark = pytest.mark.usefixtures("here")


def configure(tmp_path: Path, url: str, more: str = "") -> None:
    (tmp_path / "mirror.toml").write_text(
        f'[mirror]\nroot = "m"\n[limits]\ndisk-reserve = "0"\n[[index]]\nname = "main"\nurl = "{url}"\n{more}'
    )


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("broken", ["[mirror\n", '[mirror]\nroot = "m"\nno-such-key = 1\n'], ids=["toml", "key"])
def test_the_root_alone_works_beside_a_broken_configuration(index, tmp_path, capsys, broken):
    """Commands that need no more than the root ignore it, with a warning; one that needs a retention does not."""
    configure(tmp_path, index.url)
    assert run(capsys, "sync", "--once")[0] == ExitCode.OK
    (tmp_path / "mirror.toml").write_text(broken)
    for words in (["status"], ["list"], ["explain", "one"], ["verify"], ["snapshot", "list"]):
        code, _, err = run(capsys, *words, "--root", "m")
        assert code == ExitCode.OK, (words, err)
        assert "config.ignored" in err
    assert run(capsys, "prune", "--root", "m")[0] == ExitCode.USAGE
    assert run(capsys, "status", "--root", "m", "--config", "mirror.toml")[0] == ExitCode.USAGE
    assert run(capsys, "status")[0] == ExitCode.USAGE


def test_a_project_that_the_patterns_leave_out_is_wrong_usage(index, tmp_path, capsys):
    """Exit code 2 that names the rule, without a request, and nothing is made."""
    configure(tmp_path, index.url, 'exclude-projects = ["t*"]\n')
    for words in (["--dry-run"], []):
        code, out, err = run(capsys, "sync", "--once", "--project", "Two", *words)
        assert (code, out) == (ExitCode.USAGE, "")
        assert "--project: two is left out by exclude-projects of main" in err
    assert index.take_requests() == []
    assert not (tmp_path / "m").exists()


def test_a_project_that_no_index_lists_is_wrong_usage(index, tmp_path, capsys):
    """Exit code 2, and nothing is recorded: the last cycle stays what it was."""
    configure(tmp_path, index.url)
    assert run(capsys, "sync", "--once")[0] == ExitCode.OK
    before = json.loads(run(capsys, "status", "--json")[1])
    for words in (["--dry-run"], [], ["--json"]):
        code, out, err = run(capsys, "sync", "--once", "--project", "onne", *words)
        assert (code, out) == (ExitCode.USAGE, "")
        assert "--project: main does not list onne: check the name" in err
    after = json.loads(run(capsys, "status", "--json")[1])
    changing = {"disk"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert run(capsys, "sync", "--once", "--project", "one")[0] == ExitCode.OK


def jwt(expires: float) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


CHECKS = {
    "expired": ('[index.auth]\nkind = "bearer"\ntoken-file = "secret"\n', jwt(1.0), "has expired; renew it"),
    "empty": ('[index.auth]\nkind = "basic"\nusername = "u"\npassword-file = "secret"\n', "", "empty"),
}


@pytest.mark.parametrize(("auth", "secret", "said"), CHECKS.values(), ids=CHECKS)
def test_config_check_finds_a_credential_that_is_of_no_use(index, tmp_path, capsys, auth, secret, said):
    """A warning that names the index; the secret itself is not printed."""
    (tmp_path / "secret").write_text(secret)
    configure(tmp_path, index.url, auth)
    code, out, err = run(capsys, "config", "check")
    assert code == ExitCode.OK
    assert "warning: index[0].auth" in err
    assert said in err
    assert not secret or secret not in out + err


def test_config_check_finds_a_root_that_is_no_directory(index, tmp_path, capsys):
    """The path is named."""
    configure(tmp_path, index.url)
    (tmp_path / "m").write_text("x")
    assert f"warning: mirror.root: {tmp_path / 'm'} is not a directory" in run(capsys, "config", "check")[2]


def modes(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): f"{stat.S_IMODE(p.lstat().st_mode):04o}" for p in (root, *root.rglob("*"))}


def test_the_umask_changes_no_mode(index, tmp_path, capsys):
    """With umask 077 a new root and all in it have the modes that they have with 022; verify finds them well."""
    configure(tmp_path, index.url)
    old = os.umask(0o022)
    try:
        run(capsys, "sync", "--once", "--root", "usual")
        os.umask(0o077)
        run(capsys, "sync", "--once", "--root", "deep/closed")
    finally:
        os.umask(old)
    assert modes(tmp_path / "deep/closed") == modes(tmp_path / "usual")
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o755
    assert run(capsys, "verify", "--root", "deep/closed")[0] == ExitCode.OK


def test_verify_finds_and_mends_modes_that_close_the_tree(index, tmp_path, capsys):
    """Each file and directory that a web server can't read is named; --repair opens them, and fetches nothing."""
    configure(tmp_path, index.url)
    run(capsys, "sync", "--once")
    root = tmp_path / "m"
    before = modes(root)
    (wheel,) = (root / "public/files").rglob("one-*.whl")
    closed = [wheel, wheel.parent, root / "public/simple/two/index.html", root / "public/simple"]
    for path in closed:
        path.chmod(0o700 if path.is_dir() else 0o600)
    code, out, _ = run(capsys, "verify")
    assert code == ExitCode.DAMAGED
    for path in closed:
        assert f"mode: {path}: mode 0{'700' if path.is_dir() else '600'}: a web server answers 403 for it" in out
    assert "5 damaged" in out  # a hard link is a second name of one page
    assert run(capsys, "status")[0] == ExitCode.DAMAGED
    index.take_requests()
    assert run(capsys, "verify", "--repair")[0] == ExitCode.OK
    assert index.take_requests() == []
    assert modes(root) == before
    assert run(capsys, "status")[0] == ExitCode.OK


def test_a_plan_shows_sizes_and_room(index, tmp_path, capsys):
    """The bytes that are listed, how many files have no listed size, and the free space; no file is asked for."""
    index.state.publish("one", *build_sdist("one", "1.0"), size=None)
    configure(tmp_path, index.url)
    code, out, _ = run(capsys, "sync", "--once", "--dry-run")
    assert code == ExitCode.OK
    (line,) = [line for line in out.splitlines() if line.startswith("To download: ")]
    assert " listed; 1 file without a listed size; " in line
    assert line.endswith(" free on the disk.")
    assert {request.kind for request in index.take_requests()} == {"root", "page"}
