"""A configuration written down: what ``mirror init`` writes, what ``config show`` prints, the JSON Schema."""

import json
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mirror.config import (
    AuthConfig,
    Config,
    IndexConfig,
    Limits,
    MirrorSettings,
    ServeConfig,
    ServiceConfig,
    SiteConfig,
    TargetConfig,
    WantConfig,
    effective_toml,
    json_schema,
    load_config,
    render_default,
)
from mirror.config.explain import EXPLAINED
from mirror.config.rules import RulesConfig
from mirror.config.show import toml_value


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_toml_text_round_trip(text):
    """Any text that is written as TOML is read as the same text."""
    import tomllib

    assert tomllib.loads(f"a = {toml_value((text, 'b'))}") == {"a": [text, "b"]}


def test_default_file_loads(load):
    """What ``mirror init`` writes loads as it is, with Chainguard as the first index."""
    assert load(render_default()) == Config(
        mirror=MirrorSettings(root=Path("/var/lib/mirror")),
        indexes=(
            IndexConfig(
                name="chainguard",
                url="https://libraries.cgr.dev/python/simple/",
                auth=AuthConfig(
                    kind="basic",
                    username_env="CHAINGUARD_PYTHON_IDENTITY_ID",
                    password_env="CHAINGUARD_PYTHON_TOKEN",
                ),
            ),
        ),
        source="mirror.toml",
    )


def test_default_file_explains_every_key():
    """Every key stands in the file of ``mirror init``, with its explanation in the same line."""
    tables = {
        "mirror": MirrorSettings,
        "limits": Limits,
        "service": ServiceConfig,
        "serve": ServeConfig,
        "index": IndexConfig,
        "rules": RulesConfig,
    }
    tables |= {"target": TargetConfig, "want": WantConfig, "site": SiteConfig, "auth": AuthConfig}
    keys = {table: [field.encode_name for field in msgspec.structs.fields(struct)] for table, struct in tables.items()}
    assert {table: list(explained) for table, explained in EXPLAINED.items()} == keys
    lines = render_default().splitlines()
    for table, explained in EXPLAINED.items():
        for key, sentence in explained.items():
            if (table, key) not in {("index", "auth"), ("index", "rules")}:
                assert any(
                    line.removeprefix("# ").startswith(f"{key} = ") and line.endswith(f"  # {sentence}")
                    for line in lines
                )


def test_default_file_shows_what_loads(load):
    """Each commented line of the file of ``mirror init`` can be used as it stands, where the others allow it."""
    rest, _, others = render_default().partition("# [[target]]\n")
    target, _, others = others.partition("# [[want]]\n")
    want, _, site = others.partition("# [[site]]\n")
    rest, _, others = rest.partition("# [index.rules]\n")
    of_index, _, rules = others.partition("[rules]\n")
    rest += "[rules]\n" + rules
    lines = rest.splitlines()
    tried = 0
    for n, line in enumerate(lines):
        if (
            line.startswith("# ")
            and " = " in line
            and not line.startswith(("# username", "# password", "# token", "# command", "# url-"))
        ):
            text = "\n".join([*lines[:n], line.removeprefix("# "), *lines[n + 1 :]])
            if "client-key" in line:
                text = text.replace("# client-cert", "client-cert")
            if "/server.key" in line:
                text = text.replace("# certificate", "certificate")
            if "/server.pem" in line:
                text = text.replace("# key", "key")
            if "overlay-targets" in line:
                text = text.replace("# overlay = false", "overlay = true") + uncommented("target", target)
            if "platforms" in line:
                text = text.replace('"all"', '"targets"') + uncommented("target", target)
            load(text)
            tried += 1
    assert tried >= 53
    of_index = "\n".join(line.removeprefix("# ") for line in of_index.splitlines())
    load(rest.replace("\n[rules]", f"\n[index.rules]\n{of_index}\n[rules]").replace("# advisories", "advisories"))
    tables = uncommented("target", target) + uncommented("want", want) + uncommented("site", site)
    loaded = load(rest + tables)
    assert [t.name for t in (*loaded.targets, *loaded.wants, *loaded.sites)] == ["linux", "apps", "plant"]


def uncommented(table, text):
    """Return a commented example table as one that counts; musl stands instead of glibc."""
    lines = [line.removeprefix("# ") for line in text.splitlines() if not line.startswith("# musl")]
    return "\n".join(["", f"[[{table}]]", *lines, ""])


def test_effective_configuration_is_stable(load, tmp_path):
    """What ``config show`` prints loads, prints the same again and holds every key that has a value."""
    shown = effective_toml(load(render_default()))
    (tmp_path / "again.toml").write_text(shown)
    assert effective_toml(load_config(tmp_path / "again.toml", env={})) == shown
    assert shown.splitlines()[:5] == [
        "[mirror]",
        'root = "/var/lib/mirror"',
        'state = "/var/lib/mirror/state.db"',
        'interval = "15m"',
        'keep-removed = "30d"',
    ]


def test_targets_and_wants_are_shown_as_they_load(load, tmp_path):
    """Tables of targets and wants are printed with their defaults; one Python may be written as a text."""
    tables = """
[[target]]
name = "old"
python = "3.11.2"
platforms = "linux-x86_64"
musl = "1.2"
[[want]]
name = "apps"
requirements = ["fastapi[all] ; python_version < '4'"]
versions = "newest 3"
targets = ["old"]
"""
    config = load(render_default() + tables)
    assert config.targets == (TargetConfig(name="old", python=("3.11.2",), platforms=("linux-x86_64",), musl="1.2"),)
    (tmp_path / "again.toml").write_text(effective_toml(config))
    again = load_config(tmp_path / "again.toml", env={})
    assert (again.targets, again.wants, again.wants[0].newest) == (config.targets, config.wants, 3)
    assert (again.targets_of(again.wants[0]), again.folder) == (config.targets, tmp_path)


def test_select_is_needed_once_there_is_a_want(load):
    """An index gives only what is needed where there is a want, unless it says ``listed``."""
    indexes = "".join(
        f'[[index]]\nname = "{name}"\nurl = "https://{name}/"\n{select}' for name, select in SELECTS.items()
    )
    head = '[mirror]\nroot = "/r"\n'
    target = '[[target]]\nname = "t"\npython = ["3.11"]\nplatforms = ["linux-x86_64"]\n'
    with_want = load(f'{head}{indexes}{target}[[want]]\nname = "w"\nrequirements = ["a"]\n')
    without = load(head + indexes.replace("needed", "listed") + target)
    assert [with_want.selects_needed(index) for index in with_want.indexes] == [True, True, False]
    assert [without.selects_needed(index) for index in without.indexes] == [False, False, False]


SELECTS = {"a": "", "b": 'select = "needed"\n', "c": 'select = "listed"\n'}


def test_sites_are_shown_as_they_load(load, tmp_path):
    """A site's table is printed with its defaults, and its patterns are those of normalised names."""
    site = '[[site]]\nname = "plant"\nprojects = ["Zope.*", "a"]\nexclude-projects = ["zope-x"]\nkey = "k"\n'
    config = load(f"{render_default()}\n{site}")
    wants = config.sites[0].wants()
    assert [name for name in ("zope-a", "zope-x", "a", "b") if wants(name)] == ["zope-a", "a"]
    assert [config.sites[0].takes_all, SiteConfig(name="x").takes_all] == [False, True]
    (tmp_path / "again.toml").write_text(effective_toml(config))
    assert load_config(tmp_path / "again.toml", env={}).sites == config.sites


def test_json_schema():
    """The schema has every table and key, with its explanation, its form and its default as the file writes it."""
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert (schema["additionalProperties"], schema["required"]) == (False, ["index"])
    tables = schema["properties"]
    assert tables["mirror"]["properties"]["interval"] == {
        "description": "between the starts of two cycles of the daemon",
        "type": "string",
        "pattern": "^(0|([0-9.]+w)?([0-9.]+d)?([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?([0-9.]+ms)?)$",
        "examples": ["15m", "1h30m", "30d"],
        "default": "15m",
    }
    assert tables["limits"]["properties"]["pages"] == {
        "description": "project pages under way at once, per index, at the start; adapts",
        "type": "integer",
        "minimum": 1,
        "maximum": 2**31,
        "default": 16,
    }
    assert (tables["index"]["type"], tables["index"]["minItems"]) == ("array", 1)
    index = tables["index"]["items"]
    assert (index["required"], index["additionalProperties"]) == (["name"], False)
    assert index["oneOf"] == [{"required": ["url"]}, {"required": ["url-env"]}, {"required": ["url-file"]}]
    assert index["properties"]["list"] == {
        "description": '"root", or "config": the names in projects are the list, for an index without a root page',
        "enum": ["config", "root"],
        "default": "root",
    }
    assert index["properties"]["overlay"]["type"] == "boolean"
    assert index["properties"]["projects"]["items"] == {"type": "string"}
    assert index["properties"]["projects"]["default"] == ["*"]
    assert index["properties"]["auth"]["properties"]["kind"]["enum"][0] == "auto"


def test_nothing_secret_in_repr(load):
    """A configuration's repr names sources of credentials only: it has no place for a credential."""
    assert "password=" not in repr(load(render_default()))
