"""Pages stay on the index's origin, unless the configuration names other hosts for them."""

from __future__ import annotations

import pytest

from harness.in_process import Mirror, failures, offered
from simulator import Page, Redirect, Simulator, build_wheel

EVIL = build_wheel("alpha", "9.0")


async def two(simulator, mirror_of, **settings) -> tuple[Simulator, Simulator, Mirror]:
    """Return an index that holds alpha and beta, another that has an alpha too, and a mirror of the first."""
    index = await simulator(username="user", password="secret", **settings)
    other = await simulator(**settings)
    for name in ("alpha", "beta"):
        index.state.publish(name, *build_wheel(name, "1.0"))
    other.state.publish("alpha", *EVIL)
    mirror = mirror_of(index)
    mirror.configure("main", auth=None)
    mirror.env = {"MIRROR_MAIN_USERNAME": "user", "MIRROR_MAIN_PASSWORD": "secret"}
    return index, other, mirror


def host(simulator: Simulator) -> str:
    return simulator.url.partition("://")[2].partition("/")[0]


def events(report) -> list[dict[str, str]]:
    return [e for e in report.events if e["event"] == "page-origin-changed"]


async def test_a_forwarded_name_never_becomes_the_page_of_a_held_project(simulator, mirror_of):
    """An index that forwards a name that it lost is refused; what is held stays, the other host is not asked."""
    index, other, mirror = await two(simulator, mirror_of)
    await mirror.cycle()
    before = mirror.files()
    index.inject(Redirect(url=f"{other.url}alpha/"), kind="page", project="alpha")
    index.state.publish("beta", *build_wheel("beta", "2.0"))

    for _ in range(3):
        report = await mirror.cycle()

    assert failures(report) == [("main", "alpha", None, "redirect-refused")]
    assert host(other) in report.failures[0].detail
    assert "page-hosts" in report.failures[0].detail
    assert (mirror.files()["alpha"], mirror.exit_code) == (before["alpha"], 5)
    assert len(mirror.files()["beta"]) == 2
    assert other.take_requests() == []

    index.faults.clear()
    report = await mirror.cycle()
    assert (mirror.files(), failures(report), events(report)) == (offered(index), [], [])


@pytest.mark.parametrize("validators", ["etag", "none"])
async def test_a_host_that_is_configured(simulator, mirror_of, validators):
    """Pages come from it without the credential; that a page comes from there now is told once, and so is the return."""
    index, other, mirror = await two(simulator, mirror_of, validators=validators)
    mirror.configure("main", page_hosts=(host(other),))
    assert events(await mirror.cycle()) == []
    del index.state.projects["alpha"]
    index.state.create_project("gamma")
    index.inject(Redirect(url=f"{other.url}alpha/"), kind="page", project="alpha")
    root = '<a href="alpha/">alpha</a><a href="beta/">beta</a>'
    index.inject(Page(body=root.encode()), kind="root")

    report = await mirror.cycle()

    own, foreign = index.url.removesuffix("/simple/"), other.url.removesuffix("/simple/")
    change = {"event": "page-origin-changed", "index": "main", "from": own, "to": foreign, "project": "alpha"}
    assert (events(report), failures(report)) == ([change], [])
    assert EVIL[0] in mirror.files()["alpha"]
    assert all("authorization" not in r.headers for r in other.take_requests())
    assert events(await mirror.cycle()) == []
    assert all("authorization" not in r.headers for r in other.take_requests())

    index.faults.clear()
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    assert events(await mirror.cycle()) == [{**change, "from": foreign, "to": own}]


async def test_the_root_stays_too(simulator, mirror_of):
    """A root that comes from elsewhere ends the index's part with exit code 4, until its host is configured."""
    index, other, mirror = await two(simulator, mirror_of)
    await mirror.cycle()
    before = mirror.files()
    index.inject(Redirect(url=other.url), kind="root")

    report = await mirror.cycle()

    assert (failures(report), mirror.exit_code) == ([("main", None, None, "redirect-refused")], 4)
    assert host(other) in report.failures[0].detail
    assert (mirror.files(), other.take_requests()) == (before, [])

    mirror.configure("main", page_hosts=(host(other),))
    report = await mirror.cycle()
    assert [(e["to"], "project" in e) for e in events(report)][:1] == [(other.url.removesuffix("/simple/"), False)]


async def test_links_of_the_root_to_another_host(simulator, mirror_of):
    """A configured host's pages are asked there without the credential; another one is named for its project alone."""
    index, other, mirror = await two(simulator, mirror_of)
    body = f'<a href="beta/">beta</a><a href="{other.url}alpha/">alpha</a>'
    index.inject(Page(body=body.encode()), kind="root")

    report = await mirror.cycle()
    assert failures(report) == [("main", "alpha", None, "redirect-refused")]
    assert (other.take_requests(), list(mirror.files()), mirror.exit_code) == ([], ["beta"], 5)

    mirror.configure("main", page_hosts=(host(other),))
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([], 0)
    assert mirror.files()["alpha"] == offered(other)["alpha"]
    assert {("authorization" in r.headers, r.path) for r in other.take_requests() if r.kind == "page"} == {
        (False, "/simple/alpha/")
    }


async def test_a_refused_link_is_no_absence(simulator, mirror_of):
    """A held project whose link turns to another host stays listed and held."""
    index, other, mirror = await two(simulator, mirror_of)
    await mirror.cycle()
    before = mirror.files()
    body = f'<a href="beta/">beta</a><a href="{other.url}alpha/">alpha</a>'
    index.inject(Page(body=body.encode()), kind="root")
    for _ in range(3):
        report = await mirror.cycle()
    assert failures(report) == [("main", "alpha", None, "redirect-refused")]
    assert mirror.files() == before


async def test_names_from_the_configuration(simulator, mirror_of):
    """With ``list = "config"`` the same rule holds for redirects."""
    index, other, mirror = await two(simulator, mirror_of)
    mirror.configure("main", list="config", projects=("alpha", "beta"))
    index.inject(Redirect(url=f"{other.url}alpha/"), kind="page", project="alpha")
    assert failures(await mirror.cycle()) == [("main", "alpha", None, "redirect-refused")]
    mirror.configure("main", page_hosts=(host(other),))
    assert failures(await mirror.cycle()) == []
    assert EVIL[0] in mirror.files()["alpha"]


async def test_files_may_come_from_anywhere(simulator, mirror_of):
    """The rule is for pages: a file's redirect to another host is followed as before."""
    index = await simulator(second_origin=True)
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    mirror = mirror_of(index)
    assert failures(await mirror.cycle()) == []
    assert mirror.files() == offered(index)


async def test_an_index_that_forwards(simulator, mirror_of):
    """A name that only the configuration has is not taken from the index to which it is forwarded."""
    public = await simulator()
    public.state.publish("alpha", *EVIL)
    index = await simulator(forward_to=public.url)
    index.state.publish("beta", *build_wheel("beta", "1.0"))
    mirror = mirror_of(index)
    mirror.configure("main", list="config", projects=("alpha", "beta"))
    report = await mirror.cycle()
    assert failures(report) == [("main", "alpha", None, "redirect-refused")]
    assert (list(mirror.files()), public.take_requests()) == (["beta"], [])
