"""``mirror bundle`` as a user runs it: what it prints, and its exit codes."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from harness.own_disk import tmp_path_factory
from harness.program import Mirror, call
from mirror.bundle import signing
from simulator import build_wheel

__all__ = ["tmp_path_factory"]


@pytest.fixture
def mirror(tmp_path, threaded_simulator) -> Mirror:
    upstream = threaded_simulator()
    upstream.state.publish("alpha", *build_wheel("alpha", "1.0"))
    mirror = Mirror(tmp_path, upstream.url)
    mirror.upstream = upstream  # type: ignore[attr-defined]
    mirror.sync_well()
    (mirror.work / "usb").mkdir()
    return mirror


def run(mirror: Mirror, *words):
    # The folders of tests lie on the file system of / on some hosts.
    local = ("--local",) if words[0] == "create" else ()
    return mirror.run("bundle", *words, *local, "--root", mirror.root)


def report(mirror: Mirror, *words):
    done = run(mirror, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def key_of(mirror: Mirror) -> Path:
    path = mirror.work / "key"
    if not path.exists():
        assert run(mirror, "key", path, "--no-passphrase").returncode == 0
    return path


def made(mirror: Mirror, *words) -> Path:
    return Path(
        report(mirror, "create", "--site", "plant", "--to", mirror.work / "usb", "--key", key_of(mirror), *words)[
            "path"
        ]
    )


def test_the_way_of_a_bundle_in_words(mirror):
    """Key, create, inspect, verify, receive, acknowledge and list, each with a sentence of what it did."""
    key = mirror.work / "key"
    done = run(mirror, "key", key, "--no-passphrase", "--principal", "near")
    assert done.stdout.startswith(f"made {key}; sign with")
    trust = mirror.work / "allowed_signers"
    assert trust.read_text().startswith('near namespaces="bundle@offline-mirror" ssh-ed25519 ')
    usb = mirror.work / "usb"
    done = run(mirror, "create", "--site", "plant", "--to", usb, "--key", key)
    assert done.returncode == 0, done.stderr
    place = usb / "plant-000001"
    assert done.stdout.startswith(f"{place}: 1 file, 6 pages, ")
    said = run(mirror, "inspect", place).stdout
    assert "plant-000001: update for the site plant" in said
    assert "complete: needs nothing from before" in said
    assert "signed by ED25519 key SHA256:" in said
    done = run(mirror, "verify", usb, "--trust", trust)
    assert (done.returncode, "signed by near\n" in done.stdout) == (0, True)
    assert done.stdout.endswith("everything that lies here is whole\n")
    far = mirror.work / "far"
    done = mirror.run("bundle", "receive", place, "--root", far, "--site", "plant", "--trust", trust, "--keep", "2")
    assert done.returncode == 0, done.stderr
    assert "plant-000001 is applied and served" in done.stdout
    said = run(mirror, "acknowledge", far / "receipt.json").stdout
    assert said == "bundle 1 is acknowledged by plant\nit was not acknowledged before\n"
    head, line = run(mirror, "list").stdout.splitlines()
    assert head.split() == ["site", "bundle", "made", "builds", "on", "size", "acknowledged", "damage"]
    assert line.split()[:2] == ["plant", "1"]
    assert run(mirror, "create", "--site", "plant", "--to", usb, "--key", key).stdout.startswith(
        "nothing to send to plant"
    )


def test_the_program_alone_applies_a_bundle_with_nothing_installed(mirror):
    """receive.py, copied from the medium and checked by hand as README.txt says, applies it with a bare interpreter."""
    place, far = made(mirror), mirror.work / "far"
    home = mirror.work / "hands"
    home.mkdir()
    for name in ("receive.py", "receive.py.sig"):
        shutil.copy(place / name, home)
    trust = mirror.work / "allowed_signers"
    check = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        trust,
        "-I",
        "mirror",
        "-n",
        "bundle@offline-mirror",
        "-s",
        "receive.py.sig",
    ]
    import subprocess

    with (home / "receive.py").open("rb") as program:
        checked = subprocess.run(check, stdin=program, cwd=home, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    words = [sys.executable, "-I", "receive.py", place, "--root", far, "--site", "plant", "--trust", trust]
    done = call(words, env={"PATH": __import__("os").environ["PATH"]}, cwd=home)
    assert done.returncode == 0, done.stderr
    assert (far / "receive.py").read_bytes() == (place / "receive.py").read_bytes()


def test_every_report_is_one_object(mirror):
    """With --json each command prints one object with its format."""
    key = key_of(mirror)
    again = report(mirror, "key", key)
    assert (again["made"], again["key"]) == (False, str(key))
    assert len((mirror.work / "allowed_signers").read_text().splitlines()) == 1
    place = made(mirror)
    looked, verified = report(mirror, "inspect", place), report(mirror, "verify", place)
    assert looked == verified
    assert (looked["site"], looked["sequence"], looked["problems"], looked["volumes_missing"]) == ("plant", 1, [], [])
    (listed,) = report(mirror, "list", "--site", "plant")["bundles"]
    assert listed["digest"] == looked["digest"]
    assert report(mirror, "list", "--site", "other")["bundles"] == []
    nothing = report(mirror, "create", "--site", "plant", "--to", mirror.work / "usb", "--key", key)
    assert nothing == {"format": 1, "outcome": "nothing", "site": "plant"}


def test_damage_and_missing_volumes_are_told_by_the_exit_code(mirror):
    """verify: 5 and the name for a volume that is not there, 7 and the name for a changed byte."""
    place = made(mirror)
    volume = place / "volume-0001.tar"
    data = volume.read_bytes()
    volume.unlink()
    done = run(mirror, "verify", place)
    assert (done.returncode, "not here: volume-0001.tar" in done.stdout) == (5, True)
    volume.write_bytes(data[:3000] + bytes([data[3000] ^ 1]) + data[3001:])
    done = run(mirror, "verify", place)
    assert (done.returncode, "volume-0001.tar" in done.stderr) == (7, True)
    volume.write_bytes(data)
    signature = place / "bundle.json.sig"
    good = signature.read_bytes()
    signature.write_bytes(good[:-60] + b"A" * 60)
    done = run(mirror, "inspect", place)
    assert (done.returncode, "THE SIGNATURE IS NOT GOOD" in done.stdout, str(signature) in done.stderr) == (
        7,
        True,
        True,
    )
    signature.unlink()
    done = run(mirror, "inspect", place)
    assert (done.returncode, "NOT SIGNED" in done.stdout) == (0, True)
    done = run(mirror, "verify", place)
    assert (done.returncode, "nobody knows who made this bundle" in done.stderr) == (7, True)


def test_a_station_without_openssh_is_told(mirror):
    """Inspect and verify ask for ssh-keygen before they say anything of a signature."""
    place = made(mirror)
    for command in ("inspect", "verify"):
        done = mirror.run("bundle", command, place, PATH=str(mirror.work / "empty"))
        assert (done.returncode, "install OpenSSH 8.2 or newer" in done.stderr) == (2, True), done.stderr


def test_what_was_begun_is_listed(mirror):
    """A bundle that was not completed keeps its files: the list names its site, until the same command completes it."""
    key = mirror.work / "broken"
    key.write_text("no key")
    words = ("create", "--site", "plant", "--to", mirror.work / "usb", "--key")
    assert run(mirror, *words, key).returncode == 7
    assert "begun for plant at 20" in run(mirror, "list").stdout
    (begun,) = report(mirror, "list", "--site", "plant")["unfinished"]
    assert begun["site"] == "plant"
    assert report(mirror, "list", "--site", "other")["unfinished"] == []
    assert run(mirror, *words, key_of(mirror)).returncode == 0
    assert report(mirror, "list")["unfinished"] == []


def test_a_list_that_hides_something_is_told(mirror):
    """Who signs could show a scanner or an approver another list than the one that the far side goes by: verify compares."""
    place = made(mirror)
    contents = json.loads((place / "CONTENTS.json").read_bytes())
    contents["files"] = [file for file in contents["files"] if not file["path"].endswith(".whl")]
    data = json.dumps(contents).encode()
    (place / "CONTENTS.json").write_bytes(data)
    manifest = json.loads((place / "bundle.json").read_bytes())
    (listed,) = (file for file in manifest["attached"] if file["name"] == "CONTENTS.json")
    listed |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (place / "bundle.json").write_bytes(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    (place / "bundle.json.sig").unlink()
    (place / "bundle.json.sig").write_bytes(signing.sign_file(place / "bundle.json", key_of(mirror)))
    done = run(mirror, "verify", place, "--trust", mirror.work / "allowed_signers")
    assert (done.returncode, "do not judge the bundle by it" in done.stderr) == (7, True), done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(("create", "--site", "Bad", "--to", "usb", "--unsigned"), 2, "expected up to 63", id="site"),
        pytest.param(("create", "--site", "p", "--to", "usb"), 2, "--key: missing", id="no key"),
        pytest.param(("create", "--site", "p", "--to", "usb", "--key", "gone"), 2, "is not there", id="key gone"),
        pytest.param(
            ("create", "--site", "p", "--to", "usb", "--unsigned", "--volume-size", "x"),
            2,
            "expected a size",
            id="size",
        ),
        pytest.param(
            ("create", "--site", "p", "--to", "usb", "--unsigned", "--volume-size", "1k"),
            2,
            "--volume-size",
            id="small",
        ),
        pytest.param(
            ("create", "--site", "p", "--to", "usb", "--unsigned", "--full", "--since", "1"),
            2,
            "one of them",
            id="both",
        ),
        pytest.param(
            ("create", "--site", "p", "--to", "usb", "--unsigned", "--since", "1"), 2, "no bundle 1", id="since"
        ),
        pytest.param(
            ("create", "--site", "p", "--to", "usb", "--unsigned", "--snapshot", "s"), 2, "no snapshot", id="snapshot"
        ),
        pytest.param(
            ("create", "--site", "p", "--to", "usb", "--unsigned", "--repair", "gone"), 7, "gone", id="no list"
        ),
        pytest.param(
            ("create", "--site", "p", "--to", "usb", "--unsigned", "--repair", "gone", "--snapshot", "s"),
            2,
            "expected no snapshot",
            id="repair of a snapshot",
        ),
        pytest.param(("inspect", "usb"), 7, "usb", id="no bundle"),
        pytest.param(("acknowledge", "mirror.toml"), 7, "mirror.toml", id="no receipt"),
        pytest.param(("key", "k", "--principal", "a b"), 2, "expected a plain word", id="principal"),
        pytest.param(("receive", "usb"), 2, "--trust", id="receive without trust"),
    ],
)
def test_what_can_not_be_done_is_told_in_a_line(mirror, words, code, said):
    """Wrong usage ends with exit code 2, what is no bundle or receipt with 7; the message names it."""
    done = run(mirror, *words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_receipt_of_another_mirror_is_refused(mirror):
    """A receipt that names another chain, or another bundle of this one, is not entered."""
    place, far = made(mirror), mirror.work / "far"
    words = ("bundle", "receive", place, "--root", far, "--site", "plant", "--trust", mirror.work / "allowed_signers")
    assert mirror.run(*words).returncode == 0
    receipt = json.loads((far / "receipt.json").read_bytes())
    for change, said in (
        ({"chain": "0" * 32}, "knows no plant-000001"),
        ({"digest": "0" * 64}, "has another plant-000001"),
    ):
        path = mirror.work / "other.json"
        path.write_text(json.dumps({**receipt, **change}))
        done = run(mirror, "acknowledge", path)
        assert (done.returncode, said in done.stderr) == (7, True), done.stderr


def test_the_site_of_the_configuration_names_its_key_and_projects(mirror):
    """With a [[site]] table the bundle is signed by its key and has its projects only, never by oversight everything."""
    mirror.upstream.state.publish("beta", *build_wheel("beta", "1.0"))
    mirror.sync_well()
    key = key_of(mirror)
    mirror.configure(f'url = "{mirror.url}"')
    with mirror.config.open("a") as config:
        config.write(f'[[site]]\nname = "plant"\nprojects = ["b*"]\nkey = "{key}"\n')
    done = mirror.run(
        "bundle", "create", "--site", "plant", "--to", "usb", "--local", "--config", mirror.config, "--json"
    )
    made = json.loads(done.stdout)
    assert (made["signed"], made["state"]["projects"], made["files"]) == (True, 1, 1)
    words = ("create", "--to", mirror.work / "usb", "--key", key, "--full", "--site")
    elsewhere = mirror.config.rename(mirror.work / "elsewhere.toml")
    done = run(mirror, *words, "plant")
    assert (done.returncode, "was sent 1 of 2 projects" in done.stderr) == (2, True), done.stderr
    done = mirror.run("bundle", *words, "plnat", "--local", "--config", elsewhere)
    assert (done.returncode, "has no [[site]] plnat, so it gets everything" in done.stderr) == (0, True), done.stderr
