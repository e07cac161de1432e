"""Whoever writes to the medium while a bundle is made gets no signature, and no file outside of it is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.bundles import SITE, SMALLEST_VOLUME, Gap, make_key, sha256
from mirror.bundle import receive
from mirror.errors import BundleError, TreeError
from simulator import build_wheel

EVIL = "import os; os.system('id')\n"


@pytest.fixture
def gap(tmp_path, threaded_simulator) -> Gap:
    """A project whose bundle has several volumes, mirrored once, and a key."""
    keys = tmp_path / "keys"
    keys.mkdir()
    gap = Gap(tmp_path, threaded_simulator(), make_key(keys))
    gap.upstream.state.publish("big", *build_wheel("big", "1.0", size_pad=3 * SMALLEST_VOLUME))
    gap.cycle()
    return gap


def begin(gap: Gap) -> Path:
    """Make a bundle that is not completed, since its key can't sign; return its folder."""
    key, gap.key = gap.key, gap.key.with_name("missing")
    with pytest.raises(BundleError, match="could not sign"):
        gap.create(volume_size=SMALLEST_VOLUME)
    gap.key = key
    return gap.medium / f"{SITE}-000001"


def signed_bytes(gap: Gap, path: Path, signature: Path) -> bool:
    """Tell whether a signature is the site's over these bytes."""
    command = ["ssh-keygen", "-Y", "verify", "-f", str(gap.trust), "-I", "key", "-n", receive.NAMESPACE, "-s"]
    done = subprocess.run([*command, str(signature)], input=path.read_bytes(), capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("name", ["receive.py", "bundle.json", "README.txt", "CONTENTS.json", "SHA256SUMS"])
def test_bytes_swapped_before_they_are_signed_get_no_signature(gap, name):
    """A file that is rewritten on the medium just before each signature: no signature is over those bytes, and it is told."""
    place = gap.medium / f"{SITE}-000001"
    tools = gap.work / "tools"
    tools.mkdir()
    evil = tools / "evil"
    evil.write_text(EVIL)
    program = tools / "ssh-keygen"
    real = shutil.which("ssh-keygen")
    swap = f"cat {evil} > {place}/{name}"
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" sign "*) [ ! -e {place}/{name} ] || {swap} ;; esac\nexec {real} "$@"\n'
    )
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        with pytest.raises(BundleError, match="does not have the bytes that were written"):
            gap.create()
    for signature in place.glob("*.sig"):
        assert not signed_bytes(gap, evil, signature)
    assert gap.mirror.query("SELECT * FROM shipment") == []
    report = gap.create()
    assert signed_bytes(gap, place / "receive.py", place / "receive.py.sig")
    assert gap.receive(report["path"])[0] == 0


@pytest.mark.parametrize("way", ["symlink", "hardlink"])
def test_links_planted_in_a_bundle_that_is_continued(gap, way):
    """Each file of an unfinished bundle is replaced by a link to a file outside: none of these changes."""
    place = begin(gap)
    volumes = [path.name for path in place.glob("volume-*.tar")]
    names = {*volumes, "receive.py", "receive.py.sig", "README.txt", "CONTENTS.json", "bundle.json"}
    names |= {"bundle.json.sig", "SHA256SUMS"}
    outside = gap.work / "outside"
    outside.mkdir()
    for name in names:
        (outside / name).write_bytes(b"precious" * 100)
        (place / name).unlink(missing_ok=True)
        if way == "symlink":
            (place / name).symlink_to(outside / name)
        else:
            (place / name).hardlink_to(outside / name)
    report = gap.create(volume_size=SMALLEST_VOLUME)
    assert {path.read_bytes() for path in outside.iterdir()} == {b"precious" * 100}
    assert all(path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1 for path in place.iterdir())
    assert gap.receive(report["path"])[0] == 0
    gap.check_equal()


def test_a_volume_linked_to_its_own_copy_elsewhere_is_written_anew(gap):
    """A link to a file with the very bytes that were written is no file of ours: its target could change later."""
    place = begin(gap)
    copy = shutil.copy(place / "volume-0001.tar", gap.work / "copy.tar")
    (place / "volume-0001.tar").unlink()
    (place / "volume-0001.tar").symlink_to(copy)
    gap.create(volume_size=SMALLEST_VOLUME)
    assert not (place / "volume-0001.tar").is_symlink()
    assert sha256(place / "volume-0001.tar") == sha256(copy)


def test_a_volume_that_was_changed_meanwhile_is_written_anew(gap):
    """A volume of an unfinished bundle that has its size and other bytes is not taken for the one that was written."""
    place = begin(gap)
    volume = place / "volume-0002.tar"
    volume.write_bytes(bytes(volume.stat().st_size))
    report = gap.create(volume_size=SMALLEST_VOLUME)
    assert gap.receive(report["path"])[0] == 0


def test_a_volume_that_is_a_pipe_is_not_waited_for(gap):
    """What is no plain file is replaced."""
    place = begin(gap)
    (place / "volume-0001.tar").unlink()
    os.mkfifo(place / "volume-0001.tar")
    assert gap.receive(gap.create(volume_size=SMALLEST_VOLUME)["path"])[0] == 0


def test_a_folder_that_is_a_link_is_refused(gap):
    """A link in the place of the bundle's folder leads nothing out of the medium, in a first run and in a later one."""
    outside = gap.work / "outside"
    outside.mkdir()
    place = gap.medium / f"{SITE}-000001"
    place.symlink_to(outside)
    with pytest.raises(TreeError, match=f"{SITE}-000001"):
        gap.create()
    assert list(outside.iterdir()) == []
    place.unlink()
    begin(gap)
    shutil.rmtree(place)
    (outside / "README.txt").write_text("precious")
    place.symlink_to(outside)
    with pytest.raises(TreeError, match=f"{SITE}-000001"):
        gap.create(volume_size=SMALLEST_VOLUME)
    assert [path.name for path in outside.iterdir()] == ["README.txt"]
    # What is given up is not removed through a link either.
    with pytest.raises(TreeError, match=f"{SITE}-000001"):
        gap.create(full=True)
    assert (outside / "README.txt").read_text() == "precious"
