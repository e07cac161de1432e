"""Locks made by their own tools from an index outside, rewritten, and installed inside.

Inside is a network namespace with nothing but its own loopback, where serve.py serves the mirror.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import uv

from harness.interpreters import installed_client
from harness.program import Mirror, call, call_well, clean_environment
from mirror.bundle import serve
from mirror.cli import main
from simulator import IndexState, ThreadedSimulator, build_sdist, build_wheel

INSIDE = "http://127.0.0.1:8080/simple/"
PLATFORMS = ("manylinux_2_17_x86_64", "macosx_11_0_arm64")
CONFIG = """\
url = "{url}"
exclude-projects = ["winlib"]
exclude-files = ["*macosx*", "*.tar.gz"]
[[target]]
name = "linux"
python = ["3.11", "3.12", "3.13"]
platforms = ["linux-x86_64"]
"""

PROJECT = """\
[project]
name = "inside"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["app-lib>=1", "winlib ; sys_platform == 'win32'"]
"""
FOR_EACH_PLATFORM = PROJECT.replace(""", "winlib ; sys_platform == 'win32'\"""", "")
POETRY = """\
[tool.poetry]
package-mode = false
[[tool.poetry.source]]
name = "outside"
url = "{index}"
priority = "primary"
"""
PIPFILE = """\
[[source]]
name = "outside"
url = "{index}"
verify_ssl = false
[packages]
app-lib = ">=1"
winlib = {{version = "*", markers = "sys_platform == 'win32'"}}
"""
PROVE = "import app_lib, pure; print(app_lib.__version__, pure.__version__)"


def fill(state: IndexState, *, padding: int = 0) -> None:
    """Publish a project for two platforms, its dependency, and one that only Windows needs."""
    uploaded = "2026-01-10T00:00:00.000000Z"
    for platform in PLATFORMS:
        tag = f"py3-none-{platform}"
        wheel = build_wheel("app-lib", "1.0", requires=["pure>=1"], tag=tag, size_pad=padding)
        state.publish("app-lib", *wheel, upload_time=uploaded)
    sdist = build_sdist("app-lib", "1.0", requires=["pure>=1"], size_pad=padding)
    state.publish("app-lib", *sdist, upload_time=uploaded)
    state.publish("pure", *build_wheel("pure", "1.0+x.1", size_pad=padding), upload_time=uploaded)
    state.publish("winlib", *build_wheel("winlib", "1.0"), upload_time=uploaded)


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The index outside, and two mirrors: of it, and of an index that has rebuilt each file."""
    if subprocess.run(["unshare", "--net", "--map-root-user", "true"], check=False, capture_output=True).returncode:
        pytest.skip("network namespaces are not permitted here")
    with ThreadedSimulator() as index:
        fill(index.state)
        with ThreadedSimulator() as rebuilding:
            fill(rebuilding.state, padding=99)
            mirrors = {}
            for kind, source in (("same", index), ("rebuilt", rebuilding)):
                mirrors[kind] = Mirror(tmp_path_factory.mktemp(kind))
                mirrors[kind].configure(CONFIG.format(url=source.url))
                mirrors[kind].sync_well()
        yield SimpleNamespace(url=index.url, mirrors=mirrors)


@dataclass(frozen=True, kw_only=True)
class Tool:
    """How a tool makes its lock, and installs from it."""

    name: str
    lock: str
    make: Callable[[Path, str], list[list[str]]]
    """Commands outside, from the project's folder and the index."""
    install: Callable[[Path], str]
    """Commands of a shell inside; the last one proves what is installed."""
    files: Callable[[str], dict[str, str]]
    variables: Callable[[str], dict[str, str]] = lambda _index: {}


REQUIREMENTS = {"pdm": "pdm hishel<2"}


def bin_of(name: str) -> Path:
    """Return the folder of a tool's programs, installed from the network once."""
    return installed_client(name, REQUIREMENTS.get(name, name), (13, 12, 11)).parent


def uv_variables(index: str) -> dict[str, str]:
    return {
        "UV_NO_CONFIG": "1",
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_DEFAULT_INDEX": index,
    }


UV = uv.find_uv_bin()
PIP = f"{sys.executable} -m pip --disable-pip-version-check"
VIRTUAL = {"POETRY_VIRTUALENVS_IN_PROJECT": "true", "PIPENV_VENV_IN_PROJECT": "1", "PDM_CHECK_UPDATE": "0"}

TOOLS = [
    Tool(
        name="uv",
        lock="uv.lock",
        make=lambda _p, _i: [[UV, "lock"]],
        install=lambda _p: f"{UV} sync --frozen\n{UV} lock --check\n.venv/bin/python -c '{PROVE}'",
        files=lambda _i: {"pyproject.toml": PROJECT + "[tool.uv]\npackage = false\n"},
        variables=uv_variables,
    ),
    Tool(
        name="uv-pylock",
        lock="pylock.toml",
        make=lambda _p, _i: [
            [UV, "lock"],
            [UV, "export", "--format", "pylock.toml", "-o", "pylock.toml", "--no-emit-project"],
        ],
        install=lambda _p: f"{UV} pip install --target t -r pylock.toml\nPYTHONPATH=t {sys.executable} -c '{PROVE}'",
        files=lambda _i: {"pyproject.toml": PROJECT + "[tool.uv]\npackage = false\n"},
        variables=uv_variables,
    ),
    Tool(
        name="pip",
        lock="requirements.txt",
        make=lambda _p, _i: [
            [UV, "pip", "compile", "--universal", "--generate-hashes", "-o", "requirements.txt", "pyproject.toml"]
        ],
        install=lambda _p: (
            f"{PIP} install --require-hashes --index-url {INSIDE} --target t -r requirements.txt\n"
            f"PYTHONPATH=t {sys.executable} -c '{PROVE}'"
        ),
        files=lambda _i: {"pyproject.toml": PROJECT},
        variables=lambda index: {**uv_variables(index), "PIP_NO_CACHE_DIR": "1"},
    ),
    Tool(
        name="pip-pylock",
        lock="pylock.toml",
        make=lambda _p, index: [
            [sys.executable, "-m", "pip", "lock", "--index-url", index, "-o", "pylock.toml", "app-lib"]
        ],
        install=lambda _p: f"{PIP} install --target t -r pylock.toml\nPYTHONPATH=t {sys.executable} -c '{PROVE}'",
        files=lambda _i: {},
        variables=lambda _i: {"PIP_NO_CACHE_DIR": "1"},
    ),
    Tool(
        name="poetry",
        lock="poetry.lock",
        make=lambda _p, _i: [[str(bin_of("poetry") / "poetry"), "lock"]],
        install=lambda _p: (
            f"{bin_of('poetry') / 'poetry'} lock\n{bin_of('poetry') / 'poetry'} install\n.venv/bin/python -c '{PROVE}'"
        ),
        # Inside, Poetry resolves for all platforms again: all that the lock names must be there.
        files=lambda index: {"pyproject.toml": FOR_EACH_PLATFORM + POETRY.format(index=index)},
        variables=lambda _i: VIRTUAL,
    ),
    Tool(
        name="pdm",
        lock="pdm.lock",
        make=lambda _p, _i: [[str(bin_of("pdm") / "pdm"), "lock"]],
        install=lambda _p: f"{bin_of('pdm') / 'pdm'} sync --no-self\n.venv/bin/python -c '{PROVE}'",
        files=lambda _i: {"pyproject.toml": PROJECT},
        variables=lambda index: {**VIRTUAL, "PDM_PYPI_URL": index},
    ),
    Tool(
        name="pdm-static",
        lock="pdm.lock",
        make=lambda _p, _i: [[str(bin_of("pdm") / "pdm"), "lock", "--static-urls"]],
        install=lambda _p: f"{bin_of('pdm') / 'pdm'} sync --no-self\n.venv/bin/python -c '{PROVE}'",
        files=lambda _i: {"pyproject.toml": PROJECT},
        variables=lambda index: {**VIRTUAL, "PDM_PYPI_URL": index},
    ),
    Tool(
        name="pipenv",
        lock="Pipfile.lock",
        make=lambda _p, _i: [[str(bin_of("pipenv") / "pipenv"), "lock"]],
        install=lambda _p: (
            f"{bin_of('pipenv') / 'pipenv'} sync\n{bin_of('pipenv') / 'pipenv'} verify\n.venv/bin/python -c '{PROVE}'"
        ),
        files=lambda index: {"Pipfile": PIPFILE.format(index=index)},
        variables=lambda _i: VIRTUAL,
    ),
]


soak = pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "soak", reason="slow, and needs the network: `make soak` runs it"
)
ALWAYS = ("uv", "pip", "pip-pylock")
CASES = [pytest.param(tool, id=tool.name, marks=() if tool.name in ALWAYS else soak) for tool in TOOLS]


@pytest.mark.parametrize("tool", CASES)
def test_a_lock_from_outside_installs_inside(tool, outside, tmp_path, monkeypatch, capfd):
    """The lock of each tool is rewritten and installs inside, from the same bytes and from rebuilt ones."""
    project = tmp_path / "project"
    project.mkdir()
    for name, text in tool.files(outside.url).items():
        (project / name).write_text(text)
    env = clean_environment(tmp_path, **tool.variables(outside.url))
    for command in tool.make(project, outside.url):
        call_well(command, env=env, cwd=project)
    locked = (project / tool.lock).read_bytes()
    assert lock_command(outside.mirrors["same"], project, "check", tool.lock) == 0
    assert lock_command(outside.mirrors["rebuilt"], project, "check", tool.lock) == 5
    to = ["--to", INSIDE, "--output", tool.lock]
    assert lock_command(outside.mirrors["rebuilt"], project, "rewrite", tool.lock, *to) == 5
    assert (project / tool.lock).read_bytes() == locked

    for kind in ("same", "rebuilt"):
        inside = tmp_path / kind
        inside.mkdir()
        for name, text in tool.files(INSIDE if tool.name == "poetry" else outside.url).items():
            (inside / name).write_text(text)
        (inside / tool.lock).write_bytes(locked)
        accepted = ["--accept-rebuilt"] if kind == "rebuilt" else []
        code = lock_command(outside.mirrors[kind], inside, "rewrite", tool.lock, *to, *accepted)
        assert code == 0, capfd.readouterr().err
        install_inside(tool, outside.mirrors[kind].root, inside, tmp_path / f"home-{kind}")


def lock_command(mirror, folder, command, *words):
    """Run ``mirror lock`` in a folder, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return main(["--config", str(mirror.config), "lock", command, *words])


def install_inside(tool, root, folder, home):
    """Install in a namespace of its own, and prove what came."""
    home.mkdir()
    script = (
        "ip link set lo up\n"
        f"{sys.executable} -I {serve.__file__} --root {root} --listen 127.0.0.1:8080 >server.log 2>&1 &\n"
        "trap 'kill %1' EXIT\n"
        f"until grep -q ^serving server.log; do kill -0 %1; done\n{tool.install(folder)}\n"
    )
    path = f"{clean_environment(home)['PATH']}:/usr/sbin:/sbin"
    env = clean_environment(home, **{**tool.variables(INSIDE), "PATH": path})
    done = call(["unshare", "--net", "--map-root-user", "bash", "-ec", script], env=env, cwd=folder)
    log = (folder / "server.log").read_text()
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{log}"
    assert done.stdout.splitlines()[-1] == "1.0 1.0+x.1"
