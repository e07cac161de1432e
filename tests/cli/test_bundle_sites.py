"""What keeps the operator with the stick from a mistake: where it goes, for which site, with which key."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from harness.program import Mirror, on_terminal
from simulator import build_sdist, build_wheel

PASSPHRASE = "correct horse"


@pytest.fixture
def mirror(tmp_path, threaded_simulator) -> Mirror:
    upstream = threaded_simulator()
    upstream.state.publish("alpha", *build_wheel("alpha", "1.0"))
    upstream.state.publish("beta", *build_wheel("beta", "1.0"))
    mirror = Mirror(tmp_path, upstream.url)
    mirror.upstream = upstream  # type: ignore[attr-defined]
    mirror.sync_well()
    (mirror.work / "usb").mkdir()
    return mirror


def run(mirror: Mirror, *words):
    return mirror.run("bundle", *words, "--root", mirror.root)


def create(mirror: Mirror, *words):
    return run(mirror, "create", "--site", "plant", "--to", mirror.work / "usb", "--local", *words)


def test_a_target_that_is_not_there(mirror):
    """--to is a folder that is there: a medium that is not mounted gives no folder of its name."""
    done = run(mirror, "create", "--site", "plant", "--to", mirror.work / "gone", "--unsigned", "--local")
    assert (done.returncode, "mount the medium" in done.stderr, (mirror.work / "gone").exists()) == (2, True, False)
    (mirror.work / "file").write_text("")
    assert run(mirror, "create", "--site", "plant", "--to", mirror.work / "file", "--unsigned").returncode == 2


def test_the_file_system_of_the_host_needs_a_word(mirror):
    """On the file system of / a bundle is made with --local only."""
    place = next(p for p in (mirror.work / "usb", Path("/")) if p.stat().st_dev == Path("/").stat().st_dev)
    done = run(mirror, "create", "--site", "plant", "--to", place, "--unsigned")
    assert (done.returncode, "--local" in done.stderr) == (2, True)
    assert json.loads(run(mirror, "list", "--json").stdout)["unfinished"] == []


def test_a_first_bundle_is_announced(mirror):
    """Without a terminal the first bundle for a site goes on with a warning; later ones have none."""
    done = create(mirror, "--unsigned")
    assert (done.returncode, "warning: first bundle for the site plant: 2 projects, 2 files" in done.stderr) == (
        0,
        True,
    )
    done = create(mirror, "--unsigned", "--full")
    assert (done.returncode, "first bundle" in done.stderr) == (0, False)


def test_nothing_to_send_names_what_was_not_acknowledged(mirror):
    """Where nothing changed, the bundles whose receipt did not come are named, with what to do if one was lost."""
    create(mirror, "--unsigned")
    done = create(mirror, "--unsigned")
    assert "nothing to send to plant" in done.stdout
    assert "not acknowledged yet: 1; if a medium was lost, make a bundle with --full" in done.stderr
    mirror.run("bundle", "receive", mirror.work / "usb", "--root", mirror.work / "far", "--site", "plant", "--unsigned")
    assert run(mirror, "acknowledge", mirror.work / "far/receipt.json").returncode == 0
    assert "not acknowledged" not in create(mirror, "--unsigned").stderr
    mirror.upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    mirror.sync_well()
    create(mirror, "--unsigned")
    assert (
        "not acknowledged yet: 2; if a medium was lost, make a bundle with --since 1"
        in create(mirror, "--unsigned").stderr
    )


def test_a_site_is_forgotten(mirror):
    """The command forget removes the chain and all bundles of a site; another site and the files on the medium stay."""
    create(mirror, "--unsigned")
    run(mirror, "create", "--site", "lab", "--to", mirror.work / "usb", "--local", "--unsigned")
    done = run(mirror, "forget", "plant", "--json")
    report = {"format": 1, "outcome": "forgotten", "site": "plant", "bundles": 1}
    assert (done.returncode, json.loads(done.stdout)) == (0, report)
    bundles = json.loads(run(mirror, "list", "--json").stdout)["bundles"]
    assert [bundle["site"] for bundle in bundles] == ["lab"]
    assert len(list((mirror.root / "shipments").iterdir())) == 1
    assert (mirror.work / "usb/plant-000001/bundle.json").exists()
    assert run(mirror, "forget", "plant").returncode == 2


def test_a_bundle_that_was_begun_is_abandoned(mirror):
    """Abandon drops what a run that did not complete keeps, here and on the medium."""
    key = mirror.work / "broken"
    key.write_text("no key")
    assert create(mirror, "--key", key).returncode == 7
    assert len(json.loads(run(mirror, "list", "--json").stdout)["unfinished"]) == 1
    done = run(mirror, "abandon", "plant")
    assert (done.returncode, "what was begun for plant is dropped" in done.stdout) == (0, True), done.stderr
    assert json.loads(run(mirror, "list", "--json").stdout)["unfinished"] == []
    assert list((mirror.work / "usb").iterdir()) == []
    assert list((mirror.root / "pins").iterdir()) == []
    assert run(mirror, "abandon", "plant").returncode == 2


def test_a_bundle_in_words(mirror):
    """Inspect says for the approver which projects and versions come, change and go."""
    create(mirror, "--unsigned")
    state = mirror.upstream.state
    state.publish("alpha", *build_wheel("alpha", "2.0"))
    state.publish("gamma", *build_sdist("gamma", "0.1"))
    state.yank("beta", "beta-1.0-py3-none-any.whl", "broken")
    mirror.sync_well()
    create(mirror, "--unsigned")
    done = run(mirror, "inspect", mirror.work / "usb/plant-000002")
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert lines == ["comes    alpha 2.0", "comes    gamma 0.1", "changes  beta: other labels"]
    report = json.loads(run(mirror, "inspect", mirror.work / "usb/plant-000002", "--json").stdout)
    assert (report["comes"], report["changes"]) == ({"alpha": ["2.0"], "gamma": ["0.1"]}, ["beta"])


def test_a_key_without_a_passphrase_only_by_word(mirror):
    """Where no passphrase is given there is no key, unless --no-passphrase says so."""
    key = mirror.work / "key"
    code, _ = on_terminal(mirror, ["bundle", "key", str(key)], {b"passphrase": "\n", b"again": "\n"})
    assert (code, key.exists(), key.with_name("key.pub").exists()) == (7, False, False)
    assert run(mirror, "key", key, "--no-passphrase", "--site", "plant").returncode == 0
    assert (mirror.work / "allowed_signers").read_text().startswith("mirror@site:plant namespaces=")


def test_a_passphrase_is_asked_once(mirror):
    """On a terminal the first bundle is asked for, then the passphrase, once for both signatures; no agent stays."""
    key = mirror.work / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-f", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    words = ["bundle", "create", "--site", "plant", "--to", str(mirror.work / "usb"), "--local", "--key", str(key)]
    words += ["--root", str(mirror.root)]
    code, said = on_terminal(mirror, words, {b"Make it?": "n\n"})
    assert (code, list((mirror.work / "usb").iterdir())) == (2, []), said
    code, said = on_terminal(mirror, words, {b"Make it?": "y\n", b"Enter passphrase": f"{PASSPHRASE}\n"})
    assert (code, said.count(b"Enter passphrase")) == (0, 1), said
    assert "signed by ED25519" in run(mirror, "inspect", mirror.work / "usb").stdout
