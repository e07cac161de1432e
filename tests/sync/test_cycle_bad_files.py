"""Files without a listed digest: what comes must at least be what its name says, then and later."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.in_process import counters, failures
from harness.program import published, report_of
from harness.upkeep import damage, in_real_time, repair, verify
from harness.worker_program import Beside, needs_two_cores, used_processes
from simulator import Page, ThreadedSimulator, Unframed, build_sdist, build_wheel

PROJECT = "tide-tables"
WHEEL, WHEEL_BYTES = build_wheel(PROJECT, "1.0")
SDIST, SDIST_BYTES = build_sdist(PROJECT, "1.0")
GOOD = {WHEEL: WHEEL_BYTES, SDIST: SDIST_BYTES, f"{SDIST[:-7]}.zip": WHEEL_BYTES, f"{WHEEL}.asc": b"signed"}
FILTER = b"<!DOCTYPE html>\n<html><head><title>Restricted</title></head><body>Ask your administrator.</body></html>"


async def index_of(simulator, **settings):
    """Return an index without digests and sizes."""
    index = await simulator(hashes=(), **settings)
    for name, data in GOOD.items():
        index.state.publish(PROJECT, name, data, size=None)
    return index


def good_files():
    """Return what is held once all is right."""
    return {PROJECT: {name: hashlib.sha256(data).hexdigest() for name, data in sorted(GOOD.items())}}


@pytest.mark.parametrize("formats", ["html", "json"])
@pytest.mark.parametrize("body", [FILTER, b""], ids=["web filter", "empty"])
async def test_an_error_page_is_not_published(simulator, mirror_of, body, formats):
    """A page of a web filter, or nothing, with 200: named, exit 5, tried again; held once the right bytes come."""
    index = await index_of(simulator, formats=formats)
    index.inject(Page(body=body), kind="file")
    mirror = mirror_of(index)
    for _ in range(2):
        report = await mirror.cycle()
        assert failures(report) == [("main", PROJECT, name, "bad-file") for name in sorted(GOOD)]
        assert mirror.exit_code == 5
        assert mirror.files() == {}
    assert not [p for p in (mirror.root / "public/files").rglob("*") if p.is_file()]
    index.faults.clear()
    assert failures(await mirror.cycle()) == []
    assert mirror.files() == good_files()


async def test_what_is_held_stays_beside_an_error_page(simulator, mirror_of):
    """Where a new version of a held file is an error page, the held one stays published."""
    index = await index_of(simulator)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.change(PROJECT, WHEEL, size=len(FILTER))
    index.inject(Page(body=FILTER), kind="file", filename=WHEEL)
    assert failures(await mirror.cycle()) == [("main", PROJECT, WHEEL, "bad-file")]
    assert mirror.files() == good_files()


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
async def test_a_digest_vouches(simulator, mirror_of, algorithm):
    """What has a digest, a weak one too, stays as the index says, odd or not; later as well."""
    index = await simulator(hashes=(algorithm,))
    for name in GOOD:
        index.state.publish(PROJECT, name, FILTER, metadata=None)
    mirror = mirror_of(index)
    assert failures(await mirror.cycle()) == []
    assert len(mirror.files()[PROJECT]) == len(GOOD)
    assert (await verify(mirror)).findings == []


async def test_what_is_held_wrongly_is_found_and_fetched_anew(simulator, mirror_of):
    """A state of an earlier version holds error pages: ``verify`` names them, ``--repair`` brings the right files."""
    index = await index_of(simulator)
    mirror = in_real_time(mirror_of(index))
    await hold_wrongly(mirror, index)
    assert (await verify(mirror)).findings != []
    wrong = sorted(damage(mirror, await verify(mirror)))
    assert [kind for kind, _ in wrong] == ["bad-file"] * len(GOOD)
    mended = await repair(mirror)
    assert mended.lost == []
    assert mirror.files() == good_files()
    assert (await verify(mirror)).findings == []


async def test_what_is_held_wrongly_and_still_wrong_leaves(simulator, mirror_of):
    """Where the index still answers an error page, the file leaves the pages and is in the ledger; exit code 7 and 5."""
    index = await index_of(simulator)
    mirror = in_real_time(mirror_of(index))
    await hold_wrongly(mirror, index)
    index.inject(Page(body=FILTER), kind="file", filename=WHEEL)
    mended = await repair(mirror)
    assert [file.filename for file in mended.lost] == [WHEEL]
    assert sorted(mirror.files()[PROJECT]) == sorted(set(GOOD) - {WHEEL})
    assert mirror.ledger() == [("main", PROJECT, WHEEL, "bad-file")]
    index.faults.clear()
    report = await mirror.cycle()
    assert (failures(report), counters(report)["files_new"]) == ([], 1)
    assert mirror.files() == good_files()


async def test_what_is_held_wrongly_and_offered_no_more_is_not_missing(simulator, mirror_of):
    """Nobody can restore what was never a file: it leaves the pages, and nothing stays in the ledger."""
    index = await index_of(simulator)
    mirror = in_real_time(mirror_of(index))
    await hold_wrongly(mirror, index)
    index.state.remove_file(PROJECT, WHEEL)
    mended = await repair(mirror)
    assert (mended.lost, mirror.ledger()) == ([], [])
    assert sorted(mirror.files()[PROJECT]) == sorted(set(GOOD) - {WHEEL})


@needs_two_cores
def test_other_processes_judge_likewise(threaded_simulator: Callable[..., ThreadedSimulator], tmp_path: Path) -> None:
    """What fetches beside the program refuses error pages too, and a cut page that it looks at removes nothing."""
    index = threaded_simulator(hashes=(), formats="html")
    for name, data in GOOD.items():
        index.state.publish(PROJECT, name, data)
    for number in range(12):
        index.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0"))
    index.inject(Page(body=FILTER), kind="file", filename=WHEEL)
    mirror = Beside(tmp_path, index.url)
    done = mirror.sync("--json", "--log-level", "debug")
    assert used_processes(done)
    assert [(f["filename"], f["reason"]) for f in report_of(done)["failures"]] == [(WHEEL, "bad-file")]
    assert done.returncode == 5
    index.faults.clear()
    index.inject(Unframed(behind=b"<a "), kind="page")
    for _ in range(2):
        done = mirror.sync("--json", "--full", "--log-level", "debug")
        assert used_processes(done)
    assert set(published(mirror.root)[PROJECT]) == set(GOOD) - {WHEEL}
    assert len(published(mirror.root)) == 13


async def hold_wrongly(mirror, index) -> None:
    """Let the mirror hold error pages, as an earlier version did: they come with a digest that is then forgotten."""
    pages = {name: FILTER + name.encode() for name in GOOD}
    for name, data in pages.items():
        index.state.publish(
            PROJECT, name, data, size=None, metadata=None, hashes={"md5": hashlib.md5(data).hexdigest()}
        )
    await mirror.cycle()
    for name, data in GOOD.items():
        index.state.publish(PROJECT, name, data, size=None, hashes=None)
    with contextlib.closing(sqlite3.connect(mirror.root / "state.db")) as state, state:
        state.execute("UPDATE entry SET digests = ''")
