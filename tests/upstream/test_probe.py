"""``mirror probe``: what is asked of an index, what the answers mean, and what is never asked."""

from __future__ import annotations

import json

import pytest

from harness.program import Mirror
from simulator import Status, build_wheel


@pytest.fixture
def probe(tmp_path, threaded_simulator):
    """Probe a simulator of these settings: exit code, answers by name, the simulator, standard output."""

    def run(*arguments: str, **settings):
        simulator = threaded_simulator(**settings)
        simulator.state.publish("demo", *build_wheel("demo", "1.0"))
        simulator.state.publish("another", *build_wheel("another", "1.0"))
        done = Mirror(tmp_path / "work").run("probe", simulator.url, "--json", *arguments)
        (index,) = json.loads(done.stdout)["indexes"]
        return done.returncode, {f["name"]: f["answer"] for f in index["findings"]}, simulator, index

    return run


JSON, HTML = "application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.v1+html"

INDEXES = {
    "like-pypi": (
        {"serials": True},
        {"root-formats": f"{HTML} and {JSON}", "root-validators": "ETag; yes", "hashes": "1 of 1", "version": "1.4"},
        "serials",
    ),
    "old": (
        {"formats": "html", "validators": "none", "hashes": ("md5",), "ranges": False},
        {"root-formats": "text/html", "page-validators": "none", "hashes": "0 of 1", "sizes": "0 of 1"},
        "ranges",
    ),
    "json-only": (
        {"formats": "json", "validators": "last-modified"},
        {"root-formats": JSON, "sizes": "1 of 1"},
        "version",
    ),
}


@pytest.mark.parametrize(("settings", "expected", "asked"), INDEXES.values(), ids=INDEXES)
def test_answers(probe, settings, expected, asked):
    """Each question is answered by what the index does."""
    code, answers, _, index = probe(**settings)
    assert (code, index["error"]) == (0, None)
    assert {name: answers[name] for name in expected} == expected
    assert asked in answers


def test_serials_and_ranges(probe):
    """Serials are told for root and page, and a range is asked for one byte."""
    _, answers, simulator, _ = probe(serials=True, second_origin=True)
    assert answers["serials"].endswith("for 2 of 2 projects")
    assert answers["ranges"].startswith("yes (206 in ")
    assert answers["redirects"] == f"by a redirect to {simulator.store_url.partition('//')[2]}"


def test_asks_little(probe):
    """It asks for one project that the index lists, and for one file of it."""
    _, _, simulator, _ = probe()
    assert {r.project for r in simulator.requests if r.project} == {"another"}
    assert simulator.count(kind="root") == 3
    assert len(simulator.requests) <= 8


def test_denied(probe):
    """A refusal ends the questions with its exit code, and is named."""
    code, answers, _, index = probe(username="user", password="secret")
    assert (code, list(answers)) == (3, ["credential"])
    assert "answered 401" in index["error"]


def test_configured_index(tmp_path, threaded_simulator):
    """Without a URL every index of the configuration is asked, in words; an unknown name is a usage error."""
    simulator = threaded_simulator()
    simulator.state.publish("demo", *build_wheel("demo", "1.0"))
    mirror = Mirror(tmp_path / "work")
    mirror.configure(f'url = "{simulator.url}"\nprojects = ["nothing"]')
    done = mirror.run("probe", "--config", mirror.config)
    assert done.returncode == 0
    assert "\nproject          none " in done.stdout
    assert not mirror.root.exists()
    assert mirror.run("probe", "other", "--config", mirror.config).returncode == 2
    mirror.configure(f'url = "{simulator.url}"\nlist = "config"\nprojects = ["Demo"]')
    done = mirror.run("probe", "default", "--config", mirror.config)
    assert "\nproject          demo: 1 files " in done.stdout


def test_down(tmp_path, threaded_simulator):
    """An index that answers errors ends it with 4."""
    simulator = threaded_simulator()
    simulator.inject(Status(status=500))
    done = Mirror(tmp_path / "work").run("probe", simulator.url)
    assert (done.returncode, "ended: " in done.stdout) == (4, True)
