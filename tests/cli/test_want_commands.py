"""``mirror want add|remove|list`` and ``mirror init --from``: wants without an editor."""

import json
import stat

import pytest

from mirror import config as config_module
from mirror.cli import main
from mirror.config import load_config
from simulator.wheels import build_wheel

CONFIG = """\
# ours
[mirror]
root = "r" # here

[[index]]
name = "first" # the vendor
url = "{url}"
[index.auth]
kind = "none"

[[index]]
name = "second"
url = "https://index.example/simple/"

[[target]]
name = "linux"
python = ["3.11"]
platforms = ["linux-x86_64"] # the plant
"""

WANT = """
[[want]]
name = "apps"
requirements = [
    "Flask>=3", # the shop
    "pandas",
]
files = []
# the end
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Write a configuration, run a command, and return its code, its output and the new configuration."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mirror.toml"

    def run(text, *words):
        if text is not None:
            path.write_text(text)
        code = main([*words])
        captured = capsys.readouterr()
        after = path.read_text() if path.exists() else None
        return code, captured.out + captured.err, after

    return run


BARE = CONFIG.format(url="https://index.example/simple/")

ADDED = {
    "first": (
        BARE,
        ["pandas>=2", "fastapi[all]"],
        BARE + '\n[[want]]\nname = "apps"\nrequirements = ["pandas>=2", "fastapi[all]"]\n',
        ["want apps: added", "want apps: pandas>=2 added", "want apps: fastapi[all] added"],
    ),
    "more": (
        BARE + WANT,
        ["flask >= 3", "rich"],
        BARE + WANT.replace('    "pandas",\n', '    "pandas",\n    "rich",\n'),
        ["want apps: flask >= 3 is there already", "want apps: rich added"],
    ),
    "beside-files": (
        BARE + '[[want]]\nname = "apps"\nfiles = ["a.txt"] # list\n',
        ["rich"],
        BARE + '[[want]]\nname = "apps"\nfiles = ["a.txt"] # list\nrequirements = ["rich"]\n',
        ["want apps: rich added"],
    ),
    "another": (
        BARE + WANT.replace("apps", "other"),
        ["rich"],
        BARE + WANT.replace("apps", "other") + '\n[[want]]\nname = "apps"\nrequirements = ["rich"]\n',
        ["want apps: added", "want apps: rich added"],
    ),
}


@pytest.mark.parametrize(("text", "words", "after", "changes"), ADDED.values(), ids=ADDED)
def test_add(run, text, words, after, changes):
    """Requirements are added where they belong; comments, order and formatting stay."""
    code, out, written = run(text, "want", "add", "apps", *words)
    assert (code, out.splitlines()) == (0, changes)
    assert written.replace("\n\n", "\n") == after.replace("\n\n", "\n")


REMOVED = {
    "one": (["pandas"], WANT.replace('    "pandas",\n', ""), ["want apps: pandas removed"]),
    "by-project": (["flask"], None, ["want apps: Flask>=3 removed"]),
    "all": ([], "\n", ["want apps: removed", "no want is left"]),
    "all-by-name": (
        ["flask>=3", "pandas"],
        "\n",
        ["want apps: removed", "want apps: Flask>=3 removed", "want apps: pandas removed", "no want is left"],
    ),
}


@pytest.mark.parametrize(("words", "after", "changes"), REMOVED.values(), ids=REMOVED)
def test_remove(run, words, after, changes):
    """A want, or requirements by their text or project, leave the configuration; the rest stays."""
    code, out, written = run(BARE + WANT, "want", "remove", "apps", *words)
    assert code == 0
    assert all(line.startswith(change) for line, change in zip(out.splitlines(), changes, strict=True))
    assert written.startswith(BARE)
    if after is not None:
        assert written.removeprefix(BARE).strip() == after.strip()
    else:
        assert '"pandas"' in written
        assert "Flask" not in written


REFUSED = {
    "no-target": (
        BARE[: BARE.index("[[target]]")],
        ["add", "apps", "rich"],
        "error: target: wants need one or more [[target]] tables: `mirror target here` prints that of a machine",
    ),
    "address": (
        BARE,
        ["add", "apps", "x @ https://u:hunter2@h/x.whl"],
        "error: REQUIREMENT: names an address; the mirror takes files from its indexes only",
    ),
    "no-requirement": (BARE, ["add", "apps", "a b"], "error: REQUIREMENT: expected a requirement such as"),
    "bad-name": (BARE, ["add", "Apps", "a"], "error: want[0].name: expected up to 63 lower-case letters"),
    "no-such-want": (BARE + WANT, ["remove", "other"], "error: NAME: no want is named other"),
    "no-such-requirement": (
        BARE + WANT,
        ["remove", "apps", "pandas", "numpy"],
        "error: REQUIREMENT: want apps has no requirement numpy",
    ),
    "needed-without-want": (
        BARE.replace('[[index]]\nname = "second"', '[[index]]\nselect = "needed"\nname = "second"') + WANT,
        ["remove", "apps"],
        'error: index[1].select: expected one or more [[want]] tables with "needed", got none',
    ),
    "broken": (BARE + "x", ["add", "apps", "a"], "error: mirror.toml: not valid TOML"),
}


@pytest.mark.parametrize(("text", "words", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(run, tmp_path, text, words, message):
    """What would make a configuration that can't be used is refused, and nothing is written."""
    code, out, after = run(text, "want", *words)
    assert code == 2
    assert out.startswith(message)
    assert "hunter2" not in out
    assert after == text
    assert [path.name for path in tmp_path.iterdir()] == ["mirror.toml"]


def test_list(run):
    """Wants are listed with their requirements, files and targets."""
    assert run(BARE + WANT, "want", "list")[1] == (
        "WANT  REQUIREMENTS      FILES  TARGETS\napps  Flask>=3, pandas  -      linux\n"
    )
    assert json.loads(run(None, "want", "list", "--json")[1]) == {
        "format": 1,
        "wants": [{"name": "apps", "requirements": ["Flask>=3", "pandas"], "files": [], "targets": ["linux"]}],
    }
    assert run(BARE, "want", "list")[1].startswith("There is no [[want]] table")


def test_permissions_and_links_stay(run, tmp_path):
    """An edited configuration keeps its permissions, and a link to it stays a link."""
    (tmp_path / "real.toml").write_text(BARE)
    (tmp_path / "real.toml").chmod(0o640)
    (tmp_path / "mirror.toml").symlink_to("real.toml")
    code, out, after = run(None, "want", "add", "apps", "rich", "--json")
    assert (code, json.loads(out)) == (0, {"format": 1, "changes": ["want apps: added", "want apps: rich added"]})
    assert (tmp_path / "mirror.toml").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.toml").stat().st_mode) == 0o640
    assert '"rich"' in after


def test_a_first_want_keeps_what_is_published(run, threaded_simulator, tmp_path):
    """Where files were published by patterns, the index stays ``listed``; the others are needed."""
    index = threaded_simulator()
    index.state.publish("lib", *build_wheel("lib", "1.0"))
    text = CONFIG.format(url=index.url)
    one_index = text.replace(text[text.index('[[index]]\nname = "second"') : text.index("[[target]]")], "")
    assert run(one_index, "sync", "--once")[0] == 0
    code, out, after = run(text, "want", "add", "apps", "lib")
    assert (code, out.splitlines()[0]) == (
        0,
        'index first: select = "listed" written, so that what is published by its patterns stays wanted',
    )
    config = load_config(tmp_path / "mirror.toml", env={})
    assert [config.selects_needed(i) for i in config.indexes] == [False, True]
    assert (config.indexes[0].auth.kind, "# the vendor" in after) == ("none", True)
    assert "listed" not in run(None, "want", "add", "apps", "other")[1]


def test_init_from_a_project(run, tmp_path):
    """A project's file becomes the want of a first configuration, with this machine as its target."""
    (tmp_path / "My App").mkdir()
    (tmp_path / "My App/requirements.txt").write_text("flask>=3\n")
    code, out, written = run(None, "init", "--from", "My App/requirements.txt")
    assert code == 0
    config = load_config(tmp_path / "mirror.toml", env={})
    assert [(w.name, w.files) for w in config.wants] == [("my-app", ("My App/requirements.txt",))]
    assert [t.platforms[0].partition("-")[0] for t in config.targets] == ["linux"]
    assert config.selects_needed(config.indexes[0])
    assert "# musl = " in written
    assert out.startswith("Wrote mirror.toml. Next:")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "-i https://u:hunter2@i/\n", "error: a.txt:1: -i is not followed"),
        ("uv.lock", "version = 7\n", "error: uv.lock: is a lock of format version 7; known: 1"),
        ("missing.txt", None, "error: missing.txt: can't be read: No such file or directory"),
    ],
    ids=["index-option", "version", "missing"],
)
def test_init_from_what_is_no_project(run, tmp_path, name, text, message):
    """A file that can't be read as a project's is wrong usage, and no configuration is written."""
    if text is not None:
        (tmp_path / name).write_text(text)
    code, out, written = run(None, "init", "--from", name)
    assert (code, written) == (2, None)
    assert out.startswith(message)
    assert "hunter2" not in out


def test_two_commands_at_the_same_time(run, monkeypatch):
    """A command that comes between the reading and the writing of another is not lost: the other is refused."""
    said = []

    def checked(path, **options):
        if not said and str(path).endswith(".new"):
            said.append("")
            assert main(["want", "add", "apps", "pandas"]) == 0
        return load_config(path, **options)

    monkeypatch.setattr(config_module, "load_config", checked)
    code, output, after = run(CONFIG.format(url="https://index.example/simple/"), "want", "add", "apps", "flask")
    assert code == 2
    assert "mirror.toml: it was changed meanwhile, and stays so: run the command again" in output
    assert '"pandas"' in after
    assert "flask" not in after
    assert run(None, "want", "add", "apps", "flask")[0] == 0
