"""An index can't make a name or a reason read as something else: not in pages, not in messages, not in the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pypi_simple import ProjectPage

from harness.program import Mirror
from simulator import Status, ThreadedSimulator, build_wheel

MARK = "\u202e"
REASON = f"safe {MARK}detacerped{MARK}\u2066 <b>"


@pytest.fixture
def mirror(threaded_simulator: Callable[..., ThreadedSimulator], tmp_path: Path) -> Mirror:
    """A mirror of an index that writes marks wherever it may write text."""
    index = threaded_simulator()
    wheel = build_wheel("demo", "1.0")
    index.state.publish("demo", *wheel, extra={"_note": [REASON]})
    index.state.yank("demo", wheel[0], REASON)
    index.state.create_project("demo", status="deprecated", status_reason=REASON, extra={"_page": {REASON: REASON}})
    index.state.publish("demo", f"de{MARK}mo-2.0.tar.gz", b"odd")
    index.state.publish("demo", "demo-3.0.tar.gz", b"refused")
    index.inject(Status(status=403, json={"errors": [{"status": 403, "message": REASON}]}), filename="demo-3.0.tar.gz")
    return Mirror(tmp_path / "mirror", index.url)


def test_pages(mirror: Mirror) -> None:
    """Pages hold no mark, and say the same as the index did."""
    mirror.sync()
    place = mirror.root / "public/simple/demo"
    texts = {name: (place / name).read_text() for name in ("index.html", "index.v1_html", "index.v1_json")}
    for text in texts.values():
        assert not {MARK, "\u2066"} & set(text)
    page: dict[str, Any] = json.loads(texts["index.v1_json"])
    (file,) = page["files"]
    assert (file["yanked"], file["_note"], page["_page"]) == (REASON, [REASON], {REASON: REASON})
    assert page["project-status"]["reason"] == REASON
    read = ProjectPage.from_html("demo", texts["index.html"], base_url="https://mirror.example/simple/demo/")
    assert (read.packages[0].yanked_reason, read.status_reason) == (REASON, REASON)


@pytest.mark.parametrize("form", ["console", "json"])
def test_messages(mirror: Mirror, form: str) -> None:
    """Neither the log nor any command prints a mark: people see how it is written."""
    done = mirror.sync("--log-format", form, "--log-level", "debug")
    assert "\\u202e" in done.stderr
    commands = [["status"], ["status", "--json"], ["list"], ["explain", "demo"], ["verify"]]
    results = [done, *(mirror.run(*words, "--root", mirror.root) for words in commands)]
    for result in results:
        assert not {MARK, "\u2066"} & set(result.stdout + result.stderr)
    assert "\\u202e" in results[1].stdout
