"""What an older version let an index plant leaves the pages, those of snapshots too, and then the disk."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.bundles import Gap, make_key
from harness.in_process import Mirror, counters, failures, read_json
from harness.older_version import make_old_state, plant, write_old_pages
from harness.snapshots import promote, shown, snapshot
from harness.upkeep import blob_of, in_real_time, prune, repair, sidecar_of, verify
from mirror.publishing.publisher import Publisher
from simulator import Simulator, ThreadedSimulator, build_sdist, build_wheel

Start = Callable[..., Awaitable[Simulator]]

SDIST, DATA = build_sdist("flask", "9.0")
SHA256 = hashlib.sha256(DATA).hexdigest()
OWN = b"Metadata-Version: 2.2\nName: flask\nVersion: 9.0\n"
PLANTED = OWN + b"Requires-Dist: planted\n"
OTHER, OTHER_DATA = build_sdist("other", "1.0")
OTHER_METADATA = b"Metadata-Version: 2.2\nName: other\nVersion: 1.0\n"
PLACES = ("simple", "snapshots/june/simple", "channels/stable/simple")


def digest(metadata: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(metadata).hexdigest()}


def sidecar(mirror: Mirror) -> bytes | None:
    path = sidecar_of(blob_of(mirror, SDIST, SHA256))
    return path.read_bytes() if path.exists() else None


def offered(mirror: Mirror, place: str, project: str = "flask") -> Any:
    """Return what a page says of the metadata of a project's source distribution."""
    page = read_json(mirror.root / "public" / place / project / "index.v1_json")
    return next(f.get("core-metadata") for f in page["files"] if f["filename"].endswith(".tar.gz"))


@pytest.fixture
async def planted(simulator: Start, tmp_path: Path) -> tuple[Simulator, Mirror]:
    """A mirror with a snapshot and a channel, whose owner lists no metadata and whose pages offer a planted one."""
    index = await simulator(core_metadata=True)
    index.state.publish("flask", SDIST, DATA)
    index.state.publish("flask", *build_wheel("flask", "8.0"))
    index.state.publish("innocent", *build_wheel("innocent", "1.0"))
    index.state.publish("other", OTHER, OTHER_DATA, metadata=OTHER_METADATA)
    mirror = in_real_time(Mirror(tmp_path / "mirror", {"main": index}))
    await mirror.cycle()
    plant(mirror, SDIST, PLANTED, project="innocent")
    make_old_state(mirror)
    await snapshot_of_an_older_version(mirror)
    return index, mirror


async def snapshot_of_an_older_version(mirror: Mirror) -> None:
    """Make a snapshot without bringing anything up to date, as an older version would have."""
    publish, Publisher.publish_marked = Publisher.publish_marked, _nothing
    try:
        write_old_pages(mirror, "public/simple/flask", {SDIST: PLANTED})
        write_old_pages(mirror, "public/simple/other", {})
        await snapshot(mirror, "june")
        await promote(mirror, "june", "stable")
    finally:
        Publisher.publish_marked = publish
    make_old_state(mirror)


async def _nothing(_publisher: Publisher) -> None:
    pass


async def test_it_leaves(planted: tuple[Simulator, Mirror]) -> None:
    """One cycle takes it off all pages and off the disk; files, labels and good metadata stay, and verify says whole."""
    _, mirror = planted
    for place in PLACES:
        assert offered(mirror, place) == digest(PLANTED)
    before = {place: shown(mirror.root / "public" / place.removesuffix("/simple")) for place in PLACES[1:]}
    assert (await verify(mirror)).findings == []
    await mirror.cycle()
    assert mirror.exit_code == 0
    for place in PLACES:
        assert offered(mirror, place) is None
        assert offered(mirror, place, "other") == digest(OTHER_METADATA)
        for project in ("flask", "other"):
            html = (mirror.root / "public" / place / project / "index.html").read_text()
            assert "data-dist-info-metadata" not in html
            assert html == (mirror.root / "public" / place / project / "index.v1_html").read_text()
            assert ("data-core-metadata" in html) == (project == "other" or "flask-8.0" in html)
    assert sidecar(mirror) is None
    assert {place: shown(mirror.root / "public" / place.removesuffix("/simple")) for place in PLACES[1:]} == before
    found = await verify(mirror)
    assert (found.findings, found.leftovers) == ([], 0)
    assert mirror.files()["innocent"].keys() == {build_wheel("innocent", "1.0")[0]}


async def test_what_the_owner_lists_comes_back(planted: tuple[Simulator, Mirror]) -> None:
    """Where the owner lists metadata of its own, its page offers that after the same cycle."""
    index, mirror = planted
    index.state.publish("flask", SDIST, DATA, metadata=OWN)
    await mirror.cycle()
    assert (offered(mirror, "simple"), sidecar(mirror)) == (digest(OWN), OWN)
    assert offered(mirror, PLACES[1]) is None


COMMANDS: dict[str, Callable[[Mirror], Awaitable[Any]]] = {
    "repair": repair,
    "prune": prune,
    "snapshot": lambda mirror: snapshot(mirror, "july"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_other_commands_do_the_same(
    planted: tuple[Simulator, Mirror], command: Callable[[Mirror], Awaitable[Any]]
) -> None:
    """Whatever command writes first after the upgrade, the planted metadata leaves by it."""
    _, mirror = planted
    await command(mirror)
    assert [offered(mirror, place) for place in PLACES] == [None] * 3
    assert sidecar(mirror) is None


@pytest.mark.parametrize("step", ["settle_metadata", "mark_all_pages", "renew_snapshots"])
async def test_killed_in_between(planted: tuple[Simulator, Mirror], monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Interrupted at any step, the next run goes on; at no time does a page name metadata that is not there."""
    _, mirror = planted

    class KilledError(Exception):
        pass

    async def kill(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(f"mirror.publishing.publisher.{step}", kill)
        with pytest.raises(KilledError):
            await mirror.unchecked_cycle()
    for place in PLACES:
        if offered(mirror, place) is not None:
            assert sidecar(mirror) == PLANTED
    await mirror.cycle()
    assert [offered(mirror, place) for place in PLACES] == [None] * 3
    assert sidecar(mirror) is None


async def test_snapshots_share_their_pages(planted: tuple[Simulator, Mirror]) -> None:
    """Snapshots that had a page in common still have it in common, and a second renewal writes nothing."""
    _, mirror = planted
    await snapshot_of_an_older_version_named(mirror, "july")
    await mirror.cycle()
    pages = [mirror.root / f"public/snapshots/{name}/simple/flask" for name in ("june", "july")]
    for page in ("index.html", "index.v1_html", "index.v1_json"):
        assert (pages[0] / page).samefile(pages[1] / page)
    before = mirror.footprint()
    make_old_state(mirror)
    await mirror.cycle()
    after = mirror.footprint()
    assert {p: i for p, i in before.items() if "snapshots" in p} == {p: i for p, i in after.items() if "snapshots" in p}


async def snapshot_of_an_older_version_named(mirror: Mirror, name: str) -> None:
    publish, Publisher.publish_marked = Publisher.publish_marked, _nothing
    try:
        await snapshot(mirror, name)
    finally:
        Publisher.publish_marked = publish
    make_old_state(mirror)


async def test_a_damaged_page_of_a_snapshot(planted: tuple[Simulator, Mirror]) -> None:
    """A snapshot's page that can't be read stays as it is, and stops nothing."""
    _, mirror = planted
    for page in ("index.html", "index.v1_html", "index.v1_json"):
        (mirror.root / "public/snapshots/june/simple/other" / page).write_bytes(b"damaged")
    await mirror.cycle()
    assert mirror.exit_code == 0
    assert offered(mirror, "snapshots/june/simple") is None
    assert (mirror.root / "public/snapshots/june/simple/other/index.html").read_bytes() == b"damaged"


@pytest.mark.parametrize("published", [3, 100], ids=["more than the brake allows", "little"])
async def test_foreign_names_leave_outside_the_brake(simulator: Start, tmp_path: Path, published: int) -> None:
    """What is held under another project's name leaves in the first cycle, and the brake neither holds nor counts it."""
    index = await simulator()
    for number in range(published):
        index.state.publish("flask", *build_sdist("flask", f"1.{number}"))
    index.state.publish("innocent", *build_wheel("innocent", "1.0"))
    mirror = in_real_time(Mirror(tmp_path / "mirror", {"main": index}))
    await mirror.cycle()
    with_foreign_names(mirror)
    assert len(mirror.files()["innocent"]) == published
    make_old_state(mirror)
    assert [p[1:] for p in await mirror.plan()] == [
        ("innocent", name, "remove") for name in sorted(mirror.files()["flask"])
    ]
    report = await mirror.cycle()
    assert (mirror.exit_code, failures(report)) == (0, [])
    assert list(mirror.files()["innocent"]) == [build_wheel("innocent", "1.0")[0]]
    assert counters(report)["files_removed"] == published
    assert len(mirror.files()["flask"]) == published
    for number in range(published // 12):
        index.state.remove_file("flask", build_sdist("flask", f"1.{number}")[0])
    for _ in range(2):
        report = await mirror.cycle()
        assert (mirror.exit_code, failures(report)) == (0, [])


def with_foreign_names(mirror: Mirror) -> None:
    """Let the state publish all files of ``flask`` in ``innocent``, as an older version did."""
    with closing(sqlite3.connect(mirror.root / "state.db")) as db, db:
        db.execute("UPDATE entry SET valid_to = 1 WHERE filename LIKE 'innocent%'")
        db.execute("UPDATE blob SET unlisted_since = 1 WHERE filename LIKE 'innocent%'")
        db.execute(
            "INSERT INTO entry (project, source, filename, sha256, size, digests, url, valid_from)"
            " SELECT p.id, p.source, e.filename, e.sha256, e.size, e.digests, e.url, e.valid_from"
            " FROM entry e, project p WHERE e.valid_to IS NULL AND p.name = 'innocent'"
        )
    for page in ("index.v1_json", "index.html", "index.v1_html"):
        data = (mirror.root / "public/simple/flask" / page).read_bytes()
        serial = read_json(mirror.root / "public/simple/flask/index.v1_json")["meta"]["_last-serial"]
        own = dict(mirror.query("SELECT name, revision FROM page"))["innocent"]
        data = data.replace(b'"name":"flask"', b'"name":"innocent"').replace(b"for flask", b"for innocent")
        data = data.replace(b'serial":%d' % serial, b'serial":%d' % own)
        place = mirror.root / "public/simple/innocent" / page
        place.unlink()
        place.write_bytes(data.replace(b"SERIAL %d" % serial, b"SERIAL %d" % own))


def test_a_site_gets_no_second_metadata(threaded_simulator: Callable[..., ThreadedSimulator], tmp_path: Path) -> None:
    """What was sent once may only come back as it was: the owner's own is not offered for a file whose planted one was sent."""
    index = threaded_simulator(core_metadata=True)
    index.state.publish("flask", SDIST, DATA, metadata=PLANTED)
    index.state.publish("innocent", *build_wheel("innocent", "1.0"))
    gap = Gap(tmp_path, index, make_key(tmp_path))
    gap.cycle()
    gap.carry()
    plant(gap.mirror, SDIST, PLANTED, project="innocent")
    make_old_state(gap.mirror)
    index.state.publish("flask", SDIST, DATA, metadata=OWN)
    gap.cycle()
    assert (offered(gap.mirror, "simple"), sidecar(gap.mirror)) == (None, None)
    gap.carry()
    gap.check_equal()
    index.state.publish("flask", SDIST, DATA, metadata=PLANTED)
    gap.cycle()
    assert (offered(gap.mirror, "simple"), sidecar(gap.mirror)) == (digest(PLANTED), PLANTED)
    gap.carry()
    gap.check_equal()


def test_metadata_that_is_offered_again_is_sent(
    threaded_simulator: Callable[..., ThreadedSimulator], tmp_path: Path
) -> None:
    """A page that offers metadata anew comes with it, also where the blob and the metadata are older than the last bundle."""
    first, second = threaded_simulator(core_metadata=True), threaded_simulator(core_metadata=True)
    second.state.publish("flask", SDIST, DATA, metadata=OWN)
    first.state.publish("other", *build_wheel("other", "1.0"))
    gap = Gap(tmp_path, second, make_key(tmp_path))
    gap.mirror.indexes = {"first": {**gap.mirror.indexes["main"], "url": first.url}, "main": gap.mirror.indexes["main"]}
    gap.cycle()
    first.state.publish("flask", SDIST, DATA)
    gap.settle()
    assert offered(gap.mirror, "simple") is None
    gap.carry()
    first.state.publish("flask", SDIST, DATA, metadata=OWN)
    gap.cycle()
    assert offered(gap.mirror, "simple") == digest(OWN)
    gap.carry()
    gap.check_equal()


async def test_metadata_that_the_state_does_not_know(planted: tuple[Simulator, Mirror]) -> None:
    """What two projects wrote beside a file, and the state of an older version lost, leaves the disk too."""
    _, mirror = planted
    with closing(sqlite3.connect(mirror.root / "state.db")) as db, db:
        db.execute("UPDATE blob SET metadata_sha256 = NULL WHERE filename = ?", (SDIST,))
    assert sidecar(mirror) == PLANTED
    await mirror.cycle()
    assert [offered(mirror, place) for place in PLACES] == [None] * 3
    assert sidecar(mirror) is None
