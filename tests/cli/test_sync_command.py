"""``mirror sync --once`` as a user and a script see it: exit codes, standard output, standard error, signals."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.ports import closed_port
from harness.program import Mirror, Running, contents, counters, events_of, published, report_of
from simulator import JSON_TYPE, Page, Stall, build_sdist, build_wheel

USERNAME, PASSWORD = "org/token", "a-pass-word"
CREDENTIAL = {"MIRROR_DEFAULT_USERNAME": USERNAME, "MIRROR_DEFAULT_PASSWORD": PASSWORD}

LOGIN_PAGE = Page(body=b'<html><title>Sign in</title><form><input type="password" name="p"></form></html>')
OTHER_JSON = Page(body=b'{"status": "ok", "items": []}', content_type="application/json")
EMPTY_ROOT = Page(body=b'{"meta": {"api-version": "1.1"}, "projects": []}', content_type=JSON_TYPE)


@pytest.fixture
def index(threaded_simulator):
    """An index with a password, two wheels and an sdist."""
    simulator = threaded_simulator(username=USERNAME, password=PASSWORD, second_origin=True)
    simulator.state.publish("demo-app", *build_wheel("demo-app", "1.0", requires=["demo-lib"]))
    simulator.state.publish("demo-lib", *build_wheel("demo-lib", "1.0", size_pad=300_000))
    simulator.state.publish("demo-src", *build_sdist("demo-src", "0.1"))
    return simulator


@pytest.fixture
def mirror(tmp_path, index):
    """A mirror of it, without a configuration file."""
    return Mirror(tmp_path / "work", url=index.url, variables=CREDENTIAL)


def upstream_files(index) -> dict[str, dict[str, bytes]]:
    """Return what a complete mirror publishes."""
    return {
        name: {file.filename: file.data for file in project.files.values()}
        for name, project in index.state.projects.items()
    }


def identities(directory: Path) -> dict[Path, tuple[int, int]]:
    """Return what tells whether a file was written again."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


# -- what is printed ------------------------------------------------------------------------------------------------


def test_json_is_one_object(mirror, index):
    """With --json standard output is one report, and all logs are on standard error."""
    done = mirror.sync("--json", "--log-format", "json", "--log-level", "debug")
    assert done.returncode == 0
    report = report_of(done)
    assert (report["outcome"], report["failures"]) == ("complete", [])
    wanted = {"projects_listed": 3, "projects_changed": 3, "files_new": 3, "files_failed": 0}
    assert counters(report, *wanted) == wanted
    assert counters(report, "requests") == {"requests": len(index.requests)}
    assert {"cycle.started", "cycle.finished"} <= {event["event"] for event in events_of(done)}
    assert published(mirror.root) == upstream_files(index)


def test_nothing_new(mirror, index):
    """A second cycle says that nothing changed, and leaves every published byte and page alone."""
    mirror.sync_well()
    before = identities(mirror.root / "public")
    report = mirror.sync_well()
    wanted = {"projects_unchanged": 3, "projects_changed": 0, "files_new": 0, "bytes_downloaded": 0}
    assert counters(report, *wanted) == wanted
    assert identities(mirror.root / "public") == before


def test_dry_run(mirror, index):
    """--dry-run with --json lists every file that a cycle would fetch, and writes nothing at all."""
    done = mirror.sync("--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = {(item["project"], item["filename"]): (item["action"], item["size"]) for item in report_of(done)["plan"]}
    assert plan == {
        (name, filename): ("fetch", len(data))
        for name, files in upstream_files(index).items()
        for filename, data in files.items()
    }
    assert not mirror.root.exists()
    assert index.count(kind="file") == 0


def test_logs_as_json_without_a_terminal(mirror):
    """Without a terminal the log is JSON, one object in a line."""
    done = mirror.sync("--json")
    events = events_of(done)
    assert events[-1]["event"] == "cycle.finished"
    assert {"timestamp", "level", "event"} <= events[0].keys()


# -- access ---------------------------------------------------------------------------------------------------------


def test_wrong_password(mirror, index):
    """A wrong password: exit 3 after one request; the message names the index and the variable, not the secret."""
    mirror.sync_well()
    before = contents(mirror.root / "public")
    index.take_requests()
    done = mirror.sync("--json", MIRROR_DEFAULT_PASSWORD="wr0ng-pass-word")
    assert done.returncode == 3
    assert [(r.kind, r.status) for r in index.requests] == [("root", 401)]
    report = report_of(done)
    assert report["outcome"] == "aborted"
    (failure,) = report["failures"]
    assert (failure["index"], failure["project"], failure["filename"]) == ("default", None, None)
    assert failure["reason"] == "denied"
    for text in (done.stderr, failure["detail"]):
        assert "'default'" in text
        assert "$MIRROR_DEFAULT_PASSWORD" in text
        assert "wr0ng" not in text
    assert contents(mirror.root / "public") == before


def test_second_secret(mirror, index, tmp_path):
    """Where the source yields another secret when asked again, it is tried once: exit 3 after two requests."""
    counter = tmp_path / "asked"
    command = f'echo x >> {counter}; echo "wr0ng-$(wc -l < {counter})"'
    mirror.url = None
    mirror.configure(
        f'url = "{index.url}"\nauth = {{ kind = "command", username = "u", command = ["sh", "-c", {json.dumps(command)}] }}'
    )
    done = mirror.sync()
    assert done.returncode == 3
    assert [(r.kind, r.status) for r in index.requests] == [("root", 401), ("root", 401)]
    assert "the command sh" in done.stderr
    assert "wr0ng" not in done.stdout + done.stderr


def test_missing_credential(mirror, index):
    """Half a credential is a mistake of the configuration: exit 2, nothing is asked and nothing written."""
    done = mirror.sync(MIRROR_DEFAULT_PASSWORD="")
    assert done.returncode == 2
    assert "$MIRROR_DEFAULT_PASSWORD" in done.stderr
    assert index.requests == []
    assert not mirror.root.exists()


def test_no_credential_at_all(mirror, index):
    """Without any credential an index that wants one is exit 3, and the message says where it was looked for."""
    mirror.variables = {}
    done = mirror.sync()
    assert done.returncode == 3
    assert index.count() == 1
    assert "$MIRROR_DEFAULT_USERNAME" in done.stderr


def test_keyring_that_cannot_be_loaded(mirror, index):
    """A backend of the keyring that is not there is no bug: exit 3, nothing is asked."""
    mirror.url = None
    mirror.configure(f'url = "{index.url}"\nauth = {{ kind = "keyring" }}')
    done = mirror.sync(PYTHON_KEYRING_BACKEND="absent_backend.Keyring")
    assert done.returncode == 3, done.stderr
    assert "the keyring could not be asked (ModuleNotFoundError)" in done.stderr
    assert index.requests == []


# -- not an index ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [LOGIN_PAGE, OTHER_JSON, EMPTY_ROOT], ids=["login-page", "other-json", "empty-root"])
def test_not_an_index(mirror, index, page):
    """A login page, JSON of something else and an empty root are no index: exit 4, and what is held stays."""
    mirror.sync_well()
    before = contents(mirror.root / "public")
    index.inject(page, kind="root")
    index.take_requests()
    done = mirror.sync("--json", "--allow-shrink")
    assert done.returncode == 4
    report = report_of(done)
    assert report["outcome"] == "aborted"
    assert [(f["project"], f["reason"]) for f in report["failures"]] == [(None, "bad-page")]
    assert [r.kind for r in index.requests] == ["root"]
    assert contents(mirror.root / "public") == before

    index.faults.clear()
    assert mirror.sync_well()["failures"] == []


def test_unreachable(mirror):
    """An index that refuses connections is tried five times: exit 4."""
    with closed_port() as port:
        mirror.url = f"http://127.0.0.1:{port}/simple/"
        done = mirror.sync("--json")
    assert done.returncode == 4
    report = report_of(done)
    (failure,) = report["failures"]
    assert (failure["reason"], "after 5 tries" in failure["detail"]) == ("unreachable", True)


# -- files that can't be had ----------------------------------------------------------------------------------------


def test_wrong_digest(mirror, index):
    """A file with another digest than listed is not published; the rest is; exit 5 until it is right."""
    filename, data = build_wheel("demo-bad", "1.0")
    index.state.publish("demo-bad", filename, data, hashes={"sha256": "0" * 64})
    done = mirror.sync("--json")
    assert done.returncode == 5
    report = report_of(done)
    assert report["outcome"] == "partial"
    (failure,) = report["failures"]
    detail = failure.pop("detail")
    assert failure == {"index": "default", "project": "demo-bad", "filename": filename, "reason": "digest-mismatch"}
    assert "0" * 64 in detail
    wanted = {name: files for name, files in upstream_files(index).items() if name != "demo-bad"}
    assert published(mirror.root) == wanted

    index.state.change("demo-bad", filename, hashes=None)
    report = mirror.sync_well()
    assert counters(report, "files_new", "files_failed") == {"files_new": 1, "files_failed": 0}
    assert published(mirror.root) == upstream_files(index)


# -- where it writes ------------------------------------------------------------------------------------------------


def roots(work: Path) -> dict[str, Path]:
    """Return roots that can't be written, by root neither."""
    (work / "file").write_text("mine")
    return {"a-file": work / "file", "below-a-file": work / "file" / "x", "kernel": Path("/proc/mirror")}


@pytest.mark.parametrize("which", ["a-file", "below-a-file", "kernel"])
def test_unwritable_root(mirror, index, which):
    """A root that can't be written is exit 6 before any request, in one line that names it."""
    root = roots(mirror.work)[which]
    done = mirror.run("sync", "--once", "--index-url", index.url, "--root", root)
    assert done.returncode == 6
    assert index.requests == []
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {root}")
    assert (mirror.work / "file").read_text() == "mine"


@pytest.mark.parametrize("taken", ["public", "staging", "state.db", "public/simple"])
def test_unusable_part_of_the_root(mirror, index, taken):
    """A root in which something else stands where a part of the tree belongs is exit 6 before any request."""
    path = mirror.root / taken
    path.parent.mkdir(parents=True)
    if taken == "state.db":
        path.mkdir()
    else:
        path.write_text("mine")
    done = mirror.sync()
    assert (done.returncode, index.requests) == (6, [])
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


# -- wrong usage ----------------------------------------------------------------------------------------------------

USAGE = {
    "no-root": (["sync", "--once", "--index-url", "URL"], "root"),
    "userinfo": (["sync", "--once", "--index-url", "http://u:hunter22@127.0.0.1/", "--root", "ROOT"], "--index-url"),
    "query": (["sync", "--once", "--index-url", "http://127.0.0.1/?key=hunter22", "--root", "ROOT"], "--index-url"),
    "scheme": (["sync", "--once", "--index-url", "ftp://127.0.0.1/", "--root", "ROOT"], "--index-url"),
    "index": (["sync", "--once", "--index-url", "URL", "--root", "ROOT", "--index", "nope"], "--index"),
    "project": (["sync", "--once", "--index-url", "URL", "--root", "ROOT", "--project", "../x"], "--project"),
    "option": (["sync", "--once", "--jsn"], "--jsn"),
    "no-config": (["sync", "--once", "--config", "absent.toml"], "absent.toml"),
    "nothing": (["sync", "--once"], "mirror.toml"),
}


@pytest.mark.parametrize(("arguments", "named"), USAGE.values(), ids=USAGE)
def test_wrong_usage(mirror, index, arguments, named):
    """Wrong usage is exit 2 and one line that names the option; nothing is asked, nothing touched, no secret said."""
    given = {"URL": index.url, "ROOT": str(mirror.root)}
    done = mirror.run(*(given.get(word, word) for word in arguments))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert named in line
    assert "hunter22" not in line
    assert (done.stdout, index.requests, mirror.root.exists()) == ("", [], False)


def test_unknown_key(mirror, index):
    """An unknown key is exit 2 and names its path; nothing is asked, nothing touched."""
    mirror.url = None
    mirror.configure(f'url = "{index.url}"\nprojetcs = ["*"]')
    done = mirror.sync()
    assert done.returncode == 2
    assert done.stderr == 'error: index[0].projetcs: unknown key; did you mean "projects"?\n'
    assert (done.stdout, index.requests, mirror.root.exists()) == ("", [], False)


def test_configuration_files_are_ignored(mirror, index):
    """With --index-url every configuration file is ignored, also a broken one."""
    (mirror.work / "mirror.toml").write_text("[[nonsense")
    mirror.sync_well(MIRROR_CONFIG=str(mirror.work / "mirror.toml"))
    assert published(mirror.root) == upstream_files(index)


# -- another process ------------------------------------------------------------------------------------------------


def test_second_process(mirror, index):
    """While a cycle works, a second one ends with exit 8, names its pid and asks nothing; a reader is not hindered."""
    stall = index.inject(Stall(after=1000), filename="demo_lib-1.0-py3-none-any.whl", times=1)
    with mirror.start_sync("--json") as first:
        stall.wait()
        roots_read = index.count(kind="root")
        done = mirror.sync("--json")
        assert done.returncode == 8
        assert re.search(rf"\b{first.process.pid}\b", done.stderr)
        assert done.stdout == ""

        too_short = mirror.sync("--wait", "300ms")
        assert too_short.returncode == 8
        assert re.search(rf"\b{first.process.pid}\b", too_short.stderr)
        assert index.count(kind="root") == roots_read
        assert mirror.sync("--dry-run").returncode == 0

        index.release()
        ended = first.end()
    assert ended.returncode == 0, ended.stderr
    assert published(mirror.root) == upstream_files(index)


def test_wait_for_the_other_process(mirror, index):
    """With --wait the second cycle begins when the first has ended, and finds nothing left to do."""
    stall = index.inject(Stall(after=1000), filename="demo_lib-1.0-py3-none-any.whl", times=1)
    with mirror.start_sync("--json") as first:
        stall.wait()
        with mirror.start_sync("--json", "--wait", "5m") as second:
            assert read_event(second, "lock.waiting")["pid"] == first.process.pid
            index.release()
            assert first.end().returncode == 0
            done = second.end()
    assert done.returncode == 0, done.stderr
    assert counters(report_of(done), "projects_unchanged", "files_new") == {"projects_unchanged": 3, "files_new": 0}
    assert published(mirror.root) == upstream_files(index)


def test_signal_while_waiting(mirror, index):
    """A cycle that waits for another process ends at once when it is told to."""
    stall = index.inject(Stall(after=1000), filename="demo_lib-1.0-py3-none-any.whl", times=1)
    with mirror.start_sync() as first:
        stall.wait()
        with mirror.start_sync("--wait", "5m") as second:
            read_event(second, "lock.waiting")
            assert second.end(signal.SIGTERM).returncode == 143
        index.release()
        assert first.end().returncode == 0


def read_event(running: Running, name: str) -> dict[str, Any]:
    """Return an event as soon as a process has logged it."""
    assert running.process.stderr is not None
    for line in running.process.stderr:
        event = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(f"the process ended without {name}")


# -- signals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def patient(mirror, index):
    """The mirror with a configuration by which a stalled request ends in an hour: nothing but a signal ends it here."""
    mirror.url = None
    mirror.configure(f'url = "{index.url}"', limits='stall-timeout = "1h"')
    return mirror


SIGNALS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "code"), SIGNALS, ids=["SIGTERM", "SIGINT"])
def test_signal_during_a_download(patient, index, number, code):
    """A signal ends a stalled cycle at once; what was finished is published, and the next cycle completes the rest."""
    filename = "demo_lib-1.0-py3-none-any.whl"
    stall = index.inject(Stall(after=200_000), filename=filename, times=1)
    with patient.start_sync("--json") as running:
        stall.wait()
        done = running.end(number)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    report = report_of(done)
    assert report["outcome"] == "aborted"

    held = published(patient.root) if (patient.simple / "index.v1_json").exists() else {}
    assert filename not in {name for files in held.values() for name in files}

    report = patient.sync_well()
    assert report["failures"] == []
    assert published(patient.root) == upstream_files(index)
    assert contents(patient.root / "staging") == {}


@pytest.mark.parametrize(("number", "code"), SIGNALS, ids=["SIGTERM", "SIGINT"])
def test_signal_while_the_index_says_nothing(patient, index, number, code):
    """A signal ends a cycle also while the index has not answered at all."""
    stall = index.inject(Stall(after=None), kind="root", times=1)
    with patient.start_sync() as running:
        stall.wait()
        done = running.end(number)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    patient.sync_well()
    assert published(patient.root) == upstream_files(index)


def test_resumed_after_a_signal(patient, index):
    """What a stopped download had received is not asked for again."""
    filename, data = build_wheel("demo-large", "1.0", size_pad=5 * BLOCK)
    index.state.publish("demo-large", filename, data)
    stall = index.inject(Stall(after=4 * BLOCK), filename=filename, times=1)
    with patient.start_sync("--project", "demo-large") as running:
        stall.wait()
        kept = wait_for_staged(patient.root / "staging")
        assert running.end(signal.SIGTERM).returncode == 143
    index.take_requests()
    report = patient.sync_well("--project", "demo-large")
    (resumed,) = [r for r in index.requests if r.kind == "store"]
    asked = re.fullmatch(r"bytes=(\d+)-", resumed.headers["range"])
    assert asked is not None
    assert int(asked[1]) >= kept
    assert counters(report, "bytes_downloaded") == {"bytes_downloaded": len(data) - int(asked[1])}
    assert published(patient.root) == {"demo-large": {filename: data}}


BLOCK = 1 << 20


def wait_for_staged(staging: Path) -> int:
    """Return the size of what is staged as soon as a block of it is."""
    while True:
        sizes = [path.stat().st_size for path in staging.rglob("*.part")]
        if sizes and max(sizes) >= BLOCK:
            return max(sizes)
