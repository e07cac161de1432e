"""``mirror client-config``: real clients install by what it prints, without another word."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv
from clients.conftest import PASSWORD, USERNAME, Served, fill, serve

from harness.interpreters import installed_client
from harness.program import call, clean_environment
from mirror.cli import main
from mirror.core.words.client_config import CLIENTS
from simulator import ThreadedSimulator

PROJECT = '[project]\nname = "app"\nversion = "0"\nrequires-python = ">=3.10"\ndependencies = ["demo-app"]\n'
MANAGERS = {
    "poetry": ("poetry", "pyproject.toml", f"{PROJECT}[tool.poetry]\npackage-mode = false\n", "lock"),
    "pdm": ("pdm hishel<2", "pyproject.toml", PROJECT, "lock"),
    "pipenv": ("pipenv", "Pipfile", '[packages]\n"demo-app" = "*"\n', "lock"),
}
"""Manager -> what is installed, the file that gets the configuration, what stands in it before, and the command."""
soak = pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "soak", reason="slow, and needs the network: `make soak` runs it"
)


@pytest.fixture(autouse=True)
def nowhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of this machine counts."""
    monkeypatch.chdir(tmp_path_factory.mktemp("nowhere"))
    monkeypatch.delenv("MIRROR_CONFIG", raising=False)
    monkeypatch.delenv("MIRROR_ROOT", raising=False)


@pytest.fixture(scope="module")
def guarded() -> Iterator[ThreadedSimulator]:
    """An index that asks for a password."""
    with ThreadedSimulator(username=USERNAME, password=PASSWORD) as index:
        fill(index.state)
        yield index


def printed(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["client-config", *arguments]) == 0
    return capsys.readouterr().out


def install(client: str, work: Path, config: str, **variables: str) -> tuple[int, str, list[str]]:
    """Install demo-app with a configuration file and nothing else; return exit code, output and what is there."""
    work.mkdir(exist_ok=True)
    file, target = work / ("pip.conf" if client == "pip" else "uv.toml"), work / "target"
    file.write_text(config)
    python = ["--python", sys.executable] if client == "uv" else []
    command: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if client == "uv":
        command = [uv.find_uv_bin(), "--config-file", file, "--no-cache", "pip"]
    own = {"PIP_CONFIG_FILE": str(file), "PIP_NO_CACHE_DIR": "1", **variables}
    done = call(
        [*command, "install", *python, "--target", target, "demo-app", "demo-lib>=1"],
        env=clean_environment(work, **own),
        cwd=work,
    )
    names = sorted(path.name for path in target.glob("*.dist-info"))
    return done.returncode, done.stdout + done.stderr, names


INSTALLED = ["demo_app-1.0.dist-info", "demo_lib-1.2.dist-info", "demo_src-0.1.dist-info"]


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_install(client, nginx, tmp_path, capsys):
    """Pip and uv install by the printed file alone, with the address with and without its last slash."""
    for number, url in enumerate((nginx.url, nginx.url.rstrip("/"))):
        config = printed(capsys, "--url", url, client)
        code, said, names = install(client, tmp_path / str(number), config)
        assert (code, names) == (0, INSTALLED), said


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_password_comes_from_elsewhere(client, guarded, tmp_path, capsys):
    """A password stands where the comment says, never in what is printed."""
    config = printed(capsys, "--url", guarded.url, client)
    assert install(client, tmp_path / "without", config)[0] != 0
    home = tmp_path / "netrc"
    home.mkdir()
    (home / ".netrc").write_text(f"machine 127.0.0.1 login {USERNAME} password {PASSWORD}\n")
    (home / ".netrc").chmod(0o600)
    assert "~/.netrc" in config
    code, said, names = install(client, home, config)
    assert (code, names) == (0, INSTALLED), said
    if client == "uv":
        variables = re.findall(r"UV_INDEX_\w+", config)
        named = dict(zip(variables, (USERNAME, PASSWORD), strict=True))
        assert install(client, tmp_path / "variables", config, **named)[0] == 0


def test_plain_http_elsewhere(tmp_path, capsys):
    """Plain http beyond this machine: a warning as a comment, and what makes the client accept it."""
    url = "http://mirror.test:8081/simple/"
    for client in CLIENTS:
        text = printed(capsys, "--url", url, client)
        assert "# WARNING: http to mirror.test:8081 is not encrypted" in text
        for safe in (
            url.replace("http:", "https:"),
            "http://127.0.0.1:80/simple/",
            "http://[::1]/simple",
            "http://localhost/simple",
        ):
            other = printed(capsys, "--url", safe, client)
            assert "WARNING" not in other
            assert not re.search("trusted|verify_ssl = false", other, re.IGNORECASE)
            assert safe in other
    assert "trusted-host = mirror.test:8081\n" in printed(capsys, "--url", url, "pip")
    assert "verify_ssl = false" in printed(capsys, "--url", url, "pdm")
    assert "verify_ssl = false" in printed(capsys, "--url", url, "pipenv")


def test_pip_asks_a_trusted_host(nginx, tmp_path, capsys):
    """Pip asks an index by plain http beyond this machine where the printed file says so, and only there."""
    proxy = {"http_proxy": nginx.url.removesuffix("/simple/")}  # stands for the network: it answers for each host
    config = printed(capsys, "--url", "http://mirror.test/simple/", "pip")
    code, said, names = install("pip", tmp_path / "trusted", config, **proxy)
    assert (code, names) == (0, INSTALLED), said
    without = "".join(line for line in config.splitlines(keepends=True) if not line.startswith("trusted-host"))
    code, said, names = install("pip", tmp_path / "untrusted", without, **proxy)
    assert (code, names) == (1, [])
    assert "not a trusted" in said


@pytest.mark.parametrize("client", CLIENTS)
def test_valid_files(client, capsys):
    """What is printed for each client is a whole file of its kind, and names the index as it was written."""
    text = printed(capsys, "--url", "https://pypi.example/a/b/simple", client)
    assert "https://pypi.example/a/b/simple" in text
    assert "https://pypi.example/a/b/simple/" not in text
    if client != "pip":
        tomllib.loads(text)
    assert all(len(line) <= 120 for line in text.splitlines())


def test_all_clients(capsys):
    """Without a client there is the configuration of each."""
    text = printed(capsys)
    for client in CLIENTS:
        assert printed(capsys, client).strip() in text


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret-word@pypi.example/simple/", "https://user@pypi.example/simple/", "https://pypi.example/",
        "https://pypi.example/simple/x/", "https://pypi.example/simplest/", "https://pypi.example/notsimple", "pypi.example/simple/",
        "ftp://pypi.example/simple/", "https://pypi.example/simple/?secret-word", "https://pypi.example/simple/#x", "https:///simple/",
        "https://pypi.example/a b/simple/", 'https://pypi.example/"/simple/', "https://pypi.example/\nx/simple/", "", "https://pypi.example/simple//",
    ],
)  # fmt: skip
def test_refused_addresses(url, capsys):
    """What is no address of an index, or carries a user or a password, is exit code 2, and is not repeated."""
    assert main(["client-config", "--url", url]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "--url: " in said.err
    assert "secret-word" not in said.err


def test_default_address(tmp_path, capsys, monkeypatch):
    """Without --url, and without a configuration that says where the mirror is served: the server's own default."""
    assert "index-url = http://127.0.0.1:8080/simple/\n" in printed(capsys, "pip")
    assert main(["client-config", "conda"]) == 2
    assert main(["client-config", "--config", str(tmp_path / "absent.toml")]) == 2


@soak
@pytest.mark.parametrize("kind", ["static", "nginx"])
@pytest.mark.parametrize("manager", MANAGERS)
def test_managers(tree, tmp_path, capsys, manager, kind):
    """The newest Poetry, PDM and pipenv lock by what is printed for them."""
    requirement, filename, text, command = MANAGERS[manager]
    python = installed_client(manager, requirement, (13, 12, 11, 10))
    with contextlib.contextmanager(serve)(kind, tree, tmp_path / "server") as served:
        (tmp_path / filename).write_text(text + printed(capsys, "--url", served.url, manager))
        env = clean_environment(
            tmp_path, PIPENV_PYTHON=str(python), PYTHON_KEYRING_BACKEND="keyring.backends.null.Keyring"
        )
        done = call([python.with_name(manager), command], env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (lock,) = (path for path in tmp_path.iterdir() if "lock" in path.name.lower())
    assert "demo-app" in lock.read_text()


@soak
def test_hatch(nginx: Served, tmp_path, capsys):
    """The newest Hatch makes its environment by what is printed for it."""
    python = installed_client("hatch", "hatch", (12, 11, 13))
    skipped = "[tool.hatch.envs.default]\nskip-install = true\ndependencies = ['demo-app']\n"
    text = PROJECT.replace('dependencies = ["demo-app"]\n', "")
    (tmp_path / "pyproject.toml").write_text(text + skipped + printed(capsys, "--url", nginx.url, "hatch"))
    done = call([python.with_name("hatch"), "run", "demo-app"], env=clean_environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
