"""What can't be read is not taken for absent: pages that were cut, items without a name, marks that warn."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.in_process import Mirror, counters, failures, offered
from mirror.core.names import ProjectName
from mirror.core.pages.parse_html import parse_project_page
from mirror.errors import BadPage, Reason
from simulator import JSON_TYPE, Page, Simulator, Unframed, build_wheel

Simulators = Callable[..., Awaitable[Simulator]]
Make = Callable[..., Mirror]

PROJECT = "tide-tables"


def wheel(version: str) -> tuple[str, bytes]:
    """Return the project's wheel of a version."""
    return build_wheel(PROJECT, version)


NAMES = [wheel(version)[0] for version in ("1.0", "1.1", "1.2")]


@pytest.fixture
def mirror_of(tmp_path: Path) -> Make:
    """Make a mirror of simulators by their names."""
    return lambda **simulators: Mirror(tmp_path / "mirror", simulators)


async def filled(simulator: Simulators, **settings: Any) -> Simulator:
    """Return an index of two projects."""
    index = await simulator(**settings)
    for version in ("1.0", "1.1", "1.2"):
        index.state.publish(PROJECT, *wheel(version))
    index.state.publish("other", *build_wheel("other", "1.0"))
    return index


CUTS = {"root": b"tide-tables</a>", "page": b"1.0-py3-none-any.whl</a>"}


@pytest.mark.parametrize("settings", [{}, {"validators": "none"}, {"serials": True}], ids=["etag", "none", "serials"])
@pytest.mark.parametrize("kind", CUTS)
async def test_a_cut_page_removes_nothing(
    simulator: Simulators,
    mirror_of: Make,
    capsys: pytest.CaptureFixture[str],
    kind: Any,
    settings: dict[str, Any],
) -> None:
    """Cut within its list, without a length: nothing is missed in any number of looks; whole again, all counts as before."""
    index = await filled(simulator, formats="html", **settings)
    mirror = mirror_of(main=index)
    await mirror.cycle()
    before = mirror.files()
    index.state.publish("new", *build_wheel("new", "1.0"))
    index.state.publish(PROJECT, *wheel("1.3"))
    index.inject(Unframed(behind=CUTS[kind]), kind=kind, project=PROJECT if kind == "page" else None)
    capsys.readouterr()
    for _ in range(3):
        index.take_requests()
        report = await mirror.cycle()
        assert counters(report).get("files_absent", 0) == counters(report).get("files_removed", 0) == 0
        assert index.count(kind=kind, status=200) >= 1, "it is read again in each cycle"
        assert "it may have been cut" in "".join(capsys.readouterr())
        assert failures(report) == []
    now = mirror.files()
    assert all(now[project].items() >= files.items() for project, files in before.items())

    index.faults.clear()
    index.state.remove_file(PROJECT, NAMES[2])
    await mirror.cycle()
    assert NAMES[2] in mirror.files()[PROJECT], "one look has missed it"
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_what_a_cut_page_lists_is_held(simulator: Simulators, mirror_of: Make) -> None:
    """A new file that stands before the cut is fetched, and what an earlier look missed stays."""
    index = await filled(simulator, formats="html")
    mirror = mirror_of(main=index)
    await mirror.cycle()
    index.state.remove_file(PROJECT, NAMES[0])
    await mirror.cycle()
    index.state.publish(PROJECT, *wheel("1.3"))
    index.inject(Unframed(behind=b"1.3-py3-none-any.whl</a>"), kind="page", project=PROJECT)
    for _ in range(2):
        await mirror.cycle()
    assert sorted(mirror.files()[PROJECT]) == [*NAMES, wheel("1.3")[0]]


@pytest.mark.parametrize("formats", ["html", "json"])
async def test_a_whole_page_without_a_length_counts(simulator: Simulators, mirror_of: Make, formats: str) -> None:
    """With </html>, or as JSON, a page is known to be whole: what it no longer lists leaves after two looks."""
    index = await filled(simulator, formats=formats)
    index.inject(Unframed(), kind="page")
    index.inject(Unframed(), kind="root")
    mirror = mirror_of(main=index)
    await mirror.cycle()
    index.state.remove_file(PROJECT, NAMES[1])
    index.state.unlist_project("other")
    for _ in range(2):
        await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_a_cut_root_leaves_its_names_to_nobody(simulator: Simulators, mirror_of: Make) -> None:
    """While the root of an earlier index came only cut, a later one publishes nothing new: it may not own it."""
    owner, later = await filled(simulator, formats="html"), await filled(simulator)
    later.state.publish("other", *build_wheel("other", "9.0"))
    owner.inject(Unframed(behind=CUTS["root"]), kind="root", times=2)
    mirror = mirror_of(owner=owner, later=later)
    for _ in range(2):
        await mirror.cycle()
        assert mirror.files() == {PROJECT: offered(owner)[PROJECT]}
    await mirror.cycle()
    assert mirror.files() == offered(owner)


NAMELESS = [5, None, {"filename": 7, "url": "x.whl"}, {"url": "x.whl"}, {"filename": None}]


@pytest.mark.parametrize("item", NAMELESS, ids=repr)
async def test_a_file_without_a_name_may_be_any(simulator: Simulators, mirror_of: Make, item: Any) -> None:
    """A page with an item whose name can't be read removes nothing, and the item is named as refused."""
    index = await filled(simulator)
    mirror = mirror_of(main=index)
    await mirror.cycle()
    before = mirror.files()
    page = {"meta": {"api-version": "1.1"}, "name": PROJECT, "versions": [], "files": [item]}
    index.inject(Page(body=json.dumps(page).encode(), content_type=JSON_TYPE), kind="page", project=PROJECT)
    for _ in range(3):
        report = await mirror.cycle(full=True)
        assert failures(report) == [("main", PROJECT, "(no name)", "unsafe-name")]
    assert mirror.files() == before


@pytest.mark.parametrize("item", [5, None, {"name": 7}, {}], ids=repr)
async def test_a_project_without_a_name_may_be_any(simulator: Simulators, mirror_of: Make, item: Any) -> None:
    """A root with an item whose name can't be read removes nothing."""
    index = await filled(simulator)
    mirror = mirror_of(main=index)
    await mirror.cycle()
    before = mirror.files()
    root = {"meta": {"api-version": "1.1"}, "projects": [{"name": PROJECT}, item]}
    index.inject(Page(body=json.dumps(root).encode(), content_type=JSON_TYPE), kind="root")
    for _ in range(3):
        await mirror.cycle()
    assert mirror.files() == before


@pytest.mark.parametrize("status", ["archived", ["quarantined"], 1, {"status": 1}, {"status": ["x"]}], ids=repr)
@pytest.mark.parametrize("role", ["owner", "overlay"])
async def test_a_status_that_cannot_be_read(simulator: Simulators, mirror_of: Make, status: Any, role: str) -> None:
    """It makes the page a bad-page, and nothing of it changes what is held; the same for an overlay's page."""
    owner, overlay = await filled(simulator), await simulator()
    overlay.state.publish(PROJECT, *wheel("2.0"))
    mirror = mirror_of(owner=owner, overlay=overlay)
    mirror.configure("overlay", overlay=True)
    await mirror.cycle()
    before = mirror.files()
    changed = {"owner": owner, "overlay": overlay}[role]
    changed.state.create_project(PROJECT, extra={"project-status": status})
    changed.state.publish(PROJECT, *wheel("3.0"))
    for _ in range(2):
        report = await mirror.cycle()
        assert failures(report) == [(role, PROJECT, None, "bad-page")]
    assert mirror.files() == before
    changed.state.create_project(PROJECT, extra={})
    await mirror.cycle()
    assert wheel("3.0")[0] in mirror.files()[PROJECT]


@pytest.mark.parametrize("yanked", [1, 0, ["x"], [], {"reason": "x"}], ids=repr)
@pytest.mark.parametrize("role", ["owner", "overlay"])
async def test_a_yank_that_cannot_be_read(simulator: Simulators, mirror_of: Make, yanked: Any, role: str) -> None:
    """It counts as a yank, of a held file at once, of an overlay's file too."""
    owner, overlay = await filled(simulator), await simulator()
    overlay.state.publish(PROJECT, *wheel("2.0"))
    mirror = mirror_of(owner=owner, overlay=overlay)
    mirror.configure("overlay", overlay=True)
    await mirror.cycle()
    index, name = (owner, NAMES[0]) if role == "owner" else (overlay, wheel("2.0")[0])
    index.state.change(PROJECT, name, yanked=yanked)
    await mirror.cycle()
    assert mirror.labels(PROJECT, name)["yanked"] is True
    for value in (None, False, ""):
        index.state.change(PROJECT, name, yanked=value)
        await mirror.cycle()
        assert mirror.labels(PROJECT, name)["yanked"] is False


@pytest.mark.parametrize(
    ("metas", "status"),
    [
        (["active", "quarantined"], None),
        (["", "quarantined"], None),
        (["quarantined", "archived"], None),
        (["Quarantined", " quarantined "], "quarantined"),
    ],
    ids=str,
)
def test_a_page_with_two_statuses(metas: list[str], status: str | None) -> None:
    """Of two different statuses one may say that nobody must use the project: such a page is a bad-page."""
    tags = "".join(f'<meta name="pypi:project-status" content="{meta}">' for meta in metas)
    page = f'<html><head><meta name="pypi:repository-version" content="1.4">{tags}</head></html>'.encode()
    with pytest.raises(BadPage) if status is None else contextlib.nullcontext():
        found = parse_project_page(page, project=ProjectName(PROJECT), url="https://index.example/simple/demo/")
        assert found.meta.status == status


def test_a_digest_behind_a_second_hash_mark() -> None:
    """Pip finds a digest there, so that one that is malformed refuses the file for us too."""
    page = f'<html><a href="demo-1.0.zip#x#sha256={"a" * 63}">demo-1.0.zip</a></html>'.encode()
    found = parse_project_page(page, project=ProjectName(PROJECT), url="https://index.example/simple/demo/")
    assert [(file.name, file.reason) for file in found.refused] == [("demo-1.0.zip", Reason.BAD_FILE)]
