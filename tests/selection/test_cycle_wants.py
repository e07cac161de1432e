"""A cycle mirrors exactly what a want needs, and the proof says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.in_process import failures, requests
from harness.wants import WantingMirror, add, proofs
from mirror.config import TargetConfig
from mirror.daemon.progress import cycle_marker, describe_cycle
from mirror.errors import TreeError
from mirror.jobs.prove import prove_after_cycle
from mirror.sync.cycle import run_cycle


async def test_closure_of_one_requirement(tmp_path: Path, simulator) -> None:
    """The newest version and its dependencies are mirrored; an idle cycle asks for their pages once and starts no
    resolver; the proof says that it installs.
    """
    main = await simulator()
    add(main, "app", "1.0", "lib>=1")
    add(main, "app", "2.0", "lib>=2", "win-only; sys_platform == 'win32'")
    for version in ("1.0", "2.0", "3.0"):
        add(main, "lib", version)
    add(main, "other", "1.0")
    mirror = WantingMirror(tmp_path / "mirror", {"main": main})
    mirror.want("app")
    report = await mirror.cycle()
    assert report.failures == []
    assert mirror.names() == {"app-2.0-py3-none-any.whl", "lib-3.0-py3-none-any.whl"}
    assert mirror.exit_code == 0
    main.take_requests()
    await mirror.cycle()
    pages = [("page", "app", None, 304), ("page", "lib", None, 304), ("root", None, None, 304)]
    assert requests(main) == pages
    assert mirror.query("SELECT count(*) FROM resolution WHERE cycle = 1") == [(1,)]
    [proof] = await proofs(mirror)
    assert (proof["target"], proof["installable"], proof["files"]) == ("linux/3.12.4/linux-x86_64", True, 2)


async def test_name_that_no_index_lists(tmp_path: Path, simulator) -> None:
    """A want with a missing dependency fails alone: named in the report, exit code 5, and in the proof."""
    main = await simulator()
    add(main, "app", "1.0", "nowhere>=2")
    mirror = WantingMirror(tmp_path / "mirror", {"main": main})
    mirror.want("app")
    report = await mirror.cycle()
    [(index, project, filename, reason)] = failures(report)
    assert (index, project, filename, reason) == (None, None, None, "unresolved")
    assert report.failures[0].detail.startswith("want apps, target linux/3.12.4/linux-x86_64: nowhere>=2: ")
    assert mirror.exit_code == 5
    [proof] = await proofs(mirror)
    assert not proof["installable"]
    assert [(gap["project"], gap["reason"]) for gap in proof["gaps"]] == [("nowhere", "not-offered")]


async def test_many_targets_at_once(tmp_path: Path, simulator) -> None:
    """Resolutions that ask for the same page at the same time wait for one look at it."""
    main, second = await simulator(core_metadata=True), await simulator(formats="html", validators="none")
    add(main, "app", "1.0", "mid[x]")
    add(main, "mid", "1.0", "deep; extra == 'x'")
    add(second, "deep", "1.0")
    mirror = WantingMirror(tmp_path / "mirror", {"main": main, "second": second})
    pythons = ("3.11.9", "3.12.4", "3.13.1")
    mirror.targets = (TargetConfig(name="all", python=pythons, platforms=("linux-x86_64", "windows-x86_64")),)
    mirror.want("app")
    report = await mirror.cycle()
    assert failures(report) == []
    assert len(mirror.names()) == 3
    assert [r for r in requests(main) + requests(second) if r[0] == "page"] == [
        ("page", "app", None, 200),
        ("page", "mid", None, 200),
        ("page", "deep", None, 200),
    ]


async def test_serials_of_pages_alone_confirm_nothing(tmp_path: Path, simulator) -> None:
    """Where no root lists serials, those of the pages say nothing: a wanted page is asked for in each cycle."""
    main = await simulator(serials=True)
    add(main, "app", "1.0")
    mirror = WantingMirror(tmp_path / "mirror", {"main": main})
    mirror.indexes["main"] |= {"list": "config", "projects": ("app",), "select": "needed"}
    mirror.want("app")
    await mirror.cycle()
    main.take_requests()
    await mirror.cycle()
    assert requests(main) == [("page", "app", None, 304)]
    add(main, "app", "2.0")
    await mirror.cycle()
    assert mirror.names() == {"app-1.0-py3-none-any.whl", "app-2.0-py3-none-any.whl"}


async def test_progress_of_the_proofs(tmp_path: Path, simulator) -> None:
    """The daemon's activity counts the proofs after a cycle, and its watchdog sees each of them. A damaged page is
    named by its place.
    """
    main = await simulator()
    add(main, "app", "1.0")
    mirror = WantingMirror(tmp_path / "mirror", {"main": main})
    mirror.targets = (TargetConfig(name="t", python=("3.11.9", "3.12.4", "3.13.1"), platforms=("linux-x86_64",)),)
    mirror.want("app")
    async with mirror.opened() as cycle:
        await run_cycle(cycle)
        before = cycle_marker(cycle)
        await prove_after_cycle(cycle, mirror.config, mirror.env)
        assert describe_cycle(cycle).partition(": ")[2] == "proving wants: 3 of 3"
        assert cycle_marker(cycle) != before
    page = mirror.root / "public/simple/app/index.v1_json"
    page.write_text("{")
    with pytest.raises(TreeError, match=f"{page}.*damaged"):
        await proofs(mirror)
