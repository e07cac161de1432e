"""Bundles on several media: any order, one after another, damaged, read-only."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from harness.handmade_bundles import Far, File, Made, Signer, Site, State, read_tree, some_file
from mirror.bundle import receive as program

FIRST = State({"aa": [some_file("aa", "1.0", 5000)], "bb": [some_file("bb", "1.0", 40_000)]}, 1)
SECOND = State({**FIRST.projects, "cc": [some_file("cc", "1.0", 9000)]}, 2)
EVERYWHERE = ("bundle.json", "bundle.json.sig", "receive.py", "receive.py.sig", "README.txt")


def spread(made: Made, work: Path, *groups: tuple[int, ...]) -> list[Path]:
    """Copy a bundle to media: each has the volumes with these numbers, and what every medium has."""
    media = []
    for place, numbers in enumerate(groups):
        medium = work / f"medium-{place}"
        medium.mkdir(parents=True)
        for name in (*EVERYWHERE, *(f"volume-{number:04d}.tar" for number in numbers)):
            shutil.copy2(made.path / name, medium / name)
        media.append(medium)
    return media


def make_in_parts(site: Site, state: State) -> Made:
    """Make a bundle of small volumes; one blob is split over several."""
    made = site.make(state, volume_bytes=16 * 1024)
    assert len(made.manifest["volumes"]) >= 4
    assert max(len(item["parts"]) for item in made.manifest["blobs"]) > 1
    return made


def numbers_of(made: Made) -> list[int]:
    return list(range(1, len(made.manifest["volumes"]) + 1))


def test_two_media_at_once(site: Site, far: Far, tmp_path: Path) -> None:
    """Volumes that lie on two media are applied in one run."""
    made = make_in_parts(site, FIRST)
    numbers = numbers_of(made)
    far.receive_well(*spread(made, tmp_path, tuple(numbers[::2]), tuple(numbers[1::2])))
    far.check_serves(FIRST)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_media_one_after_another_in_any_order(site: Site, far: Far, tmp_path: Path, order: tuple[int, ...]) -> None:
    """The missing volumes are named, exit code 5, until the last medium came; each volume is needed once."""
    made = make_in_parts(site, FIRST)
    numbers = numbers_of(made)
    groups = [tuple(numbers[place::3]) for place in range(3)]
    media = spread(made, tmp_path, *groups)
    left = set(numbers)
    for place in order[:-1]:
        left -= set(groups[place])
        done = far.receive(media[place])
        assert (done.code, [line for line in done.err.splitlines() if line.startswith("receive: ")]) == (
            5,
            [
                f"receive: not there yet: volume-{number:04d}.tar: run this again with the medium that has it"
                for number in sorted(left)
            ],
        )
        assert not (far.public / "simple").exists()
        assert far.blobs() == {}
        shutil.rmtree(media[place])
    far.receive_well(media[order[-1]])
    far.check_serves(FIRST)
    assert not list((far.root / "staging").iterdir())


def test_a_live_state_is_served_while_media_are_missing(site: Site, far: Far, tmp_path: Path) -> None:
    """The old state stays as it is until the last volume has come."""
    far.receive_well(site.make(FIRST))
    made = site.make(SECOND, volume_bytes=8 * 1024)
    media = spread(made, tmp_path, (1,), tuple(numbers_of(made)[1:]))
    assert far.receive(media[0]).code == 5
    far.check_serves(FIRST)
    far.check_holds(FIRST)
    far.receive_well(media[1])
    far.check_serves(SECOND)


def test_a_damaged_volume_does_not_keep_the_others_from_being_remembered(site: Site, far: Far, tmp_path: Path) -> None:
    """A volume that can't be used is named, exit code 7; a good copy of it alone completes the work."""
    made = make_in_parts(site, FIRST)
    numbers = numbers_of(made)
    (medium,) = spread(made, tmp_path, tuple(numbers[:-1]))
    bad = medium / "volume-0002.tar"
    bad.write_bytes(bad.read_bytes()[:-512])
    done = far.receive(medium)
    size = (made.path / "volume-0002.tar").stat().st_size
    assert (done.code, [line for line in done.err.splitlines() if line.startswith("receive: ")]) == (
        7,
        [
            f"receive: {bad}: has {size - 512} bytes instead of {size}",
            f"receive: not there yet: volume-{numbers[-1]:04d}.tar: run this again with the medium that has it",
        ],
    )
    far.receive_well(*spread(made, tmp_path / "again", (2,), (numbers[-1],)))
    far.check_serves(FIRST)


def test_a_good_copy_makes_up_for_a_bad_one(site: Site, far: Far, tmp_path: Path) -> None:
    """The same volume on two media, one of them damaged: the good one is used."""
    made = make_in_parts(site, FIRST)
    numbers = tuple(numbers_of(made))
    media = spread(made, tmp_path / "disks: two", numbers, numbers)
    bad = media[0] / "volume-0001.tar"
    data = bytearray(bad.read_bytes())
    data[600] ^= 1
    bad.write_bytes(bytes(data))
    far.receive_well(*media)
    far.check_serves(FIRST)


def test_the_signature_may_lie_on_another_medium(site: Site, far: Far, tmp_path: Path) -> None:
    """Where the first medium has no signature, that of the next one counts."""
    made = make_in_parts(site, FIRST)
    numbers = tuple(numbers_of(made))
    media = spread(made, tmp_path, numbers, ())
    (media[0] / "bundle.json.sig").unlink()
    far.receive_well(*media)
    far.check_serves(FIRST)


def test_media_of_two_bundles_are_not_mixed(site: Site, far: Far) -> None:
    """Directories with different bundles are refused, and the one that differs is named."""
    first, second = site.make(FIRST), site.make(SECOND)
    done = far.receive(first, second)
    assert (done.code, done.err) == (
        7,
        f"receive: {second.path}/bundle.json: changed, or of another bundle than {first.path}\n",
    )


def test_the_mount_point_may_be_given(site: Site, far: Far, tmp_path: Path) -> None:
    """A directory with bundles directly below it stands for all of them."""
    first = site.make(FIRST)
    far.receive_well(first.path.parent)
    far.check_serves(FIRST)
    second = site.make(SECOND)
    far.receive_well(second.path.parent)
    far.check_serves(SECOND)
    (tmp_path / "empty").mkdir()
    done = far.receive(tmp_path / "empty")
    assert (done.code, done.err) == (
        2,
        f"receive: {tmp_path}/empty is no bundle: there is no bundle.json in it\n",
    )
    assert far.receive(tmp_path / "nowhere").code == 2


def test_the_medium_is_only_read(site: Site, far: Far) -> None:
    """Nothing on a medium is written, made or removed."""
    made = make_in_parts(site, FIRST)

    def look() -> dict[str, tuple[int, int, int]]:
        found = {str(p): p.lstat() for p in [made.path, *made.path.rglob("*")]}
        return {path: (s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for path, s in found.items()}

    before, data = look(), read_tree(made.path)
    far.receive_well(made)
    assert (look(), read_tree(made.path)) == (before, data)


def test_a_read_only_medium(site: Site, far: Far, tmp_path: Path) -> None:
    """A medium that is mounted read-only is received."""
    made = make_in_parts(site, FIRST)
    mount = tmp_path / "mount"
    mount.mkdir()
    bind = f"mount --bind {made.path} {mount} && mount -o remount,ro,bind {mount}"
    script = f"{bind} && ! touch {mount}/x 2>/dev/null && exec python3 -I {far.root.parent}/receive.py {mount}"
    shutil.copy(made.path / "receive.py", far.root.parent / "receive.py")
    words = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-ec",
        f"{script} --root {far.root} --site lab --trust {far.trust}",
    ]
    probe = ["unshare", "--mount", "--map-root-user", "sh", "-ec", bind]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting is not permitted here")
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    far.check_serves(FIRST)


@pytest.mark.parametrize("name", ["volume-0001.tar", "bundle.json", "bundle.json.sig", "README.txt"])
def test_links_on_a_medium_are_not_followed(site: Site, far: Far, tmp_path: Path, name: str) -> None:
    """A symbolic link in the place of any file of a bundle is refused, and the file is named."""
    made = make_in_parts(site, FIRST)
    (made.path / name).rename(tmp_path / "elsewhere")
    (made.path / name).symlink_to(tmp_path / "elsewhere")
    done = far.receive(made)
    assert done.code == 7
    assert f"receive: {made.path}/{name}: can't be read: Too many levels of symbolic links" in done.err


def test_a_pipe_on_a_medium_is_not_waited_for(site: Site, far: Far) -> None:
    """Something else than a plain file in the place of a volume is refused."""
    made = make_in_parts(site, FIRST)
    (made.path / "volume-0003.tar").unlink()
    os.mkfifo(made.path / "volume-0003.tar")
    done = far.receive(made)
    assert done.code == 7
    assert f"receive: {made.path}/volume-0003.tar: can't be read: is no plain file\n" in done.err


def test_modes_are_those_of_the_contract(site: Site, far: Far) -> None:
    """What is public can be read by a web server of another user, whatever the umask; the rest is private."""
    before = os.umask(0o077)
    try:
        far.root.parent.mkdir(exist_ok=True)
        far.receive_well(make_in_parts(site, FIRST))
    finally:
        os.umask(before)
    found = {path.relative_to(far.root).as_posix(): path.lstat() for path in far.root.rglob("*")}
    modes = {
        "public": {stat.S_IMODE(s.st_mode) for p, s in found.items() if p.startswith("public") and stat.S_ISREG(s.st_mode)},
        "public/": {stat.S_IMODE(s.st_mode) for p, s in found.items() if p.startswith("public") and stat.S_ISDIR(s.st_mode)},
        "rest": {stat.S_IMODE(s.st_mode) for p, s in found.items() if not p.startswith("public") and stat.S_ISREG(s.st_mode)},
        "rest/": {stat.S_IMODE(s.st_mode) for p, s in found.items() if not p.startswith("public") and stat.S_ISDIR(s.st_mode)},
    }  # fmt: skip
    assert modes == {"public": {0o644}, "public/": {0o755}, "rest": {0o600}, "rest/": {0o700}}
    assert stat.S_IMODE(far.root.stat().st_mode) == 0o755


def test_what_is_held_already_is_not_written_again(site: Site, far: Far, tmp_path: Path, signer: Signer) -> None:
    """A full bundle over a tree that holds its blobs leaves those files as they are, and mends one that is damaged."""
    far.receive_well(site.make(FIRST))
    held, damaged = (far.public / file[0].path for file in FIRST.projects.values())
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    before = held.stat().st_ino
    far.receive_well(site.make(SECOND, full=True))
    assert held.stat().st_ino == before
    far.check_serves(SECOND)


def test_a_blob_that_went_while_media_were_missing_is_asked_for_again(site: Site, far: Far, tmp_path: Path) -> None:
    """A blob that was held when its volume was unpacked, and is gone at the end, is asked for again."""
    far.receive_well(site.make(FIRST))
    made = site.make(SECOND, full=True, volume_bytes=16 * 1024)
    (item,) = (item for item in made.manifest["blobs"] if item["path"] == FIRST.projects["aa"][0].path)
    number = item["parts"][0][0]
    others = tuple(n for n in numbers_of(made) if n != number)
    media = spread(made, tmp_path, (number,), others)
    assert far.receive(media[0]).code == 5
    (far.public / item["path"]).unlink()
    done = far.receive(media[1])
    assert (done.code, done.err.splitlines()[-1]) == (
        5,
        "receive: files went from the tree while this bundle was unpacked: run this again with all its media",
    )
    far.receive_well(*media)
    far.check_serves(SECOND)


def test_equal_bytes_under_two_names(site: Site, far: Far) -> None:
    """Blobs and pages with equal bytes, also ones that come in parts, each reach their place."""
    data = bytes(range(256)) * 150
    twins = State({"aa": [File("aa-1.tar.gz", data)], "bb": [File("bb-1.tar.gz", data), File("bb-2.tar.gz", b"")]}, 1)
    made = site.make(twins, volume_bytes=16 * 1024)
    far.receive_well(made)
    far.check_serves(twins)


def test_unpacked_leftovers_of_another_bundle_go(site: Site, far: Far, tmp_path: Path) -> None:
    """What was unpacked of a bundle that never became whole is removed when another one is applied."""
    far.receive_well(site.make(FIRST))
    lost = site.make(SECOND, volume_bytes=8 * 1024)
    assert far.receive(*spread(lost, tmp_path, (1,))).code == 5
    assert len(list((far.root / "staging").iterdir())) == 1
    third = State({**SECOND.projects, "dd": [some_file("dd", "1")]}, 3)
    far.receive_well(site.make(third, since=1))
    far.check_serves(third)
    far.check_holds(third)
    assert not list((far.root / "staging").iterdir())


def test_leftovers_of_another_bundle_make_room(site: Site, far: Far, tmp_path: Path) -> None:
    """When the disk is short of space, what was unpacked of another bundle goes before the new one is refused."""
    far.receive_well(site.make(FIRST))
    lost = site.make(SECOND, volume_bytes=8 * 1024)
    assert far.receive(*spread(lost, tmp_path, (1,))).code == 5
    third = State({**SECOND.projects, "dd": [some_file("dd", "1")]}, 3)
    saving = site.make(third, since=1)

    def short_until_it_is_gone(root: object, *_: object) -> None:
        if len(list((far.root / "staging").iterdir())) > 1:
            raise program.DiskError("short")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "check_space", short_until_it_is_gone)
        far.receive_well(saving)
    far.check_serves(third)


def test_a_file_with_too_many_links_is_copied(site: Site, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a page has as many hard links as the file system allows, it is copied."""
    real = os.link

    def link(source: str, target: str, **options: bool) -> None:
        if target.endswith(".html"):
            raise OSError(errno.EMLINK, "Too many links")
        real(source, target, **options)

    monkeypatch.setattr(os, "link", link)
    far.receive_well(site.make(FIRST))
    far.receive_well(site.make(SECOND))
    far.check_serves(SECOND)
