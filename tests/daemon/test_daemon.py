"""``mirror sync`` as a service manager and an administrator see it: a real process, real signals, a real index."""

from __future__ import annotations

import json
import shutil
import signal

import pytest

from harness.daemon import Daemon, get
from harness.program import published
from mirror.tree.lock import hold
from simulator import Stall, Status, build_wheel, unavailable


def files(daemon: Daemon) -> dict[str, list[str]]:
    return {project: sorted(found) for project, found in published(daemon.root).items()}


def test_first_cycle_then_waits_then_ends(daemon):
    """It runs a cycle at once, does its upkeep, waits, and ends with 0 on SIGTERM; nothing is left over."""
    with daemon:
        daemon.idle()
        assert daemon.end() == 0
    wanted = ["daemon.started", "cycle.started", "cycle.finished", "upkeep.finished", "daemon.waits", "daemon.stopped"]
    assert [name for name in daemon.names() if name in wanted] == wanted
    assert files(daemon) == {"demo": ["demo-1.0-py3-none-any.whl"]}
    assert list((daemon.root / "staging").iterdir()) == []


def test_cycle_finished_has_all_counters(daemon):
    """One event at the end of a cycle has every counter of the report."""
    with daemon:
        event = daemon.until("cycle.finished")
        daemon.end()
    assert (event["files_new"], event["projects_listed"], event["files_withheld"], event["outcome"]) == (
        1,
        1,
        0,
        "complete",
    )


def test_interval(daemon, index):
    """Cycles follow each other by themselves."""
    daemon.configure(f'name = "main"\nurl = "{index.url}"', mirror='interval = "50ms"')
    with daemon:
        daemon.until("cycle.finished", lambda event: event["cycle"] == 3)
        assert daemon.end() == 0


def test_interrupt_is_an_orderly_end_too(daemon):
    """SIGINT ends it like SIGTERM."""
    with daemon:
        daemon.idle()
        assert daemon.end(signal.SIGINT) == 0


def test_ends_in_the_middle_of_a_download(daemon, index):
    """SIGTERM in a cycle ends it soon; what was finished is kept, and the next start completes the mirror."""
    index.state.publish("large", *build_wheel("large", "1.0", size_pad=500_000))
    stall = index.inject(Stall(after=1000), filename="large-1.0-py3-none-any.whl")
    with daemon:
        daemon.until("file.placed")
        stall.wait()
        assert daemon.end() == 0
    index.faults.clear()
    with daemon:
        daemon.idle()
        daemon.end()
    assert sorted(files(daemon)) == ["demo", "large"]


def test_second_daemon(daemon, index):
    """A second daemon for the same tree ends with 8 and names the first; a command beside the waiting one works."""
    with daemon:
        daemon.idle()
        second = daemon.run("sync")
        assert (second.returncode, f"process {daemon.pid}" in second.stderr) == (8, True)
        assert daemon.run("sync", "--once").returncode == 0
        daemon.end()


@pytest.mark.parametrize(
    "option", ["--dry-run", "--full", "--json", "--allow-shrink", "--index=main", "--project=demo"]
)
def test_options_of_a_single_cycle(daemon, option):
    """What narrows or describes one cycle is refused without --once."""
    done = daemon.run("sync", option)
    assert done.returncode == 2
    assert f"{option.partition('=')[0]}: only together with --once" in done.stderr


def test_hurries_on_a_signal(daemon, index):
    """SIGUSR1 starts a cycle now, which tries the whole ledger, due or not."""
    index.inject(Status(status=404), filename="demo-1.0-py3-none-any.whl", times=2)
    with daemon:
        daemon.idle()
        assert files(daemon) == {}
        daemon.send(signal.SIGUSR1)
        daemon.until("cycle.finished")
        daemon.end()
    assert files(daemon) == {"demo": ["demo-1.0-py3-none-any.whl"]}


def test_reload(daemon, index, threaded_simulator):
    """SIGHUP reads the configuration again: a new index is mirrored at once, without a restart."""
    other = threaded_simulator()
    other.state.publish("other", *build_wheel("other", "2.0"))
    with daemon:
        daemon.idle()
        daemon.configure(f'name = "main"\nurl = "{index.url}"', f'name = "other"\nurl = "{other.url}"')
        daemon.send(signal.SIGHUP)
        loaded = daemon.until("config.loaded")
        daemon.until("cycle.finished")
        daemon.idle()
        daemon.end()
    assert (loaded["indexes"], loaded["changed"]) == (["main", "other"], ["other"])
    assert sorted(files(daemon)) == ["demo", "other"]


BROKEN = {
    "not-toml": ("mirror = [", "not valid TOML"),
    "unknown-key": ('[mirror]\nroot = "/x"\nrot = 1\n', "mirror.rot: unknown key"),
    "another-root": (None, "mirror.root: root and state can't change while running: restart the daemon"),
}


@pytest.mark.parametrize(("text", "problem"), BROKEN.values(), ids=BROKEN)
def test_broken_configuration_is_refused(daemon, index, text, problem):
    """A broken configuration at a reload is one clear error; the old one stays and the daemon goes on."""
    with daemon:
        daemon.idle()
        good = daemon.config.read_text()
        daemon.config.write_text(text or good.replace(str(daemon.root), str(daemon.work / "elsewhere")))
        daemon.send(signal.SIGHUP)
        refused = daemon.until("config.refused")
        daemon.send(signal.SIGUSR1)
        daemon.until("cycle.finished")
        assert daemon.end() == 0
    assert problem in refused["problem"]
    assert refused["level"] == "error"


def test_tells_the_service_manager(tmp_path, index, listener):
    """READY comes before the first cycle ends, STATUS says what is done, RELOADING and READY frame a reload, STOPPING the end."""
    daemon = Daemon(tmp_path / "work", NOTIFY_SOCKET=str(listener.path), WATCHDOG_USEC="40000")
    daemon.configure(f'name = "main"\nurl = "{index.url}"')
    stall = index.inject(Stall(after=None), kind="root")
    with daemon:
        listener.until("READY=1")
        stall.wait()  # the first cycle has not even read the root
        listener.until("STATUS=cycle 1: reading the root")
        index.release()
        listener.until("STATUS=waiting; next cycle at ")
        listener.until("WATCHDOG=1")
        daemon.send(signal.SIGHUP)
        assert listener.until("RELOADING=1")[-1].startswith(("RELOADING=1", "MONOTONIC_USEC="))
        listener.until("READY=1")
        assert daemon.end() == 0
    assert "STOPPING=1" in listener.heard + listener.rest()


def test_stuck_cycle_is_not_fed(tmp_path, index, listener):
    """While a cycle waits for an answer that does not come, the watchdog hears nothing, although the loop turns."""
    daemon = Daemon(tmp_path / "work", NOTIFY_SOCKET=str(listener.path), WATCHDOG_USEC="40000")
    daemon.configure(f'name = "main"\nurl = "{index.url}"', service='metrics-listen = "127.0.0.1:0"')
    stall = index.inject(Stall(after=None), kind="root")
    with daemon:
        address = daemon.until("metrics.listening")["address"]
        listener.until("STATUS=cycle 1: reading the root")
        stall.wait()
        assert listener.falls_silent(address)
        daemon.end()


def test_socket_that_is_gone(tmp_path, index, listener):
    """A notification socket that vanishes is told once; the daemon goes on."""
    daemon = Daemon(tmp_path / "work", NOTIFY_SOCKET=str(listener.path), WATCHDOG_USEC="40000")
    daemon.configure(f'name = "main"\nurl = "{index.url}"')
    with daemon:
        daemon.idle()
        listener.close()
        daemon.until("systemd.unreachable")
        daemon.send(signal.SIGUSR1)
        daemon.until("cycle.finished")
        assert daemon.end() == 0
    assert daemon.names().count("systemd.unreachable") == 1


def test_failed_index_backs_off_alone(daemon, index, threaded_simulator):
    """An index that is down rests for long, the other goes on in its interval; the exit code is the daemon's own."""
    down = threaded_simulator()
    down.inject(Status(status=401))
    indexes = [f'name = "main"\nurl = "{index.url}"\ninterval = "50ms"', f'name = "down"\nurl = "{down.url}"']
    daemon.configure(*indexes)
    with daemon:
        daemon.until("cycle.finished", lambda event: event["cycle"] == 4)
        assert daemon.end() == 0
    assert files(daemon) == {"demo": ["demo-1.0-py3-none-any.whl"]}
    assert down.count() == 1
    started = [event["indexes"] for event in daemon.events if event["event"] == "cycle.started"]
    assert started[:4] == [["main", "down"], ["main"], ["main"], ["main"]]


def test_upstream_that_denies_at_the_start(tmp_path, index):
    """A denied index does not end the daemon, and there is no storm; a renewed token file is taken at once."""
    index.settings.username, index.settings.password = "user", "new-password"
    (tmp_path / "token").write_text("old-password\n")
    daemon = Daemon(tmp_path / "work")
    auth = f'[index.auth]\nkind = "basic"\nusername = "user"\npassword-file = "{tmp_path}/token"'
    daemon.configure(f'name = "main"\nurl = "{index.url}"\n{auth}')
    with daemon:
        daemon.idle()
        assert index.count() == 1
        (tmp_path / "token").write_text("new-password\n")
        # A signal is quicker than the next look at the file, and leads to the same.
        daemon.send(signal.SIGUSR1)
        daemon.until("file.placed")
        assert daemon.end() == 0


def test_malformed_credential_of_one_index(daemon, index, tmp_path):
    """An index whose credential can never be used is named, and the others go on."""
    (tmp_path / "token").write_text("a\nb")
    auth = f'[index.auth]\nkind = "bearer"\ntoken-file = "{tmp_path}/token"'
    daemon.configure(f'name = "bad"\nurl = "http://localhost:9/simple/"\n{auth}', f'name = "main"\nurl = "{index.url}"')
    with daemon:
        ended = daemon.until("index.ended")
        daemon.idle()
        assert daemon.end() == 0
    assert (ended["index"], "line break" in ended["problem"]) == ("bad", True)


def test_tree_is_in_use(daemon):
    """While another command holds the tree, the daemon waits with one warning, and works when it is let go."""
    (daemon.root).mkdir(parents=True)
    with hold(daemon.root / "tree.lock"), daemon:
        daemon.until("cycle.waits")
        assert daemon.end() == 0
    with daemon:
        daemon.idle()
        assert daemon.end() == 0
    assert daemon.names().count("cycle.waits") == 1


@pytest.mark.parametrize("damage", ["no-state", "garbage"])
def test_state_is_not_there(daemon, damage):
    """A tree without its state, or with a damaged one, is refused before READY: exit code 6 and the advice."""
    with daemon:
        daemon.idle()
        daemon.end()
    for path in daemon.root.glob("state.db*"):
        path.unlink() if damage == "no-state" else path.write_bytes(b"garbage" * 4096)
    with daemon:
        assert daemon.end(None) == 6
    assert "verify --repair" in daemon.words[-1]


def test_disk_trouble_is_no_end(daemon, index):
    """A tree that breaks while the daemon runs is told at each cycle; once it is mended, the next cycle works."""
    with daemon:
        daemon.idle()
        (daemon.root / "public" / "simple").rename(daemon.root / "aside")
        daemon.send(signal.SIGUSR1)
        failed = daemon.until("cycle.failed")
        daemon.idle()
        shutil.rmtree(daemon.root / "public" / "simple")
        (daemon.root / "aside").rename(daemon.root / "public" / "simple")
        daemon.send(signal.SIGUSR1)
        daemon.until("cycle.finished")
        assert daemon.end() == 0
    assert "the tree was lost" in failed["problem"]


def test_metrics_and_health(daemon, index):
    """The endpoint tells metrics and life at once, and readiness once every index was read; anything else is 404."""
    daemon.configure(f'name = "main"\nurl = "{index.url}"', service='metrics-listen = "127.0.0.1:0"')
    stall = index.inject(Stall(after=None), kind="root")
    with daemon:
        address = daemon.until("metrics.listening")["address"]
        stall.wait()
        assert get(address, "/live") == (200, "alive\n")
        assert get(address, "/ready") == (503, "no cycle has come to its end yet\n")
        index.release()
        daemon.idle()
        assert get(address, "/ready") == (200, "ready\n")
        assert get(address, "/metrics")[1].count("\nprocess_open_fds ") == 1
        status, text = get(address, "/metrics")
        assert get(address, "/other")[0] == 404
        daemon.end()
    assert status == 200
    for line in (
        'mirror_requests_total{index="main",status="200"} 3.0',
        'mirror_index_held_files{index="main"} 1.0',
        'mirror_cycles_total{outcome="complete"} 1.0',
        'mirror_index_stale{index="main"} 0.0',
        'mirror_last_cycle_files_new{index="main"} 1.0',
        "mirror_cycle_duration_seconds_count 1.0",
    ):
        assert f"\n{line}\n" in text


def test_metrics_address_is_taken(daemon, index):
    """An address that is in use is one error; the daemon works without it, and a reload moves it."""
    holder = Listenable()
    daemon.configure(f'name = "main"\nurl = "{index.url}"', service=f'metrics-listen = "{holder.address}"')
    with daemon:
        assert daemon.until("metrics.unavailable")["address"] == holder.address
        daemon.idle()
        daemon.configure(f'name = "main"\nurl = "{index.url}"', service='metrics-listen = "localhost:0"')
        daemon.send(signal.SIGHUP)
        assert get(daemon.until("metrics.listening")["address"], "/live")[0] == 200
        daemon.send(signal.SIGHUP)
        daemon.until("config.loaded")
        assert daemon.end() == 0
    holder.close()


class Listenable:
    """Something that holds a port."""

    def __init__(self) -> None:
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


def test_metrics_file_and_notify_command(daemon, index, tmp_path):
    """After a cycle that changed something the command gets the report and no secret; the textfile is whole."""
    script = f"cat > {tmp_path}/said; env > {tmp_path}/env"
    service = f'metrics-file = "{tmp_path}/m.prom"\nnotify-command = ["sh", "-c", {json.dumps(script)}]'
    daemon = Daemon(tmp_path / "work", MIRROR_MAIN_USERNAME="user", MIRROR_MAIN_PASSWORD="pass-word")
    daemon.configure(f'name = "main"\nurl = "{index.url}"', service=service)
    with daemon:
        daemon.until("notify.done")
        daemon.idle()
        (tmp_path / "said").unlink()
        daemon.send(signal.SIGUSR1)
        daemon.idle()
        daemon.end()
    text = (tmp_path / "m.prom").read_text()
    # node_exporter has a process_open_fds of its own, and refuses a second one.
    assert ('mirror_index_held_files{index="main"} 1.0\n' in text, "process_" in text) == (True, False)
    assert not (tmp_path / "said").exists(), "nothing changed in the second cycle"
    env = (tmp_path / "env").read_text()
    assert ("MIRROR_EVENT=cycle" in env, "MIRROR_EXIT_CODE=0" in env, "pass-word" in env) == (True, True, False)


def test_status_beside_the_daemon(daemon):
    """``mirror status`` tells what the daemon does, its upkeep and the disk, from the state alone."""
    with daemon:
        daemon.idle()
        words = daemon.run("status")
        shown = json.loads(daemon.run("status", "--json").stdout)
        daemon.end()
    assert words.returncode == 0
    assert f"Daemon:     process {daemon.pid}, waiting; next cycle at " in words.stdout
    assert "Upkeep:     " in words.stdout
    assert "Disk:       " in words.stdout
    assert shown["daemon"]["pid"] == daemon.pid
    assert (shown["upkeep"]["checked"], shown["damage"]) == (1, [])


def test_server_that_asks_for_patience(daemon, index):
    """An index that answers 503 with a long Retry-After is left alone, and the daemon waits."""
    index.inject(unavailable(503, "7200"))
    with daemon:
        words = daemon.idle()["doing"]
        assert daemon.end() == 0
    assert index.count() == 1
    assert words.endswith("; could not be read: main")


def test_damage_is_found_and_told(daemon, index, tmp_path):
    """The scrub finds a flipped bit: an error in the log, the metrics, the notify-command and ``status`` (exit code 7)."""
    script = f"cat >> {tmp_path}/said; echo $MIRROR_EVENT $MIRROR_EXIT_CODE >> {tmp_path}/events"
    service = f'metrics-file = "{tmp_path}/m.prom"\nnotify-command = ["sh", "-c", "{script}"]'
    daemon.configure(f'name = "main"\nurl = "{index.url}"', mirror='scrub = "100%"', service=service)
    with daemon:
        daemon.idle()
        daemon.end()
    blob = next(daemon.root.glob("public/files/*/*/*/*.whl"))
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    forget_upkeep(daemon)
    with daemon:
        daemon.until("tree.damaged")
        daemon.idle()
        status = daemon.run("status")
        daemon.end()
    assert status.returncode == 7
    assert "1 file found damaged: run `mirror verify --repair`" in status.stdout
    assert "\nmirror_damaged_files 1.0\n" in (tmp_path / "m.prom").read_text()
    assert (tmp_path / "events").read_text().splitlines() == ["cycle 0", "damage 7"]
    assert daemon.run("verify", "--repair").returncode == 0
    status = daemon.run("status")
    assert (status.returncode, "DAMAGED" in status.stdout) == (0, False)


def forget_upkeep(daemon: Daemon) -> None:
    """Make the daily upkeep due."""
    import sqlite3

    with sqlite3.connect(daemon.root / "state.db") as connection:
        connection.execute("DELETE FROM meta WHERE key = 'upkeep'")
    connection.close()


NOTIFY = {
    "fails": ('["sh", "-c", "echo oh no >&2; exit 3"]', {"exit_status": 3, "said": "oh no"}),
    "is-not-there": ('["/nonexistent/notify"]', {"problem": "can't be started: No such file or directory"}),
    "reads-nothing": ('["true"]', None),
}


@pytest.mark.parametrize(("command", "fields"), NOTIFY.values(), ids=NOTIFY)
def test_notify_command_that_fails(daemon, index, command, fields):
    """A notify-command that fails is one warning, and the daemon goes on."""
    daemon.configure(f'name = "main"\nurl = "{index.url}"', service=f"notify-command = {command}")
    with daemon:
        event = daemon.until("notify.failed" if fields else "notify.done")
        daemon.idle()
        assert daemon.end() == 0
    assert fields is None or {key: event[key] for key in fields} == fields


def test_metrics_file_that_can_not_be_written(daemon, index, tmp_path):
    """An unwritable metrics file is one error, and the daemon goes on."""
    daemon.configure(f'name = "main"\nurl = "{index.url}"', service=f'metrics-file = "{tmp_path}/none/m.prom"')
    with daemon:
        assert daemon.until("metrics.unwritten")["path"] == f"{tmp_path}/none/m.prom"
        daemon.idle()
        assert daemon.end() == 0
