"""What a configuration must not say, and how it is told."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.config import (
    AuthConfig,
    is_loopback_host,
    load_config,
)
from mirror.config.show import toml_value
from mirror.errors import ConfigError

INDEX = '[[index]]\nname = "a"\nurl = "https://index.example/simple/"\n'


TARGET = '[[target]]\nname = "linux"\npython = ["3.11"]\nplatforms = ["linux-x86_64"]\n'
PLATFORMS = (
    "linux-x86_64, linux-aarch64, linux-riscv64, macos-arm64, macos-x86_64, windows-x86_64, windows-arm64, windows-x86"
)

REFUSED_WANTS = {
    "want-without-target": (
        '[[want]]\nname = "w"\nrequirements = ["a"]\n',
        "target: wants need one or more [[target]] tables: `mirror target here` prints that of a machine",
    ),
    "want-name": (TARGET + '[[want]]\nname = "W"\n', "want[0].name: expected up to 63 lower-case letters"),
    "want-twice": (
        TARGET + 2 * '[[want]]\nname = "w"\nrequirements = ["a"]\n',
        'want: two wants are named "w"; names must be unique',
    ),
    "target-twice": (2 * TARGET, 'target: two targets are named "linux"; names must be unique'),
    "want-of-nothing": (TARGET + '[[want]]\nname = "w"\n', "want[0]: names nothing: write requirements"),
    "want-requirement": (
        TARGET + '[[want]]\nname = "w"\nrequirements = ["a", "b>>1"]\n',
        "want[0].requirements[1]: expected a requirement such as",
    ),
    "want-nested": (
        TARGET + '[[want]]\nname = "w"\nrequirements = ["-r other.txt"]\n',
        "want[0].requirements[0]: is an option or names a file; name requirement files in the key files",
    ),
    "want-hash": (
        TARGET + '[[want]]\nname = "w"\nrequirements = ["a==1 --hash=sha256:00"]\n',
        "want[0].requirements[0]: has an option; write lines with --hash into a file",
    ),
    "want-address": (
        TARGET + '[[want]]\nname = "w"\nrequirements = ["a @ https://u:hunter2@h/a.whl"]\n',
        "want[0].requirements[0]: names an address; the mirror takes files from its indexes only",
    ),
    "want-target": (
        TARGET + '[[want]]\nname = "w"\nrequirements = ["a"]\ntargets = ["mac"]\n',
        'want[0].targets: no target is named "mac"; known: linux',
    ),
    "want-newest": (
        TARGET + '[[want]]\nname = "w"\nrequirements = ["a"]\nversions = "newest 51"\n',
        'want[0].versions: expected "resolved" or "newest N", N from 1 to 50, got "newest 51"',
    ),
    "want-sdists": (
        TARGET + '[[want]]\nname = "w"\nrequirements = ["a"]\nsdists = "sometimes"\n',
        'want[0].sdists: expected one of "always", "never", "where-no-wheel", got "sometimes"',
    ),
    "target-python": (
        TARGET.replace("3.11", "pypy3.10"),
        'target[0].python: expected CPython releases such as "3.11", "3.11.2" or "3.13t", of 3.8, 3.9, 3.10, 3.11, 3.12,'
        ' 3.13, 3.14, 3.15; got "pypy3.10"',
    ),
    "target-future-python": (TARGET.replace("3.11", "3.99"), "target[0].python: expected CPython releases"),
    "target-free-threaded": (
        TARGET.replace("3.11", "3.12t"),
        'target[0].python: "3.12t": there is no free-threaded Python before 3.13',
    ),
    "target-platform": (
        TARGET.replace("linux-x86_64", "linux-ppc64le"),
        f'target[0].platforms: expected one or more of {PLATFORMS}; got "linux-ppc64le"',
    ),
    "target-two-libcs": (
        TARGET + 'glibc = "2.28"\nmusl = "1.2"\n',
        "target[0].musl: glibc is there too; a target has one of them: write two targets",
    ),
    "target-glibc": (TARGET + 'glibc = "two"\n', 'target[0].glibc: expected a version such as "2.28", got "two"'),
    "target-number": (TARGET.replace('["3.11"]', "3.11"), "target[0].python: expected a list of texts such as"),
    "needed-without-want": (
        INDEX + 'select = "needed"\n',
        'index[0].select: expected one or more [[want]] tables with "needed", got none; "listed" needs none',
    ),
    "overlay-targets-alone": (
        INDEX + 'overlay-targets = ["linux"]\n' + TARGET,
        "index[0].overlay-targets: not used without overlay = true",
    ),
    "overlay-targets-unknown": (
        INDEX + 'overlay = true\noverlay-targets = ["mac"]\n' + TARGET,
        'index[0].overlay-targets: no target is named "mac"; known: linux',
    ),
}

REFUSED = {
    "unknown-table": ("[sevice]\n", 'sevice: unknown key; did you mean "service"?'),
    "future-table": (
        '[[web]]\nname = "x"\n',
        "web: unknown key; known here: index, limits, mirror, rules, serve, service, site, target, want",
    ),
    "site-name": (
        '[[index]]\nname = "a"\nurl = "https://a/"\n[[site]]\nname = "The Plant"\n',
        'site[0].name: expected up to 63 lower-case letters, digits and hyphens, the first no hyphen, got "The Plant"',
    ),
    "site-twice": (
        '[[index]]\nname = "a"\nurl = "https://a/"\n[[site]]\nname = "x"\n[[site]]\nname = "x"\n',
        'site: two sites are named "x"; names must be unique',
    ),
    "site-without-projects": (
        '[[index]]\nname = "a"\nurl = "https://a/"\n[[site]]\nname = "x"\nprojects = []\n',
        'site[0].projects: expected one or more patterns, such as ["*"], got none',
    ),
    "site-empty-pattern": (
        '[[index]]\nname = "a"\nurl = "https://a/"\n[[site]]\nname = "x"\nexclude-projects = [""]\n',
        "site[0].exclude-projects: expected patterns of printable characters, none empty",
    ),
    "unknown-key-similar": (
        '[mirror]\nkeep_removed = "1d"\n',
        'mirror.keep_removed: unknown key; did you mean "keep-removed"?',
    ),
    "unknown-key-in-index": (
        '[[index]]\nname = "a"\nurl = "https://a/"\nprojets = []\n',
        'index[0].projets: unknown key; did you mean "projects"?',
    ),
    "unknown-key-in-auth": (
        INDEX + '[index.auth]\npasword = "hunter2"\n',
        'index[0].auth.pasword: unknown key; did you mean "password-env"?',
    ),
    "page-hosts-url": (
        INDEX + 'page-hosts = ["https://pages.example/"]\n',
        'index[0].page-hosts: expected hosts such as "pages.example" or "pages.example:8443", without https:// and'
        ' path, got "https://pages.example/"',
    ),
    "flat-by-config": (
        INDEX + 'format = "flat"\nlist = "config"\nprojects = ["a"]\n',
        'index[0].list: a flat page is the list itself; name the projects with list = "root" and projects',
    ),
    "page-hosts-port": (
        INDEX + 'page-hosts = ["pages.example", "pages.example:99999"]\n',
        'index[0].page-hosts: expected hosts such as "pages.example" or "pages.example:8443", without https:// and'
        ' path, got "pages.example:99999"',
    ),
    "page-hosts-port-0": (
        INDEX + 'page-hosts = ["pages.example:0"]\n',
        'index[0].page-hosts: expected hosts such as "pages.example" or "pages.example:8443", without https:// and'
        ' path, got "pages.example:0"',
    ),
    "page-hosts-empty": (
        INDEX + 'page-hosts = [""]\n',
        'index[0].page-hosts: expected hosts such as "pages.example" or "pages.example:8443", without https:// and'
        ' path, got ""',
    ),
    "password": (
        INDEX + '[index.auth]\nkind = "basic"\npassword = "hunter2"\n',
        "index[0].auth.password: secrets stay out of the configuration; "
        "use password-env, password-file or password-credential",
    ),
    "token": (
        INDEX + '[index.auth]\ntoken = "hunter2"\n',
        "index[0].auth.token: secrets stay out of the configuration; use token-env, token-file or token-credential",
    ),
    "control-character-in-key": (
        '[mirror]\n"a\\u001b[31m" = 1\n',
        "mirror.a\\x1b[31m: unknown key; known here: "
        "interval, keep-history, keep-removed, keep-unwanted, max-shrink, root, scrub, single-writer, staging-size, state, tree",
    ),
    "ratio-of-an-index": (
        INDEX + "max-shrink = 2\n",
        'index[0].max-shrink: expected a ratio from 0 to 1, such as 0.1 or "10%", got 2',
    ),
    "duration-number": (
        "[mirror]\ninterval = 5\n",
        'mirror.interval: expected a duration such as "15m", more than 0, got 5',
    ),
    "duration-bare": (
        '[mirror]\nkeep-removed = "5"\n',
        'mirror.keep-removed: expected a duration such as "15m", got "5"',
    ),
    "duration-zero": (
        '[mirror]\ninterval = "0"\n',
        'mirror.interval: expected a duration such as "15m", more than 0, got "0"',
    ),
    "duration-table": (
        "[mirror.interval]\n",
        'mirror.interval: expected a duration such as "15m", more than 0, got a table',
    ),
    "ratio": (
        '[mirror]\nmax-shrink = "150%"\n',
        'mirror.max-shrink: expected a ratio from 0 to 1, such as 0.1 or "10%", got "150%"',
    ),
    "ratio-nan": (
        "[mirror]\nmax-shrink = nan\n",
        'mirror.max-shrink: expected a ratio from 0 to 1, such as 0.1 or "10%", got nan',
    ),
    "size": (
        '[limits]\nfile-size = "5M"\n',
        'limits.file-size: expected a size such as "50MiB" or "4GB", or a number of bytes, got "5M"',
    ),
    "size-bool": (
        "[limits]\nfile-size = true\n",
        'limits.file-size: expected a size such as "50MiB" or "4GB", or a number of bytes, got true',
    ),
    "size-zero": (
        "[limits]\npage-size = 0\n",
        'limits.page-size: expected a size such as "50MiB" or "4GB", or a number of bytes, more than 0, got 0',
    ),
    "count": ("[limits]\npages = 0\n", "limits.pages: expected a whole number from 1 to 2147483648, got 0"),
    "count-float": ("[limits]\npages = 1.5\n", "limits.pages: expected a whole number from 1 to 2147483648, got 1.5"),
    "count-date": (
        "[limits]\npages = 2026-01-01\n",
        "limits.pages: expected a whole number from 1 to 2147483648, got a date or time",
    ),
    "rate": (
        "[limits]\nrequests-per-second = inf\n",
        "limits.requests-per-second: expected a number of 0 or more, got inf",
    ),
    "path": ('[mirror]\nstate = ""\n', 'mirror.state: expected a path in quotes, got ""'),
    "path-nul": ('[mirror]\nstate = "a\\u0000"\n', 'mirror.state: expected a path in quotes, got "a\\x00"'),
    "path-no-home": (
        '[mirror]\nstate = "~nobody-has-this-name/x"\n',
        'mirror.state: expected a path in quotes, got "~nobody-has-this-name/x"',
    ),
    "table-number": ("limits = 5\n", "limits: expected a table, got 5"),
    "table-text": ('mirror = "x"\n', 'mirror: expected a table, got "x"'),
    "index-single": (
        '[index]\nname = "a"\n',
        "index: expected one or more [[index]] tables, got [index]: double the brackets",
    ),
    "index-number": ("index = 1\n", "index: expected one or more [[index]] tables, got 1"),
    "index-of-texts": ('index = ["a"]\n', 'index[0]: expected a table, got "a"'),
    "index-none": ("index = []\n", "index: expected one or more [[index]] tables, got none"),
    "index-absent": ("", "index: missing: a configuration needs this table"),
    "name-absent": ('[[index]]\nurl = "https://a/"\n', "index[0].name: missing: expected a text in quotes"),
    "name": (
        '[[index]]\nname = "A_b"\nurl = "https://a/"\n',
        'index[0].name: expected up to 63 lower-case letters, digits and hyphens, the first no hyphen, got "A_b"',
    ),
    "name-too-long": (
        f'[[index]]\nname = "{"a" * 64}"\nurl = "https://a/"\n',
        "index[0].name: expected up to 63 lower-case letters, digits and hyphens, the first no hyphen, got "
        f'"{"a" * 60}…"',
    ),
    "name-twice": (INDEX + INDEX, 'index: two indexes are named "a"; names must be unique'),
    "literal": (INDEX + 'list = "rot"\n', 'index[0].list: expected one of "config", "root", got "rot"'),
    "bool": (INDEX + 'overlay = "yes"\n', 'index[0].overlay: expected true or false, got "yes"'),
    "texts": (INDEX + "projects = [1]\n", 'index[0].projects: expected a list of texts such as ["a", "b"], got a list'),
    "texts-text": (INDEX + 'files = "*"\n', 'index[0].files: expected a list of texts such as ["a", "b"], got "*"'),
    "no-projects": (
        INDEX + "projects = []\n",
        'index[0].projects: expected one or more patterns, such as ["*"], got none',
    ),
    "no-files": (INDEX + "files = []\n", 'index[0].files: expected one or more patterns, such as ["*"], got none'),
    "empty-pattern": (
        INDEX + 'exclude-files = [""]\n',
        "index[0].exclude-files: expected patterns of printable characters, none empty",
    ),
    "config-list-default": (
        INDEX + 'list = "config"\n',
        'index[0].projects: expected plain names with list = "config", got "*"',
    ),
    "config-list-wildcard": (
        INDEX + 'list = "config"\nprojects = ["a", "b?"]\n',
        'index[0].projects: expected plain names with list = "config", got "b?"',
    ),
    "config-list-bad-name": (
        INDEX + 'list = "config"\nprojects = ["../a"]\n',
        "index[0].projects: the name '../a' is refused: not the name of a project (letters, digits, '.', '_' and '-')",
    ),
    "client-key-alone": (INDEX + 'client-key = "k"\n', "index[0].client-key: needs client-cert beside it"),
    "auth-kind": (
        INDEX + 'auth.kind = "digest"\n',
        "index[0].auth.kind: expected one of "
        '"auto", "basic", "bearer", "command", "keyring", "netrc", "none", got a text',
    ),
    "auth-text": (INDEX + 'auth = "x"\n', 'index[0].auth: expected a table, got "x"'),
    "basic-without-username": (
        INDEX + 'auth = { kind = "basic", password-env = "P" }\n',
        'index[0].auth: kind = "basic" needs one of username, username-env, username-file, username-credential',
    ),
    "two-sources": (
        INDEX + 'auth = { kind = "basic", username = "u", password-env = "P", password-file = "f" }\n',
        "index[0].auth.password-file: password-env is there too; keep one of them",
    ),
    "bearer-without-token": (
        INDEX + 'auth = { kind = "bearer" }\n',
        'index[0].auth: kind = "bearer" needs one of token-env, token-file, token-credential',
    ),
    "bearer-with-password": (
        INDEX + 'auth = { kind = "bearer", password-env = "P" }\n',
        'index[0].auth.password-env: not used with kind = "bearer"; did you mean kind = "basic"?',
    ),
    "kind-forgotten": (
        INDEX + 'auth = { token-env = "T" }\n',
        'index[0].auth.token-env: not used with kind = "auto"; did you mean kind = "bearer"?',
    ),
    "command-without-command": (
        INDEX + 'auth = { kind = "command" }\n',
        'index[0].auth: kind = "command" needs command',
    ),
    "command-as-text": (
        INDEX + 'auth = { kind = "command", command = "tool hunter2" }\n',
        'index[0].auth.command: expected a list of texts such as ["a", "b"], got a text',
    ),
    "command-empty-program": (
        INDEX + 'auth = { kind = "command", command = [""] }\n',
        "index[0].auth.command: expected a program first, got an empty text",
    ),
    "empty-source": (
        INDEX + 'auth = { kind = "bearer", token-env = "" }\n',
        "index[0].auth.token-env: expected a text in quotes, got an empty text",
    ),
    "secret-as-variable": (
        INDEX + 'auth = { kind = "bearer", token-env = "hunter2.x-y" }\n',
        "index[0].auth.token-env: expected the name of an environment variable, not its value",
    ),
    "secret-as-credential": (
        INDEX + 'auth = { kind = "bearer", token-credential = "../hunter2" }\n',
        "index[0].auth.token-credential: expected the name of a file in $CREDENTIALS_DIRECTORY",
    ),
    "colon-in-username": (
        INDEX + 'auth = { kind = "basic", username = "u:hunter2", password-env = "P" }\n',
        "index[0].auth.username: expected printable characters without a colon",
    ),
    "flag-as-secret": (
        INDEX + "auth = { kind = 'bearer', token-env = true }\n",
        "index[0].auth.token-env: expected a text in quotes, got true or false",
    ),
    "secret-of-wrong-type": (
        INDEX + "auth = { kind = 'bearer', token-env = 123456 }\n",
        "index[0].auth.token-env: expected a text in quotes, got a number",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(load, text, message):
    """What is wrong is refused in one line, with the key's full path and what was expected, and without a secret."""
    with pytest.raises(ConfigError) as caught:
        load(text, root=Path("/srv/mirror"))
    assert str(caught.value) == message
    assert "hunter2" not in message


URLS = {
    "userinfo": (
        "https://user:hunter2@a.example/simple/",
        "take the user name and password out of it, and name their source in [index.auth] or the environment",
    ),
    "username-only": (
        "https://hunter2@a.example/",
        "take the user name and password out of it, and name their source in [index.auth] or the environment",
    ),
    "hash-in-password": ("https://user:hunter2#x@a.example/", "not a URL"),
    "query": ("https://a.example/?token=hunter2", "expected a URL without query and fragment (? and #)"),
    "empty-query": ("https://a.example/?", "expected a URL without query and fragment (? and #)"),
    "fragment": ("https://a.example/#hunter2", "expected a URL without query and fragment (? and #)"),
    "scheme": ("ftp://a.example/", "expected a URL such as https://HOST/simple/, http or https"),
    "no-scheme": ("a.example/simple", "expected a URL such as https://HOST/simple/, http or https"),
    "no-host": ("https:///simple/", "expected a URL such as https://HOST/simple/, http or https"),
    "port": ("https://a.example:hunter2/", "not a URL"),
    "brackets": ("https://[::1/", "not a URL"),
    "space": ("https://a.example/a b/", "expected a URL such as https://HOST/simple/, http or https"),
    "newline": ("https://a.example/\n", "expected a URL such as https://HOST/simple/, http or https"),
    "backslash": ("https://a.example\\b/", "expected a URL such as https://HOST/simple/, http or https"),
    "right-to-left": ("https://a.example/\u202e/", "expected a URL such as https://HOST/simple/, http or https"),
    "empty": ("", "expected a URL such as https://HOST/simple/, http or https"),
}


@pytest.mark.parametrize(("url", "problem"), URLS.values(), ids=URLS)
def test_url_refused(load, url, problem):
    """A URL that can't be an index, or carries a secret, is refused without being repeated, from file and command line."""
    with pytest.raises(ConfigError) as from_file:
        load(f'[[index]]\nname = "a"\nurl = {toml_value(url)}\n', root=Path("/r"))
    with pytest.raises(ConfigError) as from_line:
        load_config(None, env={}, root=Path("/r"), index_url=url)
    assert (str(from_file.value), str(from_line.value)) == (f"index[0].url: {problem}", f"--index-url: {problem}")


def test_url_of_wrong_type_is_not_repeated(load):
    """A value that stands where a URL belongs is not repeated either."""
    with pytest.raises(ConfigError) as caught:
        load(INDEX.replace('"https://index.example/simple/"', '["https://u:hunter2@a/"]'), root=Path("/r"))
    assert str(caught.value) == "index[0].url: expected a text in quotes, got a list"


def test_proxy_with_password_refused(load):
    """A proxy's password does not belong into the file."""
    with pytest.raises(ConfigError) as caught:
        load(INDEX + 'proxy = "http://u:hunter2@proxy:3128"\n', root=Path("/r"))
    assert str(caught.value) == (
        "index[0].proxy: take the user name and password out of it, "
        "and name their source in [index.auth] or the environment"
    )


TRANSPORT = {
    "https": ("https://a.example/", "", True),
    "loopback-address": ("http://127.0.0.9:1/", "", True),
    "loopback-name": ("http://localhost/", "", True),
    "loopback-six": ("http://[::1]:8080/", "", True),
    "other-host": ("http://a.example/", "", False),
    "private-address": ("http://10.0.0.1/", "", False),
    "allowed": ("http://a.example/", "allow-insecure = true\n", True),
}


@pytest.mark.parametrize(("url", "more", "accepted"), TRANSPORT.values(), ids=TRANSPORT)
def test_credentials_over_plain_http(load, url, more, accepted):
    """A credential goes unencrypted to this machine only, unless the index allows it."""
    text = f'[[index]]\nname = "a"\nurl = "{url}"\n{more}auth = {{ kind = "bearer", token-env = "T" }}\n'
    if accepted:
        assert load(text, root=Path("/r")).indexes[0].url == url
        return
    with pytest.raises(ConfigError) as caught:
        load(text, root=Path("/r"))
    assert str(caught.value) == (
        "index[0].url: credentials would be sent unencrypted; use https, or allow it with allow-insecure = true"
    )


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_plain_http_without_named_credential(load, kind):
    """Without a named credential plain http is fine; what auto finds is judged when it is found."""
    text = f'[[index]]\nname = "a"\nurl = "http://a.example/"\nauth.kind = "{kind}"\n'
    assert load(text, root=Path("/r")).indexes[0].auth == AuthConfig(kind=kind)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("localhost.example", False),
        ("notlocalhost", False),
        ("127.0.0.1.example", False),
        ("127.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_host(host, loopback):
    """Only what must mean this machine counts as loopback."""
    assert is_loopback_host(host) is loopback


KEYS = st.sampled_from(
    ["mirror", "limits", "index", "root", "interval", "name", "url", "auth", "kind", "projects", "token-env", "x"]
)
TOML = st.recursive(
    st.none().map(lambda _none: False)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    | st.sampled_from(["basic", "root", "5m", "1GiB", "https://a/", "*", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, TOML, max_size=5))
def test_any_table_is_read_or_refused(tmp_path_factory, table):
    """Whatever TOML says, it is a configuration or a ConfigError of one line."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("\n".join(f"{key} = {inline(value)}" for key, value in table.items()))
    with contextlib.suppress(ConfigError):
        load_config(path, env={}, root=Path("/r"))


@given(st.dictionaries(KEYS, TOML, max_size=5))
def test_refusals_are_one_line(tmp_path_factory, table):
    """Whatever is refused, the message is one printable line."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("\n".join(f"{key} = {inline(value)}" for key, value in table.items()) + "\nindex = []\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, env={}, root=Path("/r"))
    assert str(caught.value).isprintable()


def inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return toml_value(value)


@pytest.mark.parametrize(("text", "message"), REFUSED_WANTS.values(), ids=REFUSED_WANTS)
def test_a_bad_target_or_want_is_refused(load, text, message):
    """A target or want that can't be is one line, which repeats no address."""
    index = "" if text.startswith("[[index]]") else INDEX
    with pytest.raises(ConfigError) as caught:
        load(f'[mirror]\nroot = "/r"\n{index}{text}')
    assert str(caught.value).startswith(message)
    assert "hunter2" not in str(caught.value)
