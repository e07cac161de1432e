"""``serve.py`` beside the receiver: signed by itself, put into the root by a bundle that was accepted as a whole."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from harness.handmade_bundles import PROGRAM, Far, Signer, Site, State, some_file
from mirror.bundle.serve import SERVE_FORMAT

SERVER = PROGRAM.with_name("serve.py").read_bytes()
FIRST = State({"aa": [some_file("aa", "1.0")]}, 1)
SECOND = State({"aa": [some_file("aa", "1.0"), some_file("aa", "2.0")]}, 2)


def other(number: int, mark: str = "") -> bytes:
    """Return the server in another format, with other bytes."""
    own = f"\nSERVE_FORMAT = {SERVE_FORMAT}\n".encode()
    assert own in SERVER
    return SERVER.replace(own, f"\nSERVE_FORMAT = {number}\n".encode()) + mark.encode()


def installed(far: Far) -> bytes | None:
    path = far.root / "serve.py"
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("lists_server", [False, True], ids=["by-its-signature", "by-the-manifest"])
def test_it_is_installed(site: Site, far: Far, lists_server: bool) -> None:
    """The server comes into the root, outside of what is served, for any user to run; the state is served as well."""
    far.receive_well(site.make(FIRST, server=SERVER, lists_server=lists_server))
    assert installed(far) == SERVER
    assert stat.S_IMODE((far.root / "serve.py").stat().st_mode) == 0o644
    assert not list((far.root / "public").rglob("serve.py*"))
    far.check_serves(FIRST)


def test_wishes_are_in_no_receipt(site: Site, far: Far) -> None:
    """A list of wishes beside the tree stays there: a person carries it, the receiver names nothing of it."""
    far.receive_well(site.make(FIRST, server=SERVER))
    for name in ("wishes.txt", "wishes-carried.txt"):
        (far.root / name).write_text("a-wish-of-somebody\n")
    far.receive_well(site.make(SECOND, server=SERVER))
    assert "wish" not in (far.root / "receipt.json").read_text()
    assert (far.root / "wishes.txt").read_text() == "a-wish-of-somebody\n"


def test_only_a_newer_format_replaces_it(site: Site, far: Far) -> None:
    """Equal and older formats leave what is there; a damaged one and one without a format are replaced; repairs do nothing."""
    far.receive_well(site.make(FIRST, server=other(3)))
    for number, state in ((3, SECOND), (2, FIRST)):
        far.receive_well(site.make(state, server=other(number, "# others\n")))
        assert installed(far) == other(3)
    far.receive_well(site.make(SECOND, server=other(10)))
    assert installed(far) == other(10)
    assert far.receive(site.repair([], server=other(11))).code == 0
    assert installed(far) == other(10)
    (far.root / "serve.py").write_bytes(b"broken")
    assert far.receive(site.made[-1]).code == 0
    assert installed(far) == other(10)
    (far.root / "serve.py").unlink()
    (far.root / "serve.py").symlink_to("receive.json")
    assert far.receive(site.made[-1]).code == 0
    assert installed(far) == other(10)


@pytest.mark.parametrize("spoil", ["changed", "foreign-key", "receiver-under-its-name", "broken-signature", "link"])
def test_what_is_not_proved_refuses_the_bundle(site: Site, far: Far, tmp_path: Path, spoil: str) -> None:
    """A server with another byte, another key, or another signed file under its name: exit code 7, nothing is applied."""
    made = site.make(FIRST, server=SERVER)
    path = made.path / "serve.py"
    if spoil == "changed":
        path.write_bytes(SERVER + b"#")
    if spoil == "foreign-key":
        Signer.make(tmp_path / "keys").sign(path)
    if spoil == "receiver-under-its-name":
        shutil.copy(made.path / "receive.py", path)
        shutil.copy(made.path / "receive.py.sig", made.path / "serve.py.sig")
    if spoil == "broken-signature":
        (made.path / "serve.py.sig").write_text("no signature")
    if spoil == "link":
        path.unlink()
        path.symlink_to(PROGRAM.with_name("serve.py"))
    done = far.receive(made)
    assert done.code == 7
    assert "serve.py" in done.err
    assert installed(far) is None
    assert not (far.root / "public/simple").exists()


def test_a_refused_bundle_installs_nothing(site: Site, far: Far) -> None:
    """The server of a bundle that is rejected, or of which a volume is missing, is not installed."""
    made = site.make(FIRST, server=SERVER)
    volume = made.path / "volume-0001.tar"
    data = volume.read_bytes()
    volume.unlink()
    assert far.receive(made).code == 5
    assert installed(far) is None
    volume.write_bytes(data[:-1] + b"x")
    assert far.receive(made).code == 7
    assert installed(far) is None
    volume.write_bytes(data)
    far.receive_well(made)
    assert installed(far) == SERVER


def test_without_a_signature_it_is_not_installed(site: Site, far: Far) -> None:
    """A medium without the server's signature, and one without the server, are applied; nothing is installed."""
    made = site.make(FIRST, server=SERVER)
    (made.path / "serve.py.sig").unlink()
    far.receive_well(made)
    assert installed(far) is None
    far.receive_well(site.make(SECOND))
    assert installed(far) is None
