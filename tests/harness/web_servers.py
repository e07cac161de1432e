"""Web servers that are started with what ``mirror web-config`` prints, on a port that the system chose."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from harness.ports import claim_ports
from harness.program import GUARD_S, call_well, clean_environment

SERVERS = ("nginx", "caddy", "apache")
_PROGRAMS = {"nginx": "nginx", "caddy": "caddy", "apache": "apache2"}
_MODULES = Path("/usr/lib/apache2/modules")
_NGINX = """\
daemon off;
worker_processes 1;
{user}
pid {work}/server.pid;
error_log {work}/error.log warn;
events {{}}
http {{
    access_log {work}/access.log;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    include {work}/mirror.conf;
}}
"""
_APACHE = """\
ServerName localhost
ServerRoot {work}
PidFile {work}/server.pid
ErrorLog {work}/error.log
{modules}
TypesConfig /dev/null
{user}
Include {work}/mirror.conf
"""
_APACHE_MODULES = (
    "mpm_event",
    "authz_core",
    "dir",
    "alias",
    "mime",
    "headers",
    "rewrite",
    "deflate",
    "filter",
    "autoindex",
)


@dataclass(frozen=True)
class Answer:
    """One answer, as it came."""

    status: int
    headers: Message
    body: bytes


@dataclass(frozen=True)
class WebServer:
    """A server under way on this machine."""

    kind: str
    port: int

    @property
    def url(self) -> str:
        """Of the index."""
        return f"http://127.0.0.1:{self.port}/simple/"

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path as it is written; in the names of headers ``_`` stands for ``-``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GUARD_S)
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer


@contextmanager
def web_server(kind: str, root: Path, work: Path) -> Iterator[WebServer]:
    """Start a server with the printed configuration for a root; only where it listens is changed."""
    mirror = [sys.executable, "-m", "mirror", "web-config", kind, "--root", root]
    work.mkdir(parents=True)
    printed = call_well(mirror, env=clean_environment(work), cwd=work).stdout
    assert "8080" in printed
    with started_server(kind, printed, work) as server:
        yield server


@contextmanager
def started_server(kind: str, printed: str, work: Path) -> Iterator[WebServer]:
    """Start a server with a configuration that listens on 8080; only where it listens is changed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    program = shutil.which(_PROGRAMS[kind], path=path)
    if program is None:
        pytest.skip(f"{_PROGRAMS[kind]} is not installed")
    (port,) = claim_ports(1)
    command = _prepare(kind, program, printed, port, work)
    log = (work / "output.log").open("w")
    process = subprocess.Popen(
        command, stdout=log, stderr=log, cwd=work, env={**clean_environment(work), "XDG_DATA_HOME": str(work)}
    )
    try:
        _wait_until_it_answers(process, port, work)
        yield WebServer(kind, port)
    finally:
        process.terminate()
        process.wait(timeout=GUARD_S)
        log.close()


def _prepare(kind: str, program: str, printed: str, port: int, work: Path) -> list[str]:
    config = work / "mirror.conf"
    is_root = os.getuid() == 0
    # Started by root, they would read the tree as another user, who may not enter the test's directory.
    match kind:
        case "nginx":
            config.write_text(printed.replace("listen 8080", f"listen 127.0.0.1:{port}"))
            user = "user root root;" if is_root else ""
            (work / "main.conf").write_text(_NGINX.format(work=work, user=user))
            return [program, "-p", str(work), "-c", str(work / "main.conf"), "-e", str(work / "error.log")]
        case "caddy":
            listening = f":{port} {{\n\tbind 127.0.0.1"
            config.write_text("{\n\tadmin off\n}\n" + printed.replace("\n:8080 {", f"\n{listening}"))
            return [program, "run", "--config", str(config), "--adapter", "caddyfile"]
        case _:
            text = printed.replace("Listen 8080", f"Listen 127.0.0.1:{port}").replace("*:8080", f"*:{port}")
            config.write_text(text)
            names = [*_APACHE_MODULES, *(("unixd",) if (_MODULES / "mod_unixd.so").exists() else ())]
            modules = "\n".join(
                f"LoadModule {name}_module {_MODULES}/mod_{name}.so"
                for name in names
                if (_MODULES / f"mod_{name}.so").exists()
            )
            (work / "main.conf").write_text(_APACHE.format(work=work, modules=modules, user=""))
            return [program, "-X", "-d", str(work), "-f", str(work / "main.conf")]


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, work: Path) -> None:
    deadline = time.monotonic() + GUARD_S
    while time.monotonic() < deadline:
        said = [path.read_text() for path in (work / "output.log", work / "error.log") if path.exists()]
        assert process.poll() is None, said
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(port)
