"""The servers of one tree: ours, nginx, and the Python servers that people use, each with its access log on.

Each has the same files: nginx and ``mirror serve`` the tree itself, pypiserver a folder of links to its files,
simple-repository-server a folder of links for each project, devpi-server a mirror index of ours whose pages and files it has
cached by its first answers. devpi has no access log.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from bench.measure import OURS
from bench.peers import HERE
from bench.upstream import free_port, wait_for

_NGINX = """
{user}
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log {work}/access.log combined;
    client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
    uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
    default_type application/octet-stream;
    types {{ text/html html; }}
    sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=10000;
    gzip on; gzip_static off; gzip_vary on; gzip_types text/html;
    server {{ listen 127.0.0.1:{port} backlog=1024; root {public}; index index.html; }}
}}
"""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    name: str
    pid: int
    port: int
    simple: str = "/simple/"
    """The target of its root page."""

    def page(self, project: str) -> str:
        """Return the target of a project's page."""
        return f"{self.simple}{project}/"

    def files(self, project: str) -> list[str]:
        """Return the targets of a project's files, as its page links them."""
        address = f"http://127.0.0.1:{self.port}{self.page(project)}"
        request = urllib.request.Request(address, headers={"Accept": "text/html"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            links = re.findall(r'href="([^"#]+)', answer.read().decode())
        return [urlsplit(urljoin(address, html.unescape(link))).path for link in links if ".whl" in link]

    def cpu_s(self) -> float:
        """CPU that the process and its children have taken so far."""
        return sum(map(_cpu_s, _family(self.pid)))

    def rss_mib(self) -> float:
        """Private and shared memory of all its processes now, shared pages counted for each."""
        return sum(map(_rss_mib, _family(self.pid)))


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0


def _rss_mib(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


@contextlib.contextmanager
def started(
    command: Sequence[str], port: int, work: Path, name: str, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server until the end of the ``with``; yield its process."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MIRROR_", "PYTHON"))}
    with (work / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=clean | {"PYTHONPATH": str(HERE), "HOME": str(work)} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(port, process)
            yield process.pid
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def all_servers(root: Path, work: Path, programs: Path | None) -> Iterator[list[Server]]:
    """Start every server that is installed; ``programs``: where those of the peers are, None for nowhere.

    What else is on PATH is not asked: its versions are not those that the benchmark names.
    """
    work.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ours(root, work)), stack.enter_context(nginx(root, work))]
        for name, start in (
            ("pypi-server", _pypiserver),
            ("simple-repository-server", _simple_repository_server),
            ("devpi-server", _devpi_server),
        ):
            program = None if programs is None else shutil.which(name, path=str(programs))
            if program is None:
                print(f"{name} is not there: it is left out (make bench installs it)", file=sys.stderr)
                continue
            servers.append(stack.enter_context(start(program, root, work, servers[0].port)))
        yield servers


@contextlib.contextmanager
def ours(root: Path, work: Path, *words: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """``mirror serve`` with one worker, its access log in a file."""
    port = free_port()
    place = [] if "--tree" in words else ["--root", str(root)]
    command = [sys.executable, "-m", "mirror", "serve", *place, "--listen", f"127.0.0.1:{port}", *words]
    command += ["--workers", "1", "--log-level", "info", "--log-format", "json"]
    with started(command, port, work, OURS, environment) as pid:
        yield Server(name=OURS, pid=pid, port=port)


@contextlib.contextmanager
def nginx(root: Path, work: Path) -> Iterator[Server]:
    """nginx with one worker, gzip as the documented configuration has it."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/sbin")
    if program is None:
        raise SystemExit("the benchmark needs nginx; install it (Debian: nginx-light) and try again")
    port, folder = free_port(), work / "nginx"
    folder.mkdir()
    user = f"user {getpass.getuser()};" if getpass.getuser() == "root" else ""
    (folder / "nginx.conf").write_text(_NGINX.format(work=folder, user=user, port=port, public=root / "public"))
    command = [program, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with started(command, port, work, "nginx") as pid:
        yield Server(name="nginx", pid=pid, port=port)


def _files(root: Path) -> Iterator[Path]:
    return (path for path in (root / "public/files").rglob("*.whl") if path.is_file())


@contextlib.contextmanager
def _pypiserver(program: str, root: Path, work: Path, _: int) -> Iterator[Server]:
    folder, port = work / "packages", free_port()
    folder.mkdir()
    for path in _files(root):
        os.link(path, folder / path.name)
    command = [program, "run", "-i", "127.0.0.1", "-p", str(port), "-a", ".", "-P", ".", "-v", "--disable-fallback"]
    with started([*command, str(folder)], port, work, "pypiserver") as pid:
        yield Server(name="pypiserver", pid=pid, port=port)


@contextlib.contextmanager
def _simple_repository_server(program: str, root: Path, work: Path, _: int) -> Iterator[Server]:
    folder, port = work / "repository", free_port()
    for path in _files(root):
        project = folder / path.name.split("-")[0].replace("_", "-")
        project.mkdir(parents=True, exist_ok=True)
        os.link(path, project / path.name)
    with started(
        [program, "--host", "127.0.0.1", "--port", str(port), str(folder)], port, work, "simple-repository"
    ) as pid:
        yield Server(name="simple-repository-server", pid=pid, port=port)


@contextlib.contextmanager
def _devpi_server(program: str, _: Path, work: Path, origin: int) -> Iterator[Server]:
    folder, port = work / "devpi", free_port()
    init = Path(program).with_name("devpi-init")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    subprocess.run([str(init), "--serverdir", str(folder), "--no-root-pypi"], check=True, **quiet)  # type: ignore[call-overload]
    command = [program, "--serverdir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with started(command, port, work, "devpi-server") as pid:
        _make_devpi_index(port, f"http://127.0.0.1:{origin}/simple/")
        yield Server(name="devpi-server", pid=pid, port=port, simple="/root/mirrored/+simple/")


def _make_devpi_index(port: int, url: str) -> None:
    """Make a mirror index by devpi's API; the user root has no password after the start."""

    def call(method: str, target: str, body: dict[str, object], headers: dict[str, str]) -> dict[str, object]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{target}",
            data=json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json", "Accept": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.loads(answer.read()))

    for _ in range(50):
        try:
            session = call("POST", "/+login", {"user": "root", "password": ""}, {})["result"]
            break
        except OSError:
            time.sleep(0.2)
    else:
        raise SystemExit("devpi-server does not answer")
    assert isinstance(session, dict)
    secret = base64.b64encode(f"root:{session['password']}".encode()).decode()
    index = {"type": "mirror", "mirror_url": url, "volatile": True, "mirror_cache_expiry": 86_400}
    call("PUT", "/root/mirrored", index, {"X-Devpi-Auth": secret})
