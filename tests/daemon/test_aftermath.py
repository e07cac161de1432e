"""What follows a cycle, in this process: a notify-command that hangs, and the textfile of ``--once``."""

from __future__ import annotations

import contextlib
import os
import select

from mirror_program import Mirror

from mirror.config import Config, IndexConfig, MirrorSettings, ServiceConfig
from mirror.daemon import aftermath
from simulator import build_wheel


async def test_notify_command_that_hangs(tmp_path, monkeypatch):
    """A command that does not end is killed with what it has started."""
    monkeypatch.setattr(aftermath, "NOTIFY_LIMIT_S", 0.3)
    config = Config(
        mirror=MirrorSettings(root=tmp_path),
        indexes=(IndexConfig(name="a", url="https://a/simple/"),),
        service=ServiceConfig(notify_command=("sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/pid; wait")),
        source="a test",
    )
    await aftermath.tell(config, "cycle", b"{}", 0, dict(os.environ))
    child = int((tmp_path / "pid").read_text())
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(child)
        assert select.select([descriptor], [], [], 30)[0], "it still runs"
        os.close(descriptor)


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
