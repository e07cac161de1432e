"""The tables ``[rules]`` and ``[index.rules]``: what they say, what they must not say, and which of both counts."""

import pytest

from mirror.config import load_config
from mirror.config.rules import judged_rules
from mirror.config.show import effective_toml, render_default
from mirror.core.policy import compile_selections
from mirror.core.rules.model import NO_RULES, Admitted, Level, Rules
from mirror.errors import ConfigError

INDEX = '[[index]]\nname = "a"\nurl = "https://index.example/simple/"\n'
TARGET = '[[target]]\nname = "linux"\npython = ["3.11"]\nplatforms = ["linux-x86_64"]\n'
ALL_KEYS = """
[rules]
min-age = "7d"
urgent = ["URLlib3", "our.*"]
not-after = "2026-11-01"
pre-releases = "where-needed"
yanked = "where-pinned"
newest = 3
versions = ["NumPy>=1.26,<3", "django (<5)"]
platforms = "targets"
exclude-vulnerable = "high"
advisories = "osv/"
ignore-advisories = ["GHSA-1"]
"""
ALL_RULES = Rules(
    min_age_s=7 * 86_400.0,
    urgent=("urllib3", "our-*"),
    not_after=1_793_577_600.0,
    pre_releases=Admitted.WHERE_NEEDED,
    yanked=Admitted.WHERE_PINNED,
    newest=3,
    versions=(("numpy", ">=1.26,<3"), ("django", "<5")),
    platform_tags=frozenset({"py3-none-any"}),
    exclude_vulnerable=Level.HIGH,
    ignore_advisories=("GHSA-1",),
)

REFUSED = {
    "min-age": ('min-age = "soon"', "rules.min-age: expected a duration"),
    "min-age-number": ("min-age = 7", "rules.min-age: expected a duration"),
    "not-after": ('not-after = "2026-11"', 'rules.not-after: expected a day such as "2026-11-01"'),
    "not-after-no-day": ('not-after = "2026-02-30"', "rules.not-after: expected a day"),
    "not-after-compact": ('not-after = "20261101"', "rules.not-after: expected a day"),
    "not-after-bare": ("not-after = 2026-11-01", "rules.not-after: expected a day"),
    "pre-releases": ('pre-releases = "where-pinned"', "rules.pre-releases: expected one of"),
    "yanked": ('yanked = "where-needed"', "rules.yanked: expected one of"),
    "newest": ("newest = -1", "rules.newest: expected a whole number"),
    "newest-text": ('newest = "3"', "rules.newest: expected a whole number"),
    "versions": ('versions = ["numpy>>1"]', "rules.versions[0]: expected a project with a specifier"),
    "versions-bare": ('versions = ["a<2", "numpy"]', "rules.versions[1]: expected a project with a specifier"),
    "versions-marker": ("versions = [\"a<2; python_version<'3'\"]", "without extras and markers"),
    "versions-extra": ('versions = ["a[x]<2"]', "without extras and markers"),
    "versions-address": ('versions = ["a @ https://u:hunter2@h/a.whl"]', "this one names an address"),
    "platforms": ('platforms = "linux"', "rules.platforms: expected one of"),
    "platforms-without-target": ('platforms = "targets"', "rules.platforms: expected one or more [[target]] tables"),
    "exclude-vulnerable": ('exclude-vulnerable = "low"', "rules.exclude-vulnerable: expected one of"),
    "exclude-without-advisories": (
        'exclude-vulnerable = "high"',
        'rules.exclude-vulnerable: "high" needs [rules] advisories',
    ),
    "urgent-empty": ('urgent = [""]', "rules.urgent: expected printable characters"),
    "urgent-text": ('urgent = "urllib3"', "rules.urgent: expected a list of texts"),
    "ignore-empty": ('ignore-advisories = [" "]', "rules.ignore-advisories: expected printable characters"),
    "unknown": ('cooldown = "7d"', "rules.cooldown: unknown key"),
}

REFUSED_OF_INDEX = {
    "platforms": ('platforms = "all"', "index[0].rules.platforms: unknown key"),
    "advisories": ('advisories = "osv"', "index[0].rules.advisories: unknown key"),
    "exclude-without-advisories": (
        'exclude-vulnerable = "all"',
        'index[0].rules.exclude-vulnerable: "all" needs [rules] advisories',
    ),
    "versions": ('versions = ["a"]', "index[0].rules.versions[0]: expected a project with a specifier"),
    "min-age": ('min-age = "1y"', "index[0].rules.min-age: expected a duration"),
}


@pytest.fixture
def load(tmp_path):
    def load_text(text):
        path = tmp_path / "mirror.toml"
        path.write_text(f'[mirror]\nroot = "/tmp/m"\n{text}', encoding="utf-8")
        return load_config(path, env={})

    return load_text


def test_every_key_is_read(load):
    """Names and patterns are normalised, durations are seconds, and a day ends at midnight UTC."""
    config = load(INDEX + TARGET + ALL_KEYS)
    assert config.policies({"py3-none-any"})[0].rules == ALL_RULES
    assert config.rules.advisories == config.folder / "osv"


def test_what_is_written_loads_as_the_same_values(load):
    """``config show`` prints the rules, and they load again."""
    config = load(INDEX + '[index.rules]\nmin-age = "3d"\nnewest = 0\n' + TARGET + ALL_KEYS)
    shown = effective_toml(config)
    again = load(shown[shown.index("[limits]") :])
    assert (again.rules, again.indexes) == (config.rules, config.indexes)
    assert '[index.rules]\nmin-age = "3d"\nnewest = 0\n' in shown


def test_a_key_of_an_index_replaces_that_of_all(load):
    """A key that an index does not write has the value of ``[rules]``; an empty list is a value."""
    text = (
        ALL_KEYS
        + INDEX
        + '[index.rules]\nmin-age = "0d"\nurgent = []\nyanked = "always"\n'
        + INDEX.replace('"a"', '"b"')
    )
    first, second = (policy.rules for policy in load(text + TARGET).policies({"py3-none-any"}))
    assert second == ALL_RULES
    assert (first.min_age_s, first.urgent, first.yanked) == (0.0, (), Admitted.ALWAYS)
    assert (first.newest, first.versions, first.exclude_vulnerable) == (3, ALL_RULES.versions, Level.HIGH)


@pytest.mark.parametrize(("line", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_bad_rule_is_named(load, line, problem):
    """One line names the key and what was expected, and repeats no address."""
    with pytest.raises(ConfigError) as caught:
        load(f"{INDEX}[rules]\n{line}\n")
    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("line", "problem"), REFUSED_OF_INDEX.values(), ids=REFUSED_OF_INDEX)
def test_a_bad_rule_of_an_index_is_named(load, line, problem):
    """The path names the index, and what only ``[rules]`` may say is an unknown key."""
    with pytest.raises(ConfigError) as caught:
        load(f"{INDEX}[index.rules]\n{line}\n")
    assert problem in str(caught.value)


def test_no_rules_change_no_digest(load):
    """A configuration without rules has the digests of before there were rules: nothing is read again."""
    bare = load(INDEX)
    written = load(INDEX + '[rules]\nmin-age = "0d"\nnewest = 0\nplatforms = "all"\n')
    assert judged_rules(written.rules) == NO_RULES
    first, second = (compile_selections(c.policies(()))[0].page_digest for c in (bare, written))
    assert first == second == "58636262b1ac64f58e611cf7116a1e53ece136e66746fded7717f370f5af9105"


def test_the_written_file_names_every_key():
    """``init`` writes each key of both tables as a comment."""
    text = render_default()
    for key in ALL_KEYS.split("\n")[2:-1]:
        assert f"\n# {key.partition(' ')[0]} = " in text
    assert "\n# [index.rules]\n" in text
