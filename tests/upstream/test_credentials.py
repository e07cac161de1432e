"""Every kind of credential, against a server that really checks; none of them is ever shown."""

from __future__ import annotations

import base64
import os
import signal
import sys
import types

import msgspec
import pytest
from aiohttp import web

from mirror.errors import AccessDenied, ConfigError
from mirror.logs import redact
from mirror.upstream.credentials import CredentialSource, credential_source
from mirror.upstream.credentials.credential import MalformedSecretError, basic, bearer, jwt_expiry
from mirror.upstream.credentials.kinds import Command, automatic_pairs
from mirror.upstream.credentials.parts import MAX_SECRET_BYTES
from mirror.upstream.session import RequestKind

USERNAME = "0123abcd/4567ef"  # a pull token's name contains a slash, and goes raw into the header
SECRET = "correct-horse"
URL = "http://127.0.0.1:9/simple/"


def jwt(claims):
    def part(value):
        return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


@pytest.fixture
def lets_in(serve, open_session):
    """Ask a server that lets in only what it knows; return whether the session got in."""

    async def ask(auth, env=None, expected=None):
        known = expected or "Basic " + base64.b64encode(f"{USERNAME}:{SECRET}".encode()).decode()

        async def check(request):
            return web.Response(status=200 if request.headers.get("Authorization") == known else 401)

        own = await serve(check)
        session = await open_session(own.url, auth=auth, env=env)
        try:
            async with session.get(own.url, kind=RequestKind.ROOT, headers={}) as response:
                return response.status == 200
        except AccessDenied as exc:
            said = str(exc) + repr(exc)
        assert SECRET not in said
        return said

    return ask


@pytest.mark.parametrize(
    ("auth", "env"),
    [
        pytest.param(None, {"MIRROR_TEST_USERNAME": USERNAME, "MIRROR_TEST_PASSWORD": SECRET}, id="auto by variables"),
        pytest.param(None, {"NETRC": "{dir}/netrc"}, id="auto by $NETRC"),
        pytest.param(None, {"HOME": "{dir}/home"}, id="auto by ~/.netrc"),
        pytest.param(
            {"kind": "auto"}, {"HOME": "{dir}/home", "MIRROR_TEST_PASSWORD": ""}, id="auto, an empty variable is unset"
        ),
        pytest.param({"kind": "netrc"}, {"HOME": "{dir}/home"}, id="netrc"),
        pytest.param(
            {"kind": "basic", "username": USERNAME, "password_env": "P"}, {"P": SECRET}, id="basic by variable"
        ),
        pytest.param(
            {"kind": "basic", "username_env": "U", "password_file": "{dir}/secret"}, {"U": USERNAME}, id="basic by file"
        ),
        pytest.param(
            {"kind": "basic", "username_credential": "user", "password_credential": "secret"},
            {"CREDENTIALS_DIRECTORY": "{dir}"},
            id="basic by systemd credentials",
        ),
        pytest.param(
            {"kind": "basic", "username_file": "{dir}/user", "password_file": "{dir}/crlf"},
            {},
            id="a file with another line end",
        ),
        pytest.param(
            {"kind": "command", "username": USERNAME, "command": ("cat", "{dir}/two-lines")},
            {},
            id="command, its first line",
        ),
    ],
)
async def test_every_kind_gets_in(lets_in, tmp_path, auth, env):
    """Each source of a user name and password opens an index that checks them."""
    (tmp_path / "home").mkdir()
    netrc = f"machine other login a password b\nmachine 127.0.0.1\n login {USERNAME}\n password {SECRET}\n"
    for name, text in {
        "netrc": netrc,
        "home/.netrc": netrc,
        "secret": SECRET + "\n",
        "user": USERNAME + "\n",
        "crlf": SECRET + "\r\n",
        "two-lines": SECRET + "\nsecond\n",
    }.items():
        (tmp_path / name).write_bytes(text.encode())

    def placed(value):
        return tuple(map(placed, value)) if isinstance(value, tuple) else value.replace("{dir}", str(tmp_path))

    env = {"PATH": os.environ["PATH"], **{key: placed(value) for key, value in env.items()}}
    assert await lets_in(None if auth is None else {k: placed(v) for k, v in auth.items()}, env) is True


@pytest.mark.parametrize(
    "auth",
    [
        pytest.param({"kind": "bearer", "token_env": "T"}, id="variable"),
        pytest.param({"kind": "command", "command": ("sh", "-c", "echo $T")}, id="command without a user name"),
    ],
)
async def test_bearer(lets_in, auth):
    """A token alone is sent as Bearer."""
    env = {"T": "to.ke.n", "PATH": os.environ["PATH"]}
    assert await lets_in(auth, env, expected="Bearer to.ke.n") is True


@pytest.mark.parametrize(
    ("auth", "env", "pair"),
    [
        pytest.param(
            {"kind": "basic", "username_env": "U"}, {"U": SECRET}, f"{SECRET}:", id="basic without a password"
        ),
        pytest.param(
            {"kind": "basic", "username": "", "password_env": "P"},
            {"P": SECRET},
            f":{SECRET}",
            id="basic without a name",
        ),
        pytest.param({"kind": "netrc"}, {"NETRC": "{dir}/no-password"}, f"{SECRET}:", id="netrc without a password"),
        pytest.param({"kind": "netrc"}, {"NETRC": "{dir}/empty"}, f"{SECRET}:", id="netrc with an empty password"),
        pytest.param(None, {"NETRC": "{dir}/empty"}, f"{SECRET}:", id="auto by such a netrc"),
        pytest.param({"kind": "netrc"}, {"NETRC": "{dir}/no-login"}, f":{SECRET}", id="netrc without a login"),
    ],
)
async def test_an_empty_half_that_is_said_on_purpose(lets_in, tmp_path, auth, env, pair):
    """A token that is the whole credential goes as user name or as password; the other half is empty."""
    (tmp_path / "no-password").write_text(f"machine 127.0.0.1 login {SECRET}\nmachine other login a password b\n")
    (tmp_path / "empty").write_text(f'machine 127.0.0.1 login {SECRET} password ""\n')
    (tmp_path / "no-login").write_text(f"machine 127.0.0.1 password {SECRET}\n")
    env = {key: value.replace("{dir}", str(tmp_path)) for key, value in env.items()}
    expected = f"Basic {base64.b64encode(pair.encode()).decode()}"
    assert await lets_in(auth, env, expected=expected) is True
    assert redact(f"x {SECRET} y") == "x *** y"


async def test_no_credential(lets_in, new_index):
    """With none, and with auto that finds nothing, nothing is sent, and the message says where it was looked for."""
    assert (
        await credential_source(new_index(URL, auth={"kind": "none"}), {"MIRROR_TEST_PASSWORD": SECRET}).load() is None
    )
    said = await lets_in(None, {})
    assert "$MIRROR_TEST_USERNAME and $MIRROR_TEST_PASSWORD" in said
    assert "/nonexistent/.netrc" in said


def test_chainguards_variables():
    """The vendor's own variables count for its host only, after the index's."""
    own = ("MIRROR_MY_INDEX_USERNAME", "MIRROR_MY_INDEX_PASSWORD")
    vendor = ("CHAINGUARD_PYTHON_IDENTITY_ID", "CHAINGUARD_PYTHON_TOKEN")
    assert automatic_pairs("my-index", "libraries.cgr.dev") == (own, vendor)
    assert automatic_pairs("my-index", "elsewhere.example") == (own,)


async def test_chainguards_variables_are_used(new_index):
    """Without variables of the index the vendor's are taken."""
    index = new_index("https://libraries.cgr.dev/python/simple/")
    env = {"CHAINGUARD_PYTHON_IDENTITY_ID": USERNAME, "CHAINGUARD_PYTHON_TOKEN": SECRET, "HOME": "/nonexistent"}
    found = await credential_source(index, env).load()
    assert found == basic(USERNAME, SECRET, source="$CHAINGUARD_PYTHON_TOKEN")


@pytest.fixture
def keyring_with():
    """A backend of the real keyring library that knows one entry."""
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend
    from keyring.credentials import SimpleCredential
    from keyring.errors import KeyringLocked

    before = keyring.get_keyring()

    def use(entries, *, locked=False):
        class Memory(KeyringBackend):
            priority = 1

            def get_password(self, service, username):
                return entries.get((service, username))

            def set_password(self, service, username, password):
                entries[service, username] = password

            def delete_password(self, service, username):
                del entries[service, username]

            def get_credential(self, service, username):
                if locked:
                    raise KeyringLocked(SECRET)
                for (known, user), password in entries.items():
                    if known == service and username in {None, user}:
                        return SimpleCredential(user, password)
                return None

        keyring.set_keyring(Memory())

    yield use
    keyring.set_keyring(before)


async def test_no_auth_sends_nothing(lets_in):
    """Kind none sends no credential, even where variables would have one, and the refusal says so."""
    said = await lets_in({"kind": "none"}, {"MIRROR_TEST_USERNAME": USERNAME, "MIRROR_TEST_PASSWORD": SECRET})
    assert 'auth kind "none"' in said


@pytest.mark.parametrize("username", [None, USERNAME])
@pytest.mark.parametrize("service", [URL, "127.0.0.1"])
async def test_keyring(keyring_with, new_index, service, username):
    """The keyring is asked for the index's URL, then for its host, with or without a user name."""
    keyring_with({(service, USERNAME): SECRET})
    auth = {"kind": "keyring"} | ({"username": username} if username else {})
    found = await credential_source(new_index(URL, auth=auth), {}).load()
    assert found == basic(USERNAME, SECRET, source="the keyring entry for 127.0.0.1")


@pytest.mark.parametrize(("locked", "words"), [(True, "KeyringLocked"), (False, "no entry")])
async def test_keyring_without_an_entry(keyring_with, new_index, locked, words):
    """A keyring that has nothing, or can't be opened, is no usable credential."""
    keyring_with({}, locked=locked)
    with pytest.raises(AccessDenied, match=words) as caught:
        await credential_source(new_index(URL, auth={"kind": "keyring"}), {}).load()
    assert SECRET not in str(caught.value)


async def test_keyring_is_an_extra(monkeypatch, new_index):
    """Without the library the message names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigError, match=r"offline-mirror\[keyring\]"):
        await credential_source(new_index(URL, auth={"kind": "keyring"}), {}).load()


@pytest.mark.parametrize(
    ("auth", "env", "words"),
    [
        pytest.param({"kind": "bearer", "token_env": "T"}, {}, r"\$T is not set", id="a variable that is not set"),
        pytest.param({"kind": "bearer", "token_env": "T"}, {"T": ""}, r"\$T is empty", id="an empty variable"),
        pytest.param({"kind": "bearer", "token_file": "/nonexistent/t"}, {}, "No such file", id="a missing file"),
        pytest.param({"kind": "bearer", "token_file": "{dir}/empty"}, {}, "is empty", id="an empty file"),
        pytest.param({"kind": "bearer", "token_file": "{dir}/binary"}, {}, "not UTF-8", id="a binary file"),
        pytest.param({"kind": "bearer", "token_file": "{dir}/large"}, {}, "too large", id="a large file"),
        pytest.param(
            {"kind": "bearer", "token_credential": "t"}, {}, "CREDENTIALS_DIRECTORY is not set", id="no systemd"
        ),
        pytest.param(
            {"kind": "bearer", "token_credential": "t"},
            {"CREDENTIALS_DIRECTORY": "/nonexistent"},
            "No such file",
            id="no such systemd credential",
        ),
        pytest.param({"kind": "netrc"}, {"NETRC": "/nonexistent/n"}, "does not exist", id="$NETRC that is not there"),
        pytest.param({"kind": "netrc"}, {"HOME": "/nonexistent"}, "no entry for 127.0.0.1", id="no netrc"),
        pytest.param({"kind": "netrc"}, {"NETRC": "{dir}/others"}, "no entry for 127.0.0.1", id="no entry"),
        pytest.param({"kind": "netrc"}, {"NETRC": "{dir}"}, "can't be read", id="a directory as netrc"),
        pytest.param(
            {"kind": "command", "command": ("/nonexistent/program",)},
            {},
            "could not be started: No such file",
            id="no program",
        ),
        pytest.param(
            {"kind": "command", "command": ("sh", "-c", "exit 3")}, {}, "exit status 3", id="a failing command"
        ),
        pytest.param(
            {
                "kind": "command",
                "command": ("sh", "-c", f"echo {SECRET}; echo first >&2; echo bad {SECRET} >&2; exit 1"),
            },
            {},
            r"exit status 1: bad \*\*\*",
            id="a failing command's last words",
        ),
        pytest.param({"kind": "command", "command": ("true",)}, {}, "printed nothing", id="a silent command"),
        pytest.param(
            {"kind": "command", "command": ("printf", r"\377")}, {}, "not UTF-8", id="a command that prints bytes"
        ),
    ],
)
async def test_credentials_that_can_not_be_had(tmp_path, new_index, auth, env, words):
    """What can't be had now denies the index, says what is wrong, and shows no secret."""
    for name, content in {
        "empty": b"\n",
        "binary": b"\xff\xfe\xff",
        "large": b"x" * (MAX_SECRET_BYTES + 1),
        "others": b"machine other login a password b\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    auth = {k: v.replace("{dir}", str(tmp_path)) if isinstance(v, str) else v for k, v in auth.items()}
    env = {"PATH": os.environ["PATH"], **{k: v.replace("{dir}", str(tmp_path)) for k, v in env.items()}}
    source = credential_source(new_index(URL, auth=auth), env)
    with pytest.raises(AccessDenied, match=words) as caught:
        await source.load()
    assert (caught.value.ends_index, caught.value.status) == (True, None)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("auth", "env", "words"),
    [
        pytest.param(
            {"kind": "basic", "username": "a:b", "password_env": "P"},
            {"P": SECRET},
            "colon",
            id="a colon in the user name",
        ),
        pytest.param(
            {"kind": "basic", "username": "a", "password_env": "P"},
            {"P": f"{SECRET}\nX: y"},
            "line break",
            id="a line break in the password",
        ),
        pytest.param(
            {"kind": "basic", "username": "a\x00", "password_env": "P"},
            {"P": SECRET},
            "control",
            id="NUL in the user name",
        ),
        pytest.param(
            {"kind": "basic", "username": "a", "password_env": "P"},
            {"P": f"{SECRET}\udc80"},
            "UTF-8",
            id="bytes in the password",
        ),
        pytest.param(
            {"kind": "bearer", "token_env": "P"}, {"P": f"{SECRET} x"}, "no Bearer token", id="a space in a token"
        ),
        pytest.param(
            {"kind": "bearer", "token_env": "P"}, {"P": f"{SECRET}ü"}, "no Bearer token", id="a token that is not ASCII"
        ),
        pytest.param({"kind": "netrc"}, {"NETRC": "{dir}/broken"}, r"line \d+: not a valid netrc", id="a broken netrc"),
        pytest.param({"kind": "netrc"}, {"NETRC": "{dir}/binary"}, "not text", id="a binary netrc"),
        pytest.param(
            None,
            {"MIRROR_TEST_PASSWORD": SECRET},
            r"\$MIRROR_TEST_PASSWORD is set, but \$MIRROR_TEST_USERNAME is not",
            id="a password alone",
        ),
        pytest.param(
            None,
            {"MIRROR_TEST_USERNAME": "u"},
            r"\$MIRROR_TEST_USERNAME is set, but \$MIRROR_TEST_PASSWORD is not",
            id="a user name alone",
        ),
        pytest.param({"kind": "basic"}, {}, "lacks its keys", id="basic without keys"),
        pytest.param({"kind": "bearer"}, {}, "lacks its keys", id="bearer without keys"),
        pytest.param({"kind": "command"}, {}, "lacks its keys", id="command without one"),
    ],
)
async def test_credentials_that_can_never_be_right(tmp_path, new_index, auth, env, words):
    """A mistake in the configuration or the secret is told as such, without the secret."""
    (tmp_path / "broken").write_text(f"machine 127.0.0.1 login u {SECRET} word\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    env = {k: v.replace("{dir}", str(tmp_path)) for k, v in env.items()}
    with pytest.raises(ConfigError, match=words) as caught:
        await credential_source(new_index(URL, auth=auth), env).load()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options", "is_refused"),
    [
        pytest.param("http://index.example/simple/", {}, True, id="plain http"),
        pytest.param("http://index.example/simple/", {"allow_insecure": True}, False, id="allowed"),
        pytest.param("https://index.example/simple/", {}, False, id="https"),
        pytest.param("http://localhost:9/simple/", {}, False, id="loopback"),
    ],
)
async def test_no_credential_over_plain_http(new_index, url, options, is_refused):
    """A credential found by auto is not sent over plain http to another host, unless the index allows it."""
    source = credential_source(new_index(url, **options), {"MIRROR_TEST_USERNAME": "u", "MIRROR_TEST_PASSWORD": SECRET})
    if not is_refused:
        assert await source.load() is not None
        return
    with pytest.raises(ConfigError, match="allow-insecure"):
        await source.load()


async def test_a_command_is_given_a_limited_time(new_index):
    """A command that does not end is stopped."""
    reader = Command(command=("sleep", "60"), username=None, env={"PATH": os.environ["PATH"]}, timeout_s=0.05)
    with pytest.raises(AccessDenied, match=r"did not end within 0.05 s"):
        await CredentialSource(reader, new_index(URL)).load()


async def test_command_that_leaves_something_running(tmp_path):
    """An agent that a command starts and leaves behind, with the command's own output, is not waited for."""
    script = f"sleep 1000 & echo $! > {tmp_path}/pid; echo secret-token"
    reader = Command(command=("sh", "-c", script), username=None, env={"PATH": os.environ["PATH"]}, timeout_s=1000)
    found = await reader.read()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert found.header == "Bearer secret-token"


class Hands:
    """Clocks that a test sets."""

    def __init__(self):
        self.monotonic, self.wall = 0.0, 1_000_000.0

    def move(self, seconds):
        self.monotonic += seconds
        self.wall += seconds


class Counting:
    """A reader that gives another secret each time."""

    def __init__(self, lives_s):
        self.lives_s, self.reads, self.mark = lives_s, 0, 0
        self.hands = Hands()

    def describe(self):
        return "a test"

    def stamp(self):
        return self.mark

    async def read(self):
        self.reads += 1
        claims = {} if self.lives_s is None else {"exp": self.hands.wall + self.lives_s}
        return bearer(jwt({"n": self.reads, **claims}), source="a test")

    def source(self, index):
        return CredentialSource(self, index, clock=lambda: self.hands.monotonic, now=lambda: self.hands.wall)


@pytest.mark.parametrize(
    ("lives_s", "changes_at", "expected"),
    [
        pytest.param(None, None, [1, 1, 1, 1], id="kept without an expiry"),
        pytest.param(None, 50, [1, 1, 2, 2], id="read again when its file changed"),
        pytest.param(100, None, [1, 1, 1, 2], id="read again before it expires"),
        pytest.param(5, None, [1, 1, 2, 3], id="one that has expired is not read at each request"),
    ],
)
async def test_how_long_a_credential_is_kept(new_index, lives_s, changes_at, expected):
    """A credential is kept until its source changed or it expires."""
    reader = Counting(lives_s)
    source = reader.source(new_index(URL))
    reads = []
    for at in (0, 10, 60, 100):
        reader.hands.move(at - reader.hands.monotonic)
        if changes_at is not None and at >= changes_at:
            reader.mark = 1
        for _ in range(3):
            await source.load()
        reads.append(reader.reads)
    assert reads == expected
    await source.refresh()
    assert reader.reads == expected[-1] + 1


async def test_a_rotated_file_is_read_again(tmp_path, new_index):
    """A secret file that was replaced is read again without a refusal in between."""
    secret = tmp_path / "secret"
    secret.write_text("one")
    hands = Hands()
    index = new_index(URL, auth={"kind": "bearer", "token_file": secret})
    source = CredentialSource(credential_source(index, {})._reader, index, clock=lambda: hands.monotonic)
    assert (await source.load()).header == "Bearer one"
    (tmp_path / "new").write_text("two")
    (tmp_path / "new").replace(secret)
    assert (await source.load()).header == "Bearer one"
    hands.move(2)
    assert (await source.load()).header == "Bearer two"


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        pytest.param(jwt({"exp": 1_800_000_000}), 1_800_000_000.0, id="a JWT"),
        pytest.param(jwt({"exp": 1.5}), 1.5, id="a fraction"),
        pytest.param(jwt({"exp": "soon"}), None, id="a word"),
        pytest.param(jwt({"exp": -1}), None, id="before 1970"),
        pytest.param(jwt({"exp": 1e300}), None, id="never"),
        pytest.param(jwt({}), None, id="without exp"),
        pytest.param(jwt([]), None, id="no object"),
        pytest.param("a.b.c", None, id="only dots"),
        pytest.param("a.ü.c", None, id="not ASCII"),
        pytest.param("plain", None, id="no JWT"),
        pytest.param("a." + "b" * 70000 + ".c", None, id="too long"),
    ],
)
def test_jwt_expiry(secret, expected):
    """The expiry of a JWT is read without verifying it, and any other text has none."""
    assert jwt_expiry(secret) == expected


def test_nothing_shows_a_secret(new_index):
    """No repr of what holds a secret has it; equal secrets have equal fingerprints."""
    one = basic(USERNAME, SECRET, source="x")
    env = {"MIRROR_TEST_USERNAME": USERNAME, "MIRROR_TEST_PASSWORD": SECRET}
    shown = repr(one) + repr(credential_source(new_index(URL), env)) + one.fingerprint()
    assert SECRET not in shown
    assert base64.b64encode(f"{USERNAME}:{SECRET}".encode()).decode() not in shown
    assert one.fingerprint() == basic(USERNAME, SECRET, source="y").fingerprint()
    assert one.fingerprint() != basic(USERNAME, SECRET + "!", source="x").fingerprint()
    with pytest.raises(MalformedSecretError):
        basic("a:b", SECRET, source="x")


async def test_home_of_a_service(monkeypatch, new_index):
    """Without HOME the user database says where .netrc is; without an entry there, nowhere."""
    source = credential_source(new_index(URL, auth={"kind": "netrc"}), {})
    assert ".netrc" in source.describe()
    monkeypatch.setattr("mirror.upstream.credentials.kinds.pwd", types.SimpleNamespace(getpwuid={}.__getitem__))
    assert "/nonexistent/.netrc" in source.describe()
