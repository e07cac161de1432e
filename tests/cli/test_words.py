"""What a user reads of a cycle and of a plan, and how numbers are written."""

import pytest

from mirror import logs
from mirror.cli import text
from mirror.cli.text import fitted_table, folded, remaining, safe, table
from mirror.cli.words.cycle import Place, describe_cycle, failure_lines
from mirror.cli.words.missing import missing_lines
from mirror.cli.words.plan import describe_plan
from mirror.core.words.advice import ADVICE
from mirror.errors import AccessDenied, Reason, TreeError
from mirror.sync.report import IndexCounters, PlanItem, Report, Shown

PLACE = Place(simple="/srv/m/public/simple", options="--root /srv/m")
DENIED = AccessDenied(url="https://a/simple/", index="a", status=401, source="$TOKEN", ends_index=True)


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch):
    """Forget the secrets that other tests registered in this process: a word of ours may be among them."""
    monkeypatch.setattr(logs, "_SECRETS", logs._Secrets())


def report(*indexes: IndexCounters, **fields) -> Report:
    return Report(cycle=fields.pop("cycle", 7), started_at=0.0, indexes={i.name: i for i in indexes}, **fields)


def counters(**values) -> IndexCounters:
    return IndexCounters(**{"name": "a", "projects_listed": 9} | values)


def shown(reason: Reason, filename: str | None = "f-1.whl", *, project: str | None = "p", detail="no") -> Shown:
    return Shown(index="a", project=project, filename=filename, reason=reason, detail=detail)


REMAINING = {0: "0:00", 65: "1:05", 3600: "1:00:00", 7384: "2:03:04", 172_800: "2 days"}


@pytest.mark.parametrize(("seconds", "expected"), REMAINING.items(), ids=str)
def test_remaining(seconds, expected):
    """A countdown is written like a clock, and in days where it takes so long."""
    assert remaining(seconds) == expected


def test_table():
    """Columns are aligned to their widest cell, without spaces at the end of a line."""
    assert table([("A", "B", "C"), ("x", "12,345", "")], right=frozenset({1})) == ["A       B  C", "x  12,345"]


def test_fitted_table():
    """A table that is wider than the terminal is a block for each row, without its empty cells; a pipe gets the table."""
    rows = [("WANT", "FILES", "TARGETS"), ("apps", "requirements.txt, uv.lock", "linux"), ("b", "", "linux")]
    assert fitted_table(rows, None) == fitted_table(rows, 80) == table(rows)
    assert fitted_table(rows, 28) == [
        "apps",
        "  files: requirements.txt,",
        "    uv.lock",
        "  targets: linux",
        "b",
        "  targets: linux",
    ]


def test_folded():
    """Sentences break between words and keep their indentation; tables, paths and pipes are left alone."""
    lines = [
        "  one two three four five six",
        "a  b  c  d  e  f  g  h  i  j  k",
        "/a/very/long/path/that/never/ends/at/all",
    ]
    assert folded(lines, 20) == ["  one two three four", "    five six", *lines[1:]]
    assert folded(lines, None) == lines


@pytest.mark.parametrize(
    ("is_terminal", "expected"), [(True, 33), (False, None), (None, None)], ids=["terminal", "pipe", "closed"]
)
def test_stdout_width(monkeypatch, is_terminal, expected):
    """Only a terminal has a width to fit."""

    class Stdout:
        def isatty(self):
            return is_terminal

    monkeypatch.setattr("sys.stdout", None if is_terminal is None else Stdout())
    monkeypatch.setenv("COLUMNS", "33")
    assert text.stdout_width() == expected


def test_safe():
    """A text from an index can't move the cursor or carry a pre-signed query."""
    assert safe("a\x1b[2Jb https://u:p@h/f?sig=x") == "a\\x1b[2Jb https://h/f"


STATUS = "`mirror status --root /srv/m` shows it."
PARTIAL = f"Mirror partial: what is named above is tried again in the next cycle. {STATUS}"
COMPLETE = "Mirror complete: everything wanted and offered is held."
CYCLES = {
    "nothing-new": (report(counters()), ["a: nothing new in 9 projects", COMPLETE]),
    "first": (
        report(counters(files_new=1, bytes_downloaded=12_400_000, projects_changed=1), cycle=1),
        [
            "a: 1 new file (12.4 MB fetched) in 1 project",
            "Mirror complete. Try it: pip install --index-url file:///srv/m/public/simple/ PROJECT",
        ],
    ),
    "changed": (
        report(
            counters(files_new=3, files_replaced=2, files_removed=4, projects_removed=1, projects_changed=2),
            counters(name="b", projects_changed=2, projects_listed=1),
        ),
        [
            "a: 3 new files, 2 replaced (0 B fetched) in 2 projects, 4 removed, 1 project gone",
            "b: 2 projects changed without new files",
            COMPLETE,
        ],
    ),
    "replaced-of-unchanged": (
        report(counters(files_replaced=1, bytes_downloaded=5)),
        ["a: 1 replaced (5 B fetched)", COMPLETE],
    ),
    "state": (
        report(counters(files_skipped=1, files_absent=2, files_unhashed=3)),
        [
            "a: nothing new in 9 projects",
            "a: 1 file left out by the configuration; 2 files missing upstream, served until the next look confirms it;"
            " 3 files listed without a strong digest",
            COMPLETE,
        ],
    ),
    "failed": (
        report(
            counters(files_new=1, files_failed=1, projects_changed=1),
            failures=[shown(Reason.DIGEST_MISMATCH, detail="f-1.whl: other bytes"), shown(Reason.WITHHELD, None)],
        ),
        [
            "a: 1 new file (0 B fetched) in 1 project; 1 file failed",
            "digest-mismatch: a/p/f-1.whl: other bytes; if it stays so, tell the index's operator: bytes and listing differ",
            "withheld: a/p: no; it comes by itself once it is released, there is nothing to do",
            PARTIAL,
        ],
    ),
    "denied": (
        report(
            counters(projects_listed=0),
            ended={"a": DENIED},
            failures=[shown(Reason.DENIED, None, project=None, detail=str(DENIED))],
        ),
        [f"a: stopped: {DENIED}", "Nothing could be mirrored; what is held already stays as it is."],
    ),
    "denied-in-the-middle": (
        report(counters(files_new=1, projects_changed=1), counters(name="b"), ended={"a": DENIED}),
        [
            f"a: 1 new file (0 B fetched) in 1 project; stopped: {DENIED}",
            "b: nothing new in 9 projects",
            PARTIAL,
        ],
    ),
    "brake": (
        report(counters(), failures=[shown(Reason.SHRINK, None, project=None, detail="9 of 10 files would leave")]),
        ["a: nothing new in 9 projects", "Removals held back: a: 9 of 10 files would leave", PARTIAL],
    ),
    "disk-full": (
        report(counters(projects_listed=0), aborted=TreeError(path="/srv/m", problem="full; free some space")),
        [
            "a: not read",
            "Stopped: /srv/m: full; free some space",
            "What was finished is kept; run the same again once that is put right.",
        ],
    ),
    "interrupted": (
        report(counters(), interrupted=True),
        [
            "a: nothing new in 9 projects",
            "Interrupted. What was finished is kept; the next run goes on from there.",
        ],
    ),
    "unlisted": (
        report(
            counters(),
            failures=[shown(Reason.NOT_FOUND, None, detail="--project p: nobody")],
            unlisted=[shown(Reason.NOT_FOUND, None, detail="--project p: nobody")],
        ),
        ["a: nothing new in 9 projects", "Warning: --project p: nobody", PARTIAL],
    ),
    "events": (
        report(
            counters(),
            events=[
                {"event": "nothing-wanted", "index": "a", "listed": "9"},
                {"event": "index-left", "index": "old", "projects": "3"},
                {"event": "new", "x": "y"},
                {"event": "names-unread", "index": "a", "files": "2", "names": "odd.zip, x.egg"},
                {"event": "page-origin-changed", "index": "a", "project": "p", "from": "https://a", "to": "https://b"},
                *({"event": "owner-changed", "project": f"p{n}", "from": "b", "to": "a"} for n in range(5)),
            ],
        ),
        [
            "a: nothing new in 9 projects",
            "Warning: index old left the configuration; its 3 projects stay until a cycle with --allow-shrink",
            "Warning: a: left out, since no project can be read from the name (2): odd.zip, x.egg",
            "Note: event: new, x: y",
            "Warning: a: nothing of 9 listed projects is wanted: check projects = […] and exclude-projects of this index",
            *(f"Warning: p{n} now comes from a instead of b: make sure that you expect that" for n in range(3)),
            "Warning: owner-changed for 2 more",
            "Warning: a: the page of p now comes from https://b instead of https://a: make sure that you expect that",
            "Mirror complete for what is wanted, which is less than it seems: see the warning.",
        ],
    ),
}


@pytest.mark.parametrize(("given", "expected"), CYCLES.values(), ids=CYCLES)
def test_describe_cycle(given, expected):
    """A cycle is told in sentences: what changed, what failed and what to do, how complete the mirror is."""
    assert describe_cycle(given, PLACE) == expected


def test_commands_of_a_found_configuration():
    """Where the configuration is found without an option, the proposed command needs none."""
    given = report(counters(), failures=[shown(Reason.INTERNAL)])
    assert "`mirror status` shows it." in describe_cycle(given, Place(simple="/s", options=""))[-1]


def test_failures_are_grouped():
    """Failures of one reason share a line that names three, counts the others and says what to do."""
    failures = [shown(Reason.TOO_LARGE, f"f{n}.whl") for n in range(1234)]
    assert failure_lines(failures) == [
        "too-large (1,234): a/p/f0.whl, a/p/f1.whl, a/p/f2.whl and 1,231 more; raise the limit that is named, or leave it"
        " out with exclude-files"
    ]


def test_what_is_missing_fits_a_line():
    """Many names are summed up; each detail is said once for all that share it."""
    many = [
        Shown(index="a", project=f"p{n:02}", filename=None, reason=Reason.NOT_OFFERED, detail="why") for n in range(12)
    ]
    by_detail = [
        Shown(index="a", project=project, filename=None, reason=Reason.NOT_SERVED, detail=detail)
        for project, detail in (("x", "a lists it"), ("y", "b lists it"), ("z", "a lists it"), ("x", "a lists it"))
    ]
    assert missing_lines([*many, *by_detail]) == [
        f"not offered (12): {', '.join(f'p{n:02}' for n in range(10))} and 2 more;"
        " check the name, or take it out of projects or files",
        "not served (3): a lists it: x, z; b lists it: y",
    ]


def test_failures_fit_a_screen():
    """However many kinds of failures there are, they take ten lines, what is only withheld last."""
    lines = failure_lines(shown(reason) for reason in Reason)
    assert (len(lines), lines[-1]) == (10, f"and {len(Reason) - 9} more kinds of failure")
    assert failure_lines([shown(Reason.WITHHELD), shown(Reason.DENIED)])[0].startswith("denied")


def test_advice_is_complete():
    """There is something to do, or to know, for each reason."""
    assert set(ADVICE) == set(Reason)


def item(action: str, project: str = "p", *, index: str = "a", size: int | None = 1000) -> PlanItem:
    return PlanItem(index=index, project=project, filename="f", action=action, size=size, sha256=None)


NOT_CHANGED = "Nothing was changed. The same command without --dry-run does it."
PLANS = {
    "nothing": (report(counters(), plan=[]), ["Nothing to do: the mirror has all that is wanted and offered."]),
    "denied": (report(counters(), ended={"a": DENIED}), [f"a: stopped: {DENIED}"]),
    "interrupted": (
        report(counters(), interrupted=True, plan=[item("remove")]),
        [
            "INDEX  PROJECT    FETCH  REPLACE  RELABEL  REMOVE  TO DOWNLOAD",
            "a      p              -        -        -       1            -",
            "TOTAL  1 project      -        -        -       1            -",
            "",
            "a: 1 file to remove from the pages, 1.0 kB; deleted after keep-removed, unless a snapshot needs them.",
            "Interrupted. What was finished is kept; the next run goes on from there.",
            NOT_CHANGED,
        ],
    ),
    "each": (
        report(
            counters(),
            plan=[
                item("fetch"),
                item("fetch", size=None),
                item("replace", "q"),
                item("relabel", "q", size=5),
                item("fetch", "r", index="b", size=None),
            ],
            failures=[shown(Reason.UNSAFE_NAME)],
        ),
        [
            "INDEX  PROJECT     FETCH  REPLACE  RELABEL  REMOVE         TO DOWNLOAD",
            "a      p               2        -        -       -  1.0 kB + 1 unknown",
            "a      q               -        1        1       -              1.0 kB",
            "b      r               1        -        -       -        unknown size",
            "TOTAL  3 projects      3        1        1       -  2.0 kB + 2 unknown",
            "",
            "unsafe-name: a/p/f-1.whl: no; it is never mirrored; exclude-files leaves it out of this list",
            NOT_CHANGED,
        ],
    ),
}


@pytest.mark.parametrize(("given", "expected"), PLANS.values(), ids=PLANS)
def test_describe_plan(given, expected):
    """A plan is a row for each project with counts and bytes; unknown sizes are not taken for nothing."""
    assert describe_plan(given, PLACE) == expected


def test_large_plan():
    """A plan of more than forty projects is summed up by index, and names those with most to download."""
    plan = [item("fetch", f"p{n:02}", size=n) for n in range(41)] + [item("fetch", "q", index="b")]
    lines = describe_plan(report(counters(), plan=plan), PLACE)
    assert lines[:8] == [
        "INDEX  PROJECT      FETCH  REPLACE  RELABEL  REMOVE  TO DOWNLOAD",
        "a      41 projects     41        -        -       -        820 B",
        "b      1 project        1        -        -       -       1.0 kB",
        "TOTAL  42 projects     42        -        -       -       1.8 kB",
        "",
        "THE 10 LARGEST  FETCH  REPLACE  RELABEL  REMOVE  TO DOWNLOAD",
        "b/q                 1        -        -       -       1.0 kB",
        "a/p40               1        -        -       -         40 B",
    ]
    assert lines[-3:] == ["Every item: --json", "", NOT_CHANGED]
