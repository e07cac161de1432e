"""``mirror status``: the words and the object it prints, its exit codes, and what it must never do."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mirror import logs
from mirror.cli import main
from mirror.cli.words.status import describe_status
from mirror.config import Config, IndexConfig, MirrorSettings
from mirror.errors import Reason
from mirror.exit_codes import ExitCode
from mirror.state.cycles import CycleRow
from mirror.state.listing.sources import SourceRow
from mirror.state.missing.ledger import FailureRow
from mirror.state.notes import Notes, WantNote
from mirror.state.readers.overview import Held, IndexCounts, IndexOverview, Overview
from mirror.status.objects import status_object
from mirror.status.value import CredentialState, Status
from mirror.tree.lock import hold
from simulator import build_wheel, withheld

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
HOUR, DAY = 3600.0, 86_400.0
ROOT = Path("/srv/m")


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch):
    """Forget the secrets that other tests registered in this process: a word of ours may be among them."""
    monkeypatch.setattr(logs, "_SECRETS", logs._Secrets())


def cycle(number: int = 7, *, outcome: str | None = "complete", code: int | None = 0, ended: float | None = NOW - 60):
    return CycleRow(id=number, started_at=NOW - 65, finished_at=ended, outcome=outcome, exit_code=code, report=None)


def index(name: str = "main", *, succeeded: float | None = NOW - 60, configured: bool = True, **values: Any):
    source = SourceRow(
        id=1,
        name=name,
        url=f"https://{name}/simple/",
        position=0,
        configured=configured,
        validators=None,
        selection=None,
        root_read=1,
        listed=4560,
        succeeded_at=succeeded,
    )
    fields = {
        "held": Held(projects=4501, files=12_345, size=3_200_000_000),
        "counts": IndexCounts(absent=0, unhashed=0, skipped=0),
        "failures": {},
    }
    return IndexOverview(source=source, **fields | values)


def failure(filename: str = "f-1.whl", *, reason: Reason = Reason.NOT_FOUND, **values: Any) -> FailureRow:
    fields: dict[str, Any] = {"project": "p", "detail": "no", "attempts": 3, "next_at": NOW + 120}
    return FailureRow(
        index="main",
        filename=filename,
        reason=reason,
        file=None,
        first_at=NOW - 2 * HOUR,
        last_at=NOW - 60,
        **fields | values,
    )


def status(*indexes: IndexOverview, finished: CycleRow | None = None, **values: Any) -> Status:
    finished = finished or cycle()
    overview = Overview(
        first_cycle_at=NOW - DAY,
        last_cycle=values.pop("last", finished),
        last_finished=values.pop("last_finished", finished),
        killed_before=values.pop("killed_before", None),
        indexes=indexes,
        failures=values.pop("failures", ()),
        brakes=values.pop("brakes", ()),
        ended=values.pop("ended", ()),
    )
    fields = {"root": ROOT, "config": None, "now": NOW, "pid": None, "credentials": {}}
    return Status(overview=overview, **fields | values)


def config(*names: str, **options: Any) -> Config:
    indexes = tuple(IndexConfig(name=name, url=f"https://{name}/simple/", **options) for name in names)
    return Config(mirror=MirrorSettings(root=ROOT), indexes=indexes, source="/etc/mirror/mirror.toml")


LAST = "Last cycle: 7, 60 s ago (2027-01-15 07:59 UTC), took 5 s; "
STATUSES = {
    "whole": (
        status(index()),
        [
            "Mirror:     /srv/m",
            "State:      whole",
            f"{LAST}complete: everything wanted and offered is held",
            "",
            "INDEX        PROJECTS   FILES    SIZE  WITHHELD  FAILED  LAST SUCCESS",
            "main   4,501 of 4,560  12,345  3.2 GB         -       -  60 s ago",
        ],
    ),
    "running-first": (
        status(last=cycle(1, outcome=None, code=None, ended=None), last_finished=None, pid=123),
        [
            "Mirror:     /srv/m",
            "State:      no cycle has come to its end yet",
            "Last cycle: none has come to its end yet",
            "Now:        cycle 1 is running for 65 s (process 123)",
            "",
            "No index was read yet.",
        ],
    ),
    "working": (
        status(pid=123),
        [
            "Mirror:     /srv/m",
            "State:      whole",
            f"{LAST}complete: everything wanted and offered is held",
            "Now:        process 123 is working on it",
            "",
            "No index was read yet.",
        ],
    ),
    "killed": (
        status(last=cycle(8, outcome=None, code=None, ended=None), finished=cycle(outcome="aborted", code=143)),
        [
            "Mirror:     /srv/m",
            "State:      the last cycle was interrupted",
            f"{LAST}interrupted; the next one goes on from there",
            "Now:        cycle 8 was interrupted; the next one goes on from there",
            "",
            "No index was read yet.",
        ],
    ),
    "notes": (
        status(
            index(counts=IndexCounts(absent=1, unhashed=2, skipped=3), succeeded=NOW - 3 * HOUR),
            index("old", configured=False, held=Held(projects=1, files=1, size=5), succeeded=None),
            index("left", held=Held(), failures={Reason.WITHHELD: 2, Reason.SHRINK: 1}),
            config=config("main", "left", "new"),
            finished=cycle(outcome="partial", code=4),
            brakes=(failure("", project="", reason=Reason.SHRINK, detail="9 of 10 files would leave"),),
            credentials={
                "main": CredentialState(source="$A", expires_at=NOW + 2.5 * DAY),
                "far": CredentialState(source="$B", expires_at=NOW + 40 * DAY),
                "past": CredentialState(source="$C", expires_at=NOW - HOUR),
                "unset": CredentialState(source="$D", problem="$D is not set"),
                "eternal": CredentialState(source="$E"),
            },
        ),
        [
            "Mirror:     /srv/m",
            "State:      STALE: main; removals are held back: main",
            f"{LAST}partial: some things could not be had",
            "",
            "INDEX        PROJECTS   FILES    SIZE  WITHHELD  FAILED  LAST SUCCESS",
            "main   4,501 of 4,560  12,345  3.2 GB         -       -  3 h ago (stale)",
            "old        1 of 4,560       1     5 B         -       -  never",
            "left       0 of 4,560       0     0 B         2       1  60 s ago",
            "",
            "main: 1 file missing upstream, served until the next look confirms it",
            "main: 2 files listed without a strong digest",
            "main: 3 files left out by the configuration",
            "main: stale, no successful cycle for too long: is the daemon running, and the index reachable?",
            "old: left the configuration; what it holds (1 file) stays until `mirror sync --once --allow-shrink`",
            "new: new in the configuration, not read yet",
            "main: removals are held back: 9 of 10 files would leave",
            "",
            "main: credential from $A expires in 2 days (2027-01-17 20:00 UTC): renew it soon",
            "far: credential from $B expires in 40 days (2027-02-24 08:00 UTC)",
            "past: credential from $C EXPIRED 60 min ago: renew it",
            "unset: credential from $D can't be used: $D is not set",
        ],
    ),
    "failures": (
        status(
            index(failures={Reason.SHRINK: 1, Reason.NOT_FOUND: 1, Reason.BAD_PAGE: 1}),
            failures=(
                failure("", project="", reason=Reason.SHRINK),
                failure(detail="f-1.whl: no"),
                failure("", reason=Reason.BAD_PAGE, next_at=NOW, attempts=1),
            ),
            brakes=(failure("", project="", reason=Reason.SHRINK, detail="too much"),),
        ),
        [
            "Mirror:     /srv/m",
            "State:      2 things could not be had; removals are held back: main",
            f"{LAST}complete: everything wanted and offered is held",
            "",
            "INDEX        PROJECTS   FILES    SIZE  WITHHELD  FAILED  LAST SUCCESS",
            "main   4,501 of 4,560  12,345  3.2 GB         -       3  60 s ago",
            "",
            "main: removals are held back: too much",
            "",
            "Not held (2):",
            "  main/p/f-1.whl",
            "    not-found: first 2 h ago, tried 3 times, due again in 2 min",
            "    no",
            "  main/p",
            "    bad-page: first 2 h ago, tried 1 time, due now",
            "    no",
            "What to do (`mirror sync --once` tries all of it again at once):",
            "  not-found: if it stays so, tell the index's operator, or leave it out: exclude-projects, exclude-files",
            "  bad-page: check the index's url (it often ends in /simple/), or tell its operator",
        ],
    ),
}


IN_A_HURRY = {
    "fresh": (status(index(), config=config("main")), "fresh and whole"),
    "unreadable": (
        status(
            index(failures={Reason.DENIED: 1}),
            ended=(failure("", project="", reason=Reason.DENIED),),
            finished=cycle(code=3),
        ),
        "can't be read: main",
    ),
    "withheld": (status(index(failures={Reason.WITHHELD: 5})), "whole"),
    "stopped": (status(index(), finished=cycle(code=130)), "the last cycle was interrupted"),
    "full-disk": (status(index(), finished=cycle(code=6)), "the last cycle ended with exit code 6"),
}


@pytest.mark.parametrize(("given", "state"), IN_A_HURRY.values(), ids=IN_A_HURRY)
def test_state_in_a_line(given, state):
    """One line says whether the mirror is fresh and whole, or what it is instead."""
    assert describe_status(given)[1] == f"State:      {state}"
    assert (state in {"whole", "fresh and whole"}) == (given.exit_code == ExitCode.OK)


@pytest.mark.parametrize(("given", "expected"), STATUSES.values(), ids=STATUSES)
def test_describe_status(given, expected):
    """The state is told in words and a table: what is held and fresh, what is odd, what failed and what to do."""
    assert describe_status(given) == expected


def test_many_failures():
    """Of many failures the first are shown, with the number of all."""
    lines = describe_status(status(index(failures={Reason.NOT_FOUND: 1000}), failures=(failure(),)))
    assert "Not held (1,000, the first 1; all: --json):" in lines


EXIT_CODES = {
    "another-index-denied": (status(index(), ended=(failure("", project="", reason=Reason.DENIED),)), ExitCode.DENIED),
    "another-index-down": (
        status(index(), ended=(failure("", project="", reason=Reason.UNREACHABLE),)),
        ExitCode.UPSTREAM,
    ),
    "another-index-bug": (status(index(), ended=(failure("", project="", reason=Reason.INTERNAL),)), ExitCode.BUG),
    "another-index-storage": (
        status(index(), ended=(failure("", project="", reason=Reason.STORAGE),)),
        ExitCode.STORAGE,
    ),
    "denied-and-left": (
        status(index(configured=False), ended=(failure("", project="", reason=Reason.DENIED),)),
        ExitCode.OK,
    ),
    "whole": (status(index()), 0),
    "partial": (status(index(), finished=cycle(code=5)), 5),
    "denied": (status(index(), finished=cycle(code=3)), 3),
    "stale": (status(index(succeeded=NOW - 46 * 60), config=config("main")), 4),
    "fresh": (status(index(succeeded=NOW - 44 * 60), config=config("main")), 0),
    "own-interval": (status(index(succeeded=NOW - 2 * HOUR), config=config("main", interval_s=HOUR)), 0),
    "interval-unknown": (status(index(succeeded=NOW - 100 * DAY)), 0),
    "left-the-configuration": (status(index("x", succeeded=NOW - DAY), config=config("main")), 0),
    "never": (status(index(succeeded=None), config=config("main")), 4),
    "denied-and-stale": (status(index(succeeded=None), config=config("main"), finished=cycle(code=3)), 3),
    "signal": (status(index(), finished=cycle(code=130)), 5),
    "killed": (status(index(), last=cycle(8, ended=None)), 5),
    "running": (status(index(), last=cycle(8, ended=None), pid=1), 0),
    "none-finished": (status(last_finished=None), 5),
}


@pytest.mark.parametrize(("given", "expected"), EXIT_CODES.values(), ids=EXIT_CODES)
def test_exit_code(given, expected):
    """0 is fresh and whole; else the last cycle's code, or 4 where an index had no success for three intervals."""
    assert given.exit_code == expected


def test_json():
    """The object has all that the words have, with times in UTC and null for what is not known."""
    given = status(
        index(failures={Reason.NOT_FOUND: 1, Reason.WITHHELD: 2}),
        config=config("main"),
        last=cycle(8, ended=None),
        pid=123,
        failures=(failure(), failure("", project="")),
        credentials={"main": CredentialState(source="$A", expires_at=NOW)},
    )
    row = {"index": "main", "reason": "not-found", "detail": "no", "attempts": 3, "first_at": "2027-01-15T06:00:00Z"}
    row |= {"last_at": "2027-01-15T07:59:00Z", "next_at": "2027-01-15T08:02:00Z"}
    row |= {"url": None, "hashes": None, "size": None}
    assert status_object(given) == {
        "format": 1,
        "root": "/srv/m",
        "configuration": "/etc/mirror/mirror.toml",
        "exit_code": 0,
        "stale": False,
        "cycle": {
            "number": 7,
            "started_at": "2027-01-15T07:58:55Z",
            "finished_at": "2027-01-15T07:59:00Z",
            "outcome": "complete",
            "exit_code": 0,
        },
        "working": {"pid": 123, "cycle": 8, "started_at": "2027-01-15T07:58:55Z"},
        "interrupted": None,
        "indexes": [
            {
                "name": "main",
                "url": "https://main/simple/",
                "configured": True,
                "projects_listed": 4560,
                "projects_held": 4501,
                "files": 12_345,
                "bytes": 3_200_000_000,
                "files_absent": 0,
                "files_unhashed": 0,
                "files_skipped": 0,
                "files_unwanted": 0,
                "unwanted_bytes": 0,
                "unwanted_since": None,
                "withheld": 2,
                "failed": 1,
                "last_success": "2027-01-15T07:59:00Z",
                "stale": False,
                "credential": {"source": "$A", "expires_at": "2027-01-15T08:00:00Z", "problem": None},
            }
        ],
        "daemon": None,
        "upkeep": None,
        "damage": [],
        "disk": None,
        "want_bytes": [],
        "largest_projects": [],
        "wants": [],
        "not_served": [],
        "failures_total": 3,
        "failures": [
            {**row, "project": "p", "filename": "f-1.whl"},
            {**row, "project": None, "filename": None},
        ],
    }


def test_json_of_an_idle_mirror():
    """What is not there is null."""
    given = status_object(status(index(succeeded=None), last_finished=None, last=cycle(1, ended=None)))
    assert (given["cycle"], given["working"], given["interrupted"], given["stale"]) == (None, None, 1, None)
    assert (given["indexes"][0]["credential"], given["indexes"][0]["last_success"]) == (None, None)
    assert status_object(status(pid=5))["working"] == {"pid": 5, "cycle": None, "started_at": None}


def proof(want: str, target: str, *, installable: bool) -> WantNote:
    return WantNote(want=want, file=None, target=target, installable=installable, files=1, bytes=2)


@pytest.mark.parametrize(
    ("proofs", "expected"),
    [
        pytest.param((), [], id="no want"),
        pytest.param(
            (
                proof("apps", "linux/3.11.2", installable=True),
                proof("apps", "windows/3.12.1", installable=True),
                proof("docs", "linux/3.11.2", installable=True),
            ),
            ["Wants:      2 wants proved to install in 2 environments"],
            id="all install",
        ),
        pytest.param(
            (
                proof("apps", "linux/3.11.2", installable=True),
                proof("docs", "linux/3.11.2", installable=False),
            ),
            ["State:      1 of 2 wants DOES NOT INSTALL: see `mirror check`", "Gaps:       docs (linux/3.11.2)"],
            id="a gap",
        ),
        pytest.param(
            (
                proof("apps", "linux/3.11.2", installable=False),
                proof("apps", "windows/3.12.1", installable=False),
            ),
            ["State:      1 of 1 want DOES NOT INSTALL: see `mirror check`", "Gaps:       apps (2 environments)"],
            id="a gap in two environments",
        ),
        pytest.param(
            tuple(proof(f"want{n}", "linux/3.11.2", installable=False) for n in range(5)),
            [
                "State:      5 of 5 wants DO NOT INSTALL: see `mirror check`",
                "Gaps:       want0 (linux/3.11.2), want1 (linux/3.11.2), want2 (linux/3.11.2) and 2 more",
            ],
            id="more gaps than are named",
        ),
    ],
)
def test_wants(proofs, expected):
    """Proved wants have a line; those that do not install are part of the state, and named."""
    lines = describe_status(status(index(), config=config("main"), notes=Notes(wants=proofs)))
    about = ("Wants:", "Gaps:", "State:      1 of", "State:      5 of")
    assert [line for line in lines if line.startswith(about)] == expected


# What follows runs the program on a real mirror.


@pytest.fixture
def index_url(threaded_simulator, tmp_path, monkeypatch):
    """An index of two projects, one of which it withholds, that wants a password; nothing else configured."""
    for name in [name for name in os.environ if name.startswith("MIRROR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    simulator = threaded_simulator(username="u", password="hunter22")
    simulator.state.publish("demo", *build_wheel("demo", "1.0"))
    simulator.state.publish("bad", "bad-1.0.tar.gz", b"x", hashes={"sha256": "0" * 64})
    simulator.state.publish("kept", *build_wheel("kept", "1.0"))
    simulator.inject(withheld("POLICY_COOLDOWN"), project="kept", kind="page")
    monkeypatch.setenv("MIRROR_DEFAULT_USERNAME", "u")
    monkeypatch.setenv("MIRROR_DEFAULT_PASSWORD", "hunter22")
    return simulator.url


def read(capsys) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_from_the_root_alone(index_url, tmp_path, capsys):
    """Status works from --root, without a configuration; its exit code is that of the last cycle."""
    root = tmp_path / "m"
    assert main(["sync", "--once", "--index-url", index_url, "--root", str(root)]) == ExitCode.PARTIAL
    words, _ = read(capsys)
    assert words.splitlines()[-1].endswith(f"`mirror status --root {root}` shows it.")
    before = sorted((p, p.stat().st_mtime_ns) for p in root.rglob("*"))
    assert main(["status", "--root", str(root)]) == ExitCode.PARTIAL
    words, log = read(capsys)
    assert log == ""
    assert words.splitlines()[6].split() == ["default", "1", "of", "3", "1", *words.splitlines()[6].split()[5:]]
    assert "Not held (2):" in words
    assert main(["status", "--root", str(root), "--json"]) == ExitCode.PARTIAL
    shown = json.loads(read(capsys)[0])
    (entry,) = shown["indexes"]
    assert (entry["files"], entry["projects_held"], entry["withheld"], entry["failed"]) == (1, 1, 1, 1)
    assert (shown["configuration"], shown["stale"], shown["working"]) == (None, None, None)
    assert [(f["project"], f["reason"]) for f in shown["failures"]] == [
        ("bad", "digest-mismatch"),
        ("kept", "withheld"),
    ]
    assert sorted((p, p.stat().st_mtime_ns) for p in root.rglob("*")) == before


def test_no_state(index_url, tmp_path, capsys):
    """Without a state the exit code is 6, one line says what to do, and nothing is made."""
    assert main(["status", "--root", str(tmp_path / "m")]) == ExitCode.STORAGE
    out, err = read(capsys)
    assert (out, len(err.splitlines())) == ("", 1)
    assert "run `mirror sync --once` first, or check --root" in err
    assert not (tmp_path / "m").exists()


def jwt(expires: float) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


CREDENTIALS = {
    "jwt": ('kind = "bearer"\ntoken-env = "TOKEN"', {"source": "$TOKEN", "expires_at": "2100-01-01T00:00:00Z"}),
    "unset": ('kind = "bearer"\ntoken-env = "NOT_SET"', {"source": "$NOT_SET", "problem": "$NOT_SET is not set"}),
    "unusable": (
        'kind = "bearer"\ntoken-env = "SPACED"',
        {"source": "$SPACED", "problem": "the token contains characters that no Bearer token has (from $SPACED)"},
    ),
    "command": ('kind = "command"\ncommand = ["touch", "ran"]', {"source": "the command touch"}),
    "none": ('kind = "none"', None),
}


@pytest.mark.parametrize(("auth", "expected"), CREDENTIALS.values(), ids=CREDENTIALS)
def test_credentials(index_url, tmp_path, capsys, monkeypatch, auth, expected):
    """With a configuration at hand it is told when a credential expires or why it can't be used; no command is run."""
    root = tmp_path / "m"
    assert main(["sync", "--once", "--index-url", index_url, "--root", str(root)]) == ExitCode.PARTIAL
    read(capsys)
    monkeypatch.setenv("TOKEN", jwt(4_102_444_800))
    monkeypatch.setenv("SPACED", "a token")
    text = f'[mirror]\nroot = "{root}"\n[[index]]\nname = "default"\nurl = "{index_url}"\n[index.auth]\n{auth}\n'
    (tmp_path / "mirror.toml").write_text(text)
    assert main(["status", "--json"]) == ExitCode.PARTIAL
    shown = json.loads(read(capsys)[0])
    empty = {"expires_at": None, "problem": None}
    assert shown["indexes"][0]["credential"] == (empty | expected if expected else None)
    assert shown["configuration"] == "mirror.toml"
    assert shown["stale"] is False
    assert not (tmp_path / "ran").exists()
    assert jwt(4_102_444_800) not in json.dumps(shown)


def leave_unfinished(root: Path, *, began_at: float | None = None) -> None:
    """Make the last cycle of a mirror look as if it had not ended."""
    connection = sqlite3.connect(root / "state.db")
    with connection:
        connection.execute("UPDATE cycle SET finished_at = NULL, outcome = NULL, exit_code = NULL")
        connection.execute("UPDATE cycle SET started_at = coalesce(?, started_at)", (began_at,))
    connection.close()


def test_beside_a_running_cycle(index_url, tmp_path, capsys):
    """A cycle that is under way is told with its process; status waits for nothing and takes no lock."""
    root = tmp_path / "m"
    main(["sync", "--once", "--index-url", index_url, "--root", str(root)])
    read(capsys)
    with hold(root / "tree.lock"):
        leave_unfinished(root, began_at=time.time() + 1)
        assert main(["status", "--root", str(root), "--json"]) == ExitCode.PARTIAL
        shown = json.loads(read(capsys)[0])
    assert shown["working"] | {"started_at": None} == {"pid": os.getpid(), "cycle": 1, "started_at": None}
    assert (shown["cycle"], shown["interrupted"]) == (None, None)


@pytest.mark.parametrize("written", ["dead", "-1", "", "no number"])
def test_killed(index_url, tmp_path, capsys, written):
    """A cycle whose process is gone was interrupted, whatever it left in the lock."""
    root = tmp_path / "m"
    main(["sync", "--once", "--index-url", index_url, "--root", str(root)])
    read(capsys)
    leave_unfinished(root)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (root / "tree.lock").write_text(str(ended.pid) if written == "dead" else written)
    assert main(["status", "--root", str(root), "--json"]) == ExitCode.PARTIAL
    shown = json.loads(read(capsys)[0])
    assert (shown["working"], shown["interrupted"]) == (None, 1)


def test_process_of_another_user(index_url, tmp_path, capsys, monkeypatch):
    """A process that we may not signal is alive."""
    root = tmp_path / "m"
    main(["sync", "--once", "--index-url", index_url, "--root", str(root)])
    read(capsys)

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    (root / "tree.lock").write_text("1\n")
    assert main(["status", "--root", str(root), "--json"]) == ExitCode.PARTIAL
    assert json.loads(read(capsys)[0])["working"]["pid"] == 1


def test_counts_are_one_covering_scan(index_url, tmp_path):
    """The counts of files and bytes read an index that covers them, and no row of the table."""
    root = tmp_path / "m"
    main(["sync", "--once", "--index-url", index_url, "--root", str(root)])
    connection = sqlite3.connect(root / "state.db")
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT source, count(*) AS files, sum(size) AS bytes FROM entry WHERE valid_to IS NULL"
        " GROUP BY source, project"
    ).fetchall()
    absent = connection.execute(
        "EXPLAIN QUERY PLAN SELECT count(*) FROM entry WHERE absent_since IS NOT NULL AND valid_to IS NULL"
        " AND +source = 1"
    ).fetchall()
    connection.close()
    assert [row[3] for row in plan] == ["SCAN entry USING COVERING INDEX entry_counts"]
    assert [row[3] for row in absent] == ["SCAN entry USING INDEX entry_absent"]


def test_unlisted_project(index_url, tmp_path, capsys):
    """--project NAME that no index lists is wrong usage: exit code 2, one sentence, nothing is recorded."""
    root = tmp_path / "m"
    command = ["sync", "--once", "--index-url", index_url, "--root", str(root), "--project"]
    assert main([*command, "demo"]) == ExitCode.OK
    read(capsys)
    for more in (["--json"], ["--dry-run"]):
        assert main([*command, "Demmo", *more]) == ExitCode.USAGE
        out, log = read(capsys)
        assert out == ""
        assert log.splitlines()[-1] == "error: --project: default does not list demmo: check the name"
    assert main([*command, "demo"]) == ExitCode.OK


def test_nothing_is_wanted(index_url, tmp_path, capsys):
    """Patterns that want nothing of what an index lists are warned about, in the log and in the last words."""
    text = f'[mirror]\nroot = "m"\n[[index]]\nname = "default"\nurl = "{index_url}"\nprojects = ["dm*"]\n'
    (tmp_path / "mirror.toml").write_text(text)
    assert main(["sync", "--once"]) == ExitCode.OK
    out, log = read(capsys)
    problem = "nothing of 3 listed projects is wanted: check projects = […] and exclude-projects of this index"
    assert out.splitlines() == [
        "default: nothing new in 3 projects",
        f"Warning: default: {problem}",
        "Mirror complete for what is wanted, which is less than it seems: see the warning.",
    ]
    (warning,) = [event for event in map(json.loads, log.splitlines()) if event["level"] == "warning"]
    assert (warning["event"], warning["problem"]) == ("selection.empty", problem)


def test_what_is_not_offered_or_not_served_is_named(threaded_simulator, tmp_path, capsys, monkeypatch):
    """Report, words, status and metrics name it; a literal name is exit code 5."""
    monkeypatch.chdir(tmp_path)
    simulator = threaded_simulator()
    simulator.state.publish("demo", *build_wheel("demo", "1.0"))
    simulator.state.publish("far", "far-1.0.tar.gz", b"x", directory="python-upstream")
    index = (
        f'[mirror]\nroot = "m"\n[service]\nmetrics-file = "m.prom"\n[[index]]\nname = "a"\nurl = "{simulator.url}"\n'
    )
    not_served = "not served (1): a lists it, all its files are left out: far"
    (tmp_path / "mirror.toml").write_text(index)
    assert main(["sync", "--once"]) == ExitCode.OK
    assert not_served in read(capsys)[0].splitlines()
    assert main(["status"]) == ExitCode.OK
    said = read(capsys)[0].splitlines()
    assert said[1] == "State:      fresh and whole"
    assert not_served in said
    assert "a: 1 file left out by the configuration (skip-url-patterns 1)" in said

    (tmp_path / "mirror.toml").write_text(index + 'projects = ["demo", "far", "typo", "Dmeo"]\n')
    assert main(["sync", "--once"]) == ExitCode.PARTIAL
    not_offered = "not offered (2): dmeo, typo; check the name, or take it out of projects or files"
    out = read(capsys)[0].splitlines()
    assert not_served in out
    assert not_offered in out
    assert main(["status"]) == ExitCode.PARTIAL
    said = read(capsys)[0].splitlines()
    assert said[1] == "State:      2 names not offered; 1 name not served"
    assert not_served in said
    assert not_offered in said
    assert not any(line.startswith("Not held") for line in said)
    assert main(["status", "--root", "m", "--json"]) == ExitCode.PARTIAL
    shown = json.loads(read(capsys)[0])
    assert [(f["project"], f["reason"]) for f in shown["failures"]] == [
        ("dmeo", "not-offered"),
        ("far", "not-served"),
        ("typo", "not-offered"),
    ]
    assert [(one["index"], one["project"]) for one in shown["not_served"]] == [("a", "far")]
    measured = (tmp_path / "m.prom").read_text()
    assert 'mirror_index_not_offered_names{index="a"} 2.0' in measured
    assert 'mirror_index_not_served_projects{index="a"} 1.0' in measured
    assert 'mirror_index_failures{index="a",reason="not-offered"} 2.0' in measured


def test_dry_run_tells_the_brake(threaded_simulator, tmp_path, capsys, monkeypatch):
    """A plan whose removals the brake would hold says so, with the exit code that the cycle would have."""
    monkeypatch.chdir(tmp_path)
    simulator = threaded_simulator()
    for n in range(8):
        simulator.state.publish("demo", *build_wheel("demo", f"1.{n}"))
    text = f'[mirror]\nroot = "m"\n[[index]]\nname = "default"\nurl = "{simulator.url}"\n'
    (tmp_path / "mirror.toml").write_text(text)
    assert main(["sync", "--once"]) == ExitCode.OK
    (tmp_path / "mirror.toml").write_text(text + 'exclude-files = ["*"]\n')
    read(capsys)
    for option, last in (("--dry-run", "Removals held back: default: 8 of 8 files"), ("--full", "Mirror partial")):
        assert main(["sync", "--once", option]) == ExitCode.UPSTREAM
        assert read(capsys)[0].splitlines()[-1].startswith(last)
    assert main(["status"]) == ExitCode.UPSTREAM
    assert "default: removals are held back: 8 of 8 files" in read(capsys)[0]
    assert main(["sync", "--once", "--dry-run", "--allow-shrink"]) == ExitCode.OK
    assert read(capsys)[0].splitlines()[1].split() == ["default", "demo", "-", "-", "-", "8", "-"]
