"""Flat pages (find-links): one page that is the root and the pages of all its projects."""

from __future__ import annotations

import pytest

from harness.in_process import Mirror, counters, failures, offered, requests
from simulator import Page, Simulator, build_sdist, build_wheel, unavailable


def local(version: str) -> tuple[str, bytes]:
    return build_wheel("tide-tables", version, tag="cp311-cp311-linux_x86_64")


async def flat(simulator, mirror_of, **settings) -> tuple[Simulator, Mirror]:
    """Return a flat page of two projects with three files, and a mirror of it."""
    index = await simulator(flat=True, **settings)
    for name, data in (local("1.2+cpu"), local("1.2+cu121")):
        index.state.publish("tide-tables", name, data)
    index.state.publish("harbour-log", *build_sdist("harbour-log", "0.3"))
    mirror = mirror_of(index)
    mirror.configure("main", format="flat", url=index.url)
    return index, mirror


FORMS = {
    "html": {"formats": "html"},
    "json": {"formats": "json"},
    "without digests": {"formats": "html", "hashes": ()},
    "files of another host": {"formats": "html", "second_origin": True},
}


@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("validators", ["etag", "last-modified", "none"])
async def test_files_are_grouped_by_project(simulator, mirror_of, settings, validators):
    """All files are published on the pages of their projects; one request reads them, one more confirms them."""
    index, mirror = await flat(simulator, mirror_of, validators=validators, **settings)

    report = await mirror.cycle()

    assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)
    assert any("+cu121" in name for name in mirror.files()["tide-tables"])
    assert [r.path for r in index.take_requests() if r.kind in {"root", "page", "other"}] == ["/simple/"]
    before = mirror.footprint()
    report = await mirror.cycle()
    assert report.indexes["main"].projects_unchanged == 2
    assert requests(index) == [("root", None, None, 200 if validators == "none" else 304)]
    assert mirror.footprint() == before


async def test_changes(simulator, mirror_of):
    """New, changed and withdrawn files follow, in two looks where they leave; what did not change is not touched."""
    index, mirror = await flat(simulator, mirror_of, formats="html")
    await mirror.cycle()
    index.state.publish("tide-tables", *local("1.3"))
    index.state.publish("new", *build_wheel("new", "1.0"))
    index.state.remove_file("harbour-log", "harbour_log-0.3.tar.gz")
    index.state.publish("harbour-log", *build_sdist("harbour-log", "0.4"))
    report = await mirror.cycle()
    assert counters(report)["files_new"] == 3
    assert len(mirror.files()["harbour-log"]) == 2
    await mirror.cycle()
    assert mirror.files() == offered(index)
    index.state.unlist_project("new")
    await mirror.cycle()
    assert "new" in mirror.files()
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_a_failed_file_is_tried_again_while_the_page_is_unchanged(simulator, mirror_of):
    """A file of the ledger comes without the whole page, and one whose project was never read reads it again."""
    index, mirror = await flat(simulator, mirror_of, formats="html")
    index.inject(unavailable(503), kind="file", project="harbour-log")
    report = await mirror.cycle()
    assert [f[1] for f in failures(report)] == ["harbour-log"]
    index.faults.clear()
    index.take_requests()
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(index), [])
    assert len([r for r in index.take_requests() if r.kind == "root"]) == 1


async def test_the_brake_holds(simulator, mirror_of):
    """A page that lost most of its files removes nothing by itself."""
    index, mirror = await flat(simulator, mirror_of, formats="html")
    for n in range(20):
        index.state.publish("tide-tables", *local(f"2.{n}"))
    await mirror.cycle()
    before = mirror.files()
    for n in range(20):
        index.state.remove_file("tide-tables", local(f"2.{n}")[0])
    for _ in range(3):
        report = await mirror.cycle()
    assert (mirror.files(), mirror.exit_code) == (before, 4)
    assert [f[3] for f in failures(report)] == ["shrink"]


async def test_names_that_tell_no_project_are_named(simulator, mirror_of, capsys):
    """What packaging can't read is left out and named in each report and in the state; exit code 0, one warning."""
    index, mirror = await flat(simulator, mirror_of, formats="html")
    for name in ("odd.zip", "tide_tables-1.0-py3.8.egg"):
        index.state.publish("other", name, b"odd")
    for _ in range(2):
        report = await mirror.cycle()
        (event,) = (e for e in report.events if e["event"] == "names-unread")
        assert (event["files"], event["names"]) == ("2", "odd.zip, tide_tables-1.0-py3.8.egg")
        assert (sorted(mirror.files()), failures(report), mirror.exit_code) == (["harbour-log", "tide-tables"], [], 0)
    out, err = capsys.readouterr()
    assert (out + err).count("root.unread") == 1
    assert mirror.query("SELECT unread FROM source")[0][0] is not None
    index.state.delete_project("other")
    report = await mirror.cycle()
    assert [e for e in report.events if e["event"] == "names-unread"] == []


async def test_the_url_is_used_as_written(simulator, mirror_of):
    """No slash is appended: the page may be a document."""
    index, mirror = await flat(simulator, mirror_of, formats="html")
    mirror.configure("main", url=index.url.removesuffix("/"))
    await mirror.cycle()
    assert index.take_requests()[0].path == "/simple"


async def test_as_an_index_it_is_named(simulator, mirror_of):
    """Without the format the message says what the page is, and nothing of an address that were wrong."""
    index, mirror = await flat(simulator, mirror_of, formats="html")
    document = f"{index.url.removesuffix('simple/')}wheels/links.html"
    index.inject(Page(body=b'<a href="a-1.0.tar.gz">a</a><a href="b-1.0.tar.gz">b</a>'))
    mirror.configure("main", format="simple", url=document)
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([("main", None, None, "bad-page")], 4)
    assert report.failures[0].detail == (
        f"{document} is not a page of a simple index: it is a page of files (find-links), not of projects;"
        ' to mirror the files that it lists, say format = "flat" for this index'
    )


async def test_the_page_is_bounded_as_a_root(simulator, mirror_of):
    """``root-page-size`` bounds it, not ``page-size``."""
    index, mirror = await flat(simulator, mirror_of, formats="html")
    mirror.limits |= {"page_size": 10}
    assert failures(await mirror.cycle()) == []
    mirror.limits |= {"root_page_size": 10}
    index.state.publish("tide-tables", *local("1.3"))
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([("main", None, None, "too-large")], 4)
    assert "root-page-size" in report.failures[0].detail


async def test_an_empty_page_is_never_believed(simulator, mirror_of):
    """A page without files, a login page and an error page change nothing."""
    index, mirror = await flat(simulator, mirror_of, formats="html")
    await mirror.cycle()
    before = mirror.files()
    for body in (b"<html></html>", b'<input type="password">', b'<a href="a/">a</a>'):
        index.inject(Page(body=body), kind="root", times=1)
        report = await mirror.cycle()
        assert (failures(report), mirror.exit_code) == ([("main", None, None, "bad-page")], 4)
        assert mirror.files() == before


async def test_a_change_of_the_format_reads_the_page_anew(simulator, mirror_of):
    """As a simple index the same page is refused with what to configure; nothing held leaves."""
    index, mirror = await flat(simulator, mirror_of, formats="html")
    await mirror.cycle()
    mirror.configure("main", format="simple")
    report = await mirror.cycle()
    assert 'format = "flat"' in report.failures[0].detail
    assert (mirror.files(), mirror.exit_code) == (offered(index), 4)
    mirror.configure("main", format="flat")
    assert failures(await mirror.cycle()) == []


async def test_the_credential_of_a_flat_page(simulator, mirror_of):
    """A refused page ends the index's part, and what is held stays."""
    index, mirror = await flat(simulator, mirror_of, formats="html", username="user", password="secret")
    mirror.configure("main", auth=None)
    mirror.env = {"MIRROR_MAIN_USERNAME": "user", "MIRROR_MAIN_PASSWORD": "secret"}
    assert failures(await mirror.cycle()) == []
    mirror.env["MIRROR_MAIN_PASSWORD"] = "other"
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([("main", None, None, "denied")], 3)
    assert mirror.files() == offered(index)
