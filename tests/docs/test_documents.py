"""The documents say what the program does: every command, key, exit code, reason, metric and report field, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.reference import FOLDER, PAGES
from mirror.errors import Reason
from mirror.exit_codes import ExitCode
from mirror.metrics import CycleFacts, Facts, IndexFacts, Metrics
from mirror.serve.connections.shared import SharedCounters, render_numbers
from mirror.sync.report import COUNTERS, PlanItem

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "bench").glob("*.md")]
)
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")


def rows(page: str) -> list[list[str]]:
    """Return the cells of every table row of a reference page, without head and rule."""
    lines = (FOLDER / page).read_text(encoding="utf-8").splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in found if not set(row[0]) <= {"-", ":"}]


def named(page: str, column: int = 0) -> set[str]:
    """Return what stands in backticks in a column of a page's tables."""
    return {name for row in rows(page) for name in re.findall(r"`([^`]+)`", row[column])}


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_what_the_program_says(page):
    """Run ``python tests/docs/reference.py`` after a change of a command or key."""
    assert (FOLDER / page).read_text(encoding="utf-8") == PAGES[page]()


def test_every_exit_code_is_described():
    """The page has one row for each exit code."""
    assert [row[0] for row in rows("exit-codes.md")[1:]] == [str(int(code)) for code in ExitCode]


def test_every_reason_is_described():
    """The page has one row for each reason of a failure."""
    assert named("reasons.md") == {reason.value for reason in Reason}


def test_every_metric_is_described():
    """The page names each metric that is served, by the daemon or `mirror serve`, but those of the process itself and the times that the library adds."""
    counters = {"main": dict.fromkeys(COUNTERS, 1)}
    cycle = CycleFacts(finished_at=1.0, duration_s=1.0, outcome="complete", exit_code=0, counters=counters)
    index = IndexFacts(name="main", interval_s=1.0, last_success=1.0, failures={"denied": 1}, credential_expires=1.0)
    metrics = Metrics(version="1", clock=lambda: 2.0, disk=lambda: (2, 1))
    metrics.facts = Facts(
        since=0.0,
        indexes=(index,),
        last_cycle=cycle,
        upkeep_at=1.0,
        wants=(("apps", "", "linux", True),),
        advisories=(1.0, {"vulnerable": 1}),
    )
    shared = SharedCounters()
    shared.of(0).answered(200, 1)
    text = metrics.render().decode() + render_numbers(shared).decode()
    served = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {
        name for name in served if not name.startswith(("process_", "python_")) and not name.endswith("_created")
    } == named("metrics.md")


def test_every_field_of_the_report_is_described():
    """Counters and items of a plan stand on the page."""
    assert {"name", *COUNTERS, *PlanItem.__slots__} <= named("report.md")


def links(path: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in LINK.findall(text):
        if "://" not in target and not target.startswith("#"):
            yield target.partition("#")[0]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(path):
    """A relative link of a document names a file of the repository."""
    assert [target for target in links(path) if not (path.parent / target).exists()] == []


def test_every_page_is_reachable():
    """Each page is linked from the contents, directly or through the page of decisions."""
    start = REPOSITORY / "docs/README.md"
    reached = {start}
    waiting = [start]
    while waiting:
        page = waiting.pop()
        for target in links(page):
            found = (page.parent / target).resolve()
            if found.suffix == ".md" and found not in reached:
                reached.add(found)
                waiting.append(found)
    assert sorted(p for p in DOCUMENTS if p.is_relative_to(REPOSITORY / "docs") and p not in reached) == []


def test_the_walk_quotes_the_code():
    """Each of the ten stops names a module in which the quoted line stands."""
    text = (REPOSITORY / "docs/explanation/how-a-cycle-works.md").read_text(encoding="utf-8")
    stops = re.findall(r"^\d+\. (.*?)^ +> (.*?)$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(stops) == 10
    for described, quote in stops:
        modules = re.findall(r"`(mirror/[\w/]+\.py)`", described)
        assert any(quote in (REPOSITORY / module).read_text(encoding="utf-8") for module in modules), quote


def test_the_readme_fits():
    """The first document is short, and no document is cited that is not in the repository."""
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
    cited = re.compile(r"\b(CONTRACT|UPSTREAMS|DESIGN|STYLE|SELECTION|REVIEW|MEASURED)\.md\b")
    sources = [*DOCUMENTS, *(REPOSITORY / "mirror").rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]
    assert [str(p) for p in sources if p != Path(__file__) and cited.search(p.read_text(encoding="utf-8"))] == []
