"""Links that open a file to everyone who has them, and credentials that an index repeats: neither is kept anywhere."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from harness.in_process import Mirror, failures, offered, requests
from harness.upkeep import blob_of, flip, in_real_time, repair
from mirror.config import AuthConfig
from mirror.state.schema import MIGRATIONS
from mirror.state.store import open_store
from simulator import Corrupt, build_sdist, build_wheel

SIGNATURE = "X-Amz-Signature=5f2b1ec0ffee"
WHEEL = build_wheel("demo", "1.0")
SDIST = build_sdist("demo", "1.1")


def signed(index, filename, signature=SIGNATURE):
    return f"{index.url.removesuffix('/simple/')}/files/demo/{filename}?{signature}"


async def signed_index(simulator, **settings):
    index = await simulator(**settings)
    for filename, data in (WHEEL, SDIST):
        index.state.publish("demo", filename, data, url=signed(index, filename))
    return index


@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
async def test_no_query_is_kept_and_a_retry_reads_the_page_again(simulator, tmp_path, serials):
    """The state keeps links without their query; a retry asks for the page without validators and uses its new link."""
    index = await signed_index(simulator, serials=serials)
    index.inject(Corrupt(), filename=WHEEL[0])
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    report = await mirror.cycle()
    assert failures(report) == [("main", "demo", WHEEL[0], "digest-mismatch")]
    assert [path for path, data in mirror.bytes_on_disk().items() if b"Amz" in data] == []

    index.faults.clear()
    index.take_requests()
    report = await mirror.cycle()
    assert (mirror.exit_code, mirror.files()) == (0, offered(index))
    asked = [r for r in requests(index) if r[0] != "root"]
    assert asked == [("file", "demo", WHEEL[0], 200), ("page", "demo", None, 200)]

    await mirror.cycle()
    assert [r for r in requests(index) if r[0] == "file" or (r[3] == 200 and r[0] == "page")] == []


async def test_an_upgrade_removes_queries_from_old_rows_and_free_pages(tmp_path):
    """A state of an earlier version keeps no query and no signature of a provenance, not even in its free pages."""
    path = tmp_path / "state.db"
    query = "?X-Amz-Signature=5f2b1ec0ffee"
    url = f"https://index.example/files/demo-1.0.tar.gz{query}"
    with closing(sqlite3.connect(path)) as old:
        for number, script in enumerate(MIGRATIONS[:3], start=1):
            old.executescript(f"{script}; PRAGMA user_version = {number};")
        old.execute("INSERT INTO revision (id, cycle, at) VALUES (1, 1, 0)")
        old.execute(
            "INSERT INTO source (id, name, url, position) VALUES (1, 'main', 'https://index.example/simple/', 0)"
        )
        old.execute("INSERT INTO project (id, source, name, extra) VALUES (1, 1, 'demo', ?)", (json.dumps({"x": url}),))
        for number in range(200):
            old.execute(
                "INSERT INTO entry (project, source, filename, sha256, size, digests, url, provenance, extra, valid_from)"
                " VALUES (1, 1, ?, 'aa', 1, '[]', ?, ?, ?, 1)",
                (f"demo-{number}.tar.gz", url, url, json.dumps({"key": {"deep": [url]}})),
            )
        old.execute("DELETE FROM entry WHERE id > 20")
        listed = json.dumps({"filename": "demo-9.tar.gz", "url": url})
        old.execute(
            "INSERT INTO failure (source, project, filename, reason, detail, listed, first_at, last_at, attempts, next_at)"
            " VALUES (1, 'demo', 'demo-9.tar.gz', 'not-found', '', ?, 0, 0, 1, 0)",
            (listed,),
        )
        old.commit()
    assert b"Amz" in path.read_bytes()

    async with open_store(path) as store:
        assert await store.rows("SELECT DISTINCT url, provenance, extra FROM entry") == [
            (
                "https://index.example/files/demo-1.0.tar.gz?",
                None,
                '{"key":{"deep":["https://index.example/files/demo-1.0.tar.gz"]}}',
            )
        ]
        assert await store.rows("SELECT needs_page, listed FROM failure") == [(1, None)]
    assert not any(b"Amz" in file.read_bytes() for file in tmp_path.iterdir())


async def test_unknown_keys_lose_what_opens_a_door(simulator, tmp_path):
    """URLs in unknown keys lose user info and query; a provenance with a query is left out; other data stays."""
    index = await simulator()
    index.state.publish(
        "demo",
        *WHEEL,
        provenance="https://index.example/p?token=1",
        extra={
            "x-link": "see https://user:pw@index.example/a?sig=1#part, or git+ssh://git@code.example/x",
            "x-deep": {"list": ["//index.example/b?sig=2", 7, None, True]},
            "x-relative": "../c?sig=3",
            "x-plain": "what? nothing",
        },
    )
    index.state.create_project("demo", extra={"x-page": ["https://index.example/d?e"]}, extra_meta={"x-meta": "/f?g=h"})
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    await mirror.cycle()
    labels, page = mirror.labels("demo", WHEEL[0]), mirror.page("demo")
    assert {key: labels.get(key) for key in ("x-link", "x-deep", "x-relative", "x-plain", "provenance")} == {
        "x-link": "see https://index.example/a#part, or git+ssh://code.example/x",
        "x-deep": {"list": ["//index.example/b", 7, None, True]},
        "x-relative": "../c",
        "x-plain": "what? nothing",
        "provenance": None,
    }
    assert (page["x-page"], page["meta"]["x-meta"]) == (["https://index.example/d"], "/f")


@pytest.mark.parametrize("formats", ["json", "html"])
async def test_a_credential_that_the_index_repeats_is_left_out(simulator, tmp_path, formats):
    """Texts of a page that contain our password or its encoded form are left out; a yank stays a yank."""
    index = await simulator(username="robot", password="hunter2-hunter2", formats=formats)
    index.state.publish(
        "demo",
        *WHEEL,
        yanked="told hunter2-hunter2 to all",
        requires_python=">=3.8",
        extra={"x-echo": {"deep": ["Basic cm9ib3Q6aHVudGVyMi1odW50ZXIy"]}, "x-hunter2-hunter2": 1, "x-fine": "stays"},
        html_attributes={"data-echo": "hunter2-hunter2", "data-fine": "stays"},
    )
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.env["SECRET"] = "hunter2-hunter2"
    mirror.configure("main", auth=AuthConfig(kind="basic", username="robot", password_env="SECRET"))
    await mirror.cycle()
    labels = mirror.labels("demo", WHEEL[0])
    assert (labels["yanked"], labels["requires-python"]) == (True, ">=3.8")
    assert "stays" in json.dumps(labels)
    for path, data in mirror.bytes_on_disk().items():
        assert b"hunter2" not in data, path
        assert b"cm9ib3Q6" not in data, path


async def test_a_repair_reads_the_page_of_a_link_that_had_a_query(simulator, tmp_path):
    """What verify found damaged is fetched by a link that the page gives now, although the root's serial is the same."""
    index = await signed_index(simulator, serials=True)
    mirror = in_real_time(Mirror(tmp_path / "mirror", {"main": index}))
    await mirror.cycle()
    flip(blob_of(mirror, WHEEL[0], mirror.files()["demo"][WHEEL[0]]))
    index.take_requests()
    await repair(mirror)
    assert mirror.files() == offered(index)
    assert [r for r in requests(index) if r[0] != "root"] == [
        ("file", "demo", WHEEL[0], 200),
        ("page", "demo", None, 200),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"linked_prefix": "/t0ken-of-ours/number"},
        {"documents": True},
        {"spelled": True},
    ],
    ids=["by number", "documents", "spelled"],
)
async def test_addresses_of_pages_are_kept_without_a_secret(simulator, tmp_path, settings):
    """Where the path of the index is a secret, the addresses of its pages are kept relative to it, and still lead there."""
    index = await simulator(formats="html", prefix="/t0ken-of-ours/pypi", **settings)
    index.state.publish("Tide_Tables", *build_wheel("Tide_Tables", "1.0"))
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.configure("main", url_env="INDEX_URL")
    await mirror.cycle()
    assert (mirror.exit_code, mirror.files()) == (0, offered(index))
    asked = sorted(r.path for r in index.take_requests() if r.kind == "page")
    await mirror.cycle()
    assert sorted(r.path for r in index.take_requests() if r.kind == "page") == asked
    assert [path for path, data in mirror.bytes_on_disk().items() if b"t0ken" in data] == []
