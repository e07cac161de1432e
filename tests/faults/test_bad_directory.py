"""One directory that does not let us write fails its project: the rest is published, and it is named each time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.in_process import Mirror, failures, offered, published
from harness.upkeep import repair, verify
from simulator import build_sdist, build_wheel, withheld


def directory_in_place_of_a_page(place: Path) -> None:
    for name in ("index.html", "index.v1_html", "index.v1_json"):
        (place / name).unlink(missing_ok=True)
        (place / name).mkdir(parents=True)
        (place / name / "planted").write_text("x")


def file_in_place_of_the_directory(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.write_text("planted")


def link_in_place_of_the_directory(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.symlink_to("/nowhere")


HARMS = pytest.mark.parametrize(
    "harm",
    [directory_in_place_of_a_page, file_in_place_of_the_directory, link_in_place_of_the_directory],
    ids=["page", "file", "link"],
)


def put_right(place: Path) -> None:
    if place.is_symlink() or place.is_file():
        place.unlink()
    else:
        shutil.rmtree(place, ignore_errors=True)


async def mirrored(simulator, tmp_path):
    index = await simulator()
    for name in ("one", "two"):
        index.state.publish(name, *build_wheel(name, "1.0"))
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    await mirror.unchecked_cycle()
    return index, mirror


@HARMS
async def test_a_project_whose_page_cannot_be_written_fails_alone(simulator, tmp_path, harm):
    """Partial, exit code 6 with the path; what else is new is published; once it is put right all is as offered."""
    index, mirror = await mirrored(simulator, tmp_path)
    place = mirror.root / "public/simple/one"
    harm(place)
    for name in ("one", "two", "three"):
        index.state.publish(name, *build_sdist(name, "2.0"))
    for _ in range(2):
        report = await mirror.unchecked_cycle()
        assert failures(report) == [("main", "one", None, "storage")]
        assert str(place) in report.failures[0].detail
        assert (report.outcome.value, mirror.exit_code) == ("partial", 6)
        shown = mirror.query("SELECT name FROM page WHERE marked = 1")
        assert shown == [("one",)]
        for name in ("two", "three"):
            assert {file["filename"] for file in mirror.page(name)["files"]} == set(offered(index)[name])
    put_right(place)
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))


@HARMS
async def test_a_withdrawal_that_cannot_be_written_is_named_first(simulator, tmp_path, harm):
    """Before every other failure, with the words that the files are still published."""
    index, mirror = await mirrored(simulator, tmp_path)
    index.state.publish("aaa", "aaa-1.0.tar.gz", b"x", hashes={"sha256": "0" * 64})
    place = mirror.root / "public/simple/two"
    harm(place)
    index.inject(withheld("MALWARE_DETECTED"), kind="page", project="two")
    index.state.touch("two")
    report = await mirror.unchecked_cycle()
    assert failures(report) == [
        ("main", "two", None, "storage"),
        ("main", "aaa", "aaa-1.0.tar.gz", "digest-mismatch"),
    ]
    assert report.failures[0].detail.startswith("withdrawn by the index, and STILL PUBLISHED")
    assert mirror.exit_code == 6
    put_right(place)
    await mirror.unchecked_cycle()
    assert published(mirror.root)["two"] == {}


async def test_a_project_that_leaves_and_cannot_be_removed_is_named(simulator, tmp_path):
    """The root no longer lists it, and its directory is tried again."""
    index, mirror = await mirrored(simulator, tmp_path)
    place = mirror.root / "public/simple/one"
    directory_in_place_of_a_page(place)
    index.state.unlist_project("one")
    await mirror.unchecked_cycle()
    for _ in range(2):
        report = await mirror.unchecked_cycle()
        assert failures(report) == [("main", "one", None, "storage")]
        assert set(published(mirror.root)) == {"two"}
    put_right(place)
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([], 0)


async def test_a_file_whose_directory_does_not_take_it_fails_alone(simulator, tmp_path):
    """Something foreign among the blobs fails the files that belong there; the others are published."""
    index, mirror = await mirrored(simulator, tmp_path)
    name, data = build_sdist("one", "2.0")
    index.state.publish("one", name, data)
    index.state.publish("two", *build_sdist("two", "2.0"))
    sha256 = offered(index)["one"][name]
    place = mirror.root / "public/files" / sha256[:2] / sha256[2:4] / sha256
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("planted")
    report = await mirror.unchecked_cycle()
    assert failures(report) == [("main", "one", name, "storage")]
    assert (report.outcome.value, mirror.exit_code) == ("partial", 6)
    assert mirror.files()["two"] == offered(index)["two"]
    place.unlink()
    report = await mirror.cycle()
    assert (failures(report), mirror.files()) == ([], offered(index))


@HARMS
async def test_verify_names_and_mends_what_is_in_the_way(simulator, tmp_path, harm):
    """``verify`` does not call a tree whole whose page can't be written; ``--repair`` clears the place and writes it."""
    index, mirror = await mirrored(simulator, tmp_path)
    place = mirror.root / "public/simple/one"
    harm(place)
    index.state.publish("one", *build_wheel("one", "2.0"))
    await mirror.unchecked_cycle()
    assert mirror.exit_code == 6
    found = await verify(mirror)
    assert ("page", str(place)) in [(f.damage.value, f.path) for f in found.findings]
    assert (await repair(mirror)).lost == []
    assert (await verify(mirror)).findings == []
    await mirror.cycle()
    assert (mirror.exit_code, mirror.files()) == (0, offered(index))


async def test_channels_that_cannot_be_read(simulator, tmp_path):
    """What fails while the report is completed ends the cycle as any failure of the disk does: with its report."""
    index, mirror = await mirrored(simulator, tmp_path)
    place = mirror.root / "public/channels"
    place.write_text("planted")
    index.state.publish("three", *build_wheel("three", "1.0"))
    report = await mirror.unchecked_cycle()
    assert (report.outcome.value, mirror.exit_code) == ("aborted", 6)
    assert str(report.aborted).startswith(f"{place}: something that is no directory stands in the way")
    assert report.finished_at
    assert set(published(mirror.root)) == {"one", "two", "three"}
    place.unlink()
    await mirror.cycle()
    assert mirror.exit_code == 0
