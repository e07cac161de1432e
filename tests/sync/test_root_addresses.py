"""Pages that are not at the usual place: asked where the root's link leads, also after it changed."""

from __future__ import annotations

import pytest

from harness.in_process import failures, offered, requests
from harness.older_state import downgrade
from simulator import Page, build_wheel

GROUP = "/api/v4/groups/tide/-/packages/pypi"
NUMBER = "/api/v4/groups/4711/-/packages/pypi"

KINDS = {
    "a GitLab group": ({"prefix": GROUP, "linked_prefix": NUMBER}, f"{NUMBER}/simple/", ""),
    "a static generator": ({"documents": True}, "/simple/", "/index.html"),
    "a query": ({"spelled": True}, "/simple/", "/"),
}


@pytest.mark.parametrize(("settings", "before", "after"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("validators", ["etag", "none"])
async def test_pages_are_asked_where_the_root_links(simulator, mirror_of, settings, before, after, validators):
    """Everything is held in one cycle without a request for another place, and the next one finds nothing new."""
    index = await simulator(formats="html", validators=validators, **settings)
    for name in ("Tide_Tables", "harbour.log"):
        index.state.publish(name, *build_wheel(name, "1.0"))
    mirror = mirror_of(index)

    report = await mirror.cycle()

    assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)
    pages = sorted(r.path for r in index.take_requests() if r.kind == "page")
    names = ["Tide_Tables", "harbour.log"] if index.settings.spelled else ["harbour-log", "tide-tables"]
    assert pages == sorted(f"{before}{name}{after}" for name in names)
    report = await mirror.cycle()
    assert report.indexes["main"].projects_unchanged == 2
    assert sorted(r.path for r in index.take_requests() if r.kind == "page") == pages


async def test_a_root_that_is_a_document(simulator, mirror_of):
    """A url that ends in a document is asked as it is written; the pages lie beside it."""
    index = await simulator(formats="html", documents=True)
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    mirror = mirror_of(index)
    mirror.configure("main", url=f"{index.url}index.html")

    report = await mirror.cycle()

    assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)
    asked = [r.path for r in index.take_requests() if r.kind in {"root", "page"}]
    assert asked == ["/simple/index.html", "/simple/alpha/index.html"]


async def test_an_address_that_changes(simulator, mirror_of):
    """A page that moves is read anew at its new place; the files stay as they are."""
    index = await simulator(formats="html", validators="last-modified")
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    mirror = mirror_of(index)
    await mirror.cycle()
    assert mirror.query("SELECT address FROM project") == [(None,)]
    index.settings.documents = True
    index.state.serial += 1
    index.take_requests()

    report = await mirror.cycle()

    asked = [r for r in index.take_requests() if r.kind == "page"]
    assert [(r.path, r.status) for r in asked] == [("/simple/alpha/index.html", 200)]
    assert (mirror.files(), failures(report)) == (offered(index), [])
    assert mirror.query("SELECT address FROM project") == [("alpha/index.html",)]


async def test_a_failed_page_is_asked_again_at_its_place(simulator, mirror_of):
    """What failed is tried again where the root links, also while the root is unchanged."""
    index = await simulator(formats="html", documents=True)
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    index.inject(Page(body=b"<p>not now"), kind="page", times=1)
    mirror = mirror_of(index)
    assert failures(await mirror.cycle()) == [("main", "alpha", None, "bad-page")]
    index.take_requests()
    assert failures(await mirror.cycle()) == []
    assert {r.path for r in index.take_requests() if r.kind == "page"} == {"/simple/alpha/index.html"}


ROOTS = {
    "another origin": (b'<a href="https://packages.example.invalid/simple/a/">a</a>', "page-hosts"),
    "files": (
        b'<a href="cpu/a-1.0%2Bcpu-cp311-cp311-linux_x86_64.whl">a</a><a href="b-0.3.tar.gz">b</a>',
        'format = "flat"',
    ),
}


@pytest.mark.parametrize(("body", "key"), ROOTS.values(), ids=ROOTS)
async def test_roots_that_list_no_project_of_theirs(simulator, mirror_of, body, key):
    """The index's part ends with what to configure; nothing held changes and nothing else is asked."""
    index = await simulator()
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.inject(Page(body=body), kind="root")
    index.take_requests()

    report = await mirror.cycle()

    assert (mirror.files(), mirror.exit_code) == (before, 4)
    assert failures(report) == [("main", None, None, "bad-page")]
    assert key in report.failures[0].detail
    assert {kind for kind, *_ in requests(index)} == {"root"}


async def test_a_state_without_addresses_reads_the_root_again(simulator, mirror_of):
    """A root that is unchanged is read once more after an upgrade, since nobody looked at its links."""
    index = await simulator(formats="html", documents=True)
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    mirror = mirror_of(index)
    await mirror.cycle()
    downgrade(mirror.root / "state.db", 3)
    report = await mirror.cycle()
    assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)
    assert mirror.query("SELECT address FROM project") == [("alpha/index.html",)]


async def test_addresses_hide_a_secret_path(simulator, mirror_of):
    """Where the index's URL is a secret, the state keeps addresses relative to it, and pages are asked all the same."""
    secret = "/k3y-0f-the-team"
    index = await simulator(formats="html", prefix=f"{secret}/groups/tide", linked_prefix=f"{secret}/groups/4711")
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    mirror = mirror_of(index, root="hidden")
    mirror.configure("main", url_env="INDEX_URL")
    for _ in range(2):
        report = await mirror.cycle()
        assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)
        asked = {r.path for r in index.take_requests() if r.kind == "page"}
        assert asked == {f"{secret}/groups/4711/simple/alpha"}
    assert mirror.query("SELECT address FROM project") == [("../../4711/simple/alpha",)]
    assert secret[1:].encode() not in b"".join(p.read_bytes() for p in mirror.root.rglob("state.db*"))
