"""What an unattended daemon meets in years: credentials that are renewed, a clock that jumps, cycles that never end."""

from __future__ import annotations

import base64
import json
import re
import signal
import sqlite3
import time
import urllib.error

import pytest

from harness.daemon import Daemon, Listener, get
from mirror.tree.lock import hold
from simulator import Stall, Status, build_wheel

DAY_S = 86_400

IMPATIENT = """\
from mirror.daemon import cycles, timetable
from mirror.upstream.credentials import source
timetable.CHECK_EVERY_S = cycles.NOTE_EVERY_S = source.CHECK_EVERY_S = 0.02
cycles.FACTS_EVERY_NOTES = 1
"""
"""Looks every few milliseconds at what is looked at every few seconds."""

CLOCK = """\
import os, time
true = time.time
time.time = lambda: true() + (float(open("jump").read() or 0) if os.path.exists("jump") else 0.0)
"""
"""A clock that can be set: by a file in the working directory."""


@pytest.fixture
def daemon(daemon):
    """It is impatient here."""
    daemon.before = IMPATIENT
    return daemon


def status(daemon: Daemon) -> dict:
    """Return the object of ``mirror status --json``; its exit code is the process's."""
    done = daemon.run("status", "--json")
    found = json.loads(done.stdout)
    assert found["exit_code"] == done.returncode
    return found


def change_state(daemon: Daemon, *statements: str) -> None:
    with sqlite3.connect(daemon.root / "state.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_token_that_is_renewed(daemon, index, tmp_path):
    """A denied index is asked once; when the token's file changes it is asked again at once, without a signal."""
    index.settings.username, index.settings.password = "user", "new-password"
    (tmp_path / "token").write_text("old-password\n")
    auth = f'[index.auth]\nkind = "basic"\nusername = "user"\npassword-file = "{tmp_path}/token"'
    daemon.configure(f'name = "main"\nurl = "{index.url}"\n{auth}')
    with daemon:
        daemon.idle()
        asked = index.count()
        (tmp_path / "aside").write_text("new-password\n")
        (tmp_path / "aside").rename(tmp_path / "token")
        changed = daemon.until("credential.changed")
        daemon.until("file.placed")
        assert daemon.end() == 0
    assert (asked, changed["index"], "old-password" in str(daemon.events)) == (1, "main", False)


def test_token_that_is_malformed(daemon, index, tmp_path):
    """A token that can't be one is a denial (3) until its file is mended; the metrics say so too."""
    (tmp_path / "token").write_text("a\nb")
    auth = f'[index.auth]\nkind = "bearer"\ntoken-file = "{tmp_path}/token"'
    service = f'metrics-file = "{tmp_path}/m.prom"'
    daemon.configure(f'name = "main"\nurl = "{index.url}"\n{auth}', service=service)
    with daemon:
        daemon.until("index.ended")
        daemon.idle()
        found = status(daemon)
        assert '\nmirror_credential_usable{index="main"} 0.0\n' in (tmp_path / "m.prom").read_text()
        (tmp_path / "aside").write_text("good")
        (tmp_path / "aside").rename(tmp_path / "token")
        daemon.until("file.placed")
        assert daemon.end() == 0
    assert (found["exit_code"], [row["reason"] for row in found["failures"]]) == (3, ["denied"])


def test_denial_is_not_hidden_by_the_others(daemon, index, threaded_simulator):
    """``status`` is 3 while an index denies us, also when the last cycle was over the others and went well."""
    down = threaded_simulator()
    down.inject(Status(status=401))
    indexes = [f'name = "main"\nurl = "{index.url}"\ninterval = "50ms"', f'name = "down"\nurl = "{down.url}"']
    daemon.configure(*indexes)
    with daemon:
        daemon.until("cycle.started", lambda event: event["cycle"] == 3)
        assert daemon.end() == 0
    assert status(daemon)["exit_code"] == 3


def test_long_first_cycle_is_seen(daemon, index):
    """While a first cycle runs the metrics tell what is listed by now, and the disk, which may fill meanwhile."""
    index.state.publish("large", *build_wheel("large", "1.0", size_pad=500_000))
    index.inject(Stall(after=1000), filename="large-1.0-py3-none-any.whl")
    daemon.configure(f'name = "main"\nurl = "{index.url}"', service='metrics-listen = "127.0.0.1:0"')
    with daemon:
        address = daemon.until("metrics.listening")["address"]
        assert "\nmirror_disk_free_bytes " in get(address, "/metrics")[1]
        line = '\nmirror_index_listed_projects{index="main"} 2.0\n'
        assert any(line in get(address, "/metrics")[1] for _ in range(5000))
        assert get(address, "/ready") == (503, "no cycle has come to its end yet\n")
        assert daemon.end() == 0


def test_clock_set_forward(daemon):
    """A jump forward is told and counts as time that has passed: what would be due by then is done now."""
    daemon.before += CLOCK
    with daemon:
        daemon.idle()
        (daemon.work / "aside").write_text("86400")
        (daemon.work / "aside").rename(daemon.work / "jump")
        jumped = daemon.until("clock.jumped")
        daemon.until("cycle.finished")
        daemon.idle()
        assert daemon.end() == 0
    assert round(jumped["seconds"], -1) == 86400


def test_clock_set_back(daemon, index):
    """A jump back is told; what the ledger has to wait for by the old clock is tried in the next cycle all the same."""
    daemon.before += CLOCK
    index.inject(Status(status=404), filename="demo-1.0-py3-none-any.whl", times=2)
    daemon.configure(f'name = "main"\nurl = "{index.url}"', mirror='interval = "1h"')
    with daemon:
        daemon.idle()
        (daemon.work / "aside").write_text("-86400")
        (daemon.work / "aside").rename(daemon.work / "jump")
        jumped = daemon.until("clock.jumped")
        # The next cycle comes by the steady clock: a reload with a shorter interval brings it near.
        daemon.configure(f'name = "main"\nurl = "{index.url}"', mirror='interval = "50ms"')
        daemon.send(signal.SIGHUP)
        finished = daemon.until("cycle.finished")
        assert daemon.end() == 0
    assert (round(jumped["seconds"], -1), finished["files_new"]) == (-86400, 1)


def test_upkeep_where_a_cycle_is_always_due(daemon, index):
    """Where cycles take longer than the interval, an upkeep that is overdue for a day has its turn nevertheless."""
    with daemon:
        daemon.idle()
        assert daemon.end() == 0
    old = time.time() - 3 * 86_400
    change_state(daemon, f"UPDATE meta SET value = json_set(value, '$.at', {old}) WHERE key = 'upkeep'")
    daemon.configure(f'name = "main"\nurl = "{index.url}"', mirror='interval = "1ms"')
    with daemon:
        daemon.until("cycle.finished", lambda event: event["cycle"] == 4)
        assert daemon.end() == 0
    assert daemon.names().index("upkeep.finished") < daemon.names().index("cycle.finished", 4)


def test_starts_beside_another_command(daemon):
    """While another command holds the tree at the start, the daemon is ready, and its metrics tell what is held."""
    with daemon:
        daemon.idle()
        assert daemon.end() == 0
    text = daemon.config.read_text().replace("[service]", '[service]\nmetrics-listen = "127.0.0.1:0"')
    daemon.config.write_text(text)
    with hold(daemon.root / "tree.lock"), daemon:
        daemon.until("lock.held")
        address = daemon.until("metrics.listening")["address"]
        daemon.until("cycle.waits")
        assert '\nmirror_index_held_files{index="main"} 1.0\n' in get(address, "/metrics")[1]
        assert get(address, "/ready") == (200, "ready\n")
        assert daemon.end() == 0


BUGS = {
    "cycle": ("cycles.run_cycle", ["cycle.crashed", "cycle.crashed"]),
    "upkeep": ("upkeep.prune", ["upkeep.crashed", "upkeep.crashed"]),
}


@pytest.mark.parametrize(("name", "events"), BUGS.values(), ids=BUGS)
def test_bug_is_no_end(daemon, name, events):
    """A bug of ours in a cycle or in the upkeep is an error with its traceback, and the daemon goes on."""
    bug = "async def bug(*_arguments, **_options):\n    raise ZeroDivisionError('a bug')\n"
    daemon.before += f"from mirror.daemon import cycles, upkeep\n{bug}{name} = bug\n"
    with daemon:
        daemon.idle()
        daemon.send(signal.SIGUSR1)
        daemon.until(events[0])
        assert daemon.end() == 0
    found = [event for event in daemon.events if event["event"] in events]
    assert [event["event"] for event in found] == events
    assert "ZeroDivisionError: a bug" in found[0]["exception"]


def test_address_that_is_given_up(daemon, index):
    """After a reload without an address for metrics nobody listens there any more."""
    line = f'name = "main"\nurl = "{index.url}"'
    daemon.configure(line, service='metrics-listen = "127.0.0.1:0"')
    with daemon:
        address = daemon.until("metrics.listening")["address"]
        daemon.idle()
        daemon.configure(line)
        daemon.send(signal.SIGHUP)
        daemon.until("config.loaded")
        with pytest.raises(urllib.error.URLError):
            get(address, "/live")
        assert daemon.end() == 0


def test_credential_that_ends(daemon, index, tmp_path):
    """The end of a JWT is told 14, 7, 3 and 1 days ahead and when it has passed, each once; it is in the metrics."""
    ends = round(time.time()) + 20 * DAY_S
    claims = base64.urlsafe_b64encode(json.dumps({"exp": ends}).encode()).decode().rstrip("=")
    (tmp_path / "token").write_text(f"e30.{claims}.c2ln")
    daemon.before += CLOCK
    auth = f'[index.auth]\nkind = "bearer"\ntoken-file = "{tmp_path}/token"'
    service = f'metrics-file = "{tmp_path}/m.prom"'
    daemon.configure(f'name = "main"\nurl = "{index.url}"\n{auth}', service=service)
    with daemon:
        daemon.idle()
        for days in (6.5, 13.5, 17.5, 19.5, 20.5):
            (daemon.work / "aside").write_text(str(days * DAY_S))
            (daemon.work / "aside").rename(daemon.work / "jump")
            daemon.until("credential.expires" if days < 20 else "credential.expired")
        daemon.idle()
        assert daemon.end() == 0
    told = [event for event in daemon.events if event["event"].startswith("credential.")]
    assert [(event["level"], event.get("within_days")) for event in told] == [
        ("warning", 14),
        ("warning", 7),
        ("warning", 3),
        ("warning", 1),
        ("error", None),
    ]
    (line,) = re.findall(
        "^mirror_credential_expiry_timestamp_seconds{.*", (tmp_path / "m.prom").read_text(), re.MULTILINE
    )
    assert float(line.split()[1]) == ends


def test_variable_that_is_not_set(daemon, index):
    """A credential's variable that is not set is a warning at the start and at each reload, not an end."""
    auth = '[index.auth]\nkind = "bearer"\ntoken-env = "NOT_SET"'
    daemon.configure(f'name = "main"\nurl = "{index.url}"\n{auth}')
    with daemon:
        problem = daemon.until("config.incomplete")["problem"]
        daemon.idle()
        daemon.send(signal.SIGHUP)
        daemon.until("config.incomplete")
        assert daemon.end() == 0
    assert problem == "index[0].auth.token-env: the variable NOT_SET is not set"


def test_log_that_nobody_reads_any_more(daemon, index, tmp_path):
    """A log whose reader has gone is not the daemon's end, and takes nothing from its exit code."""
    listener = Listener(tmp_path / "notify")
    daemon = Daemon(tmp_path / "work", NOTIFY_SOCKET=str(listener.path))
    with daemon:
        daemon.idle()
        daemon.hang_up()
        listener.until("STATUS=waiting")
        daemon.send(signal.SIGUSR1)
        listener.until("STATUS=reading the credentials")
        listener.until("STATUS=waiting")
        assert daemon.end() == 0
    listener.close()
