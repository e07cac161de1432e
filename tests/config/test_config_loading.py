"""Where a configuration comes from: files, environment, command line; and what a good one becomes."""

from pathlib import Path

import msgspec
import pytest

from mirror.config import (
    AuthConfig,
    Config,
    IndexConfig,
    Limits,
    MirrorSettings,
    config_for_tree,
    effective_toml,
    load_config,
    missing_sources,
)
from mirror.config.settings import REMEMBERED_TREE
from mirror.core.model import IndexPolicy
from mirror.errors import ConfigError

INDEX = '[[index]]\nname = "a"\nurl = "https://index.example/simple/"\n'
MIRROR = '[mirror]\nroot = "/srv/mirror"\n'


def test_smallest_file(load):
    """A root and one index are enough; all else has defaults."""
    assert load(MIRROR + INDEX) == Config(
        mirror=MirrorSettings(root=Path("/srv/mirror")),
        limits=Limits(),
        indexes=(IndexConfig(name="a", url="https://index.example/simple/"),),
        source="mirror.toml",
    )


def test_defaults_are_those_of_the_contract():
    """The defaults are what the documentation says."""
    settings = MirrorSettings(root=Path("/r"))
    assert (settings.state, settings.interval_s, settings.keep_removed_s) == (Path("/r/state.db"), 900, 2_592_000)
    assert (settings.keep_history_s, settings.max_shrink, settings.scrub_share) == (31_536_000, 0.1, 0.01)
    assert msgspec.structs.asdict(Limits()) == {
        "pages": 16,
        "downloads": 16,
        "max_connections": 64,
        "requests_per_second": 0,
        "bytes_per_second": 0,
        "file_size": 0,
        "page_size": 100 * 2**20,
        "root_page_size": 2**30,
        "files_per_project": 1_000_000,
        "projects": 5_000_000,
        "metadata_size": 16 * 2**20,
        "connect_timeout_s": 10,
        "stall_timeout_s": 60,
        "disk_reserve": 2**30,
    }


def test_full_file(load, tmp_path):
    """Every key is read into its field, with relative paths starting at the file's directory."""
    config = load(
        """
        [mirror]
        root = "tree"
        state = "db/state.db"
        interval = "1h30m"
        keep-removed = "2w"
        keep-history = "0s"
        max-shrink = "25%"
        scrub = 0
        [limits]
        pages = 1
        downloads = 2
        max-connections = 3
        requests-per-second = 2.5
        bytes-per-second = "50MiB"
        file-size = 4000000000
        page-size = "1MB"
        root-page-size = "2 kB"
        files-per-project = 10
        projects = 11
        metadata-size = "1.5KiB"
        connect-timeout = "500ms"
        stall-timeout = "1.5s"
        disk-reserve = "0"
        [[index]]
        name = "first-1"
        url = "http://127.0.0.1:8080/simple"
        list = "config"
        projects = ["Zope.Interface", "b"]
        exclude-projects = ["Zope.*"]
        files = ["*.whl"]
        exclude-files = ["*win*"]
        skip-url-patterns = []
        unhashed = "refuse"
        on-replace = "keep"
        overlay = true
        max-shrink = 1
        interval = "2h"
        proxy = "http://proxy.example:3128"
        ca-file = "ca.pem"
        client-cert = "/c.pem"
        client-key = "/k.pem"
        allow-insecure = true
        allow-private = true
        [index.auth]
        kind = "basic"
        username = "org/user"
        password-file = "secret"
        [[index]]
        name = "second"
        url = "https://b.example/"
        auth = { kind = "command", command = ["tool", "--x"], username-env = "U" }
        """
    )
    assert config == Config(
        mirror=MirrorSettings(
            root=tmp_path / "tree",
            state_file=tmp_path / "db/state.db",
            interval_s=5400,
            keep_removed_s=1_209_600,
            keep_history_s=0,
            max_shrink=0.25,
            scrub=0,
        ),
        limits=Limits(
            pages=1,
            downloads=2,
            max_connections=3,
            requests_per_second=2.5,
            bytes_per_second=50 * 2**20,
            file_size=4_000_000_000,
            page_size=1_000_000,
            root_page_size=2000,
            files_per_project=10,
            projects=11,
            metadata_size=1536,
            connect_timeout_s=0.5,
            stall_timeout_s=1.5,
            disk_reserve=0,
        ),
        indexes=(
            IndexConfig(
                name="first-1",
                url="http://127.0.0.1:8080/simple/",
                list="config",
                projects=("Zope.Interface", "b"),
                exclude_projects=("Zope.*",),
                files=("*.whl",),
                exclude_files=("*win*",),
                skip_url_patterns=(),
                unhashed="refuse",
                on_replace="keep",
                overlay=True,
                max_shrink=1.0,
                interval_s=7200,
                proxy="http://proxy.example:3128",
                ca_file=tmp_path / "ca.pem",
                client_cert=Path("/c.pem"),
                client_key=Path("/k.pem"),
                allow_insecure=True,
                allow_private=True,
                auth=AuthConfig(kind="basic", username="org/user", password_file=tmp_path / "secret"),
            ),
            IndexConfig(
                name="second",
                url="https://b.example/",
                auth=AuthConfig(kind="command", command=("tool", "--x"), username_env="U"),
            ),
        ),
        source="mirror.toml",
    )
    assert config.mirror.state == tmp_path / "db/state.db"
    assert config.indexes[0].policy(config.limits) == IndexPolicy(
        name="first-1",
        listed_by_config=True,
        projects=("zope-interface", "b"),
        exclude_projects=("zope-*",),
        files=("*.whl",),
        exclude_files=("*win*",),
        skip_url_patterns=(),
        refuse_unhashed=True,
        keep_replaced=True,
        overlay=True,
        file_size_limit=4_000_000_000,
    )
    (tmp_path / "again.toml").write_text(effective_toml(config))
    again = load_config(tmp_path / "again.toml", env={})
    assert msgspec.structs.replace(again, source="mirror.toml") == config


def test_policy_of_patterns():
    """With a root page the projects are patterns, written like normalised names."""
    index = IndexConfig(name="a", url="https://a/", projects=("Zope.*", "a_b"))
    assert index.policy(Limits(file_size=7)) == IndexPolicy(name="a", projects=("zope-*", "a-b"), file_size_limit=7)


def test_toml_error_names_line_and_column(load):
    """A file that is no TOML is refused with the place of the error."""
    with pytest.raises(ConfigError) as caught:
        load('[mirror]\nroot = "a\n')
    assert str(caught.value).startswith("mirror.toml: not valid TOML: ")
    assert "line 2, column 10" in str(caught.value)


def test_deep_nesting_is_refused(load):
    """A file of brackets is refused, not crashed on."""
    with pytest.raises(ConfigError) as caught:
        load("a = " + "[" * 100_000)
    assert str(caught.value) == "mirror.toml: not valid TOML: nested too deeply"


def test_not_utf8(tmp_path):
    """A file in another encoding is refused with the line."""
    (tmp_path / "m.toml").write_bytes(b"[mirror]\nroot = '\xe9'\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "m.toml", env={})
    assert str(caught.value) == f"{tmp_path}/m.toml: not UTF-8 (at line 2)"


def test_too_large(tmp_path):
    """A file that can't be a configuration is not read whole."""
    (tmp_path / "m.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "m.toml", env={})
    assert str(caught.value) == f"{tmp_path}/m.toml: larger than 1 MiB: not a configuration"


@pytest.mark.parametrize(("name", "said"), [("absent", "No such file or directory"), (".", "Is a directory")])
def test_unreadable(tmp_path, name, said):
    """A file that can't be read is refused with the system's reason."""
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / name, env={})
    assert str(caught.value) == f"{tmp_path / name}: can't be read: {said}"


def test_places_of_the_file(tmp_path, monkeypatch):
    """--config comes before $MIRROR_CONFIG, that before ./mirror.toml."""
    monkeypatch.chdir(tmp_path)
    for name in ("line", "env", "mirror"):
        Path(f"{name}.toml").write_text(MIRROR + INDEX)
    env = {"MIRROR_CONFIG": "env.toml"}
    assert [
        load_config(Path("line.toml"), env=env).source,
        load_config(None, env=env).source,
        load_config(None, env={"MIRROR_CONFIG": ""}).source,
    ] == ["line.toml", "env.toml", "mirror.toml"]


def test_no_file_found(tmp_path, monkeypatch):
    """Without any file the message names the places and the ways out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mirror.config.loading.SYSTEM_FILE", tmp_path / "system.toml")
    with pytest.raises(ConfigError) as caught:
        load_config(None, env={}, root=Path("/r"))
    assert str(caught.value) == (
        f"no configuration found: looked at --config, $MIRROR_CONFIG, ./mirror.toml and {tmp_path}/system.toml; "
        "write one with `mirror init`, or pass --index-url URL --root DIR"
    )


def test_system_file(tmp_path, monkeypatch):
    """The system's file counts where there is none in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mirror.config.loading.SYSTEM_FILE", tmp_path / "system.toml")
    (tmp_path / "system.toml").write_text(MIRROR + INDEX)
    assert load_config(None, env={}).source == str(tmp_path / "system.toml")


def test_overrides(load, tmp_path):
    """The environment overrides the file, the command line both; relative paths start at the working directory."""
    text = '[mirror]\nroot = "/file"\ninterval = "1h"\n' + INDEX
    env = {"MIRROR_ROOT": "env", "MIRROR_INTERVAL": "5m"}
    assert [
        load(text).mirror,
        load(text, env=env).mirror,
        load(text, env=env, root=Path("line")).mirror,
        load(text, env={"MIRROR_ROOT": "", "MIRROR_INTERVAL": ""}).mirror,
        load(text, root=Path()).mirror,
    ] == [
        MirrorSettings(root=Path("/file"), interval_s=3600),
        MirrorSettings(root=tmp_path / "env", interval_s=300),
        MirrorSettings(root=tmp_path / "line", interval_s=300),
        MirrorSettings(root=Path("/file"), interval_s=3600),
        MirrorSettings(root=tmp_path, interval_s=3600),
    ]


def test_bad_variable(load):
    """A bad value in the environment is named by its variable."""
    with pytest.raises(ConfigError) as caught:
        load(MIRROR + INDEX, env={"MIRROR_INTERVAL": "0s"})
    assert str(caught.value) == 'MIRROR_INTERVAL: expected a duration such as "15m", more than 0'


def test_root_is_needed(load):
    """Without a root nothing can be mirrored, and the message names the three ways to give it."""
    with pytest.raises(ConfigError) as caught:
        load(INDEX)
    assert str(caught.value) == "mirror.root: missing: set it, MIRROR_ROOT or --root"


@pytest.mark.parametrize(
    ("url", "asked"),
    {
        "http://a.example/simple": "http://a.example/simple/",
        "http://a.example/simple/": "http://a.example/simple/",
        "http://a.example/whl/torch_stable.html": "http://a.example/whl/torch_stable.html",
        "http://a.example/INDEX.HTM": "http://a.example/INDEX.HTM",
        "http://a.example/1.0": "http://a.example/1.0/",
    }.items(),
)
def test_the_end_of_a_url(load, url, asked):
    """A root page is a folder, unless its url is written as a document: then it is asked as it is."""
    loaded = load(f'[mirror]\nroot = "r"\n[[index]]\nname = "a"\nurl = "{url}"\n')
    assert loaded.indexes[0].url == asked


def test_without_a_file(tmp_path, monkeypatch):
    """--index-url with --root is a whole configuration; every file is ignored."""
    monkeypatch.chdir(tmp_path)
    Path("mirror.toml").write_text("broken")
    env = {"MIRROR_CONFIG": "mirror.toml", "MIRROR_INTERVAL": "1m"}
    loaded = load_config(Path("mirror.toml"), env=env, root=Path("r"), index_url="http://a.example/simple")
    assert loaded == Config(
        mirror=MirrorSettings(root=tmp_path / "r", interval_s=60, tree=REMEMBERED_TREE),
        indexes=(IndexConfig(name="default", url="http://a.example/simple/"),),
        source="--index-url",
    )


def test_index_url_needs_a_root():
    """--index-url alone says what is missing."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, env={}, index_url="https://a/")
    assert str(caught.value) == "--index-url: needs --root DIR beside it"


def test_a_root_alone_is_enough(tmp_path, monkeypatch):
    """A command that works from --root alone has default settings there, and no indexes."""
    monkeypatch.chdir(tmp_path)
    found = config_for_tree(None, env={}, root=Path("r"))
    assert (found.mirror, found.indexes, found.source) == (
        MirrorSettings(root=tmp_path / "r", tree=REMEMBERED_TREE),
        (),
        "--root",
    )


def test_a_usual_file_counts_for_its_own_tree_only(tmp_path, monkeypatch):
    """Beside --root, a configuration in a usual place counts if it is for this root, and else not at all."""
    monkeypatch.chdir(tmp_path)
    Path("mirror.toml").write_text(
        '[mirror]\nroot = "mine"\nmax-shrink = 0.5\n[[index]]\nname = "a"\nurl = "https://a/"\n'
    )
    own = config_for_tree(None, env={}, root=Path("mine"))
    other = config_for_tree(None, env={}, root=Path("other"))
    assert (own.mirror.max_shrink, len(own.indexes)) == (0.5, 1)
    assert (other.mirror.max_shrink, len(other.indexes)) == (0.1, 0)


def test_a_named_file_counts_for_any_root(tmp_path):
    """Beside --root, a configuration that is named counts."""
    named = tmp_path / "named.toml"
    named.write_text('[mirror]\nroot = "mine"\nmax-shrink = 0.5\n[[index]]\nname = "a"\nurl = "https://a/"\n')
    found = config_for_tree(named, env={}, root=tmp_path / "other")
    assert (found.mirror.root, found.mirror.max_shrink) == (tmp_path / "other", 0.5)


def test_missing_sources(load, tmp_path):
    """Each source that is named and not there is told; what is there is not."""
    (tmp_path / "there").write_text("x")
    config = load(
        MIRROR
        + INDEX
        + """
        ca-file = "absent.pem"
        client-cert = "there"
        auth = { kind = "basic", username-env = "NAMED", password-file = "gone" }
        [[index]]
        name = "b"
        url = "https://b/"
        auth = { kind = "basic", username-env = "SET", password-credential = "there" }
        [[index]]
        name = "c"
        url = "https://c/"
        auth = { kind = "bearer", token-credential = "gone" }
        [[index]]
        name = "d"
        url = "https://d/"
        """
    )
    with_directory = missing_sources(config, {"SET": "x", "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert with_directory == (
        f"index[0].ca-file: {tmp_path}/absent.pem is not there",
        f"index[0].auth.password-file: {tmp_path}/gone is not there",
        "index[0].auth.username-env: the variable NAMED is not set",
        "index[2].auth.token-credential: $CREDENTIALS_DIRECTORY has no file gone",
    )
    assert missing_sources(config, {"NAMED": "x"})[-1] == (
        "index[2].auth.token-credential: $CREDENTIALS_DIRECTORY is not set; systemd sets it with LoadCredential="
    )
