"""The names that rules leave out: kept with their rules, bounded, and written only when a page changed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from harness.in_process import offered
from simulator import build_sdist, build_wheel

WHEEL, SDIST = build_wheel("lib", "1.0"), build_sdist("lib", "1.0")


def left_out(mirror):
    """Return what the state keeps: (index, project) -> rule -> (count, names)."""
    found: dict[tuple[str, str], dict[str, tuple[int, list[str]]]] = {}
    for index, project, rule, files, names in mirror.query(
        "SELECT s.name, p.name, l.rule, l.files, l.names FROM left_out l JOIN project p ON p.id = l.project"
        " JOIN source s ON s.id = p.source ORDER BY 1, 2, 3"
    ):
        found.setdefault((index, project), {})[rule] = (files, json.loads(names))
    return found


async def test_each_left_out_name_is_kept_with_its_rule(simulator, mirror_of):
    """Rules are named by their keys; a name that is wanted again is forgotten; so is a project that leaves."""
    index = await simulator()
    index.state.publish("lib", *WHEEL)
    index.state.publish("lib", *SDIST)
    index.state.publish("lib", "lib-2.0.tar.gz", b"passed through", directory="python-upstream")
    index.state.publish("lib", "lib-1.0.zip", b"odd")
    mirror = mirror_of(index)
    mirror.configure("main", files=("*.whl", "*.tar.gz"), exclude_files=(SDIST[0],))

    await mirror.cycle()
    assert left_out(mirror) == {
        ("main", "lib"): {
            "exclude-files": (1, [SDIST[0]]),
            "files": (1, ["lib-1.0.zip"]),
            "skip-url-patterns": (1, ["lib-2.0.tar.gz"]),
        }
    }

    mirror.configure("main", exclude_files=(), skip_url_patterns=())
    report = await mirror.cycle()
    assert left_out(mirror) == {("main", "lib"): {"files": (1, ["lib-1.0.zip"])}}
    assert report.indexes["main"].files_skipped == 1

    mirror.configure("main", exclude_projects=("lib",))
    report = await mirror.cycle()
    assert left_out(mirror) == {}
    assert report.indexes["main"].files_skipped == 0


async def test_at_most_a_thousand_names_are_kept_for_a_project(simulator, mirror_of):
    """Beyond that the count alone is kept, exact for each rule."""
    index = await simulator()
    index.state.publish("lib", *WHEEL)
    for number in range(1003):
        index.state.publish("lib", f"lib-{number:04}.zip", b"x")
    index.state.publish("lib", "lib-9999.tar.gz", b"x")
    mirror = mirror_of(index)
    mirror.configure("main", files=("*.whl",), exclude_files=("*.tar.gz",))

    report = await mirror.cycle()

    assert report.indexes["main"].files_skipped == 1004
    assert left_out(mirror) == {
        ("main", "lib"): {
            "exclude-files": (1, []),
            "files": (1003, [f"lib-{number:04}.zip" for number in range(1000)]),
        }
    }


async def test_names_are_written_only_when_the_page_changed(simulator, mirror_of):
    """Neither an unchanged page nor one that is read again writes them; a page that changed does."""
    index = await simulator()
    index.state.publish("lib", *WHEEL)
    index.state.publish("lib", *SDIST)
    index.state.publish("other", *build_sdist("other", "1.0"))
    mirror = mirror_of(index)
    mirror.configure("main", files=("*.whl",))
    await mirror.cycle()
    mirror.query("CREATE TABLE written (rule TEXT)")
    for event in ("INSERT", "DELETE", "UPDATE"):
        row = "old" if event == "DELETE" else "new"
        mirror.query(
            f"CREATE TRIGGER on_{event} AFTER {event} ON left_out BEGIN INSERT INTO written VALUES ({row}.rule); END"
        )

    await mirror.cycle()
    await mirror.cycle(full=True)
    assert mirror.query("SELECT count(*) FROM written") == [(0,)]

    index.state.publish("lib", *build_sdist("lib", "2.0"))
    await mirror.cycle()
    assert mirror.query("SELECT count(*) FROM written") == [(2,)]
    assert left_out(mirror)["main", "lib"] == {"files": (2, [SDIST[0], build_sdist("lib", "2.0")[0]])}


async def test_what_the_owner_has_is_not_left_out_of_the_overlay(simulator, mirror_of):
    """An overlay counts neither the files that the owner publishes nor those that the owner leaves out by name."""
    owner, overlay = await simulator(), await simulator()
    for index in (owner, overlay):
        index.state.publish("lib", *WHEEL)
        index.state.publish("lib", *SDIST)
    owner.state.publish("lib", "lib-2.0.tar.gz", b"passed through", directory="python-upstream")
    overlay.state.publish("lib", "lib-2.0.tar.gz", b"passed through")
    overlay.state.publish("lib", "lib-1.0.zip", b"odd")
    mirror = mirror_of(owner=owner, overlay=overlay)
    mirror.configure("owner", exclude_files=(SDIST[0], "*.zip"))
    mirror.configure("overlay", overlay=True)

    report = await mirror.cycle()

    assert set(mirror.files()["lib"]) == {WHEEL[0], "lib-2.0.tar.gz"}
    assert left_out(mirror) == {
        ("owner", "lib"): {"exclude-files": (1, [SDIST[0]]), "skip-url-patterns": (1, ["lib-2.0.tar.gz"])},
        ("overlay", "lib"): {"exclude-files": (1, ["lib-1.0.zip"])},
    }
    assert {name: i.files_skipped for name, i in report.indexes.items()} == {"owner": 2, "overlay": 1}


async def test_names_that_an_older_version_did_not_keep_come_with_a_full_cycle(simulator, mirror_of):
    """Where pages are unchanged after an upgrade the count alone is known, until every page is read again."""
    index = await simulator()
    index.state.publish("lib", *WHEEL)
    index.state.publish("lib", *SDIST)
    mirror = mirror_of(index)
    mirror.configure("main", files=("*.whl",))
    await mirror.cycle()
    with closing(sqlite3.connect(mirror.root / "state.db")) as connection:
        connection.execute("DELETE FROM left_out")
        connection.commit()

    report = await mirror.cycle()
    assert (report.indexes["main"].files_skipped, left_out(mirror)) == (1, {})
    await mirror.cycle(full=True)
    assert left_out(mirror) == {("main", "lib"): {"files": (1, [SDIST[0]])}}
    assert mirror.files() == {"lib": {WHEEL[0]: offered(index)["lib"][WHEEL[0]]}}
