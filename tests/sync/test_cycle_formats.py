"""Servers that say less, otherwise, or one thing today and another tomorrow."""

from __future__ import annotations

import hashlib

import pytest

from harness.in_process import failures, offered, requests
from simulator import Redirect, Status, build_sdist, build_wheel, unavailable, wheel_metadata, withheld

WHEEL = build_wheel("alpha", "1.0")
SDIST = build_sdist("alpha", "1.0")


@pytest.mark.parametrize("links", ["absolute", "root-relative", "relative"])
@pytest.mark.parametrize("formats", ["html", "json"])
async def test_every_form_gives_the_same_files(simulator, mirror_of, formats, links):
    """HTML-only and JSON-only servers, whatever their links look like, are mirrored byte for byte."""
    index = await simulator(formats=formats, links=links, gzip_pages=True, gzip_label=True, prefix="/a/b")
    index.state.publish("alpha", *WHEEL, requires_python=">=3.8", yanked="why")
    index.state.publish("alpha", *SDIST)
    index.state.publish("Odd.Name", *build_wheel("odd-name", "1.0+local.1"))
    mirror = mirror_of(index)

    report = await mirror.cycle()

    assert (mirror.files(), failures(report)) == (offered(index), [])
    labels = mirror.labels("alpha", WHEEL[0])
    assert (labels["requires-python"], labels["yanked"]) == (">=3.8", "why")


async def test_json_today_html_tomorrow(simulator, mirror_of):
    """What HTML can't carry is kept from the last JSON for the same bytes, and comes afresh when JSON is back."""
    index = await simulator()
    index.state.publish("alpha", *WHEEL, extra={"x-note": "kept"})
    index.state.create_project("alpha", extra={"x-page": 1}, versions=("0.5", "1.0"))
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.page("alpha")
    index.settings.formats = "html"

    await mirror.cycle()
    assert mirror.page("alpha") == before

    index.state.yank("alpha", WHEEL[0], "bad")
    index.state.publish("alpha", *SDIST)
    await mirror.cycle()
    after = mirror.labels("alpha", WHEEL[0])
    assert (after["upload-time"], after["x-note"], after["yanked"]) == (
        before["files"][0]["upload-time"],
        "kept",
        "bad",
    )
    assert "upload-time" not in mirror.labels("alpha", SDIST[0])

    index.settings.formats = "json"
    await mirror.cycle()
    assert mirror.labels("alpha", SDIST[0])["upload-time"] == index.state["alpha"].files[SDIST[0]].upload_time


async def test_duplicates_the_first_or_the_held_one_counts(simulator, mirror_of):
    """Of two listings of one filename the held bytes win, else the first; the page has the name once."""
    index = await simulator(formats="html")
    first = index.state.publish("alpha", *WHEEL)
    other = build_wheel("alpha", "1.0", extra_files={"alpha/other.py": "x = 1\n"})[1]
    twin = index.state.publish("alpha", "twin.whl", other, html_attributes={"download": WHEEL[0]})
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == ({"alpha": {WHEEL[0]: first.hash("sha256")}}, [])

    index.state.remove_file("alpha", WHEEL[0])
    await mirror.cycle()
    assert mirror.files() == {"alpha": {WHEEL[0]: twin.hash("sha256")}}

    index.state.remove_file("alpha", "twin.whl")
    index.state.publish("alpha", *WHEEL)
    index.state.publish("alpha", "twin.whl", other, html_attributes={"download": WHEEL[0]})
    index.take_requests()
    await mirror.cycle()
    assert mirror.files() == {"alpha": {WHEEL[0]: twin.hash("sha256")}}
    assert [r for r in requests(index) if r[0] == "file"] == []


async def test_two_files_with_equal_bytes(simulator, mirror_of):
    """Two filenames of the same bytes are two files, held and published each by its own name."""
    index = await simulator()
    index.state.publish("alpha", "alpha-1.0.tar.gz", b"the same")
    index.state.publish("alpha", "alpha-1.0.zip", b"the same")
    index.state.publish("beta", "beta-1.0.zip", b"the same")
    mirror = mirror_of(index)

    await mirror.cycle()
    assert mirror.files() == offered(index)

    index.state.publish("alpha", "alpha-1.0.tar.bz2", b"the same")
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_names_that_no_parser_knows_are_mirrored_as_they_are(simulator, mirror_of):
    """Eggs, installers and files without a version are files like others."""
    index = await simulator()
    for name in (
        "alpha-1.0-py3.11.egg",
        "alpha-1.0.win32.exe",
        "alpha-variants.json",
        "a name with spaces.zip",
        "ümläut-1.0.zip",
    ):
        index.state.publish("alpha", name, name.encode())
    mirror = mirror_of(index)

    await mirror.cycle()

    assert mirror.files() == offered(index)


async def test_metadata_comes_out_of_the_wheel(simulator, mirror_of):
    """A wheel's metadata is its own, whatever the index advertises, and costs no request."""
    index = await simulator(core_metadata=True)
    index.state.publish("alpha", *WHEEL, core_metadata={"sha256": "0" * 64})
    mirror = mirror_of(index)

    await mirror.cycle()

    sha256 = hashlib.sha256(wheel_metadata(WHEEL[1])).hexdigest()
    assert mirror.labels("alpha", WHEEL[0])["core-metadata"] == {"sha256": sha256}
    assert index.count(kind="metadata") == 0


@pytest.mark.parametrize("is_right", [True, False], ids=["right", "wrong"])
async def test_metadata_of_other_files_is_fetched_where_it_is_advertised(simulator, mirror_of, is_right):
    """An sdist's advertised metadata is fetched and served if its digest fits; else the file goes without."""
    index = await simulator(core_metadata=True)
    metadata = b"Metadata-Version: 2.2\nName: alpha\nVersion: 1.0\n"
    advertised = {"sha256": hashlib.sha256(metadata).hexdigest() if is_right else "0" * 64}
    index.state.publish("alpha", *SDIST, metadata=metadata, core_metadata=advertised)
    mirror = mirror_of(index)

    report = await mirror.cycle()

    assert (mirror.files(), failures(report)) == (offered(index), [])
    assert mirror.labels("alpha", SDIST[0]).get("core-metadata") == (advertised if is_right else None)


REFUSALS = {
    "not-found": Status(status=404),
    "denied": Status(status=403),
    "withheld": withheld("POLICY_COOLDOWN"),
    "redirect": Redirect(url="ftp://127.0.0.1/x"),
    "down": unavailable(500),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_file_does_not_wait_for_its_metadata(simulator, mirror_of, refusal):
    """Whatever is answered instead of an sdist's metadata, the file is published, and gets it when its page is read again."""
    index = await simulator(core_metadata=True)
    metadata = b"Metadata-Version: 2.2\nName: alpha\nVersion: 1.0\n"
    index.state.publish("alpha", *SDIST, metadata=metadata)
    index.inject(REFUSALS[refusal], kind="metadata")
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)
    assert "core-metadata" not in mirror.labels("alpha", SDIST[0])

    index.faults.clear()
    index.take_requests()
    await mirror.cycle()
    assert index.count(kind="metadata") == 0  # an unchanged page asks for nothing
    index.state.publish("alpha", *WHEEL)
    assert [p[2:] for p in await mirror.plan()] == [(WHEEL[0], "fetch"), (SDIST[0], "relabel")]
    report = await mirror.cycle()

    assert (mirror.files(), failures(report), report.indexes["main"].files_new) == (offered(index), [], 1)
    digest = {"sha256": hashlib.sha256(metadata).hexdigest()}
    assert mirror.labels("alpha", SDIST[0])["core-metadata"] == digest
    assert (index.count(kind="metadata"), index.count(filename=SDIST[0], kind="file")) == (1, 0)


async def test_metadata_that_is_refused(simulator, mirror_of):
    """A 401 for metadata alone, while the index answers, costs the file its metadata and nothing else."""
    index = await simulator(core_metadata=True)
    index.state.publish("alpha", *SDIST, metadata=b"Name: alpha\n")
    index.inject(Status(status=401), kind="metadata", times=1)
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)
    assert "core-metadata" not in mirror.labels("alpha", SDIST[0])
    await mirror.cycle(full=True)
    assert mirror.labels("alpha", SDIST[0])["core-metadata"]


async def test_a_broken_wheel_is_held_without_metadata(simulator, mirror_of):
    """A wheel that is no zip file is mirrored as listed, and advertises no metadata."""
    index = await simulator()
    index.state.publish("alpha", WHEEL[0], b"no zip at all")
    mirror = mirror_of(index)

    report = await mirror.cycle()

    assert (mirror.files(), failures(report)) == (offered(index), [])
    assert "core-metadata" not in mirror.labels("alpha", WHEEL[0])
