"""Answers that never get better: asked for once, with the right reason and the right advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.in_process import failures, offered
from mirror.config import AuthConfig
from simulator import Page, Redirect, Status, build_wheel

SIGN_IN = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>"
    b'<form method="post" action="/session"><input name="user"><input name="password" type="password">'
    b'<button>Sign in</button></form><p><a href="/help/">Help</a></p></body></html>'
)
SSO = (
    b'<html><head><title>Log in | Tide</title></head><body><form action="/sso"><input name="user"></form></body></html>'
)
BAD, GOOD = build_wheel("bad", "1.0"), build_wheel("good", "1.0")

ITEMS = [
    (203, "denied", "denied"),
    (402, "denied", "denied"),
    (405, "bad-page", "not-found"),
    (406, "bad-page", "not-found"),
    (411, "bad-page", "not-found"),
    (418, "bad-page", "not-found"),
    (451, "denied", "denied"),
]


def publish(index):
    index.state.publish("bad", *BAD)
    index.state.publish("good", *GOOD)


def paths_of(index, *, kind=None, project=None):
    return [r.path for r in index.take_requests() if kind in {None, r.kind} and project in {None, r.project}]


def sends_to_sign_in(index, body=SIGN_IN, address="/session/new", **where):
    index.inject(Redirect(url=address), **where)
    index.inject(Page(body=body), kind="other")


@pytest.mark.parametrize(("status", "on_page", "on_file"), ITEMS, ids=[str(s) for s, _, _ in ITEMS])
@pytest.mark.parametrize("kind", ["page", "file"])
async def test_items_are_asked_for_once(simulator, mirror_of, status, on_page, on_file, kind):
    """A page or file that is answered so fails by itself after one request, and heals in the next cycle."""
    index = await simulator()
    publish(index)
    index.inject(Status(status=status, json={"message": "not here, friend"}), kind=kind, project="bad")
    mirror = mirror_of(index)
    report = await mirror.cycle()
    is_page = kind == "page"
    assert failures(report) == [("main", "bad", None if is_page else BAD[0], on_page if is_page else on_file)]
    detail = report.failures[0].detail
    assert str(status) in detail
    assert "tries" not in detail
    assert ("not here, friend" in detail) == ((on_page if is_page else on_file) == "denied")
    assert "credential" not in detail
    assert (mirror.exit_code, index.count(kind=kind, project="bad")) == (5, 1)
    index.faults.clear()
    await mirror.cycle()
    assert (mirror.exit_code, mirror.files()) == (0, offered(index))


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [(203, "denied", 3), (402, "denied", 3), (405, "bad-page", 4), (406, "bad-page", 4), (418, "bad-page", 4),
     (451, "denied", 3)],
)  # fmt: skip
async def test_a_root_is_asked_for_once(simulator, mirror_of, status, reason, code):
    """A root that is answered so ends the index's part after one request, and says why."""
    index = await simulator()
    publish(index)
    index.inject(Status(status=status), kind="root")
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([("main", None, None, reason)], code)
    assert len(index.take_requests()) == 1
    detail = report.failures[0].detail
    assert str(status) in detail
    assert "tries" not in detail
    assert ("operator" in detail) == (status in {402, 451})


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_what_may_pass_is_tried_again(simulator, mirror_of, status):
    """Answers that may pass by themselves are tried five times, as before."""
    index = await simulator()
    publish(index)
    index.inject(Status(status=status), kind="page", project="bad")
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert failures(report) == [("main", "bad", None, "unreachable")]
    assert index.count(kind="page", project="bad") == 5


@pytest.mark.parametrize("body", [SIGN_IN, SSO], ids=["password", "single-sign-on"])
async def test_a_root_that_leads_to_a_sign_in_page(simulator, mirror_of, body):
    """Without a credential: one request and its redirect, exit 3, and the message says what is missing."""
    index = await simulator()
    publish(index)
    sends_to_sign_in(index, body, kind="root")
    mirror = mirror_of(index)
    mirror.env = {"HOME": "/nonexistent"}
    mirror.configure("main", auth=None)
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([("main", None, None, "denied")], 3)
    detail = report.failures[0].detail
    assert "no credential was found, and the index sent the request to a sign-in page" in detail
    assert "$MIRROR_MAIN_USERNAME" in detail
    assert paths_of(index) == ["/simple/", "/session/new"]


async def test_a_sign_in_page_in_spite_of_a_credential(simulator, mirror_of):
    """With a credential its source is named, and the part ends as by a 401."""
    index = await simulator()
    publish(index)
    sends_to_sign_in(index, kind="root")
    mirror = mirror_of(index)
    mirror.env = {"PASSWORD": "ended-long-ago"}
    mirror.configure("main", auth=AuthConfig(kind="basic", username="user", password_env="PASSWORD"))
    report = await mirror.cycle()
    assert mirror.exit_code == 3
    detail = report.failures[0].detail
    assert "sign-in page" in detail
    assert "credential from $PASSWORD" in detail


@pytest.mark.parametrize("kind", ["page", "file"])
async def test_an_item_that_leads_to_a_sign_in_page(simulator, mirror_of, kind):
    """One page or file behind a sign-in page is denied by itself while the rest is let out; nothing of it is published."""
    index = await simulator(hashes=())
    publish(index)
    mirror = mirror_of(index)
    sends_to_sign_in(index, kind=kind, project="bad")
    for _ in range(2):
        report = await mirror.cycle()
        assert failures(report) == [("main", "bad", None if kind == "page" else BAD[0], "denied")]
        assert "sign-in page" in report.failures[0].detail
        assert (mirror.exit_code, list(mirror.files())) == (5, ["good"])


async def test_every_page_leads_to_a_sign_in_page(simulator, mirror_of):
    """Behind a root that is open to all, pages that lead to a sign-in page are an index that denies us."""
    index = await simulator()
    publish(index)
    sends_to_sign_in(index, kind="page")
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("aborted", 3)


async def test_a_redirect_to_another_spelling_is_no_sign_in(simulator, mirror_of):
    """An HTML page behind a redirect of the index itself is a page as any other."""
    index = await simulator(formats="html", gzip_pages=True)
    publish(index)
    index.inject(Redirect(url="/simple/bad/"), kind="page", project="bad", times=1)
    mirror = mirror_of(index)
    await mirror.cycle()
    assert (mirror.exit_code, mirror.files()) == (0, offered(index))


@pytest.mark.parametrize("list_", ["root", "config"])
async def test_all_pages_are_missing(simulator, mirror_of, list_):
    """Where each page answers 404, the message asks whether the URL is right, and nothing else is asked for."""
    index = await simulator()
    publish(index)
    index.inject(Status(status=404), kind="page")
    mirror = mirror_of(index)
    if list_ == "config":
        mirror.configure("main", list="config", projects=("bad", "good"))
    for options in ({}, {"dry_run": True}):
        report = await mirror.cycle(**options)
        assert failures(report) == [("main", "bad", None, "not-found"), ("main", "good", None, "not-found")]
        assert all("is its url right" in f.detail or "index's url right" in f.detail for f in report.failures)
        assert all("+simple/" in f.detail and "although" not in f.detail for f in report.failures)
        assert {"event": "all-pages-missing", "index": "main"} in report.events
    assert set(paths_of(index)) == {"/simple/bad/", "/simple/good/"} | ({"/simple/"} if list_ == "root" else set())
    details = {row[0] for row in mirror.query("SELECT detail FROM failure WHERE project != ''")}
    assert all("+simple/" in detail for detail in details)


@pytest.mark.parametrize(("list_", "words"), [("root", "although the index lists it"), ("config", "names it")])
async def test_one_page_is_missing(simulator, mirror_of, list_, words):
    """One page of several is a matter of the index; with list = "config" the index does not list it."""
    index = await simulator()
    publish(index)
    index.inject(Status(status=404), kind="page", project="bad")
    mirror = mirror_of(index)
    if list_ == "config":
        mirror.configure("main", list="config", projects=("bad", "good"))
    report = await mirror.cycle()
    assert words in report.failures[0].detail
    assert report.events == []


async def test_a_missing_file_where_the_configuration_lists(simulator, mirror_of):
    """A file is listed by its page, not by the index."""
    index = await simulator()
    publish(index)
    index.inject(Status(status=404), kind="file", project="bad")
    mirror = mirror_of(index)
    mirror.configure("main", list="config", projects=("bad", "good"))
    report = await mirror.cycle()
    assert "although its page lists it" in report.failures[0].detail


@pytest.mark.parametrize(
    "fault", [Status(status=405), Status(status=404), Page(body=b"<html><body>Welcome</body></html>")],
    ids=["405", "404", "welcome"],
)  # fmt: skip
async def test_a_url_without_simple(simulator, mirror_of, fault):
    """An address that lacks …/simple/ is pointed out; one that has it is not."""
    index = await simulator()
    publish(index)
    index.inject(fault)
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert "without …/simple/" not in report.failures[0].detail
    mirror.configure("main", url=index.url.removesuffix("simple/") + "repository/")
    report = await mirror.cycle()
    assert (mirror.exit_code, "without …/simple/" in report.failures[0].detail) == (4, True)


async def test_a_proxy_that_asks_for_a_password(simulator, mirror_of):
    """407 is one try, and the proxy is named, without its user name and password."""
    index, proxy = await simulator(), await simulator()
    publish(index)
    proxy.inject(Status(status=407))
    mirror = mirror_of(index)
    address = proxy.url.removesuffix("/simple/")
    mirror.configure("main", proxy=address.replace("://", "://user:hidden-word@"))
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([("main", None, None, "unreachable")], 4)
    detail = report.failures[0].detail
    assert f"the proxy answered 407 ({address})" in detail
    assert "hidden-word" not in detail
    assert "tries" not in detail
    assert (len(proxy.requests), index.requests) == (1, [])


def test_the_documents_say_so():
    """The page about refusals names the statuses that are tried once."""
    text = (Path(__file__).parents[2] / "docs/explanation/refusals.md").read_text()
    assert all(str(status) in text for status in (203, 402, 405, 406, 407, 451))
