"""Answers that never get better, where other processes ask: the same comes of them as where one process does everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.program import Mirror, report_of
from harness.worker_program import Beside, needs_two_cores, told
from simulator import Page, Redirect, Status, build_wheel

pytestmark = [needs_two_cores, pytest.mark.usefixtures("unmeasured")]

SIGN_IN = b"<html><body><form><input name='password' type='password'></form></body></html>"
FAULTS: dict[str, tuple[Any, dict[str, str], int]] = {
    "a sign-in page": (Redirect(url="/session/new"), {"kind": "page", "project": "p3"}, 5),
    "payment": (Status(status=402, json={"message": "pay first"}), {"kind": "page", "project": "p3"}, 5),
    "a method": (Status(status=405), {"kind": "file", "project": "p3"}, 5),
    "all missing": (Status(status=404), {"kind": "page"}, 5),
}


@pytest.mark.parametrize(("fault", "where", "code"), FAULTS.values(), ids=FAULTS)
def test_final_answers(threaded_simulator: Any, tmp_path: Path, fault: Any, where: dict[str, str], code: int) -> None:
    """Reason, sentence, events and exit code are the same; each item is asked for once."""
    found = []
    for kind in (Mirror, Beside):
        index = threaded_simulator()
        for number in range(12):
            index.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0"))
        index.inject(fault, **where)
        index.inject(Page(body=SIGN_IN), kind="other")
        done = kind(tmp_path / kind.__name__, index.url).sync("--json")
        assert done.returncode == code, done.stderr
        report = told(report_of(done))
        for counted in report["indexes"]:
            del counted[
                "requests"
            ]  # which page a check asks for, and whether one comes, is a matter of what came first
        found.append(json.dumps(report).replace(index.url.removesuffix("simple/"), "http://index/"))
        assert index.count(kind=where["kind"], project="p3") == 1
    assert found[0] == found[1]
