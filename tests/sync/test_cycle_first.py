"""First cycles, cycles in which nothing happened, and additions."""

from __future__ import annotations

import pytest

from harness.in_process import counters, offered, requests
from simulator import build_sdist, build_wheel, wheel_metadata


def publish_two(simulator):
    simulator.state.publish("alpha", *build_wheel("alpha", "1.0", requires_python=">=3.8"), requires_python=">=3.8")
    simulator.state.publish("alpha", *build_sdist("alpha", "1.0"))
    simulator.state.publish("beta", *build_wheel("beta", "2.0+cgr.1"))


async def test_first_cycle_holds_all(simulator, mirror_of):
    """The first cycle holds every file of every listed project and says so."""
    index = await simulator()
    publish_two(index)
    mirror = mirror_of(index)

    report = await mirror.cycle()

    assert mirror.files() == offered(index)
    assert (report.outcome.value, mirror.exit_code, report.failures) == ("complete", 0, [])
    assert counters(report) == {"projects_listed": 2, "projects_checked": 2, "projects_changed": 2, "files_new": 3}
    assert report.indexes["main"].requests == 6
    sizes = [len(f.data) for p in index.state.projects.values() for f in p.files.values()]
    assert report.indexes["main"].bytes_downloaded == sum(sizes)


async def test_labels_pass_through(simulator, mirror_of):
    """Upload time, requires-python, metadata and unknown keys of page and file arrive as the index said them."""
    index = await simulator()
    name, data = build_wheel("alpha", "1.0")
    index.state.publish(
        "alpha", name, data, requires_python=">=3.9", upload_time="2026-02-03T04:05:06.700000Z", extra={"x-file": [1]}
    )
    index.state.create_project("alpha", extra={"x-page": {"a": 1}}, extra_meta={"x-meta": 2}, versions=("0.9", "1.0"))
    mirror = mirror_of(index)

    await mirror.cycle()

    file = index.state["alpha"].files[name]
    import hashlib

    assert mirror.labels("alpha", name) == {
        "hashes": {"sha256": file.hash("sha256")},
        "size": len(data),
        "upload-time": "2026-02-03T04:05:06.700000Z",
        "requires-python": ">=3.9",
        "yanked": False,
        "core-metadata": {"sha256": hashlib.sha256(wheel_metadata(data)).hexdigest()},
        "x-file": [1],
    }
    page = mirror.page("alpha")
    assert (page["x-page"], page["meta"]["x-meta"], page["versions"]) == ({"a": 1}, 2, ["0.9", "1.0"])


async def test_nothing_new_with_serials_costs_one_request(simulator, mirror_of):
    """With serials in the root, a cycle in which nothing changed makes one request and writes no page."""
    index = await simulator(serials=True)
    publish_two(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.footprint()
    index.take_requests()

    report = await mirror.cycle()

    assert requests(index) == [("root", None, None, 304)]
    assert mirror.footprint() == before
    assert report.outcome.value == "complete"
    assert counters(report) == {"projects_listed": 2, "projects_checked": 2, "projects_unchanged": 2}


async def test_nothing_new_with_serials_and_no_validators(simulator, mirror_of):
    """Serials are enough: a root without ETag is read, and no page is asked for."""
    index = await simulator(serials=True, validators="none")
    publish_two(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.footprint()
    index.take_requests()

    await mirror.cycle()

    assert requests(index) == [("root", None, None, 200)]
    assert mirror.footprint() == before


@pytest.mark.parametrize(
    ("validators", "status"),
    [("etag", 304), ("last-modified", 304), ("none", 200)],
    ids=["etag", "last-modified", "digest"],
)
@pytest.mark.parametrize("formats", ["json", "html"])
async def test_nothing_new_without_serials(simulator, mirror_of, validators, status, formats):
    """Without serials each page is asked for once, conditionally, and nothing is written."""
    index = await simulator(validators=validators, formats=formats)
    publish_two(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before, revisions = mirror.footprint(), mirror.query("SELECT count(*) FROM revision")
    index.take_requests()

    report = await mirror.cycle()

    assert requests(index) == [
        ("page", "alpha", None, status),
        ("page", "beta", None, status),
        ("root", None, None, status),
    ]
    assert mirror.footprint() == before
    assert mirror.query("SELECT count(*) FROM revision") == revisions
    assert counters(report) == {"projects_listed": 2, "projects_checked": 2, "projects_unchanged": 2}


@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
async def test_new_release(simulator, mirror_of, serials):
    """Of a new release only its files are fetched, and only its project's page and the root are written."""
    index = await simulator(serials=serials)
    publish_two(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.footprint()
    index.take_requests()
    name, data = build_wheel("alpha", "1.1")
    index.state.publish("alpha", name, data)

    report = await mirror.cycle()

    assert mirror.files() == offered(index)
    assert report.indexes["main"].bytes_downloaded == len(data)
    assert [r for r in requests(index) if r[0] == "file"] == [("file", "alpha", name, 200)]
    changed = {path for path, mark in mirror.footprint().items() if before.get(path) != mark}
    pages = {f"public/simple/{d}{p}" for d in ("", "alpha/") for p in ("index.html", "index.v1_html", "index.v1_json")}
    assert {path for path in changed if path.startswith("public/simple/")} == pages


async def test_new_project(simulator, mirror_of):
    """A project that the index newly lists joins the root; the pages of the others stay as they are."""
    index = await simulator(serials=True)
    publish_two(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.footprint()
    index.take_requests()
    index.state.publish("gamma", *build_wheel("gamma", "1.0"))

    report = await mirror.cycle()

    assert mirror.files() == offered(index)
    assert [r[:2] for r in requests(index)] == [("file", "gamma"), ("page", "gamma"), ("root", None)]
    assert counters(report) == {
        "projects_listed": 3,
        "projects_checked": 3,
        "projects_unchanged": 2,
        "projects_changed": 1,
        "files_new": 1,
    }
    old = [path for path in before if "alpha" in path or "beta" in path]
    assert {path: before[path] for path in old} == {path: mirror.footprint()[path] for path in old}


async def test_project_without_files_has_no_page_until_it_has_one(simulator, mirror_of):
    """A project of which nothing is held yet is not in our root; with its first file it joins."""
    index = await simulator()
    index.state.create_project("empty")
    mirror = mirror_of(index)
    assert (await mirror.cycle()).outcome.value == "complete"
    assert mirror.files() == {}
    index.state.publish("empty", *build_wheel("empty", "1.0"))

    await mirror.cycle()

    assert mirror.files() == offered(index)


async def test_a_root_whose_serial_went_back_is_not_trusted(simulator, mirror_of):
    """When the root's serial goes backwards, equal serials prove nothing: each page is asked for once."""
    index = await simulator(serials=True)
    publish_two(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.serial -= 1
    index.take_requests()

    await mirror.cycle()

    assert [r[:2] for r in requests(index)] == [("page", "alpha"), ("page", "beta"), ("root", None)]
    await mirror.cycle()
    assert [r[:2] for r in requests(index)] == [("root", None)]


async def test_a_stale_page_is_asked_again_and_never_published_over_a_newer_one(simulator, mirror_of):
    """A page older than what the root says is asked again without validators, and again in the next cycle."""
    index = await simulator(serials=True)
    publish_two(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.freeze("alpha")
    index.state.publish("alpha", *build_wheel("alpha", "1.1"))
    stale = mirror.files()

    await mirror.cycle()
    assert mirror.files() == stale
    index.thaw()
    index.take_requests()

    await mirror.cycle()
    assert mirror.files() == offered(index)
    assert ("page", "beta", None, 304) not in requests(index)


async def test_full_reads_every_page_again(simulator, mirror_of):
    """``--full`` asks for every page without validators, and downloads nothing that is held."""
    index = await simulator(serials=True)
    publish_two(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.take_requests()

    report = await mirror.cycle(full=True)

    assert requests(index) == [("page", "alpha", None, 200), ("page", "beta", None, 200), ("root", None, None, 200)]
    assert counters(report) == {"projects_listed": 2, "projects_checked": 2, "projects_unchanged": 2}


async def test_files_behind_redirects_and_a_credential(simulator, mirror_of):
    """An authenticated index whose files lie at another origin is mirrored whole."""
    from mirror.config import AuthConfig

    index = await simulator(
        username="org/token", password="a-secret", second_origin=True, links="relative", prefix="/python"
    )
    publish_two(index)
    mirror = mirror_of(index)
    mirror.env = {"TOKEN": "a-secret"}
    mirror.configure("main", auth=AuthConfig(kind="basic", username="org/token", password_env="TOKEN"))

    report = await mirror.cycle()

    assert (mirror.files(), report.outcome.value) == (offered(index), "complete")


@pytest.mark.parametrize("reason", [True, "broken wheel"], ids=["no-reason", "reason"])
@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
async def test_yanked_and_unyanked_at_once(simulator, mirror_of, reason, serials):
    """A yank, and its taking back, shows in the next cycle; no file is downloaded for it."""
    index = await simulator(serials=serials)
    publish_two(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    name = build_wheel("alpha", "1.0")[0]
    before = mirror.labels("alpha", name)
    index.take_requests()

    index.state.yank("alpha", name, reason)
    report = await mirror.cycle()
    assert mirror.labels("alpha", name) == before | {"yanked": reason}
    assert report.indexes["main"].bytes_downloaded == 0

    index.state.unyank("alpha", name)
    report = await mirror.cycle()
    assert mirror.labels("alpha", name) == before
    assert [r for r in requests(index) if r[0] == "file"] == []
    history = mirror.query(
        "SELECT yanked IS NOT NULL, valid_to IS NULL FROM entry WHERE filename = ? ORDER BY id", name
    )
    assert history == [(0, 0), (1, 0), (0, 1)]
