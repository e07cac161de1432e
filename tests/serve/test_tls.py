"""The index over TLS: pages and files, a certificate that is renewed, and one that can't be used."""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess

import pytest

from harness.server import Server, made_tree

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def make_certificate(directory, name):
    """Make a certificate for 127.0.0.1 with its key; return their paths."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return certificate, key


def fetch(server, certificate, target):
    """Return the body that a client gets who trusts this certificate alone."""
    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection(*server.address, context=context)
    try:
        connection.request("GET", target)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_tls(tmp_path):
    """Pages and files come over TLS; a renewed certificate is used at once, an unreadable one is not."""
    with made_tree(tmp_path / "own") as own:
        certificate, key = make_certificate(tmp_path, "used")
        tables = f'[serve]\ncertificate = "{certificate}"\nkey = "{key}"\n'
        own.mirror.config.write_text(own.mirror.config.read_text() + tables)
        with Server(own.mirror, "--config", own.mirror.config) as server:
            assert server.url.startswith("https://")
            for target, data in list(own.files.items())[:3]:
                where, expected = data
                assert fetch(server, certificate, where) == expected, target
            assert b"demo-app" in fetch(server, certificate, "/simple/")
            old = tmp_path / "old.pem"
            shutil.copy(certificate, old)
            key_bytes = key.read_bytes()
            key.write_text("no key")
            server.process.send_signal(1)
            server.heard("certificate.refused", level="error")
            assert b"demo-app" in fetch(server, old, "/simple/")
            new, new_key = make_certificate(tmp_path, "new")
            assert new_key.read_bytes() != key_bytes
            new_key.replace(key)
            new.replace(certificate)
            server.process.send_signal(1)
            server.heard("certificate.loaded")

            def is_new() -> bool:
                try:
                    return b"demo-app" in fetch(server, certificate, "/simple/")
                except ssl.SSLCertVerificationError:
                    return False

            server.wait_until(is_new)


def test_unusable_certificate(tree, tmp_path):
    """A certificate that can't be read is 2, and its file is named; a certificate without a key too."""
    config = tmp_path / "mirror.toml"
    base = f'[mirror]\nroot = "{tree.mirror.root}"\n[[index]]\nname = "a"\nurl = "http://127.0.0.1:1/"\n[serve]\n'
    config.write_text(f'{base}certificate = "none.pem"\nkey = "none.key"\n')
    done = tree.mirror.run("--config", config, "serve", "--listen", "127.0.0.1:0")
    assert done.returncode == 2
    assert "none.pem" in done.stderr
    config.write_text(f'{base}certificate = "none.pem"\n')
    done = tree.mirror.run("--config", config, "serve", "--listen", "127.0.0.1:0")
    assert done.returncode == 2
    assert "serve.key" in done.stderr
