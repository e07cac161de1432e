"""The units, the user, the image: checked by the tools that will read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "mirror" / "systemd"
SERVICES = ["mirror.service", "mirror-once.service", "mirror-serve.service"]

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def run(*command: str | Path) -> str:
    """Return what a program says, which must succeed."""
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_security(unit):
    """The exposure: systemd scores the exposure of each unit at 1.5 or less."""
    found = run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", SYSTEMD / unit)
    assert float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", found)[1]) <= 1.5


@needs_systemd
def test_verify(tmp_path):
    """There is nothing that systemd finds to complain about; the program itself is one that is there."""
    units = [*SERVICES, "mirror-once.timer", "mirror-serve.socket"]
    for unit in units:
        text = (SYSTEMD / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/opt/mirror/bin/mirror", sys.executable))
    assert run("systemd-analyze", "verify", "--man=no", *(tmp_path / unit for unit in units)) == ""


def test_both_services_are_restricted_alike():
    """All services have the same sandbox, but the web server may not write to the tree."""
    sandboxes = []
    for unit in SERVICES:
        text = (SYSTEMD / unit).read_text()
        sandboxes.append(text[text.index("\nUser=") : text.index("SystemCallErrorNumber=EPERM")])
    state = "StateDirectory=mirror\nStateDirectoryMode=0755\n"
    assert sandboxes[0] == sandboxes[1]
    assert sandboxes[0].replace(state, "") == sandboxes[2] != sandboxes[0]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_install(tmp_path):
    """``make install-systemd`` puts every file in its place, with the program's prefix."""
    run("make", "install-systemd", f"DESTDIR={tmp_path}", "PREFIX=/usr/local")
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == [
        "etc/systemd/system/mirror-once.service",
        "etc/systemd/system/mirror-once.timer",
        "etc/systemd/system/mirror-serve.service",
        "etc/systemd/system/mirror-serve.socket",
        "etc/systemd/system/mirror.service",
        "etc/systemd/system/mirror.service.d/credential.conf.example",
        "etc/sysusers.d/mirror.conf",
        "etc/tmpfiles.d/mirror.conf",
    ]
    assert "ExecStart=/usr/local/bin/mirror " in (tmp_path / "etc/systemd/system/mirror.service").read_text()


@pytest.mark.parametrize("unit", SERVICES)
def test_limits(unit):
    """Memory is limited, no core is dumped, and an address filter is there to be switched on."""
    lines = (SYSTEMD / unit).read_text().splitlines()
    assert {"MemoryMax=4G", "LimitCORE=0", "#IPAddressDeny=any"} <= set(lines)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MIRROR_NO_SYSTEM_PACKAGES": "1"}, "not installed as asked, tests that need them are skipped: "),
        ({}, "installing system packages that tests need, with apt-get: "),
    ],
    ids=["not wanted", "said before"],
)
def test_system_packages_are_announced(tmp_path, variables, said):
    """Before anything is installed on the machine that is said, and it can be refused."""
    for name in ("id", "bash"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name, line in (("apt-get", 'echo "apt-get $*"'),):
        (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{line}\n")
        (tmp_path / name).chmod(0o755)
    script = (ROOT / ".ci/system-packages").read_text().replace("/usr/sbin:/sbin", "/nonexistent")
    script = script.replace("$EUID -ne 0", "0 -ne 0")
    env = {"PATH": str(tmp_path), **variables}
    done = subprocess.run([shutil.which("bash"), "-c", script], check=True, capture_output=True, text=True, env=env)
    lines = done.stderr.splitlines()
    assert lines[0].startswith(said)
    assert {"nginx-light", "openssl", "openssh-client"} <= set(lines[0].replace(")", " ").split())
    assert [line.split()[1] for line in lines[1:]] == ([] if variables else ["update", "install"])


def test_reload_needs_no_program():
    """The signal is sent by the shell: a small machine has no /bin/kill."""
    (line,) = [x for x in (SYSTEMD / "mirror.service").read_text().splitlines() if x.startswith("ExecReload=")]
    assert line == """ExecReload=/bin/sh -c 'kill -HUP "$$MAINPID"'"""


def test_one_cycle_by_hand_leaves_the_daemon_alone():
    """Only the timer ends the daemon: mirror-once.service waits for the lock."""
    assert "Conflicts" not in (SYSTEMD / "mirror-once.service").read_text()
    assert "--wait 10m sync --once" in (SYSTEMD / "mirror-once.service").read_text()
    assert "Conflicts=mirror.service" in (SYSTEMD / "mirror-once.timer").read_text()


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_user_and_directories(tmp_path):
    """sysusers.d and tmpfiles.d are read without complaint and make what the units need."""
    (tmp_path / "etc").mkdir()
    said = run("systemd-sysusers", f"--root={tmp_path}", "--dry-run", SYSTEMD / "mirror.sysusers.conf")
    assert "Creating user 'mirror'" in said or "Creating user mirror" in said
    lines = (SYSTEMD / "mirror.tmpfiles.conf").read_text().splitlines()
    assert [line.split()[:5] for line in lines if not line.startswith("#")] == [
        ["d", "/var/lib/mirror", "0755", "mirror", "mirror"],
        ["d", "/etc/mirror", "0755", "root", "root"],
    ]


INSTRUCTIONS = [
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "RUN",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
]


def instructions() -> list[tuple[str, str]]:
    """Return the Containerfile's instructions, continued lines joined."""
    text = re.sub(r"\\\n", "", "\n".join(x for x in (ROOT / "Containerfile").read_text().splitlines() if x[:1] != "#"))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def test_containerfile():
    """Every instruction is one, what is copied exists, it does not run as root, and its shell lines are shell."""
    found = instructions()
    assert {name for name, _ in found} == set(INSTRUCTIONS)
    last_stage = found[max(n for n, (name, _) in enumerate(found) if name == "FROM") :]
    assert [value for name, value in last_stage if name in {"USER", "VOLUME"}] == ["10001:10001", "/var/lib/mirror"]
    for name, value in found:
        if name == "COPY" and not value.startswith("--from="):
            assert all((ROOT / source).exists() for source in value.split()[:-1])
        if name == "RUN":
            run("sh", "-n", "-c", value)
    health = dict(last_stage)["HEALTHCHECK"]
    run("sh", "-n", "-c", re.search(r'"-c", "(.*)"\]', health)[1])
    assert dict(last_stage)["ENTRYPOINT"] == '["mirror"]'
