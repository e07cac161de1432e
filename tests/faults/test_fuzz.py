"""Whatever an index answers, a cycle names it, spoils nothing and goes on: pages, headers and wheels made of nonsense."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.in_process import Mirror, check_tree, failures
from harness.quick_disk import QUICK_DISK
from simulator import HTML_TYPE, HTML_V1_TYPE, JSON_TYPE, Page, Simulator, Status, build_sdist, build_wheel

WHOLE_CYCLES = settings(
    max_examples=12 if settings.default.derandomize else settings.default.max_examples // 2,
    suppress_health_check=[HealthCheck.too_slow],
)
"""A cycle takes as long as hundreds of inputs of a parser: few where each run plays the same ones, many in `make soak`."""

GOOD = build_wheel("good", "1.0")
EVIL = build_sdist("evil", "1.0")
WHEEL = build_wheel("evil", "2.0", extra_files={"evil/data": b"x" * 500})

texts = st.text(max_size=30) | st.sampled_from(
    [
        "",
        " ",
        "..",
        "../../escaped",
        "a/b",
        "\x1b[31m",
        "\u202e",
        "\ud800",
        "\x00",
        "<script>",
        "é" * 200,
        "1e999",
        "-0",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def sometimes(right, wrong=values):
    """Draw what is right in half of all cases."""
    return st.just(right) | wrong


def objects(right, *, more=texts):
    """Draw JSON objects whose keys may be right, wrong, missing or too many."""
    known = st.fixed_dictionaries({}, optional={key: sometimes(value) for key, value in right.items()})
    return st.builds(lambda one, two: {**two, **one}, known, st.dictionaries(more, values, max_size=2))


EVIL_FILE = {
    "filename": EVIL[0],
    "url": f"../../files/evil/{EVIL[0]}",
    "hashes": {},
    "size": len(EVIL[1]),
    "yanked": "broken",
    "requires-python": ">=3.9",
    "upload-time": "2026-01-01T00:00:00Z",
    "core-metadata": {"sha256": "0" * 64},
    "provenance": "https://x.example/",
}
links = st.sampled_from(
    [
        f"../../files/evil/{EVIL[0]}",
        f"/files/evil/{EVIL[0]}#sha256={'0' * 64}",
        "/files/evil/missing-1.0.tar.gz",
        "http://169.254.169.254/x-1.0.tar.gz",
        "file:///etc/passwd",
        "http://[::1/x.whl",
        "//x:99999/x.whl",
        "?",
        "#",
    ]
)
names = st.sampled_from([EVIL[0], WHEEL[0], "evil-3.0.tar.gz", "EVIL-1.0.tar.gz", f"{EVIL[0]}.metadata"]) | texts
files = st.builds(
    lambda file, name, link: {**file, "filename": name, "url": link}, objects(EVIL_FILE), names, links
) | objects(EVIL_FILE)
pages = st.builds(
    lambda page, listed: {"meta": {"api-version": "1.1"}, "name": "evil", "files": listed, **page},
    objects(
        {
            "meta": {"api-version": "1.4", "_last-serial": 7},
            "name": "evil",
            "versions": ["1.0"],
            "project-status": {"status": "archived", "reason": "old"},
        }
    ),
    st.lists(files, max_size=5),
)


def anchor(link, text, attributes):
    return f"<a href='{link}' " + " ".join(f'{key}="{value}"' for key, value in attributes.items()) + f">{text}</a>"


attributes = st.dictionaries(
    st.sampled_from(["download", "data-yanked", "data-requires-python", "data-core-metadata", "data-size", "data-x"]),
    texts,
    max_size=4,
)
html_pages = st.builds(
    lambda head, anchors: f"<!DOCTYPE html><html><head>{head}</head><body>{''.join(anchors)}".encode(
        errors="surrogatepass"
    ),
    st.sampled_from(
        [
            '<meta name="pypi:repository-version" content="1.4">',
            '<base href="http://169.254.169.254/">',
            "<base href='///'>",
            '<meta name="pypi:repository-version" content="9">',
            "",
        ]
    ),
    st.lists(st.builds(anchor, links, texts, attributes), max_size=5),
)


@st.composite
def damaged(draw, bodies):
    """Draw bodies with some bytes changed, cut out or put in."""
    body = bytearray(draw(bodies))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        length = draw(st.integers(0, 20))
        body[start : start + length] = draw(st.binary(max_size=8))
    return bytes(body)


json_bodies = pages.map(lambda page: json.dumps(page).encode())
bodies = json_bodies | html_pages | damaged(json_bodies) | damaged(html_pages) | st.binary(max_size=200)
types = st.sampled_from([JSON_TYPE, HTML_V1_TYPE, HTML_TYPE, "text/html; charset=utf-16", "application/json", "x/y"])
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
headers = st.dictionaries(
    st.sampled_from(
        ["ETag", "Last-Modified", "Retry-After", "X-PyPI-Last-Serial", "Location", "Content-Range", "Link"]
    ),
    header_values | links | st.sampled_from(["0", "-1", "9" * 30, '"a"', 'W/"a"', "bytes 0-1/2"]),
    max_size=3,
)
odd_answers = st.builds(
    lambda status, head, text: Status(status=status, headers=head, text=text),
    st.sampled_from([200, 202, 206, 300, 302, 304, 400, 404, 408, 409, 410, 416, 418, 429, 451, 500, 503, 599]),
    headers,
    st.text(st.characters(codec="utf-8"), max_size=50),
)
answers = st.builds(lambda body, kind, head: Page(body=body, content_type=kind, headers=head), bodies, types, headers)


def play(round_trip):
    """Run a coroutine function with an index and a mirror of it that holds the good project."""

    async def run(directory):
        async with Simulator() as index:
            index.state.publish("good", *GOOD)
            index.state.publish("evil", *EVIL)
            mirror = Mirror(directory / "mirror", {"main": index})
            mirror.limits |= {"stall_timeout_s": 5.0}
            mirror.retry_policy = replace(mirror.retry_policy, tries=2)
            await round_trip(index, mirror)

    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as name:
        asyncio.run(run(Path(name)))
        assert [path.name for path in Path(name).iterdir()] == ["mirror"]


def judge(mirror, report):
    """Fail where a cycle found a bug of ours, stopped, lost the good project or left a bad tree."""
    assert "internal" not in {reason for *_, reason in failures(report)}
    assert report.aborted is None
    assert GOOD[0] in mirror.files()["good"]
    check_tree(mirror.root, html=False)


@WHOLE_CYCLES
@given(st.lists(answers | odd_answers, min_size=1, max_size=3))
def test_any_page_of_a_project(offers):
    """A page of nonsense is a failure of its project, or is read as far as it makes sense."""

    async def round_trip(index, mirror):
        for offer in offers:
            index.inject(offer, kind="page", project="evil")
            judge(mirror, await mirror.unchecked_cycle())
            index.faults.clear()
            mirror.clock.advance(86_400.0)
        report = await mirror.unchecked_cycle()
        judge(mirror, report)
        assert failures(report) == []
        assert EVIL[0] in mirror.files()["evil"]

    play(round_trip)


roots = st.builds(
    lambda root, projects: json.dumps({"meta": {"api-version": "1.0"}, "projects": projects, **root}).encode(),
    objects({"meta": {"api-version": "1.4", "_last-serial": 7}}),
    st.lists(objects({"name": "evil", "_last-serial": 3}), max_size=5),
)
html_roots = st.lists(texts | links | st.just("evil"), max_size=5).map(
    lambda listed: (
        b"<!DOCTYPE html><html><body>"
        + b"".join(f"<a href='{name}/'>{name}</a>".encode(errors="surrogatepass") for name in listed)
    )
)


@WHOLE_CYCLES
@given(
    st.builds(
        lambda body, kind, head: Page(body=body, content_type=kind, headers=head),
        roots | html_roots | damaged(roots) | damaged(html_roots),
        types,
        headers,
    )
    | odd_answers
)
def test_any_root_page(offer):
    """A root of nonsense in one look removes nothing, and the next good one makes all well."""

    async def round_trip(index, mirror):
        await mirror.unchecked_cycle()
        before = mirror.files()
        index.inject(offer, kind="root")
        report = await mirror.unchecked_cycle()
        judge(mirror, report)
        assert mirror.files() == before
        index.faults.clear()
        # Two looks: a project that only the nonsense listed is gone for good after the second.
        judge(mirror, await mirror.unchecked_cycle())
        report = await mirror.unchecked_cycle()
        judge(mirror, report)
        assert (failures(report), mirror.files()) == ([], before)

    play(round_trip)


@WHOLE_CYCLES
@given(odd_answers | st.builds(lambda body, head: Page(body=body, headers=head), st.binary(max_size=200), headers))
def test_any_answer_for_a_file(offer):
    """A file of nonsense is a failure of that file, and comes as soon as the answer is right."""

    async def round_trip(index, mirror):
        index.inject(offer, filename=EVIL[0])
        judge(mirror, await mirror.unchecked_cycle())
        index.faults.clear()
        report = await mirror.unchecked_cycle()
        judge(mirror, report)
        assert (failures(report), set(mirror.files())) == ([], {"evil", "good"})

    play(round_trip)


@WHOLE_CYCLES
@given(st.lists(damaged(st.just(WHEEL[1])) | st.binary(max_size=300), min_size=1, max_size=10))
def test_any_bytes_of_a_wheel(wheels):
    """A wheel that is none is published as it is listed, with metadata only where it has some."""

    async def round_trip(index, mirror):
        index.settings.core_metadata = True
        for number, data in enumerate(wheels):
            index.state.publish("evil", f"evil-2.{number}-py3-none-any.whl", data, metadata=b"Name: evil\n")
        report = await mirror.unchecked_cycle()
        judge(mirror, report)
        assert failures(report) == []
        assert len(mirror.files()["evil"]) == len(wheels) + 1

    play(round_trip)
