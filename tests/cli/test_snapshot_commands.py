"""``mirror snapshot`` as a user runs it: what it prints, and its exit codes."""

from __future__ import annotations

import json

import pytest

from harness.program import Mirror
from simulator import build_wheel


@pytest.fixture
def mirror(tmp_path, threaded_simulator) -> Mirror:
    upstream = threaded_simulator()
    upstream.state.publish("alpha", *build_wheel("alpha", "1.0"))
    mirror = Mirror(tmp_path, upstream.url)
    mirror.upstream = upstream  # type: ignore[attr-defined]
    mirror.sync_well()
    return mirror


def run(mirror: Mirror, *words: str):
    return mirror.run("snapshot", *words, "--root", mirror.root)


def report(mirror: Mirror, *words: str):
    done = run(mirror, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_life_of_a_snapshot_in_words(mirror):
    """Create, list, compare, promote and delete say in a sentence what they did."""
    done = run(mirror, "create", "january", "--note", "before the upgrade")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("snapshot january: 1 project, 1 file (")
    mirror.upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    mirror.upstream.state.yank("alpha", "alpha-1.0-py3-none-any.whl", "bad\x1b[2J")
    mirror.upstream.state.publish("beta", *build_wheel("beta", "1.0"))
    mirror.sync_well()
    lines = run(mirror, "diff", "january").stdout.splitlines()
    assert lines[0].startswith(
        "from january to now: 1 project added, 1 project changed, 2 versions added, 2 files added, 1 file yanked ("
    )
    assert lines[1:] == [
        "alpha: changed (versions +2.0)",
        "    new: alpha-2.0-py3-none-any.whl",
        "    yanked: alpha-1.0-py3-none-any.whl (bad\\x1b[2J)",
        "beta: new project (versions +1.0)",
        "    new: beta-1.0-py3-none-any.whl",
    ]
    assert run(mirror, "promote", "january", "--channel", "stable").stdout == (
        "channel stable shows january; served at channels/stable/simple/\n"
    )
    assert "stable" in run(mirror, "list").stdout
    assert "before the upgrade" in run(mirror, "list").stdout
    run(mirror, "create", "february")
    assert run(mirror, "diff", "february").stdout == "nothing changed from february to now\n"
    assert "instead of january" in run(mirror, "promote", "february", "--channel", "stable").stdout
    assert run(mirror, "delete", "january").stdout == "snapshot january is deleted\n"


def test_every_report_is_one_object(mirror):
    """With --json each command prints one object with its format."""
    made = report(mirror, "create", "one", "--note", "n")["snapshot"]
    (listed,) = report(mirror, "list")["snapshots"]
    assert made == listed
    assert {k: listed[k] for k in ("name", "note", "projects", "files", "channels")} == {
        "name": "one",
        "note": "n",
        "projects": 1,
        "files": 1,
        "channels": [],
    }
    assert report(mirror, "diff", "one")["projects"] == []
    assert report(mirror, "promote", "one", "--channel", "c") == {
        "format": 1,
        "channel": "c",
        "snapshot": "one",
        "before": None,
    }
    report(mirror, "create", "two")
    report(mirror, "promote", "two", "--channel", "c")
    assert report(mirror, "delete", "one")["deleted"]["name"] == "one"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(("create", "Bad"), 2, "expected up to 63", id="bad name"),
        pytest.param(("create", "now"), 2, "choose another name", id="the name of the newest state"),
        pytest.param(("diff", "cycle:99"), 2, "there was no such cycle", id="no cycle"),
        pytest.param(("delete", "none"), 2, "there is no snapshot of this name", id="not there"),
        pytest.param(("diff", "never"), 2, "expected a snapshot's name", id="no state"),
        pytest.param(("promote", "none", "--channel", "c"), 2, "there is no snapshot", id="promote nothing"),
    ],
)
def test_wrong_usage_is_told_in_a_line(mirror, words, code, said):
    """What can't be done ends with exit code 2 and says what was expected."""
    done = run(mirror, *words)
    assert (done.returncode, said in done.stderr) == (code, True)


def test_without_snapshots_the_list_says_how_to_make_one(mirror):
    """An empty list is not silence."""
    assert run(mirror, "list").stdout == "no snapshots; make one with `mirror snapshot create NAME`\n"


def test_pip_and_file_urls_take_a_snapshot_as_an_index(mirror, tmp_path):
    """An installer gets an older version from the snapshot's own index, by file://, with nothing else to ask."""
    import sys

    from harness.program import call, clean_environment

    run(mirror, "create", "one")
    mirror.upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    mirror.sync_well()
    url = (mirror.root / "public/snapshots/one/simple").as_uri()
    target = tmp_path / "target"
    words = [
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--index-url",
        url,
        "--target",
        target,
        "alpha",
    ]
    env = clean_environment(tmp_path / "h", PIP_CONFIG_FILE="/dev/null", PIP_NO_CACHE_DIR="1")
    done = call([sys.executable, *words], env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in target.glob("alpha-*.dist-info")] == ["alpha-1.0.dist-info"]
