"""``mirror install-units``: everything that a service needs, from the installed program alone."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mirror.cli import main
from mirror.config import load_config

ROOT = Path(__file__).parents[2]
UNITS = "etc/systemd/system"
INSTALLED = [
    "etc/mirror/mirror.toml",
    "etc/mirror/nginx.conf",
    f"{UNITS}/mirror-once.service",
    f"{UNITS}/mirror-once.timer",
    f"{UNITS}/mirror-serve.service",
    f"{UNITS}/mirror-serve.socket",
    f"{UNITS}/mirror.service",
    f"{UNITS}/mirror.service.d/credential.conf.example",
    f"{UNITS}/mirror.service.d/root.conf.example",
    "etc/sysusers.d/mirror.conf",
    "etc/tmpfiles.d/mirror.conf",
]


@pytest.fixture(autouse=True)
def strict_umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def install(destination: Path, *arguments: str) -> int:
    return main(["install-units", "--destdir", str(destination), "--program", "/usr/local/bin/mirror", *arguments])


def files(destination: Path) -> list[str]:
    return sorted(str(p.relative_to(destination)) for p in destination.rglob("*") if p.is_file())


def test_install(tmp_path, capsys):
    """All files are there, readable by all whatever the umask, with the program's path; the configuration loads."""
    assert install(tmp_path) == 0
    assert files(tmp_path) == sorted(INSTALLED)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in INSTALLED} == {0o644}
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "etc").rglob("*") if p.is_dir()} == {0o755}
    for name in ("mirror.service", "mirror-once.service"):
        text = (tmp_path / UNITS / name).read_text()
        assert "ExecStart=/usr/local/bin/mirror --config /etc/mirror/mirror.toml " in text
        assert "/opt/mirror" not in text
    config = load_config(tmp_path / "etc/mirror/mirror.toml", env={})
    assert str(config.mirror.root) == "/var/lib/mirror"
    example = (tmp_path / UNITS / "mirror.service.d/credential.conf.example").read_text()
    for name in (config.indexes[0].auth.username_credential, config.indexes[0].auth.password_credential):
        assert f"LoadCredential={name}:/etc/mirror/{name}\n" in example
    assert capsys.readouterr().out.endswith("  3. systemctl enable --now mirror\n")


def test_both_services_have_the_same_drop_ins(tmp_path):
    """What is put beside the daemon's unit counts for the other one too."""
    assert install(tmp_path) == 0
    for name in ("credential.conf", "root.conf", "override.conf"):
        (tmp_path / UNITS / "mirror.service.d" / name).write_text(name)
        assert (tmp_path / UNITS / "mirror-once.service.d" / name).read_text() == name


def test_root_elsewhere(tmp_path):
    """--root: one drop-in lets both services write there, and all else names it."""
    assert install(tmp_path, "--root", "/srv/mirror") == 0
    drop_in = (tmp_path / UNITS / "mirror-once.service.d/root.conf").read_text()
    lines = [line for line in drop_in.splitlines() if line and line[0] != "#"]
    assert lines == ["[Unit]", "RequiresMountsFor=/srv/mirror", "[Service]", "ReadWritePaths=/srv/mirror"]
    assert "d /srv/mirror 0755 mirror mirror" in (tmp_path / "etc/tmpfiles.d/mirror.conf").read_text()
    assert "root   /srv/mirror/public;" in (tmp_path / "etc/mirror/nginx.conf").read_text()
    assert str(load_config(tmp_path / "etc/mirror/mirror.toml", env={}).mirror.root) == "/srv/mirror"


def test_again(tmp_path, capsys):
    """A second run changes nothing of the user's; a unit that was edited is replaced, and the edited one is kept."""
    assert install(tmp_path) == 0
    capsys.readouterr()
    own = tmp_path / UNITS / "mirror-once.service.d/root.conf"
    own.unlink()
    for path in (tmp_path / "etc/mirror/mirror.toml", own, tmp_path / UNITS / "mirror.service"):
        path.write_text("mine")
    assert install(tmp_path) == 0
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if line.startswith(str(tmp_path)))
    assert said[str(tmp_path / "etc/mirror/mirror.toml")] == said[str(own)] == "kept as it is"
    assert said[str(tmp_path / UNITS / "mirror.service")] == "replaced; the older one is mirror.service.old"
    assert {what for name, what in said.items() if name.endswith((".timer", ".example", "nginx.conf"))} == {"unchanged"}
    assert (tmp_path / "etc/mirror/mirror.toml").read_text() == own.read_text() == "mine"
    assert (tmp_path / UNITS / "mirror.service.old").read_text() == "mine"
    assert "ExecStart=" in (tmp_path / UNITS / "mirror.service").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--root", "/srv/my mirror"], "--root: expected an absolute path"),
        (["--root", "/srv/%h"], "--root: expected an absolute path"),
        (["--program", "bin/mirror"], "--program: expected an absolute path"),
    ],
)
def test_refused(tmp_path, capsys, arguments, said):
    """What a unit would read as something else is exit code 2, and nothing is written."""
    assert install(tmp_path, *arguments) == 2
    assert said in capsys.readouterr().err
    assert files(tmp_path) == []


def test_no_permission(tmp_path, capsys):
    """Where nothing can be written: exit code 2, and what to do."""
    (tmp_path / "etc").write_text("")
    assert install(tmp_path) == 2
    assert "can't be written: File exists; run this as root, or pass --destdir" in capsys.readouterr().err


def test_program_that_units_can_not_see(tmp_path, capsys):
    """A program in a home directory is named: the units hide it."""
    assert install(tmp_path, "--program", "/home/me/venv/bin/mirror") == 0
    assert "warning: the units can't see /home/me/venv/bin/mirror (ProtectHome=yes)" in capsys.readouterr().err


def test_wheel_has_them(tmp_path):
    """The wheel brings units and web configuration: a checkout is not needed."""
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("mirror/systemd/")}
    there = {f"mirror/systemd/{p.relative_to(ROOT / 'mirror/systemd')}" for p in (ROOT / "mirror/systemd").rglob("*.*")}
    assert names == {name for name in there if (ROOT / name).is_file()}
    assert len(names) >= 8


NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_reads_it(tmp_path):
    """Nginx finds no fault in the configuration that is installed."""
    assert install(tmp_path) == 0
    main_file = tmp_path / "nginx.conf"
    included = (
        (tmp_path / "etc/mirror/nginx.conf").read_text().replace("listen 8080", "listen unix:/nonexistent/socket")
    )
    (tmp_path / "included.conf").write_text(included)
    main_file.write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/log;\nevents {{}}\nhttp {{ access_log off; include {tmp_path}/included.conf; }}\n"
    )
    done = subprocess.run([NGINX, "-t", "-p", tmp_path, "-c", main_file], check=False, capture_output=True, text=True)
    assert "syntax is ok" in done.stderr
