"""What an HTML page links beside its files: manuals, homepages and repositories are nobody's files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from harness.in_process import counters, failures
from simulator import Page, build_wheel

PROJECT = "tide-tables"
WHEEL, DATA = build_wheel(PROJECT, "1.0")

LINKS = """\
<a href="#top">Skip</a>
<a href="about.html">About</a>
<a href="../../README.md#install">Read me</a>
<a href="https://code.example.invalid/tide/tables.git" rel="homepage">Home page</a>
<a href="git+https://code.example.invalid/tide/tables@v1.1#egg=tide-tables-1.1">tide-tables-1.1</a>
<a href="guide.pdf">Guide</a>
"""


def page_of(*anchors: str) -> Page:
    """Return the project's page."""
    return Page(body=f"<!DOCTYPE html>\n<html><body>\n{''.join(anchors)}</body></html>\n".encode())


def anchor(name: str, attributes: str = "", data: bytes = b"") -> str:
    """Return the anchor of a file of the simulator, with a digest where its bytes are given."""
    digest = f"#sha256={hashlib.sha256(data).hexdigest()}" if data else ""
    return f'<a href="/files/{PROJECT}/{name}{digest}" {attributes}>{name}</a>\n'


async def index_of(simulator: Callable[..., Any], others: dict[str, bytes], *anchors: str) -> Any:
    """Return an index whose project has a wheel and other things, and the given page."""
    index = await simulator(formats="html")
    for name, data in {WHEEL: DATA, **others}.items():
        index.state.publish(PROJECT, name, data)
    index.inject(page_of(*anchors), kind="page")
    return index


async def test_only_files_are_held(simulator, mirror_of):
    """The wheel and its signature are held, exit 0; nothing is asked of the other links."""
    signature = f"{WHEEL}.asc"
    index = await index_of(simulator, {signature: b"signed"}, LINKS, anchor(WHEEL), anchor(signature))
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([], 0)
    assert sorted(mirror.files()[PROJECT]) == [WHEEL, signature]
    assert sorted(r.path for r in index.requests if r.kind not in {"root", "page"}) == [
        f"/files/{PROJECT}/{WHEEL}",
        f"/files/{PROJECT}/{signature}",
    ]


async def test_what_is_held_and_is_no_file_leaves(simulator, mirror_of):
    """What an earlier version took for files leaves in the first look that finds it linked as none, outside the brake."""
    names = [f"notes-{number}.html" for number in range(12)]
    others = {name: name.encode() for name in names}
    index = await index_of(simulator, others, anchor(WHEEL), *(anchor(n, data=d) for n, d in others.items()))
    mirror = mirror_of(index)
    await mirror.cycle()
    assert sorted(mirror.files()[PROJECT]) == sorted([*names, WHEEL])
    index.faults.clear()
    index.inject(page_of(anchor(WHEEL), *map(anchor, names[:8])), kind="page")
    report = await mirror.cycle()
    assert counters(report)["files_removed"] == 8
    assert sorted(mirror.files()[PROJECT]) == sorted([*names[8:], WHEEL]), "the others need two looks"


@pytest.mark.parametrize(
    "options", [{"exclude_files": ("*.tar.gz",)}, {"files": ("*.whl",)}], ids=["exclude-files", "files"]
)
@pytest.mark.parametrize("formats", ["html", "json"])
async def test_refused_names_follow_the_patterns(simulator, mirror_of, options, formats):
    """A name that is refused is out where the patterns leave it out, as the advice says; else it is named."""
    index = await simulator(formats=formats)
    index.state.publish(PROJECT, WHEEL, DATA)
    index.state.publish(
        PROJECT, f"{PROJECT}-1.0.tar.gz", b"x", url="ftp://files.example.invalid/tide-tables-1.0.tar.gz"
    )
    index.state.publish(PROJECT, f"{PROJECT}-2.0.tar.gz", b"x", hashes={"sha256": "abc"})
    mirror = mirror_of(index)
    assert {reason for *_, reason in failures(await mirror.cycle())} == {"unsafe-name", "bad-file"}
    assert mirror.exit_code == 5
    mirror.configure("main", **options)
    assert failures(await mirror.cycle()) == []
    assert mirror.exit_code == 0
    assert mirror.files() == {PROJECT: {WHEEL: hashlib.sha256(DATA).hexdigest()}}
