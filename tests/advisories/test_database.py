"""An OSV database on the disk: read whole or refused, and read again only where it changed."""

from __future__ import annotations

import json
import os
import time
import zipfile

import pytest

from mirror.advisories import database
from mirror.advisories.database import DatabaseError, DatabaseMissing, open_database, read_changed


def entry(name, **more):
    return json.dumps({"id": name, "modified": "2026-01-01T00:00:00Z", "affected": [], **more}).encode()


def write(place, files, *, old=True):
    """Write files into a folder or a zip; ``old``: as if a minute ago, so that their stamps count."""
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return place
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    place.mkdir(exist_ok=True)
    return place


def read(place, known=()):
    with open_database(place) as opened:
        return {name: found.record.id for name, found in read_changed(opened, dict(known))}


def stamps(place):
    with open_database(place) as opened:
        return opened.stamp, dict(opened.files())


@pytest.fixture(params=["osv", "osv.zip"])
def place(request, tmp_path):
    return tmp_path / request.param


@pytest.fixture
def _settled(monkeypatch):
    """The clock is a minute ahead of the disk's: what was just written counts as settled."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60 * 10**9)


def test_records_of_any_folder_count(place):
    """Every file that ends in .json is a record, in any folder; others and hidden ones are none."""
    files = {"a.json": entry("A"), "PyPI/2026/b.json": entry("B"), "README.md": b"x", "list.csv": b"y"}
    if not place.suffix:
        files |= {".git/c.json": b"no record", ".d.json": b"no record"}
    assert read(write(place, files)) == {"a.json": "A", "PyPI/2026/b.json": "B"}


@pytest.mark.usefixtures("_settled")
def test_only_what_changed_is_read_again(place):
    """A file with the stamp that is known is not opened; a changed one is, also at the same size."""
    write(place, {"a.json": entry("A"), "b.json": entry("B")})
    stamp, known = stamps(place)
    assert stamp
    assert all(known.values())
    assert stamps(place) == (stamp, known)
    assert read(place, known) == {}
    write(place, {"a.json": entry("A"), "b.json": entry("C"), "c.json": entry("D")})
    assert stamps(place)[0] != stamp
    changed = read(place, known)
    assert changed["b.json"] == "C"
    assert changed["c.json"] == "D"
    if place.suffix:
        assert "a.json" not in changed


def test_what_was_just_written_has_no_stamp(tmp_path):
    """A file may change again within the tick of the clock in which it was read."""
    stamp, files = stamps(write(tmp_path / "osv", {"a.json": entry("A")}))
    assert (stamp, files) == ("", {"a.json": ""})


BAD = {
    "no-record": {"a.json": b"[]"},
    "cut": {"a.json": entry("A"), "b.json": entry("B")[:-5]},
    "empty": {"a.json": b""},
    "no-json": {"a.json": b"PK\3\4"},
    "odd-name": {"a\nb.json": entry("A")},
}


@pytest.mark.parametrize("files", BAD.values(), ids=BAD)
def test_one_bad_file_refuses_the_whole(place, files):
    """The text names the file, in one line."""
    with pytest.raises(DatabaseError) as refused:
        read(write(place, files))
    assert str(refused.value).isprintable()
    assert ".json" in str(refused.value)


def test_nothing_there(tmp_path):
    """A path that is not there is told apart from one that can't be read."""
    with pytest.raises(DatabaseMissing, match="is not there"):
        read(tmp_path / "osv")


def test_links_and_pipes_are_refused(tmp_path):
    """Only plain files count: a link may lead anywhere, a pipe never ends."""
    secret = tmp_path / "secret.json"
    secret.write_bytes(entry("A"))
    for make in (lambda p: p.symlink_to(secret), os.mkfifo, lambda p: p.symlink_to(tmp_path)):
        folder = tmp_path / "osv"
        folder.mkdir(exist_ok=True)
        make(folder / "x.json")
        with pytest.raises(DatabaseError, match=r"x\.json is a link or no plain file"):
            read(folder)
        (folder / "x.json").unlink()
    (folder / "linked").symlink_to(tmp_path)
    with pytest.raises(DatabaseError, match="linked is a link"):
        read(folder)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatabaseError, match="neither a folder nor a zip"):
        read(tmp_path / "pipe")


def test_the_database_itself_may_be_a_link(tmp_path):
    """A site may change to a newer folder by one rename of a link."""
    write(tmp_path / "osv-1", {"a.json": entry("A")})
    (tmp_path / "osv").symlink_to("osv-1")
    assert read(tmp_path / "osv") == {"a.json": "A"}


def _cut(data):
    return data[: len(data) // 2]


def _other_bytes(data):
    at = data.index(b"PK\1\2") - 10
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def _encrypted(data):
    at = data.index(b"PK\1\2")
    return data[:6] + b"\1" + data[7 : at + 8] + b"\1" + data[at + 9 :]


@pytest.mark.parametrize("damage", [_cut, _other_bytes, _encrypted, lambda _: b"", lambda _: b"no zip"], ids=range(5))
def test_a_damaged_zip(tmp_path, damage):
    """A zip that is cut, changed or encrypted is refused as a whole."""
    place = write(tmp_path / "osv.zip", {"a.json": entry("A", summary="x" * 500), "b.json": entry("B")})
    place.write_bytes(damage(place.read_bytes()))
    with pytest.raises(DatabaseError, match="can't be read"):
        read(place)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path):
    """Two readers could see two different records, so none is taken."""
    with zipfile.ZipFile(tmp_path / "osv.zip", "w") as archive:
        archive.writestr("a.json", entry("A"))
        archive.writestr("a.json", entry("B"))
    with pytest.raises(DatabaseError, match=r"two members are named a\.json"):
        read(tmp_path / "osv.zip")


@pytest.mark.parametrize(
    ("name", "limit", "text"),
    [
        ("MAX_RECORD_BYTES", 100, "has more than 100 bytes"),
        ("MAX_FILES", 1, "more than 1 "),
        ("MAX_BYTES", 150, "of records"),
        ("MAX_DEPTH", 1, "deeper than 1"),
        ("MAX_DIRECTORY_BYTES", 100, "more than 100"),
    ],
)
def test_limits(tmp_path, monkeypatch, name, limit, text):
    """Whoever fills the database can't fill memory, disk or stack by it."""
    monkeypatch.setattr(database, name, limit)
    files = {"a.json": entry("A", x="x" * 60), "b/c/d.json": entry("B", x="x" * 60)}
    place = tmp_path / ("osv.zip" if name == "MAX_DIRECTORY_BYTES" else "osv")
    with pytest.raises(DatabaseError, match=text):
        read(write(place, files))


def test_a_member_that_unpacks_to_more_than_it_says(tmp_path):
    """A bomb is read up to the limit of one record, whatever its size is said to be."""
    place = write(tmp_path / "osv.zip", {"a.json": b" " * (database.MAX_RECORD_BYTES + 10)})
    assert place.stat().st_size < 200_000
    with pytest.raises(DatabaseError, match=r"a\.json has more than"):
        read(place)
