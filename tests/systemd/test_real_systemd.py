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
[index.auth]
kind = "basic"
username-credential = "index-username"
password-credential = "index-token"
"""

INDEX = """\
import asyncio, os, pathlib
from mirror.notify import ServiceManager
from simulator import Simulator, build_wheel

async def main():
    async with Simulator(second_origin=True, username="user", password="pass") as simulator:
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
MIRROR="/opt/mirror/bin/mirror --config /etc/mirror/mirror.toml"
printf user > /etc/mirror/index-username; printf pass > /etc/mirror/index-token; chmod 600 /etc/mirror/index-*
cd /etc/systemd/system/mirror.service.d; mv credential.conf.example credential.conf
systemd-sysusers; systemd-tmpfiles --create /etc/tmpfiles.d/mirror.conf; systemctl daemon-reload
systemctl start index.service
journalctl -f -n all -o cat -u mirror.service > /run/log-of-mirror &
systemctl start mirror.service; started=$?
tail -n +1 -f /run/log-of-mirror | grep -q -m 1 daemon.waits
pid=$(show mirror.service MainPID)
capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/$pid/status)
seccomp=$(sed -n 's/^Seccomp:[[:space:]]*//p' /proc/$pid/status)
status=$(show mirror.service StatusText)
systemctl reload mirror.service; reloaded=$?
systemctl start mirror-once.service; once=$?; beside=$(show mirror.service ActiveState)
$MIRROR status > /opt/mirror/out/status; whole=$?
runuser -u mirror -- $MIRROR sync --once --full 2> /opt/mirror/out/by-hand; by_hand=$?
systemd-run -p Type=oneshot --collect --uid=mirror -p LoadCredential=index-username:/etc/mirror/index-username \\
    -p LoadCredential=index-token:/etc/mirror/index-token $MIRROR sync --once --full; run=$?
systemctl stop mirror.service; result=$(show mirror.service Result)
owner=$(stat -c %U /var/lib/mirror/state.db)
sed -i 's#/var/lib/mirror#/srv/mirror#' /etc/mirror/mirror.toml; install -d -o mirror -g mirror -m 0755 /srv/mirror
mv root.conf.example root.conf; systemctl daemon-reload
systemctl start mirror-once.service; elsewhere=$?
systemctl start mirror.service; served=$?
warnings=$(journalctl -o cat -p warning -u mirror.service | grep -c '"level"')
cat > /opt/mirror/out/result <<END
{"started": $started, "reloaded": $reloaded, "once": $once, "status": $whole,
 "beside": "$beside", "by_hand": $by_hand, "run": $run, "elsewhere": "$elsewhere $served $(stat -c %U /srv/mirror/state.db)",
 "warnings": $warnings, "result": "$result",
 "capabilities": "$capabilities", "seccomp": $seccomp, "owner": "$owner",
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
    """With all restrictions in force the daemon starts, mirrors, reloads and stops, the timer's service works; no warning.

    What `mirror install-units` installed gets its credential by LoadCredential=: commands by hand say how to get it, and a
    root elsewhere works by one drop-in. There is no program ``kill``.
    """
    installed = [sys.executable, "-m", "mirror", "install-units", "--destdir", tmp_path / "installed"]
    subprocess.run([*installed, "--program", "/opt/mirror/bin/mirror"], check=True, capture_output=True)
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
        "beside": "active",
        "by_hand": 3,
        "run": 0,
        "elsewhere": "0 0 mirror",
        "warnings": 0,
        "result": "success",
        "capabilities": "0000000000000000",
        "seccomp": 2,
        "owner": "mirror",
        "waits": "waiting;",
    }
    status = (tmp_path / "status").read_text()
    assert "default    1 of 1" in status
    assert "can't be used" not in status
    assert "run `systemctl start mirror-once` for one cycle, or another command by `systemd-run --pipe --wait" in (
        (tmp_path / "by-hand").read_text()
    )
