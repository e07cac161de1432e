"""The units under a real systemd: booted in namespaces over a throw-away copy of this machine, where that is possible."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup", "--kill-child"]

CONFIGURATION = """\
[mirror]
root = "/var/lib/mirror"
[limits]
disk-reserve = 0
[[index]]
name = "default"
url = "URL"
"""

INDEX = """\
import asyncio, os, pathlib
from mirror.notify import ServiceManager
from simulator import Simulator, build_wheel

async def main():
    async with Simulator(second_origin=True) as simulator:
        simulator.state.publish("demo", *build_wheel("demo", "1.0"))
        path = pathlib.Path("/etc/mirror/mirror.toml")
        path.write_text(path.read_text().replace("URL", simulator.url))
        ServiceManager(os.environ).ready("listening")
        await asyncio.Event().wait()

asyncio.run(main())
"""

CHECK = """\
exec 2>/opt/mirror/out/said
set -x
show() { systemctl show "$1" --value -p "$2"; }
systemd-sysusers; systemd-tmpfiles --create /etc/tmpfiles.d/mirror.conf; systemctl start index.service
journalctl -f -n all -o cat -u mirror.service > /run/log-of-mirror &
systemctl start mirror.service; started=$?
tail -n +1 -f /run/log-of-mirror | grep -q -m 1 daemon.waits
pid=$(show mirror.service MainPID)
capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/$pid/status)
seccomp=$(sed -n 's/^Seccomp:[[:space:]]*//p' /proc/$pid/status)
status=$(show mirror.service StatusText)
systemctl reload mirror.service; reloaded=$?
systemctl stop mirror.service; result=$(show mirror.service Result)
systemctl start mirror-once.service; once=$?
/opt/mirror/bin/mirror --config /etc/mirror/mirror.toml status > /opt/mirror/out/status; whole=$?
warnings=$(journalctl -o cat -p warning -u mirror.service | grep -c '"level"')
cat > /opt/mirror/out/result <<END
{"started": $started, "reloaded": $reloaded, "once": $once, "status": $whole, "warnings": $warnings, "result": "$result",
 "capabilities": "$capabilities", "seccomp": $seccomp, "owner": "$(stat -c %U /var/lib/mirror/state.db)",
 "waits": "${status%% *}"}
END
"""


def can_boot() -> bool:
    """Tell whether this machine lets us boot a systemd in namespaces."""
    tools = ("unshare", "pivot_root", "ip", "make")
    if os.geteuid() or not SYSTEMD.exists() or not all(map(shutil.which, tools)):
        return False
    script = "mount --make-rprivate / && d=$(mktemp -d) && mount -t tmpfs tmpfs $d && mkdir $d/u $d/w $d/m"
    script += (
        " && mount -t overlay overlay -o lowerdir=/,upperdir=$d/u,workdir=$d/w $d/m && mount -t sysfs -o ro sysfs /sys"
    )
    script += " && [ -d /sys/fs/cgroup ]"
    return subprocess.run([*UNSHARE, "sh", "-c", script], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_boot(), reason="no systemd can be booted here: it takes root, namespaces and an overlay")
def test_under_systemd(tmp_path):
    """With all restrictions in force the daemon starts, mirrors, reloads and stops, the timer's service works; no warning."""
    (tmp_path / "mirror.toml").write_text(CONFIGURATION)
    (tmp_path / "index.py").write_text(INDEX)
    (tmp_path / "check.sh").write_text(CHECK)
    site, prefix = sysconfig.get_paths()["purelib"], sys.base_prefix
    done = subprocess.run(
        [*UNSHARE, "bash", HERE / "boot.sh", ROOT, site, prefix, tmp_path],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    result = tmp_path / "result"
    assert result.exists(), (
        done.stdout + done.stderr + ((tmp_path / "said").read_text() if (tmp_path / "said").exists() else "")
    )
    assert json.loads(result.read_text()) == {
        "started": 0,
        "reloaded": 0,
        "once": 0,
        "status": 0,
        "warnings": 0,
        "result": "success",
        "capabilities": "0000000000000000",
        "seccomp": 2,
        "owner": "mirror",
        "waits": "waiting;",
    }
    assert "default    1 of 1" in (tmp_path / "status").read_text()
