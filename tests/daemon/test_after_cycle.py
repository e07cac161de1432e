"""What follows a cycle, in this process: a notify-command that hangs, and the textfile of ``--once``."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import time

import pytest

from harness import in_process
from harness.logged import captured_events
from harness.program import Mirror
from mirror.config import AuthConfig, Config, IndexConfig, MirrorSettings, ServiceConfig
from mirror.jobs import notify_command
from mirror.state.store import open_store
from mirror.status.facts import load_facts
from mirror.sync.report import IndexCounters, Report
from simulator import build_wheel


def config_of(tmp_path, script: str) -> Config:
    """Return a configuration with this script as its notify-command."""
    return Config(
        mirror=MirrorSettings(root=tmp_path),
        indexes=(IndexConfig(name="a", url="https://a/simple/", auth=AuthConfig(kind="bearer", token_env="OF_A")),),
        service=ServiceConfig(notify_command=("sh", "-c", script)),
        source="a test",
    )


async def test_notify_command_that_hangs(tmp_path, monkeypatch):
    """A command that does not end is killed with what it has started, and that is one warning."""
    monkeypatch.setattr(notify_command, "LIMIT_S", 0.3)
    config = config_of(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    with captured_events() as logs:
        await notify_command.run_notify_command(config, "cycle", b"{}", 0, dict(os.environ))
    child = int((tmp_path / "pid").read_text())
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(child)
        assert select.select([descriptor], [], [], 30)[0], "it still runs"
        os.close(descriptor)
    assert [(event["event"], event["problem"]) for event in logs] == [
        ("notify.failed", "did not end within 0.3 s: killed")
    ]


async def test_notify_command_that_leaves_something_running(tmp_path):
    """What a command starts in the background is its own affair: nobody waits for it, and it goes on."""
    config = config_of(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/pid; echo done >&2; exit $MIRROR_EXIT_CODE")
    with captured_events() as logs:
        await notify_command.run_notify_command(config, "cycle", b"{}", 3, dict(os.environ))
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert [(event["event"], event["exit_status"], event["said"]) for event in logs] == [("notify.failed", 3, "done")]


async def test_notify_command_that_does_not_read(tmp_path):
    """A report that is larger than a pipe holds does not keep a command from ending well."""
    with captured_events() as logs:
        await notify_command.run_notify_command(
            config_of(tmp_path, "exec <&-; sleep 0"), "cycle", b"x" * 2_000_000, 0, dict(os.environ)
        )
    assert [event["event"] for event in logs] == ["notify.done"]


async def test_notify_command_knows_no_secret(tmp_path):
    """The variables of credentials stay out of its environment, also those of indexes that a reload took away."""
    given = {
        "OF_A": "1",
        "MIRROR_A_PASSWORD": "2",
        "MIRROR_GONE_ONE_USERNAME": "3",
        "CHAINGUARD_PYTHON_TOKEN": "4",
        "CREDENTIALS_DIRECTORY": "/5",
        "NOTIFY_SOCKET": "/6",
        "PATH": os.environ["PATH"],
        "SLACK_URL": "https://hooks.example",
    }
    await notify_command.run_notify_command(config_of(tmp_path, f"env > {tmp_path}/env"), "cycle", b"{}", 5, given)
    found = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    shells = {"PWD", "SHLVL", "_", "OLDPWD"}
    assert {name: value for name, value in found.items() if name not in shells} == {
        "PATH": given["PATH"],
        "SLACK_URL": "https://hooks.example",
        "MIRROR_EVENT": "cycle",
        "MIRROR_EXIT_CODE": "5",
        "MIRROR_ROOT": str(tmp_path),
    }


REPORTS = {
    "nothing": ({}, 0, False),
    "changed": ({"projects_changed": 1}, 0, True),
    "removed": ({"files_removed": 1}, 0, True),
    "failed": ({}, 5, True),
}


@pytest.mark.parametrize(("counters", "code", "expected"), REPORTS.values(), ids=REPORTS)
def test_what_is_worth_telling(counters, code, expected):
    """A cycle that changed something or failed, unless it was stopped by us."""
    report = Report(cycle=1, started_at=0.0, indexes={"a": IndexCounters(name="a", **counters)})
    assert notify_command.is_worth_notifying(report, code) is expected
    report.interrupted = True
    assert notify_command.is_worth_notifying(report, code) is False


async def test_counters_of_another_version(tmp_path, simulator):
    """A report in the state that can't be read has no counters; everything else is told."""
    index = await simulator()
    index.state.publish("demo", *build_wheel("demo", "1.0"))
    mirror = in_process.Mirror(tmp_path / "mirror", {"main": index})
    await mirror.cycle()
    async with open_store(mirror.root / "state.db") as store:
        async with store.transaction() as write:
            await write.execute("UPDATE cycle SET report = ?", ("[]",))
        facts = await load_facts(store, mirror.config, now=1.0, is_scheduled=True)
    assert (facts.last_cycle.exit_code, facts.last_cycle.counters) == (0, {})


def token(days: float) -> str:
    """Return a JWT that ends in so many days."""
    payload = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + days * 86_400}).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


def test_once_warns_of_a_credential_that_ends(tmp_path, threaded_simulator):
    """``sync --once`` tells the end of a JWT at each step, once, and that it has passed."""
    simulator = threaded_simulator()
    mirror = Mirror(tmp_path / "work")
    path = tmp_path / "token"
    mirror.configure(f'url = "{simulator.url}"\n[index.auth]\nkind = "bearer"\ntoken-file = "{path}"')
    said = []
    for days in (20, 13.5, 13.5, 2.5, 0.5, 0.5, -1):
        if days != (said or [(None,)])[-1][0]:
            path.write_text(token(days))
        events = [json.loads(line) for line in mirror.sync().stderr.splitlines()]
        said.append((days, [(e["event"], e.get("within_days")) for e in events if "credential" in e["event"]]))
    assert said == [
        (20, []),
        (13.5, [("credential.expires", 14)]),
        (13.5, []),
        (2.5, [("credential.expires", 3)]),
        (0.5, [("credential.expires", 1)]),
        (0.5, []),
        (-1, [("credential.expired", None)]),
    ]


def test_once_writes_metrics_and_tells(tmp_path, threaded_simulator):
    """``sync --once`` writes the textfile, of gauges only, and runs the command; not with --dry-run."""
    simulator = threaded_simulator()
    simulator.state.publish("demo", *build_wheel("demo", "1.0"))
    mirror = Mirror(tmp_path / "work")
    service = f'[service]\nmetrics-file = "{tmp_path}/m.prom"\nnotify-command = ["sh", "-c", "cat > {tmp_path}/said"]'
    mirror.configure(f'url = "{simulator.url}"', limits=f"disk-reserve = 0\n{service}")
    assert mirror.sync("--dry-run").returncode == 0
    assert not (tmp_path / "m.prom").exists()
    mirror.sync_well()
    text = (tmp_path / "m.prom").read_text()
    assert '\nmirror_last_cycle_files_new{index="default"} 1.0\n' in text
    assert "_total" not in text
    assert "mirror_index_stale{" not in text
    assert '"files_new":1' in (tmp_path / "said").read_text()
