"""The index: nginx on loopback that serves a corpus, behind a password and without, with serials and without.

nginx serves files with their ETag and answers 304 by itself; its log gives requests and bytes. ``delay`` stands in front
where a request is to take longer: a proxy of our own, since a delay by the kernel needs rights and modules that few
machines offer. What the proxy itself costs is measured with a delay of 0.
"""

from __future__ import annotations

import contextlib
import getpass
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "bench", "correct horse"

_CONFIG = """
{user}
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    log_format counted '$server_port $status $body_bytes_sent';
    access_log {work}/access.log counted buffer=64k flush=50ms;
    client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
    uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
    types {{ application/vnd.pypi.simple.v1+json json; application/octet-stream whl; }}
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    absolute_redirect off;
    root {site};
{servers}
}}
"""

_SERVER = """
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        {auth}
        location = /simple {{ try_files /simple/{root} =404; }}
        location = /simple/ {{ try_files /simple/{root} =404; }}
        {denied}
        location ~ ^/simple/([a-z0-9-]+)/$ {{ try_files /simple/$1.json =404; }}
        location ~ ^/pypi/([a-z0-9-]+)/json$ {{
            types {{ }}
            default_type application/json;
            add_header X-PYPI-LAST-SERIAL 9999999999;
            try_files /pypi/$1.json =404;
        }}
    }}
"""


_DENIED = "location ~ ^/packages/project_[0-9]*77- { return 403; }"
"""Of the files of one project in a hundred."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a server has answered so far."""

    requests: int
    body_bytes: int


class Upstream:
    """A running nginx. ``port`` of ``serials``, ``plain`` (both behind a password) and ``open`` (without, serials)."""

    def __init__(self, work: Path, ports: dict[str, int]) -> None:
        self._work, self.ports = work, ports

    def url(self, name: str, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.ports[name]}/simple/"

    def traffic(self, name: str) -> Traffic:
        """Return what one of the servers has answered since the start."""
        path = self._work / "access.log"
        before = -1
        while path.stat().st_size != before:  # flushed each 50 ms, later on a busy machine
            before = path.stat().st_size
            time.sleep(0.2)
        requests = size = 0
        with path.open() as log:
            for line in log:
                port, _, length = line.split()
                if int(port) == self.ports[name]:
                    requests += 1
                    size += int(length)
        return Traffic(requests, size)


@contextlib.contextmanager
def serving(site: Path, work: Path) -> Iterator[Upstream]:
    """Serve a corpus until the end of the ``with``."""
    work.mkdir(parents=True, exist_ok=True)
    for path in (work, site):
        path.chmod(0o755)
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/sbin")
    if program is None:
        raise SystemExit("the benchmark needs nginx; install it (Debian: nginx-light) and try again")
    # Plain: a slow hash of the password for each request would be most of what the server does.
    (work / "htpasswd").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    ports = {name: free_port() for name in ("serials", "plain", "open", "denying")}
    auth = f'auth_basic "index"; auth_basic_user_file {work}/htpasswd;'
    servers = "".join(
        _SERVER.format(
            port=port,
            auth="" if name == "open" else auth,
            root=f"root-{'plain' if name in {'plain', 'denying'} else 'serials'}.json",
            denied=_DENIED if name == "denying" else "",
        )
        for name, port in ports.items()
    )
    user = f"user {getpass.getuser()};" if getpass.getuser() == "root" else ""
    (work / "nginx.conf").write_text(_CONFIG.format(work=work, site=site, servers=servers, user=user))
    process = subprocess.Popen(
        [program, "-e", str(work / "error.log"), "-c", str(work / "nginx.conf"), "-p", str(work)]
    )
    try:
        for port in ports.values():
            wait_for(port, process)
        yield Upstream(work, ports)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def delayed(port: int, delay_ms: float) -> Iterator[int]:
    """Stand in front of a port, so that each request comes later; yield the port to ask."""
    own = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.delay", str(own), str(port), str(delay_ms)])
    try:
        wait_for(own, process)
        yield own
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return as soon as somebody listens."""
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit(f"a server of the benchmark ended with exit code {process.returncode}")
