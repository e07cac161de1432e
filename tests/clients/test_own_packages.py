"""«Your own packages»: pypiserver or devpi beside `mirror serve`, as the page says, for pip and uv; a foreign namesake
never wins.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv
from clients.conftest import Client, Served

from harness.interpreters import installed_client
from harness.ports import claim_ports, closed_port
from harness.program import GUARD_S, Mirror, Serving, call_well, clean_environment
from harness.server import Server
from harness.web_servers import WebServer, started_server
from simulator import ThreadedSimulator, build_wheel

PAGE = (Path(__file__).parents[2] / "docs/how-to/own-packages.md").read_text()
OWN = """\
import sys
from wsgiref.simple_server import make_server
sys.modules["bcrypt"] = None  # passlib does not know its newest version
import pypiserver
app = pypiserver.app(roots=[sys.argv[1]], disable_fallback=True, password_file=".", authenticate=[])
server = make_server("127.0.0.1", int(sys.argv[2]), app)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
"""
"""As `pypi-server run --disable-fallback` does, on a port that is free."""


def block(kind: str, *words: str) -> str:
    """Return the page's code of this kind with these words."""
    (found,) = (text for text in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) if all(w in text for w in words))
    return found


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base address of a served mirror."""
    with ThreadedSimulator() as index:
        index.state.publish("demo-lib", *build_wheel("demo-lib", "1.0"))
        index.state.publish("acme-tools", *build_wheel("acme-tools", "99.0"))
        mirror = Mirror(tmp_path_factory.mktemp("mirrored"))
        mirror.configure(f'url = "{index.url}"')
        mirror.sync_well()
        with Server(mirror) as server:
            yield server.url


@dataclass(frozen=True)
class Own:
    """The site's own index, with ``acme-tools`` 1.0, which requires a project of the mirror."""

    kind: str
    base: str
    """Its address, without a path."""
    simple: str
    """Its simple page."""


soak = pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "soak", reason="slow, and needs the network: `make soak` runs it"
)
"""For clients of devpi; the mirror itself reads one in each run."""


by_each = pytest.mark.parametrize("own", ["pypiserver", pytest.param("devpi", marks=soak)], indirect=True)


@pytest.fixture(scope="module")
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """The index, served by one of the two programs."""
    work = tmp_path_factory.mktemp("own")
    filename, data = build_wheel("acme-tools", "1.0", requires=["demo-lib"])
    (work / "dist").mkdir()
    (work / "dist" / filename).write_bytes(data)
    with _devpi(work) if request.param == "devpi" else _pypiserver(work) as base:
        simple = f"{base}/root/own/+simple/" if request.param == "devpi" else f"{base}/simple/"
        yield Own(request.param, base, simple)


@contextmanager
def _pypiserver(work: Path) -> Iterator[str]:
    command = [sys.executable, "-W", "ignore", "-c", OWN, work / "dist", "0"]
    with Serving(command, work=work / "served", env=clean_environment(work)) as serving:
        yield serving.greeting.strip().rstrip("/")


@contextmanager
def _devpi(work: Path) -> Iterator[str]:
    """Follow the page's commands, with other paths and ports."""
    programs = installed_client("devpi", "devpi-server devpi-client", (13, 12, 11)).parent
    (port,) = claim_ports(1)
    env = clean_environment(work) | {"PATH": f"{programs}:/usr/bin:/bin", "PYTHONWARNINGS": "ignore"}
    text = block("console", "devpi-init").replace("/srv/devpi", str(work / "devpi"))
    text = text.replace("8081", str(port)).replace("dist/acme_tools", f"{work}/dist/acme_tools")
    _, init, server, *rest = (shlex.split(line) for line in text.replace("$ ", "").splitlines())
    call_well([programs / init[0], *init[1:]], env=env, cwd=work)
    log = (work / "devpi.log").open("wb")
    with (
        log,
        subprocess.Popen([programs / server[0], *server[1:]], env=env, cwd=work, stdout=log, stderr=log) as process,
    ):
        try:
            until_s = time.monotonic() + GUARD_S
            while process.poll() is None and time.monotonic() < until_s:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            for command in rest:
                call_well([programs / command[0], *command[1:]], env=env, cwd=work)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def port_of(url: str) -> str:
    return url.strip().rstrip("/").rpartition(":")[2]


@contextmanager
def in_front(own: str, mirrored: str, work: Path, *, kind: str = "pypiserver") -> Iterator[WebServer]:
    """Start nginx as the page has it, between an own index and a mirror."""
    text = block("nginx", "server {")
    if kind == "devpi":
        text = _with_locations(text, block("nginx", "devpi first"))
    text = text.replace("127.0.0.1:8081", f"127.0.0.1:{port_of(own)}")
    text = text.replace("127.0.0.1:8082", f"127.0.0.1:{port_of(mirrored)}")
    work.mkdir()
    with started_server("nginx", text, work) as front:
        yield front


def _with_locations(text: str, others: str) -> str:
    """Return the server with other locations for the own index, as the page tells the reader to do."""
    text = re.sub(r"    # A project's page: .*?(?=    # All else)", "", text, flags=re.DOTALL)
    text = re.sub(r"    location @mirror \{.*?\n    \}\n", "", text, flags=re.DOTALL)
    return text.rstrip().removesuffix("}") + others + "}\n"


@by_each
def test_web_server_in_front(mirrored, own, client: Client, tmp_path):
    """Pip and uv get each project from the right index by one address."""
    with in_front(own.base, mirrored, tmp_path / "nginx", kind=own.kind) as front:
        served = Served("nginx", front.url, None)
        assert client.install_well(served, "Acme_Tools") == {"acme_tools": "1.0", "demo_lib": "1.0"}
        assert front.get("/simple/absent/").status == 404
        assert front.get("/-/health/ready").status == 200


def test_own_index_that_is_down(mirrored, tmp_path):
    """While the own index does not answer, the mirror's namesake does not come instead."""
    with closed_port() as port, in_front(f"http://127.0.0.1:{port}/", mirrored, tmp_path / "nginx") as front:
        assert front.get("/simple/acme-tools/").status == 502


@by_each
def test_explicit_index_of_uv(mirrored, own, uv_client: Client):
    """The client takes the project from the index that is named for it, and all else from the mirror."""
    project = '[project]\nname = "inside"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = ["acme-tools"]\n'
    text = block("toml", "explicit = true").replace("https://pypi.example/", mirrored)
    text = text.replace("https://own.example/simple/", own.simple)
    (uv_client.work / "pyproject.toml").write_text(f"{project}\n{text}")
    # With the configuration of the project, which the other tests ignore.
    env = {name: value for name, value in uv_client.environment().items() if name != "UV_NO_CONFIG"}
    call_well([uv.find_uv_bin(), "lock"], env=env, cwd=uv_client.work)
    lock = tomllib.loads((uv_client.work / "uv.lock").read_text())
    found = {package["name"]: (package["version"], package["source"].get("registry")) for package in lock["package"]}
    assert found["acme-tools"] == ("1.0", own.simple)
    assert found["demo-lib"] == ("1.0", f"{mirrored}simple/")


@pytest.mark.parametrize("own", ["pypiserver", "devpi"], indirect=True)
def test_mirror_that_reads_it(own, tmp_path):
    """Where the mirror reads the own index first, the namesake is never mirrored, nor another project under the prefix."""
    with ThreadedSimulator() as index:
        index.state.publish("demo-lib", *build_wheel("demo-lib", "1.0"))
        for name in ("acme-tools", "acme-other"):
            index.state.publish(name, *build_wheel(name, "99.0"))
        mirror = Mirror(tmp_path / "mirror")
        text = block("toml", "exclude-projects").replace("http://127.0.0.1:8081/simple/", own.simple)
        text = text.replace("https://libraries.cgr.dev/python/simple/", index.url)
        head = f'[mirror]\nroot = "{mirror.root}"\n[limits]\ndisk-reserve = 0\n'
        mirror.config.write_text(f"{head}\n{text}")
        mirror.sync_well()
    names = sorted(path.name for path in (mirror.root / "public/files").glob("*/*/*/*.whl"))
    assert names == ["acme_tools-1.0-py3-none-any.whl", "demo_lib-1.0-py3-none-any.whl"]
