"""Clients behind proxies: whose headers count, for the log, the limit and shown addresses."""

from __future__ import annotations

import ipaddress

import pytest
from multidict import CIMultiDict

from harness.server import Server, read_answer
from mirror.serve.access.proxies import Proxies

TRUSTED = Proxies(["10.0.0.0/8", "2001:db8::/32"])
PROXY, STRANGER = ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("198.51.100.1")

CLIENTS = {
    "one": (PROXY, ["203.0.113.7"], "203.0.113.7"),
    "forged-before": (PROXY, ["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
    "forged-line-before": (PROXY, ["1.1.1.1", "203.0.113.7"], "203.0.113.7"),
    "two-proxies": (PROXY, ["1.1.1.1, 203.0.113.7, 10.9.9.9"], "203.0.113.7"),
    "proxies-alone": (PROXY, ["10.1.1.1, 10.9.9.9"], "10.1.1.1"),
    "port": (PROXY, ["203.0.113.7:5555"], "203.0.113.7"),
    "six": (PROXY, ["2001:db9::7"], "2001:db9::7"),
    "six-in-brackets": (PROXY, ['"[2001:db9::7]:80"'], "2001:db9::7"),
    "four-as-six": (PROXY, ["::ffff:203.0.113.7"], "203.0.113.7"),
    "unknown": (PROXY, ["unknown"], "10.0.0.1"),
    "unknown-before-a-proxy": (PROXY, ["unknown, 10.9.9.9"], "10.9.9.9"),
    "none": (PROXY, [], "10.0.0.1"),
    "empty": (PROXY, [" , ,"], "10.0.0.1"),
    "stranger": (STRANGER, ["203.0.113.7"], "198.51.100.1"),
    "unix": (None, ["203.0.113.7"], "None"),
}


@pytest.mark.parametrize(("peer", "values", "client"), CLIENTS.values(), ids=CLIENTS)
def test_client(peer, values, client):
    """The client is the last forwarded address that no trusted proxy has."""
    headers = CIMultiDict(("X-Forwarded-For", value) for value in values)
    assert str(TRUSTED.client(peer, headers)) == client


BASES = {
    "host": (PROXY, {"Host": "pypi.lan:8080"}, "http://pypi.lan:8080/"),
    "six": (PROXY, {"Host": "[::1]:8080"}, "http://[::1]:8080/"),
    "no-host": (PROXY, {}, "http://fallback:1/"),
    "script": (PROXY, {"Host": '"><script>'}, "http://fallback:1/"),
    "userinfo": (PROXY, {"Host": "a@b"}, "http://fallback:1/"),
    "path": (PROXY, {"Host": "a/b"}, "http://fallback:1/"),
    "forwarded": (
        PROXY,
        {"Host": "in", "X-Forwarded-Host": "pypi.example", "X-Forwarded-Proto": "HTTPS", "X-Forwarded-Prefix": "/py/"},
        "https://pypi.example/py/",
    ),
    "appended": (PROXY, {"X-Forwarded-Host": "forged, pypi.example"}, "http://pypi.example/"),
    "odd": (
        PROXY,
        {"Host": "in", "X-Forwarded-Host": "a b", "X-Forwarded-Proto": "ftp", "X-Forwarded-Prefix": "/../x"},
        "http://in/",
    ),
    "elsewhere": (PROXY, {"Host": "in", "X-Forwarded-Prefix": "//evil.example"}, "http://in/"),
    "stranger": (
        STRANGER,
        {"Host": "in", "X-Forwarded-Host": "x", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/x"},
        "http://in/",
    ),
}


@pytest.mark.parametrize(("peer", "headers", "base"), BASES.values(), ids=BASES)
def test_shown_base(peer, headers, base):
    """The shown address is the request's own, or that of a trusted proxy; what can't be one is left out."""
    assert TRUSTED.shown_base(peer, CIMultiDict(headers), is_tls=False, fallback="fallback:1") == base
    fixed = Proxies(["10.0.0.0/8"], url="https://fixed.example/")
    found = fixed.shown_base(peer, CIMultiDict(headers), is_tls=False, fallback="fallback:1")
    assert found == "https://fixed.example/"


@pytest.fixture(scope="module")
def large(tree, tmp_path_factory):
    """A tree with a file that no socket's buffers hold, and the target of that file."""
    root = tmp_path_factory.mktemp("large")
    digest = "aabb" + "0" * 60
    path = root / "public/files/aa/bb" / digest / "big-1.0.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(16 << 20))
    return root, f"/files/aa/bb/{digest}/big-1.0.tar.gz"


def forwarded(client: str) -> dict[str, str]:
    return {"X-Forwarded-For": client}


def test_limit_and_log(tree, large, tmp_path):
    """Behind a trusted proxy requests of a client are counted; the log names the client, and never a proxy's word else."""
    root, target = large
    head = f'[mirror]\nroot = "{root}"\n[[index]]\nname = "a"\nurl = "http://127.0.0.1:1/"\n[serve]\n'
    config = tmp_path / "mirror.toml"
    config.write_text(f'{head}trusted-proxies = ["127.0.0.1"]\nconnections-per-client = 1\n')
    with Server(tree.mirror, "--root", root, "--config", config) as server, server.connect() as slow:
        slow.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n".encode())
        assert slow.recv(8) == b"HTTP/1.1"
        refused = server.get("/metrics", forwarded("203.0.113.7"))
        assert (refused.status, refused.headers["Connection"]) == (429, "close")
        assert int(refused.headers["Retry-After"]) > 0
        assert server.heard("request.answered", status=429)["client"] == "203.0.113.7"
        for client in ("203.0.113.8", "2001:db9::7", "unknown"):
            assert server.get("/metrics", forwarded(client)).status == 200
        with server.connect() as kept:  # an idle connection of the proxy is no request
            for _ in range(3):
                kept.sendall(b"GET /-/health/live HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
                assert read_answer(kept).status == 200
            assert server.get("/metrics", forwarded("203.0.113.9")).status == 200
        slow.close()
        server.heard("request.answered", path=target)
        assert server.get("/metrics", forwarded("203.0.113.7")).status == 200
    config.write_text(f"{head}connections-per-client = 1\n")
    with Server(tree.mirror, "--root", root, "--config", config) as server:
        server.get("/metrics", forwarded("203.0.113.7"))
        assert server.heard("request.answered")["client"] == "127.0.0.1"
