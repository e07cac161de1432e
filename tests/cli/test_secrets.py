"""No secret appears anywhere: not on standard output, not in a log of any level and format, not on the disk.

Each kind of credential is used against a server that checks it, in cycles that succeed and in cycles that fail.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote

import pytest

from harness.program import Done, Mirror, published
from simulator import JSON_TYPE, Corrupt, Page, Redirect, Status, build_sdist, build_wheel

pytestmark = pytest.mark.usefixtures("unmeasured")

USERNAME = "ORG0ne/T0KEN"
PASSWORD = 'pa55/w+rd%"$é~x'
TOKEN = "eyJh.bE4r-t0k3n_~+/=="
NETRC_PASSWORD = "netrc/pa55+w0rd%x"

KEYRING_BACKEND = """\
import os
from keyring.backend import KeyringBackend
from keyring.credentials import SimpleCredential


class Keyring(KeyringBackend):
    priority = 9

    def get_credential(self, service, username):
        return SimpleCredential(*open(os.environ["RING_FILE"]).read().split("\\n")) if username is None else None

    def get_password(self, service, username):
        return None

    def set_password(self, service, username, password):
        raise NotImplementedError
"""


@dataclass(frozen=True)
class Source:
    """Where a credential lies: the lines of ``[index.auth]``, variables, and what must not appear."""

    auth: str
    variables: dict[str, str] = field(default_factory=dict)
    secret: str = PASSWORD
    is_bearer: bool = False


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def from_environment(_work: Path) -> Source:
    auth = f'auth = {{ kind = "basic", username = "{USERNAME}", password-env = "PW" }}'
    return Source(auth, {"PW": PASSWORD})


def from_default_variables(_work: Path) -> Source:
    return Source("", {"MIRROR_DEFAULT_USERNAME": USERNAME, "MIRROR_DEFAULT_PASSWORD": PASSWORD})


def from_files(work: Path) -> Source:
    user, password = write(work / "user", f"{USERNAME}\n"), write(work / "password", f"{PASSWORD}\n")
    return Source(f'auth = {{ kind = "basic", username-file = "{user}", password-file = "{password}" }}')


def from_systemd(work: Path) -> Source:
    write(work / "credentials" / "index-password", PASSWORD)
    auth = f'auth = {{ kind = "basic", username = "{USERNAME}", password-credential = "index-password" }}'
    return Source(auth, {"CREDENTIALS_DIRECTORY": str(work / "credentials")})


def from_netrc(work: Path) -> Source:
    netrc = write(work / "netrc", f"machine 127.0.0.1 login {USERNAME} password {NETRC_PASSWORD}\n")
    return Source('auth = { kind = "netrc" }', {"NETRC": str(netrc)}, secret=NETRC_PASSWORD)


def from_command(work: Path) -> Source:
    printed = write(work / "printed", f"{PASSWORD}\n")
    return Source(f'auth = {{ kind = "command", username = "{USERNAME}", command = ["cat", "{printed}"] }}')


def from_keyring(work: Path) -> Source:
    write(work / "ring" / "testring.py", KEYRING_BACKEND)
    ring = write(work / "ring" / "entries", f"{USERNAME}\n{PASSWORD}")
    settings = f"[backend]\ndefault-keyring=testring.Keyring\nkeyring-path={ring.parent}\n"
    (work / "config").mkdir()
    write(work / "config/python_keyring/keyringrc.cfg", settings)
    variables = {"XDG_CONFIG_HOME": str(work / "config"), "RING_FILE": str(ring)}
    return Source('auth = { kind = "keyring" }', variables)


def bearer_from_environment(_work: Path) -> Source:
    return Source('auth = { kind = "bearer", token-env = "TK" }', {"TK": TOKEN}, secret=TOKEN, is_bearer=True)


def bearer_from_file(work: Path) -> Source:
    token = write(work / "token", TOKEN)
    return Source(f'auth = {{ kind = "bearer", token-file = "{token}" }}', secret=TOKEN, is_bearer=True)


def bearer_from_command(work: Path) -> Source:
    printed = write(work / "printed", TOKEN)
    return Source(f'auth = {{ kind = "command", command = ["cat", "{printed}"] }}', secret=TOKEN, is_bearer=True)


SOURCES: dict[str, Callable[[Path], Source]] = {
    "basic-env": from_environment,
    "auto": from_default_variables,
    "basic-file": from_files,
    "basic-systemd": from_systemd,
    "netrc": from_netrc,
    "command-basic": from_command,
    "keyring": from_keyring,
    "bearer-env": bearer_from_environment,
    "bearer-file": bearer_from_file,
    "bearer-command": bearer_from_command,
}


def forms(secret: str) -> set[bytes]:
    """Return how a secret could stand somewhere."""
    texts = {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    for text in (secret, f"{USERNAME}:{secret}"):
        texts |= {base64.b64encode(text.encode()).decode(), base64.urlsafe_b64encode(text.encode()).decode()}
    return {text.encode() for text in texts}


def assert_unseen(secrets: Iterable[str], runs: Iterable[Done], root: Path) -> None:
    """Fail where a secret stands in what was printed or in a file of the mirror."""
    places = {f"{n}: {done.args} {name}": text.encode() for n, done in enumerate(runs) for name, text in outputs(done)}
    for path in root.rglob("*"):
        places[str(path)] = os.fsencode(path.relative_to(root))
        if path.is_file():
            places[f"{path}: contents"] = path.read_bytes()
    wanted = [form for secret in secrets for form in forms(secret)]
    assert wanted
    assert [place for place, text in places.items() if any(form in text for form in wanted)] == []


def outputs(done: Done) -> list[tuple[str, str]]:
    return [("stdout", done.stdout), ("stderr", done.stderr)]


def sync_twice(mirror: Mirror) -> list[Done]:
    """Run a cycle at debug level with each log format."""
    return [mirror.sync("--log-level", "debug", "--log-format", shape, "--json") for shape in ("console", "json")]


@pytest.fixture
def open_index(threaded_simulator):
    """Start an index with a wheel and an sdist, of the settings that are given."""

    def start(**settings):
        simulator = threaded_simulator(**settings)
        simulator.state.publish("demo-app", *build_wheel("demo-app", "1.0"))
        simulator.state.publish("demo-src", *build_sdist("demo-src", "0.1"))
        return simulator

    return start


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_credentials(open_index, tmp_path, make):
    """A credential appears nowhere, neither where it opens the index nor where it is refused."""
    source = make(tmp_path)
    right = {"token": source.secret} if source.is_bearer else {"username": USERNAME, "password": source.secret}
    index = open_index(second_origin=True, **right)
    mirror = Mirror(tmp_path / "work", variables=source.variables)
    mirror.configure(f'url = "{index.url}"\n{source.auth}')

    runs = sync_twice(mirror)
    assert [done.returncode for done in runs] == [0, 0], runs[0].stderr
    assert published(mirror.root).keys() == {"demo-app", "demo-src"}
    assert "authorization" in index.requests[0].headers

    index.settings.token = index.settings.password = "another-one"
    refused = sync_twice(mirror)
    assert [done.returncode for done in refused] == [3, 3]

    shown = [mirror.run("config", what, "--config", mirror.config) for what in ("show", "check")]
    assert [done.returncode for done in shown] == [0, 0]
    assert_unseen([source.secret], [*runs, *refused, *shown], mirror.root)


@pytest.mark.parametrize("kind", ["redirect", "text", "page"])
def test_index_that_repeats_the_secret(open_index, tmp_path, kind):
    """An index that sends the credential back, in a redirect, an error's text or a broken page, makes nothing show it."""
    index = open_index(username=USERNAME, password=PASSWORD)
    encoded = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    echo = f"{quote(PASSWORD, safe='')}/{encoded}"
    index.inject(
        {
            "redirect": Redirect(url=f"ftp://u:{quote(PASSWORD, safe='')}@127.0.0.1/{echo}?q={echo}"),
            "text": Status(status=409, json={"reason": f"you sent {PASSWORD} {encoded}"}),
            "page": Page(
                body=json.dumps({"meta": {"api-version": PASSWORD}, PASSWORD: encoded}).encode(), content_type=JSON_TYPE
            ),
        }[kind],
        kind="root",
    )
    source = from_environment(tmp_path)
    mirror = Mirror(tmp_path / "work", variables=source.variables)
    mirror.configure(f'url = "{index.url}"\n{source.auth}')
    runs = sync_twice(mirror)
    assert [done.returncode for done in runs] == [4, 4]
    assert_unseen([PASSWORD], runs, mirror.root)


@pytest.mark.parametrize("shape", ["console", "json"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (None, 0),
        (Corrupt(), 5),
        (Status(status=404), 5),
        (Status(status=409, json={"reason": "X"}), 0),
        (Redirect(url="ftp://127.0.0.1/x?X-Amz-Signature=S1gn"), 5),
    ],
    ids=["good", "corrupt", "expired", "withheld", "led-astray"],
)
def test_signed_redirects(open_index, tmp_path, fault, code, shape):
    """What signs a redirect's URL appears nowhere, whatever becomes of the file."""
    index = open_index(second_origin=True)
    if fault is not None:
        index.inject(fault, kind="store", project="demo-app")
    mirror = Mirror(tmp_path / "work", url=index.url)
    runs = [mirror.sync("--log-level", "debug", "--log-format", shape, "--json")]
    assert [done.returncode for done in runs] == [code]
    queries = [r.path.partition("?")[2] for r in index.requests if r.kind == "store"]
    signatures = {value for query in queries for name, value in parse_qsl(query) if name == "X-Amz-Signature"}
    assert signatures
    assert_unseen([*signatures, "X-Amz-Signature", "key/auto+s3~1", "S1gn"], runs, mirror.root)


@pytest.mark.parametrize(("hashes", "code"), [(None, 0), ({"sha256": "0" * 64}, 5)], ids=["good", "wrong-digest"])
def test_signed_links(open_index, tmp_path, hashes, code):
    """What signs a link of a page appears nowhere, not in the state either."""
    index = open_index()
    filename, data = build_wheel("demo-signed", "1.0")
    base = index.url.removesuffix("/simple/")
    link = f"{base}/files/demo-signed/{filename}?Signature=S1gn%2Fature-of-a-link"
    index.state.publish("demo-signed", filename, data, url=link, hashes=hashes)
    mirror = Mirror(tmp_path / "work", url=index.url)
    runs = sync_twice(mirror)
    assert [done.returncode for done in runs] == [code, code]
    assert any(r.path.endswith("S1gn%2Fature-of-a-link") for r in index.requests)
    assert_unseen(["S1gn/ature-of-a-link", "Signature="], runs, mirror.root)


ADDRESS_SECRET = "t0ken%20of/our~index"


@pytest.mark.parametrize("key", ["url-env", "url-file"])
def test_a_secret_address(open_index, tmp_path, key):
    """The path of an address that a variable or a file holds appears in no output of any command, and not on the disk."""
    index = open_index(prefix=f"/{ADDRESS_SECRET}", validators="none")
    index.state.create_project("demo-app", extra={"x-link": f"{index.url}x", "x-fine": 1})
    source = write(tmp_path / "address", f"{index.url}\n")
    mirror = Mirror(tmp_path / "work", variables={"INDEX_URL": index.url} if key == "url-env" else {})
    mirror.configure(f'{key} = "{"INDEX_URL" if key == "url-env" else source}"\nauth = {{ kind = "none" }}')
    runs = [*sync_twice(mirror), mirror.run("status", "--json", "--root", mirror.root)]
    commands = (("probe", "--json"), ("config", "show"), ("config", "check"))
    runs += [mirror.run(*words, "--config", mirror.config) for words in commands]
    assert [done.returncode for done in runs] == [0] * 6
    assert published(mirror.root).keys() == {"demo-app", "demo-src"}
    assert json.loads((mirror.simple / "demo-app" / "index.v1_json").read_bytes())["x-fine"] == 1
    assert_unseen(["t0ken%20of", "t0ken of", "our~index"], runs, mirror.root)


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (Status(status=404), "page", 5),
        (Status(status=404), "file", 5),
        (Corrupt(), "file", 5),
        (Redirect(url="ftp://127.0.0.1/t0ken%20of/our~index/x"), "file", 5),
        (Status(status=409, json={"reason": "t0ken of is yours"}), "file", 0),
        (Status(status=404), "root", 4),
    ],
    ids=["page", "file", "corrupt", "led-astray", "echo", "root"],
)
def test_a_secret_address_in_failures(open_index, tmp_path, fault, kind, code):
    """No failure shows the address; the next try finds the file by a link that is kept relative to it."""
    index = open_index(prefix=f"/{ADDRESS_SECRET}", serials=True)
    index.inject(fault, kind=kind)
    mirror = Mirror(tmp_path / "work", variables={"INDEX_URL": index.url})
    mirror.configure('url-env = "INDEX_URL"\nauth = { kind = "none" }')
    runs = sync_twice(mirror)
    assert [done.returncode for done in runs] == [code, code]
    index.faults.clear()
    runs.append(mirror.sync())
    assert runs[-1].returncode == 0, runs[-1].stderr
    assert published(mirror.root).keys() == {"demo-app", "demo-src"}
    assert_unseen(["t0ken%20of", "t0ken of", "our~index"], runs, mirror.root)


def test_an_address_that_only_the_configuration_knows(open_index, tmp_path):
    """A command that has the root alone says that it can't ask such an index; another address drops the validators."""
    index = open_index(prefix="/s3cret-path")
    mirror = Mirror(tmp_path / "work", variables={"INDEX_URL": index.url})
    mirror.configure('url-env = "INDEX_URL"\nauth = { kind = "none" }')
    assert mirror.sync().returncode == 0
    for path in mirror.root.rglob("demo_app*.whl"):
        path.write_bytes(b"damaged")
    elsewhere = mirror.config.rename(tmp_path / "elsewhere.toml")
    done = mirror.run("verify", "--repair", "--root", mirror.root)
    assert "--config" in done.stderr
    assert done.returncode == 7, done.stderr
    done = mirror.run("sync", "--once", "--config", elsewhere)
    assert done.returncode == 0, done.stderr
    assert published(mirror.root).keys() == {"demo-app", "demo-src"}
    unset = Mirror(tmp_path / "other")
    for line, problem in (
        ('url-env = "INDEX_URL"', "index[0].url-env: the variable INDEX_URL is not set, or empty"),
        ('url-env = "https://s3cret"', "index[0].url-env: expected the name of an environment variable, not its value"),
        (
            'url-file = "/nonexistent/url"',
            "index[0].url-file: /nonexistent/url can't be read: No such file or directory",
        ),
        ('url-env = "A"\nurl-file = "B"', "index[0].url-file: url-env is there too; keep one of them"),
    ):
        unset.configure(line)
        done = unset.run("config", "check", "--config", unset.config)
        assert (done.returncode, done.stderr.strip().removeprefix("error: ")) == (2, problem)


@pytest.mark.parametrize(
    ("fault", "code"),
    [(None, 0), (Status(status=407), 4), (Page(body=b"<html>Sign in</html>"), 4)],
    ids=["good", "refused", "login-page"],
)
def test_proxy(open_index, tmp_path, fault, code):
    """A proxy's user name and password are sent to the proxy and appear nowhere."""
    proxy = open_index(links="relative")
    if fault is not None:
        proxy.inject(fault)
    user, password = "pr0xy-user", "pr0xy/pa55+w%rd"
    host = proxy.url.removeprefix("http://").removesuffix("/simple/")
    address = f"http://{user}:{quote(password, safe='')}@{host}"
    mirror = Mirror(tmp_path / "work", url="http://index.example/simple/", variables={"HTTP_PROXY": address})
    runs = [mirror.sync("--log-level", "debug", "--log-format", "console" if fault is None else "json", "--json")]
    assert [done.returncode for done in runs] == [code]
    sent = base64.b64encode(f"{user}:{password}".encode()).decode()
    assert {r.headers.get("proxy-authorization") for r in proxy.requests} == {f"Basic {sent}"}
    assert_unseen([password, sent], runs, mirror.root)


REFUSED = {
    "url": 'url = "https://u:hunter22@127.0.0.1/simple/"',
    "query": 'url = "https://127.0.0.1/simple/?key=hunter22"',
    "proxy": 'url = "https://127.0.0.1/simple/"\nproxy = "http://u:hunter22@127.0.0.1:1"',
    "password": 'url = "https://127.0.0.1/simple/"\nauth = { kind = "basic", username = "u", password = "hunter22" }',
    "token": 'url = "https://127.0.0.1/simple/"\nauth = { kind = "bearer", token = "hunter22" }',
    "broken": 'url = "https://127.0.0.1/simple/"\npassword = "hunter22',
}


@pytest.mark.parametrize("index", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("command", [["sync", "--once"], ["config", "show"], ["config", "check"]], ids=" ".join)
def test_secret_in_the_configuration(tmp_path, index, command):
    """A secret that was put into the configuration is refused with exit 2, and not repeated."""
    mirror = Mirror(tmp_path)
    mirror.configure(index)
    done = mirror.run(*command, "--config", mirror.config, "--log-level", "debug")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "hunter22" not in done.stderr
