"""An index that lists another owner's file with metadata of its own never changes what the owner's page offers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.in_process import Mirror, counters, failures, query
from harness.older_version import write_old_pages
from harness.upkeep import blob_of, in_real_time, lose_state, repair, sidecar_of, verify
from harness.worker_program import Beside, needs_two_cores, used_processes
from simulator import Simulator, ThreadedSimulator, build_sdist, build_wheel

Start = Callable[..., Awaitable[Simulator]]
MirrorOf = Callable[..., Mirror]

SDIST, DATA = build_sdist("flask", "9.0")
SHA256 = hashlib.sha256(DATA).hexdigest()
OWN = b"Metadata-Version: 2.2\nName: flask\nVersion: 9.0\n"
PLANTED = OWN + b"Requires-Dist: planted\n"
LATER = OWN + b"Summary: later\n"


def digest(metadata: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(metadata).hexdigest()}


def page_of(mirror: Mirror, project: str = "flask") -> tuple[dict[str, Any], str]:
    """Return a project's page in both forms, without our own serial."""
    page = mirror.page(project)
    page["meta"].pop("_last-serial")
    html = (mirror.root / "public/simple" / project / "index.html").read_text()
    return page, html.partition("<!--SERIAL")[0]


def offered(mirror: Mirror, project: str = "flask", filename: str = SDIST) -> Any:
    """Return what a page says of a file's metadata."""
    return mirror.labels(project, filename).get("core-metadata")


def sidecar(mirror: Mirror, filename: str = SDIST, sha256: str = SHA256) -> bytes | None:
    """Return the metadata that lies beside a file."""
    path = sidecar_of(blob_of(mirror, filename, sha256))
    return path.read_bytes() if path.exists() else None


@pytest.fixture
def mirror_of(tmp_path: Path) -> MirrorOf:
    """Make a mirror of some simulators in their order, by the name of its root."""
    return lambda root, **simulators: Mirror(tmp_path / root, simulators)


@pytest.mark.parametrize("own", [None, OWN], ids=["owner lists none", "owner lists its own"])
@pytest.mark.parametrize("names", [("owner", "other"), ("other", "owner")], ids=["owner first", "owner second"])
async def test_another_index(simulator: Start, mirror_of: MirrorOf, own: bytes | None, names: tuple[str, str]) -> None:
    """The owner's page is as without the other index, in each of four cycles, whatever changes in between."""
    owner, other = await simulator(core_metadata=True), await simulator(core_metadata=True)
    owner.state.publish("flask", SDIST, DATA, metadata=own)
    other.state.publish("innocent", *build_wheel("innocent", "1.0"))
    other.state.publish("innocent", SDIST, DATA, metadata=PLANTED)
    both = {"owner": owner, "other": other}
    alone, mirror = mirror_of("alone", owner=owner), mirror_of("both", **{n: both[n] for n in names})
    for step in range(4):
        for each in (alone, mirror):
            report = await each.cycle()
            assert (each.exit_code, failures(report)) == (0, [])
        assert page_of(mirror) == page_of(alone)
        assert (sidecar(mirror), sidecar(alone)) == (own, own)
        assert SDIST not in mirror.files()["innocent"]
        (owner if step == 1 else other).state.touch("flask" if step == 1 else "innocent")
        owner.state.publish("flask", *build_sdist("flask", f"9.{step + 1}"))
    assert mirror.query("SELECT rule, files, names FROM left_out") == [("foreign-name", 1, f'["{SDIST}"]')]
    assert (await verify(in_real_time(mirror))).findings == []


async def test_two_projects_of_one_index(simulator: Start, mirror_of: MirrorOf) -> None:
    """Of a dozen files that three projects list with metadata of their own, each page shows what lies on the disk."""
    index = await simulator(core_metadata=True)
    for number in range(12):
        filename, data = build_sdist(f"p{number}", "1.0")
        for project, metadata in ((f"p{number}", OWN), (f"a{number}", PLANTED), (f"p{number}-x", PLANTED)):
            index.state.publish(project, filename, data, metadata=metadata)
    mirror = mirror_of("mirror", main=index)
    for _ in range(3):
        report = await mirror.cycle()
        assert (mirror.exit_code, failures(report)) == (0, [])
        for number in range(12):
            (filename,) = mirror.files()[f"p{number}"]
            assert offered(mirror, f"p{number}", filename) == digest(OWN)
            index.state.touch(f"a{number}")
            index.state.touch(f"p{number}")
    assert set(mirror.files()) == {f"p{number}" for number in range(12)}


async def test_a_name_that_reads_as_another_project(simulator: Start, mirror_of: MirrorOf) -> None:
    """A file whose name begins with the project's, but is that of a longer project, is held there without metadata."""
    owner, other = await simulator(core_metadata=True), await simulator(core_metadata=True)
    filename, data = build_sdist("flask-ext", "1.0")
    owner.state.publish("flask-ext", filename, data)
    other.state.publish("flask", filename, data, metadata=PLANTED)
    mirror = mirror_of("mirror", other=other, owner=owner)
    for _ in range(3):
        await mirror.cycle()
        assert [offered(mirror, project, filename) for project in ("flask", "flask-ext")] == [None, None]
        assert sidecar(mirror, filename, hashlib.sha256(data).hexdigest()) is None
        other.state.touch("flask")
        owner.state.touch("flask-ext")
    assert other.count(kind="metadata") == 0
    owner.state.publish("flask-ext", filename, data, metadata=OWN)
    await mirror.cycle()
    assert [offered(mirror, project, filename) for project in ("flask", "flask-ext")] == [None, digest(OWN)]


async def test_an_overlay(simulator: Start, mirror_of: MirrorOf) -> None:
    """An overlay's metadata is offered for the files that it adds, never for the owner's."""
    owner, overlay = await simulator(core_metadata=True), await simulator(core_metadata=True)
    added = build_sdist("flask", "9.1")
    owner.state.publish("flask", SDIST, DATA)
    overlay.state.publish("flask", SDIST, DATA, metadata=PLANTED)
    overlay.state.publish("flask", *added, metadata=LATER)
    mirror = mirror_of("mirror", owner=owner, overlay=overlay)
    mirror.configure("overlay", overlay=True)
    for _ in range(3):
        await mirror.cycle()
        assert (offered(mirror), sidecar(mirror)) == (None, None)
        assert offered(mirror, filename=added[0]) == digest(LATER)
        owner.state.touch("flask")
        overlay.state.touch("flask")


async def test_a_new_owner_does_not_inherit(simulator: Start, mirror_of: MirrorOf) -> None:
    """Where the owner changes, the former one's metadata is offered only if the new one lists the same."""
    first, second = await simulator(core_metadata=True), await simulator(core_metadata=True)
    second.state.publish("flask", SDIST, DATA, metadata=PLANTED)
    first.state.publish("other", *build_wheel("other", "1.0"))
    mirror = mirror_of("mirror", first=first, second=second)
    await mirror.cycle()
    assert offered(mirror) == digest(PLANTED)
    first.state.publish("flask", SDIST, DATA, metadata=OWN)
    for _ in range(3):
        await mirror.cycle()
        first.state.touch("flask")
    # What was published beside a digest is never exchanged.
    assert (offered(mirror), sidecar(mirror)) == (None, PLANTED)
    first.state.publish("flask", SDIST, DATA, metadata=PLANTED)
    await mirror.cycle()
    assert offered(mirror) == digest(PLANTED)


async def test_the_first_metadata_stays(simulator: Start, mirror_of: MirrorOf) -> None:
    """An owner that lists other metadata later changes nothing, also after the first was damaged or its file was away."""
    index = await simulator(core_metadata=True)
    index.state.publish("flask", SDIST, DATA, metadata=OWN)
    index.state.publish("other", *build_wheel("other", "1.0"))
    mirror = in_real_time(mirror_of("mirror", main=index))
    await mirror.cycle()
    index.state.publish("flask", SDIST, DATA, metadata=LATER)
    await mirror.cycle()
    assert (offered(mirror), sidecar(mirror)) == (digest(OWN), OWN)

    sidecar_of(blob_of(mirror, SDIST, SHA256)).write_bytes(b"damaged")
    await repair(mirror)
    await mirror.cycle()
    assert (offered(mirror), sidecar(mirror)) == (None, None)

    index.state.publish("flask", *build_wheel("flask", "1.0"))
    index.state.remove_file("flask", SDIST)
    for _ in range(2):
        await mirror.cycle()
    assert SDIST not in mirror.files()["flask"]
    index.state.publish("flask", SDIST, DATA, metadata=LATER)
    await mirror.cycle()
    assert offered(mirror) is None
    index.state.publish("flask", SDIST, DATA, metadata=OWN)
    await mirror.cycle()
    assert (offered(mirror), sidecar(mirror)) == (digest(OWN), OWN)


async def test_a_file_that_comes_back_gets_its_metadata(simulator: Start, mirror_of: MirrorOf) -> None:
    """A file whose bytes are held already, and whose metadata is not, gets it in the cycle that publishes it."""
    index = await simulator(core_metadata=True)
    index.state.publish("flask", SDIST, DATA)
    index.state.publish("flask", *build_wheel("flask", "1.0"))
    mirror = mirror_of("mirror", main=index)
    await mirror.cycle()
    index.state.remove_file("flask", SDIST)
    for _ in range(2):
        await mirror.cycle()
    index.state.publish("flask", SDIST, DATA, metadata=OWN)
    report = await mirror.cycle()
    assert (index.count(kind="file", filename=SDIST), report.total("files_new")) == (1, 1)
    assert offered(mirror) == digest(OWN)


@pytest.mark.parametrize("is_old", [False, True], ids=["of this version", "of an older one"])
async def test_a_rebuilt_state(simulator: Start, mirror_of: MirrorOf, is_old: bool) -> None:
    """Rebuilt from the tree, metadata stays where this version's pages offer it; what older pages offer leaves."""
    index = await simulator(core_metadata=True)
    index.state.publish("flask", SDIST, DATA, metadata=OWN)
    mirror = in_real_time(mirror_of("mirror", main=index))
    await mirror.cycle()
    if is_old:
        sidecar_of(blob_of(mirror, SDIST, SHA256)).write_bytes(PLANTED)
        write_old_pages(mirror, "public/simple/flask", {SDIST: PLANTED})
    lose_state(mirror)
    await repair(mirror)
    assert (offered(mirror), sidecar(mirror)) == ((None, None) if is_old else (digest(OWN), OWN))
    await mirror.cycle()
    assert (offered(mirror), sidecar(mirror)) == (digest(OWN), OWN)


async def test_a_rebuilt_state_without_foreign_names(simulator: Start, mirror_of: MirrorOf) -> None:
    """What an older version published under another project's name is not entered again when a state is rebuilt."""
    index = await simulator()
    index.state.publish("flask", SDIST, DATA)
    mirror = in_real_time(mirror_of("mirror", main=index))
    await mirror.cycle()
    place = mirror.root / "public/simple/flask"
    for name in ("index.v1_json", "index.html", "index.v1_html"):
        data = (place / name).read_bytes().replace(b'"name":"flask"', b'"name":"innocent"')
        target = mirror.root / "public/simple/innocent" / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data.replace(b"Links for flask", b"Links for innocent"))
    lose_state(mirror)
    await repair(mirror)
    assert mirror.files().get("innocent", {}) == {}
    assert mirror.files()["flask"] == {SDIST: SHA256}


@needs_two_cores
def test_processes_that_fetch(threaded_simulator: Callable[..., ThreadedSimulator], tmp_path: Path) -> None:
    """Where other processes fetch, each page offers the metadata that its own project lists, and no other."""
    index = threaded_simulator(core_metadata=True, username="user", password="secret")
    longer = [build_sdist(f"p{number}-y", "1.0") for number in range(70)]
    for number in range(70):
        filename, data = build_sdist(f"p{number}", "1.0")
        index.state.publish(f"p{number}", filename, data, metadata=OWN)
        index.state.publish(f"p{number}-x", filename, data, metadata=PLANTED)
        index.state.publish(f"p{number}", *longer[number], metadata=PLANTED)
    credential = {"MIRROR_DEFAULT_USERNAME": "user", "MIRROR_DEFAULT_PASSWORD": "secret"}
    mirror = Beside(tmp_path / "mirror", index.url, credential)
    done = mirror.sync("--json", "--log-level", "debug")
    assert done.returncode == 0, done.stderr
    assert used_processes(done)
    for number in range(70):
        place = mirror.root / f"public/simple/p{number}"
        page = json.loads((place / "index.v1_json").read_bytes())
        shown = {file["filename"]: file.get("core-metadata") for file in page["files"]}
        assert (len(shown), shown.pop(longer[number][0]), *shown.values()) == (2, None, digest(OWN))
        (path,) = (place / f["url"] for f in page["files"] if f["filename"] != longer[number][0])
        assert Path(f"{path}.metadata").read_bytes() == OWN
    assert query(mirror.root, "SELECT count(*) FROM first_metadata") == [(70,)]
    assert mirror.run("verify", "--root", mirror.root).returncode == 0


async def test_a_foreign_name_is_left_out(
    simulator: Start, mirror_of: MirrorOf, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wheels and source distributions of another name are left out, warned of once; other kinds are not judged."""
    index = await simulator()
    kept = ("flask-1.0-py3.11.egg", "flask-1.0.exe", "flask_1.0.deb", "Innocent-Ext-1.0.tar.bz2")
    foreign = ("flask-1.0.tar.bz2", "Flask_Ext-1.0.zip", "flask-1.0-py3-none-any.whl", "innocents-1.0.tgz")
    for filename in (*foreign, *kept):
        index.state.publish("innocent", filename, filename.encode())
    own = [build_wheel("Innocent", "1.0"), build_sdist("innocent", "1.0")]
    for file in own:
        index.state.publish("innocent", *file)
    mirror = mirror_of("mirror", main=index)
    capsys.readouterr()
    for full in (False, True, False):
        report = await mirror.cycle(full=full)
        assert set(mirror.files()["innocent"]) >= {*kept, *(name for name, _ in own)}
        assert not set(mirror.files()["innocent"]) & set(foreign)
        assert (mirror.exit_code, failures(report), counters(report)["files_skipped"]) == (0, [], 4)
        index.state.publish("innocent", *build_sdist("innocent", f"2.{full}"))
    told = capsys.readouterr()
    assert (told.out + told.err).count("files.left_out") == 1
