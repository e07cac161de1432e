"""One byte changed, anywhere: refused, and the file is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.handmade_bundles import Far, Made, Signer, Site, State, some_file

FIRST = State({"aa": [some_file("aa", "1.0", 3000)], "bb": [some_file("bb", "1.0", 20_000)]}, 1)
SECOND = State({**FIRST.projects, "cc": [some_file("cc", "1.0", 9000)]}, 2)
LISTED = ["receive.py", "receive.py.sig", "README.txt", "CONTENTS.json", *(f"volume-000{n}.tar" for n in (1, 2))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Made:
    made = Site(tmp_path_factory.mktemp("near"), signer).make(FIRST, volume_bytes=30 * 1024)
    assert sorted(p.name for p in made.path.iterdir()) == sorted(
        [*LISTED, "bundle.json", "bundle.json.sig", "SHA256SUMS"]
    )
    return made


def flip(path: Path, place: int) -> bytes:
    """Change one byte; return the file's bytes as they were."""
    data = path.read_bytes()
    changed = bytearray(data)
    changed[place] ^= 0x01
    path.write_bytes(bytes(changed))
    return data


def test_the_bundle_is_good_as_it_is(made: Made, far: Far) -> None:
    """Without a change it applies: the refusals below are due to the change."""
    far.receive_well(made)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("name", [*LISTED, "bundle.json"])
def test_a_changed_byte_is_refused_and_named(made: Made, far: Far, name: str, where: str) -> None:
    """One byte changed in any listed file, or in bundle.json: exit code 7, the file's name, and nothing public."""
    path = made.path / name
    size = path.stat().st_size
    before = flip(path, {"first": 0, "middle": size // 2, "last": size - 1}[where])
    try:
        done = far.receive(made)
    finally:
        path.write_bytes(before)
    assert done.code == 7
    reasons = [line for line in done.err.splitlines() if line.startswith("receive: ")]
    assert len(reasons) == 1
    assert name in reasons[0].partition(" changed")[0] or name in reasons[0]
    assert far.blobs() == {}
    assert not (far.public / "simple").exists()
    far.receive_well(made)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_of_any_file(made: Made, far: Far, data: st.DataObject) -> None:
    """Any byte of any listed file, of bundle.json or of its signature: refused; a signature's armour may vary."""
    name = data.draw(st.sampled_from([*LISTED, "bundle.json", "bundle.json.sig"]))
    path = made.path / name
    # A volume that was verified once is not read again.
    shutil.rmtree(far.root, ignore_errors=True)
    before = flip(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    try:
        done = far.receive(made)
    finally:
        path.write_bytes(before)
    assert done.code == (7 if name != "bundle.json.sig" else done.code)
    assert done.code in {0, 7}
    if name != "bundle.json.sig":
        assert name in done.err
        assert not (far.public / "simple").exists()


def test_every_changed_file_is_named(made: Made, far: Far) -> None:
    """Several changed files are all named in one run."""
    names = ["volume-0001.tar", "volume-0002.tar"]
    before = {name: flip(made.path / name, 700) for name in names}
    try:
        done = far.receive(made)
    finally:
        for name, data in before.items():
            (made.path / name).write_bytes(data)
    assert done.code == 7
    assert [name for name in LISTED if f"{made.path}/{name}: " in done.err] == names


@pytest.mark.parametrize("name", LISTED)
def test_a_longer_file_is_refused(made: Made, far: Far, name: str) -> None:
    """Something appended to a listed file is refused, and the file is named."""
    path = made.path / name
    before = path.read_bytes()
    path.write_bytes(before + b"\0" * 512)
    try:
        done = far.receive(made)
    finally:
        path.write_bytes(before)
    assert (done.code, done.err.splitlines()[-1]) == (
        7,
        f"receive: {path}: has {len(before) + 512} bytes instead of {len(before)}",
    )


def test_the_second_mediums_copy_counts_too(made: Made, far: Far, tmp_path: Path) -> None:
    """A changed bundle.json or README.txt on another medium is refused, though the first medium is good."""
    other = tmp_path / "other"
    other.mkdir()
    for name in ("bundle.json", "README.txt"):
        data = bytearray((made.path / name).read_bytes())
        (other / "bundle.json").write_bytes((made.path / "bundle.json").read_bytes())
        data[3] ^= 1
        (other / name).write_bytes(bytes(data))
        done = far.receive(made, other)
        assert done.code == 7
        assert f"receive: {other}/{name}: " in done.err
        assert not (far.public / "simple").exists()


def test_the_update_leaves_the_live_state_alone(site: Site, far: Far) -> None:
    """A changed update changes nothing of what is served."""
    far.receive_well(site.make(FIRST))
    second = site.make(SECOND)
    flip(second.path / "volume-0001.tar", 1000)
    assert far.receive(second).code == 7
    far.check_serves(FIRST)
    far.check_holds(FIRST)
