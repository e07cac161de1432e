"""Basic authentication of `mirror serve`: who gets an answer, what a check costs, and a file that changes."""

from __future__ import annotations

import asyncio
import base64
import signal
import threading
import time

import bcrypt
import pytest

from harness.server import Server
from mirror.errors import ConfigError
from mirror.serve.access import passwords as module
from mirror.serve.access.htpasswd import HtpasswdError, Users, parse_htpasswd
from mirror.serve.access.passwords import Admission, PasswordFile, Passwords, parse_basic

HEALTH = ("/-/health/live", "/-/health/ready")
EVERYTHING = ("/simple/", "/simple/demo-app/", "/metrics", "/", "/absent", "/simple/Demo_App", "/%zz")


def line(user: str, password: str, cost: int = 4) -> str:
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()}\n"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def configured(tree, directory, *lines: str):
    config = directory / "mirror.toml"
    head = f'[mirror]\nroot = "{tree.mirror.root}"\n[[index]]\nname = "a"\nurl = "http://127.0.0.1:1/"\n[serve]\n'
    config.write_text(head + "\n".join(lines) + "\n")
    return config


@pytest.fixture(scope="module")
def guarded(tree, tmp_path_factory):
    """A server that asks for passwords; its file can be changed at ``htpasswd``."""
    directory = tmp_path_factory.mktemp("guarded")
    file = directory / "htpasswd"
    file.write_text("# users\n\n" + line("anna", "pass:wörd") + line("slow", "x", 6).replace("$2b$", "$2y$"))
    config = configured(tree, directory, f'htpasswd = "{file}"')
    with Server(tree.mirror, "--config", config) as server:
        server.htpasswd = file
        yield server


@pytest.mark.parametrize("target", EVERYTHING)
def test_without_a_password(guarded, target):
    """Everything but the health addresses is 401, that no cache keeps, whatever the method."""
    for method in ("GET", "HEAD", "POST"):
        answer = guarded.get(target, method=method)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("target", HEALTH)
def test_health_needs_none(guarded, target):
    """The health addresses are answered without a password, and with a wrong one."""
    for headers in ({}, basic("anna", "wrong")):
        answer = guarded.get(target, headers)
        assert answer.status == 200
        assert len(answer.body.split()) == 1


WRONG = {
    "wrong": basic("anna", "password"),
    "unknown": basic("nobody", "pass:wörd"),
    "empty": basic("", ""),
    "case": basic("Anna", "pass:wörd"),
    "no-colon": {"Authorization": "Basic " + base64.b64encode(b"anna").decode()},
    "bearer": {"Authorization": "Bearer " + base64.b64encode("anna:pass:wörd".encode()).decode()},
    "not-base64": {"Authorization": "Basic %%%"},
    "nul": {"Authorization": "Basic " + base64.b64encode(b"anna:pass\0").decode()},
    "huge": {"Authorization": "Basic " + "A" * 6000},
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_wrong_credentials(guarded, headers):
    """What is no user's credential is 401."""
    assert guarded.get("/simple/", headers).status == 401


def test_right_credentials(guarded):
    """A user gets pages, files and metrics; the log names neither user nor password."""
    for target in ("/simple/", "/simple/demo-app/", "/metrics"):
        assert guarded.get(target, basic("anna", "pass:wörd")).status == 200
    assert guarded.get("/simple/", basic("slow", "x")).status == 200
    words = basic("anna", "pass:wörd")
    words["Authorization"] = words["Authorization"].replace("Basic", "bASIC")
    assert guarded.get("/simple/", words).status == 200
    assert "pass" not in str(guarded.events("request.answered"))
    assert "anna" not in str(guarded.events())


def test_file_that_changes(guarded):
    """A renewed file counts at once, for remembered users too; one that can't be read is one error, and the old one stays."""
    old = guarded.htpasswd.read_text()
    for bad in ("anna:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=\n", "", line("anna", "n").replace("$04$", "$15$")):
        before = len(guarded.events("htpasswd.refused"))
        guarded.htpasswd.write_text(bad)
        guarded.process.send_signal(signal.SIGHUP)
        wait_for(lambda n=before: len(guarded.events("htpasswd.refused")) > n)
        assert guarded.get("/simple/", basic("anna", "pass:wörd")).status == 200
        assert len(guarded.events("htpasswd.refused")) == before + 1
        assert "SHA" not in str(guarded.events("htpasswd.refused"))
    guarded.htpasswd.unlink()
    guarded.process.send_signal(signal.SIGHUP)
    wait_for(lambda: guarded.events("htpasswd.refused")[-1]["problem"] == "No such file or directory")
    assert guarded.get("/simple/", basic("anna", "pass:wörd")).status == 200
    guarded.htpasswd.write_text(line("anna", "new"))
    wait_for(lambda: guarded.get("/simple/", basic("anna", "new")).status == 200)
    wait_for(lambda: guarded.get("/simple/", basic("anna", "pass:wörd")).status == 401)
    guarded.htpasswd.write_text(old)
    wait_for(lambda: guarded.get("/simple/", basic("anna", "pass:wörd")).status == 200)


def wait_for(condition) -> None:
    """Wait until the server has seen what changed; it looks once a second."""
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.05)


REFUSED = {
    "cost": (line("a", "x").replace("$04$", "$15$"), "line 1: its cost is 15"),
    "md5": ("a:$apr1$Rh1wWc0Y$K3Q0Qz6oGqrBxmXrj0tRZ0\n", "line 1 is no user name with a bcrypt hash"),
    "plain": (line("a", "x") + "b:secret\n", "line 2"),
    "empty": ("# nobody\n", "it names no user"),
    "twice": (line("a", "x") + line("a", "y"), "line 2 names a user of an earlier line"),
    "no-user": (line("", "x"), "line 1"),
    "binary": ("\x00\x01", "line 1"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused_files(tmp_path, text, problem):
    """A file that can't be used says why and never repeats a line."""
    with pytest.raises(HtpasswdError, match=problem) as caught:
        parse_htpasswd(text.encode())
    assert "secret" not in str(caught.value)
    file = tmp_path / "htpasswd"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"serve\.htpasswd") as refused:
        PasswordFile(file)
    assert str(file) in str(refused.value)


def test_unusable_file_ends_the_program(tree, tmp_path):
    """A missing file and a cost that is too high are 2, before anything is served."""
    (tmp_path / "costly").write_text(line("a", "x").replace("$04$", "$20$"))
    for name in ("absent", "costly"):
        config = configured(tree, tmp_path, f'htpasswd = "{name}"')
        done = tree.mirror.run("--config", config, "serve", "--listen", "127.0.0.1:0")
        assert done.returncode == 2
        assert name in done.stderr


@pytest.mark.parametrize(("listen", "warns"), [("127.0.0.1:0", False), ("0.0.0.0:0", True)])
def test_unencrypted(tree, tmp_path, listen, warns):
    """Passwords without TLS beyond loopback are one warning."""
    (tmp_path / "htpasswd").write_text(line("a", "x"))
    config = configured(tree, tmp_path, 'htpasswd = "htpasswd"')
    with Server(tree.mirror, "--config", config, "--workers", "2", "--listen", listen) as server:
        server.heard("serve.started")
        assert len(server.events("passwords.exposed")) == warns


# -- what a check costs -----------------------------------------------------------------------------------------------


class Counting(Users, frozen=True, kw_only=True):
    """Users whose checks are counted, and last until they are let go."""

    calls: list[bytes]
    gate: threading.Event

    def verify(self, user: bytes, password: bytes) -> bool:
        self.calls.append(user)
        assert self.gate.wait(60)
        return super().verify(user, password)


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A file of one user, ``a`` with the password ``x``, whose checks are counted."""
    file = tmp_path / "htpasswd"
    file.write_text(line("a", "x"))
    found: list[Counting] = []

    def counting(data: bytes) -> Users:
        users = parse_htpasswd(data)
        gate = threading.Event()
        gate.set()
        found.append(Counting(hashes=users.hashes, cost=users.cost, calls=[], gate=gate))
        return found[-1]

    monkeypatch.setattr(module, "parse_htpasswd", counting)
    passwords = Passwords(PasswordFile(file))
    yield passwords, found, file
    passwords.close()


def header(user: str, password: str) -> str:
    return basic(user, password)["Authorization"]


def test_a_success_is_remembered(counted, monkeypatch):
    """Pip's hundred requests cost one check, at once and one after the other; after five minutes and a change a new one."""
    passwords, found, file = counted

    async def scenario() -> None:
        for _ in range(3):
            results = await asyncio.gather(*(passwords.admission(header("a", "x")) for _ in range(100)))
            assert set(results) == {Admission.ADMITTED}
        assert found[0].calls == [b"a"]
        now = time.monotonic()
        monkeypatch.setattr(module.time, "monotonic", lambda: now + 299)
        assert await passwords.admission(header("a", "x")) is Admission.ADMITTED
        assert found[0].calls == [b"a"]
        monkeypatch.setattr(module.time, "monotonic", lambda: now + 301)
        assert await passwords.admission(header("a", "x")) is Admission.ADMITTED
        assert found[0].calls == [b"a"] * 2
        file.write_text(line("a", "y"))
        passwords._file.users.refresh(always=True)
        assert await passwords.admission(header("a", "x")) is Admission.REFUSED
        assert len(found[1].calls) == 1

    asyncio.run(scenario())


def test_a_change_during_a_check(counted):
    """A check that began before the file changed is not remembered."""
    passwords, found, file = counted

    async def scenario() -> None:
        found[0].gate.clear()
        under_way = asyncio.ensure_future(passwords.admission(header("a", "x")))
        while not found[0].calls:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0)
        file.write_text(line("a", "y"))
        passwords._file.users.refresh(always=True)
        assert await passwords.admission(header("a", "y")) is Admission.ADMITTED
        found[0].gate.set()
        await under_way
        assert await passwords.admission(header("a", "x")) is Admission.REFUSED

    asyncio.run(scenario())


def test_checks_at_once(counted, monkeypatch):
    """Two checks run at once; others wait, and those that wait too long or are too many are refused for now."""
    passwords, found, _ = counted
    monkeypatch.setattr(module, "WAIT_LIMIT_S", 0.05)
    monkeypatch.setattr(module, "MAX_WAITING", 5)

    async def scenario() -> None:
        found[0].gate.clear()
        tasks = [asyncio.ensure_future(passwords.admission(header(f"u{n}", "x"))) for n in range(5)]
        while len(found[0].calls) < 2:  # noqa: ASYNC110 - set by other threads
            await asyncio.sleep(0)
        assert await passwords.admission(header("late", "x")) is Admission.BUSY
        assert await asyncio.gather(*tasks[2:]) == [Admission.BUSY] * 3
        found[0].gate.set()
        assert await asyncio.gather(*tasks[:2]) == [Admission.REFUSED] * 2
        assert len(found[0].calls) == 2

    asyncio.run(scenario())


def test_places_are_shared(tmp_path):
    """All processes together have two places, also after one that held a place was killed."""
    import os

    file = tmp_path / "htpasswd"
    file.write_text(line("a", "x"))
    slots = PasswordFile(file).slots
    ready, child_ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        slots.take(0.0)
        os.write(child_ready, b"1")
        signal.pause()
    try:
        assert os.read(ready, 1) == b"1"
        own = slots.take(0.0)
        assert own is not None
        assert slots.take(0.0) is None
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(child_ready)
    other = slots.take(0.0)
    assert other is not None
    os.close(own)
    os.close(other)


def test_refusals_take_the_same_work(monkeypatch):
    """An unknown user, and a known one with any cost, cost the work of the highest one."""
    users = parse_htpasswd((line("low", "x", 4) + line("high", "x", 7)).encode())
    done: list[int] = []

    def checkpw(password: bytes, known: bytes) -> bool:
        done.append(1 << int(known[4:6]))
        return False

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    for user in (b"low", b"high", b"nobody"):
        done.clear()
        assert not users.verify(user, b"x" * 100)
        assert sum(done) == 1 << 7


@pytest.mark.parametrize("password", ["p" * 72, "p" * 73, "p" * 200, "ü" * 60])
def test_long_passwords(password):
    """A password beyond bcrypt's 72 bytes is read as Apache reads it."""
    known = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4))
    assert Users(hashes={b"a": known}, cost=4).verify(b"a", password.encode())


def test_parse_basic():
    """The password goes on behind the first colon."""
    assert parse_basic(header("a", "b:c")) == (b"a", b"b:c")
    assert parse_basic(None) is None
    assert parse_basic(header("a", "b\0c")) is None
    assert parse_basic("Basic é") is None
