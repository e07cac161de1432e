"""Who signed it: nothing is believed before ssh-keygen has said so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.handmade_bundles import Far, Signer, Site, State, run, some_file

FIRST = State({"aa": [some_file("aa", "1.0")]}, 1)
SECOND = State({"aa": [some_file("aa", "1.0"), some_file("aa", "2.0")]}, 2)


def test_another_key_is_refused(site: Site, far: Far, tmp_path: Path) -> None:
    """A bundle signed by a key that is not trusted is refused, exit code 7, and nothing is unpacked."""
    stranger = Site(tmp_path / "stranger", Signer.make(tmp_path / "keys")).make(FIRST)
    done = far.receive(stranger)
    assert done.code == 7
    assert done.err.startswith(f"receive: bundle.json.sig: the signature is by no key of {far.trust}")
    assert not list((far.root / "staging").iterdir())


def test_a_missing_signature_is_refused(site: Site, far: Far) -> None:
    """An unsigned bundle is refused, and the way out is named."""
    made = site.make(FIRST)
    (made.path / "bundle.json.sig").unlink()
    done = far.receive(made)
    assert (done.code, done.err) == (
        7,
        f"receive: {made.path}/bundle.json.sig: can't be read: No such file or directory; an unsigned bundle needs --unsigned\n",
    )


def test_another_namespace_is_refused(site: Site, far: Far, signer: Signer) -> None:
    """A signature by the right key for another purpose is refused."""
    made = site.make(FIRST)
    signer.sign(made.path / "bundle.json", namespace="git")
    done = far.receive(made)
    assert done.code == 7
    assert done.err.startswith("receive: bundle.json: changed, or not signed for bundles, by near@example.org")


def test_another_bundles_signature_is_refused(site: Site, far: Far) -> None:
    """A genuine signature over other bytes is refused."""
    first, second = site.make(FIRST), site.make(SECOND)
    shutil.copy(second.path / "bundle.json.sig", first.path / "bundle.json.sig")
    done = far.receive(first)
    assert done.code == 7
    assert done.err.startswith("receive: bundle.json: changed, or not signed for bundles, by near@example.org")


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\0" * 70_000], ids=["empty", "nonsense", "huge"])
def test_nonsense_in_place_of_the_signature(site: Site, far: Far, data: bytes) -> None:
    """A signature file with anything else in it is refused."""
    made = site.make(FIRST)
    (made.path / "bundle.json.sig").write_bytes(data)
    assert far.receive(made).code == 7


def test_a_rotated_key(site: Site, far: Far, tmp_path: Path) -> None:
    """With the old and the new key in the trust file both are accepted; without the old one it is refused."""
    new = Signer.make(tmp_path / "new", "near-2027@example.org")
    both = tmp_path / "both"
    both.write_text(far.trust.read_text() + new.trust.read_text())
    far.trust = both
    far.receive_well(site.make(FIRST))
    assert far.record["signer"] == "near@example.org"
    site.signer = new
    far.receive_well(site.make(SECOND))
    assert far.record["signer"] == "near-2027@example.org"
    far.trust = new.trust
    site.signer = Signer(Path(os.fspath(site.made[0].path)) / "none", new.trust)
    far.receive_well(site.made[-1])
    assert far.receive(site.made[0]).code == 7


@pytest.mark.parametrize("principals", ["one@x,two@x", "*@example.org", "near@example.org,*@y"])
def test_principals_as_patterns(tmp_path: Path, principals: str) -> None:
    """A line of the trust file with several principals or patterns is understood."""
    signer = Signer.make(tmp_path / "keys", principals)
    far = Far(tmp_path / "far", signer.trust)
    far.receive_well(Site(tmp_path / "near", signer).make(FIRST))


def test_a_revoked_line_is_not_believed(site: Site, far: Far, tmp_path: Path, signer: Signer) -> None:
    """A key whose line ends its validity in the past is refused."""
    trust = tmp_path / "expired"
    trust.write_text(signer.trust.read_text().replace("namespaces=", 'valid-before="20200101",namespaces='))
    far.trust = trust
    assert far.receive(site.make(FIRST)).code == 7


@pytest.mark.parametrize("way", ["inside", "link-to-inside", "hard-link", "beside"])
def test_trust_from_the_medium_is_refused(site: Site, far: Far, tmp_path: Path, signer: Signer, way: str) -> None:
    """A trust file that lies on the medium, or is a link to one that does, is refused, exit code 2."""
    made = site.make(FIRST)
    inside = made.path / "allowed_signers"
    place = made.path
    shutil.copy(signer.trust, inside)
    far.trust = inside
    if way == "link-to-inside":
        far.trust = tmp_path / "link"
        far.trust.symlink_to(inside)
    elif way == "hard-link":
        far.trust = tmp_path / "hard"
        far.trust.hardlink_to(inside)
    elif way == "beside":
        place = made.path.parent
        far.trust = place / "allowed_signers"
        inside.rename(far.trust)
    done = far.receive(place)
    assert (done.code, done.err) == (
        2,
        f"receive: {far.trust} lies in the bundle: trust must come another way than what it judges\n",
    )
    assert not far.root.exists()


def test_a_trust_file_that_is_not_there(site: Site, far: Far, tmp_path: Path) -> None:
    """A trust file that can't be read is wrong usage."""
    far.trust = tmp_path / "nowhere"
    done = far.receive(site.make(FIRST))
    assert (done.code, done.err) == (2, f"receive: --trust {far.trust}: No such file or directory\n")
    far.trust = tmp_path
    assert far.receive(site.made[0]).code == 2


def test_unsigned_only_by_word(tmp_path: Path, far: Far) -> None:
    """An unsigned bundle applies with --unsigned, which is said; and is never the source of a new receive.py."""
    made = Site(tmp_path / "near", None).make(FIRST, receiver=b"raise SystemExit(1)\n")
    assert far.receive(made).code == 7
    done = run(made.path, "--root", far.root, "--site", "lab", "--unsigned")
    assert done.code == 0
    assert done.err.startswith("NOT SIGNED: nobody knows who made this bundle\n")
    far.check_serves(FIRST)
    assert (far.root / "receive.py").read_bytes() == Path(run.__globals__["PROGRAM"]).read_bytes()
    assert far.record["signer"] == ""


@pytest.mark.parametrize("options", [(), ("--unsigned", "--trust", "x")], ids=["neither", "both"])
def test_trust_or_unsigned(site: Site, far: Far, options: tuple[str, ...]) -> None:
    """Exactly one of --trust and --unsigned is wanted."""
    done = run(site.make(FIRST).path, "--root", far.root, "--site", "lab", *options)
    assert done.code == 2
    assert "expected --trust ALLOWED_SIGNERS" in done.err


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("echo 'unknown option -- Y' >&2; echo usage >&2; exit 1", "unknown option -- Y", id="8.0"),
        pytest.param(
            "echo 'Unsupported operation for -Y: \"find-principals\"' >&2; exit 1",
            'Unsupported operation for -Y: "find-principals"',
            id="8.1",
        ),
    ],
)
def test_an_old_ssh_keygen_is_told(
    site: Site, far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    """An OpenSSH before 8.2 is found before anything is touched."""
    made = site.make(FIRST)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh-keygen").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    done = far.receive(made)
    assert (done.code, done.err) == (
        2,
        f"receive: ssh-keygen is too old: OpenSSH 8.2 or newer is needed (it said: {said})\n",
    )
    assert not far.root.exists()


def test_a_missing_ssh_keygen_is_told(site: Site, far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenSSH it says what to install."""
    made = site.make(FIRST)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = far.receive(made)
    assert (done.code, done.err) == (
        2,
        "receive: ssh-keygen can't be run (No such file or directory): install OpenSSH 8.2 or newer\n",
    )
