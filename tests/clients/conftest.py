"""One mirrored tree, the ways in which it is served, and pip and uv as clients that know nothing else."""

from __future__ import annotations

import os
import re
import shutil
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uv

from harness.program import Done, Mirror, Serving, call, call_well, clean_environment
from mirror.bundle import serve as program
from simulator import IndexState, ThreadedSimulator, build_sdist, build_wheel

USERNAME, PASSWORD = "org/token", "a-pass-word"

PROGRAM = """\
import demo_app, demo_lib, demo_src


def main():
    print(demo_app.__version__, demo_lib.__version__, demo_src.__version__)
"""

NGINX_CONFIG = """\
daemon off;
worker_processes 1;
{user}
pid {work}/nginx.pid;
error_log {work}/error.log warn;
events {{}}
http {{
    access_log {work}/access.log;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    default_type application/octet-stream;
    types {{
        text/html html;
        application/vnd.pypi.simple.v1+html v1_html;
        application/vnd.pypi.simple.v1+json v1_json;
    }}
    map $http_accept $simple_index {{
        default index.html;
        ~application/vnd\\.pypi\\.simple\\.v1\\+json index.v1_json;
        ~application/vnd\\.pypi\\.simple\\.v1\\+html index.v1_html;
    }}
    server {{
        listen 127.0.0.1:{port};
        root {public};
        location /simple/ {{
            index $simple_index;
            add_header Vary Accept;
            add_header Cache-Control "max-age=600";
        }}
        location /files/ {{
            types {{}}
            add_header Cache-Control "max-age=365000000, immutable";
        }}
    }}
}}
"""

RUN_NGINX = """\
import grp, os, pwd, socket, sys
from pathlib import Path
nginx, work, public, template = sys.argv[1:]
listening = socket.create_server(("127.0.0.1", 0))
listening.setblocking(False)
listening.set_inheritable(True)
port = listening.getsockname()[1]
# Started by root, nginx would read the tree as another user, who may not enter the test's directory.
names = f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};" if os.getuid() == 0 else ""
Path(work, "nginx.conf").write_text(template.format(work=work, public=public, port=port, user=names))
print(f"http://127.0.0.1:{port}/", flush=True)
arguments = [nginx, "-p", work, "-c", f"{work}/nginx.conf", "-e", f"{work}/error.log"]
os.execve(nginx, arguments, {**os.environ, "NGINX": f"{listening.fileno()};"})
"""
"""Opens the port itself and hands it on, as nginx does when it replaces its own program: no free port is guessed."""


def find_nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")


def fill(state: IndexState) -> None:
    """Publish what the clients ask for."""
    app = build_wheel(
        "demo-app",
        "1.0",
        requires=["demo-lib>=1", "demo.src"],
        extra_files={"demo_app/cli.py": PROGRAM},
        scripts={"demo-app": "demo_app.cli:main"},
    )
    state.publish("demo-app", *app, requires_python=">=3.8", upload_time="2026-01-10T00:00:00.000000Z")
    # It can't be installed beside what it is asked for with, so that a client has to step back from it.
    greedy = build_wheel("demo-app", "2.0", requires=["demo-lib<1"])
    state.publish("demo-app", *greedy, upload_time="2026-05-10T00:00:00.000000Z")
    state.publish("demo-app", *build_wheel("demo-app", "3.0"), requires_python=">=4")
    for version, month in (("1.0", "01"), ("1.1+cgr.1", "02"), ("1.2", "06")):
        filename, data = build_wheel("demo-lib", version)
        state.publish("demo-lib", filename, data, upload_time=f"2026-{month}-01T00:00:00.000000Z")
    state.publish("demo-lib", *build_wheel("demo-lib", "1.3"), yanked="broken by design")
    state.publish("Demo.Src", *build_sdist("demo-src", "0.1"), upload_time="2026-01-10T00:00:00.000000Z")


def mirror_of(index: ThreadedSimulator, work: Path) -> Mirror:
    """Return a mirror of a simulator, with its credential in the environment."""
    credential = {"MIRROR_DEFAULT_USERNAME": USERNAME, "MIRROR_DEFAULT_PASSWORD": PASSWORD}
    return Mirror(work, url=index.url, variables=credential)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public part of a mirror, made by the program; the index that it came from is gone."""
    with ThreadedSimulator(username=USERNAME, password=PASSWORD, second_origin=True) as index:
        fill(index.state)
        mirror = mirror_of(index, tmp_path_factory.mktemp("mirrored"))
        mirror.sync_well()
    return mirror.root / "public"


@dataclass(frozen=True)
class Served:
    """A tree within a client's reach."""

    kind: str
    url: str
    """Of the index."""
    log_path: Path | None

    def requests(self) -> list[str]:
        """Return the paths that were asked for and answered, in order."""
        if self.log_path is None:
            return []
        # nginx has logged a request once it answers the next one.
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.url}?last").close()
        lines = [line for line in self.log_path.read_text().splitlines() if '"GET ' in line]
        paths = [line.split('"')[1].split()[1] for line in lines if line.split('"')[2].split()[0] == "200"]
        return [path for path in paths if not path.endswith("?last")]


def serve(kind: str, public: Path, work: Path) -> Iterator[Served]:
    """Serve a tree: by ``file://``, a plain static server, nginx with content negotiation, ``mirror serve``, ``serve.py``."""
    if kind == "file":
        yield Served(kind, f"{public.as_uri()}/simple/", None)
        return
    work.mkdir(parents=True, exist_ok=True)
    listen: list[str | Path] = ["--root", public.parent, "--listen", "127.0.0.1:0"]
    command: list[str | Path]
    if kind == "mirror":
        command = [sys.executable, "-m", "mirror", "serve", *listen]
    elif kind == "serve.py":
        command = [sys.executable, "-I", program.__file__, *listen]
    elif kind == "static":
        command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(public)]
    else:
        nginx = find_nginx()
        if nginx is None:
            pytest.skip("nginx is not installed")
        command = [sys.executable, "-c", RUN_NGINX, nginx, str(work), str(public), NGINX_CONFIG]
    with Serving(command, work=work, env=clean_environment(work)) as server:
        found = re.search(r"http://[0-9.]+:[0-9]+/", server.greeting)
        assert found is not None, server.greeting
        url = found[0]
        yield Served(kind, f"{url}simple/", server.log_path if kind == "static" else work / "access.log")


@pytest.fixture(params=["static", "nginx", "file"])
def served(request: pytest.FixtureRequest, tree: Path, tmp_path: Path) -> Iterator[Served]:
    """The tree in each of the ways in turn."""
    yield from serve(request.param, tree, tmp_path / "server")


@pytest.fixture
def nginx(tree: Path, tmp_path: Path) -> Iterator[Served]:
    """The tree behind nginx."""
    yield from serve("nginx", tree, tmp_path / "server")


@pytest.fixture
def index() -> Iterator[ThreadedSimulator]:
    """An index of the test's own, to be changed."""
    with ThreadedSimulator(username=USERNAME, password=PASSWORD, second_origin=True) as simulator:
        fill(simulator.state)
        yield simulator


@pytest.fixture
def mirror(index: ThreadedSimulator, tmp_path: Path) -> Mirror:
    """A mirror of that index, after its first cycle."""
    mirror = mirror_of(index, tmp_path / "mirrored")
    mirror.sync_well()
    return mirror


@pytest.fixture(params=["static", "nginx", "file"])
def own_served(request: pytest.FixtureRequest, mirror: Mirror, tmp_path: Path) -> Iterator[Served]:
    """That mirror's tree in each of the ways in turn."""
    yield from serve(request.param, mirror.root / "public", tmp_path / "server")


@dataclass
class Client:
    """pip or uv, with no configuration, no other index and, each time, no cache."""

    name: str
    work: Path
    runs: int = field(default=0, init=False)

    def install(self, served: Served, *requirements: str, options: Sequence[str] = ()) -> Done:
        """Try to install into a new directory, ``target``."""
        return call(self._command(served, requirements, options), env=self.environment(), cwd=self.work)

    def install_well(self, served: Served, *requirements: str, options: Sequence[str] = ()) -> dict[str, str]:
        """Install, and return project -> version of what was installed."""
        call_well(self._command(served, requirements, options), env=self.environment(), cwd=self.work)
        return self.installed()

    def installed(self) -> dict[str, str]:
        """Return project -> version of what the last installation brought."""
        infos = [path.name.removesuffix(".dist-info") for path in self.target.glob("*.dist-info")]
        return dict(sorted(info.split("-") for info in infos))

    @property
    def target(self) -> Path:
        """The directory of the last installation."""
        return self.work / f"target-{self.runs}"

    def run_installed(self, script: str) -> str:
        """Run a program of the last installation, and return what it prints."""
        env = clean_environment(self.work, PYTHONPATH=str(self.target))
        return call_well([self.target / "bin" / script], env=env, cwd=self.work).stdout.strip()

    def run_uv(self, served: Served, *arguments: str | Path) -> Done:
        """Run any command of uv that must succeed, with an empty cache."""
        self.runs += 1
        env = {**self.environment(), "UV_DEFAULT_INDEX": served.url}
        return call_well([uv.find_uv_bin(), *arguments], env=env, cwd=self.work)

    def environment(self) -> dict[str, str]:
        """Return the variables of the next run; its cache is empty."""
        own = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"} if self.name == "pip" else self._uv_variables()
        return clean_environment(self.work, **own)

    def _uv_variables(self) -> dict[str, str]:
        return {
            "UV_NO_CONFIG": "1",
            "UV_PYTHON": sys.executable,
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_CACHE_DIR": str(self.work / f"cache-{self.runs}"),
        }

    def _command(self, served: Served, requirements: Sequence[str], options: Sequence[str]) -> list[str | Path]:
        self.runs += 1
        if self.name == "pip":
            pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-v"]
            return [*pip, "--index-url", served.url, "--target", self.target, *options, *requirements]
        uv_pip: list[str | Path] = [uv.find_uv_bin(), "pip", "install", "-v"]
        return [*uv_pip, "--default-index", served.url, "--target", self.target, *options, *requirements]


@pytest.fixture(params=["pip", "uv"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    """Each client in turn."""
    return _client(request.param, tmp_path)


@pytest.fixture
def pip(tmp_path: Path) -> Client:
    """One of them: pip."""
    return _client("pip", tmp_path)


@pytest.fixture
def uv_client(tmp_path: Path) -> Client:
    """One of them: uv."""
    return _client("uv", tmp_path)


def _client(name: str, work: Path) -> Client:
    (work / name).mkdir()
    return Client(name, work / name)
