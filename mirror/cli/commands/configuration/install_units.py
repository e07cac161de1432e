"""``mirror install-units``: the systemd units and their accompanying files, from the installed
program.

Units, the program's drop-ins, user and directories belong to the program: they are replaced, and an
older form that differs is kept next to them with the ending ``.old``. Configurations belong to the
user: existing ones stay.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from mirror.cli.arguments.configuration import InstallUnitsArguments, WebServer
from mirror.cli.commands.configuration.web_config import (
    DEFAULT_ROOT,
    check_plain,
    render_web_config,
)
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_error, write_out
from mirror.config import render_for_systemd
from mirror.errors import ConfigError, shown_text
from mirror.exit_codes import ExitCode

_UNITS = Path("etc/systemd/system")
_DROP_INS = _UNITS / "mirror.service.d"
_LINKING_DROP_INS = _UNITS / "mirror-once.service.d"
_LINKED_DROP_INS = ("credential.conf", "root.conf", "override.conf")
"""Drop-ins that apply to both services once they exist; `systemctl edit` writes the last one."""
_SHIPPED_PROGRAM = "/opt/mirror/bin/mirror"
_SHIPPED_ROOT = str(DEFAULT_ROOT)
_HIDDEN_PLACES = ("/home/", "/root/", "/run/user/")
"""Where the units' ProtectHome=yes lets nothing be seen."""

_NEXT_STEPS = """\
Next, as root:
  1. put your index into {configuration}; its user name and token into
     /etc/mirror/index-username and /etc/mirror/index-token, readable by root alone, and rename
     credential.conf.example in {drop_ins} to credential.conf
  2. systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload
  3. systemctl enable --now mirror"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnitFile:
    """One file to install; ``path`` is relative to the destination."""

    path: Path
    text: str
    is_users: bool = False
    """Whether the user changes it: it is never written over."""


def install_units(options: GlobalOptions, given: InstallUnitsArguments) -> ExitCode:
    """Install the systemd units and a matching configuration.

    The root is /var/lib/mirror, or the one of --root.
    """
    root = options.root.absolute() if options.root else Path(_SHIPPED_ROOT)
    started = given.program or _installed_program()
    check_plain(root, "--root")
    check_plain(started, "--program")
    if str(started).startswith(_HIDDEN_PLACES):
        write_error(
            f"warning: the units can't see {started} (ProtectHome=yes);"
            " install the program below /opt or /usr"
        )
    for file in _files(root, started):
        _print_result(given.destdir / file.path, _install(given.destdir / file.path, file))
    for name in _LINKED_DROP_INS:
        path = given.destdir / _LINKING_DROP_INS / name
        _print_result(path, _link(path, f"../{_DROP_INS.name}/{name}"))
    write_out(_NEXT_STEPS.format(configuration="/etc/mirror/mirror.toml", drop_ins=f"/{_DROP_INS}"))
    return ExitCode.OK


def _files(root: Path, program: Path) -> list[_UnitFile]:
    units = ("mirror.service", "mirror-once.service", "mirror-once.timer", "mirror-serve.service")
    names = (*units, "mirror-serve.socket")
    texts = ((name, _shipped(name).replace(_SHIPPED_PROGRAM, str(program))) for name in names)
    found = [_UnitFile(path=_UNITS / name, text=text) for name, text in texts]
    examples = ("credential.conf.example", "root.conf.example")
    found += [
        _UnitFile(path=_DROP_INS / name, text=_shipped(f"mirror.service.d/{name}"))
        for name in examples
    ]
    if str(root) != _SHIPPED_ROOT:
        text = _shipped("mirror.service.d/root.conf.example").replace("/srv/mirror", str(root))
        found.append(_UnitFile(path=_DROP_INS / "root.conf", text=text))
    directories = _shipped("mirror.tmpfiles.conf").replace(_SHIPPED_ROOT, str(root))
    return [
        *found,
        _UnitFile(path=Path("etc/sysusers.d/mirror.conf"), text=_shipped("mirror.sysusers.conf")),
        _UnitFile(path=Path("etc/tmpfiles.d/mirror.conf"), text=directories),
        _UnitFile(
            path=Path("etc/mirror/mirror.toml"), text=render_for_systemd(root), is_users=True
        ),
        _UnitFile(
            path=Path("etc/mirror/nginx.conf"),
            text=render_web_config(WebServer.NGINX, root),
            is_users=True,
        ),
    ]


def _shipped(name: str) -> str:
    return (files("mirror") / "systemd" / name).read_text(encoding="utf-8")


def _installed_program() -> Path:
    """Return the program that the units start: this installation's script, next to the
    interpreter.
    """
    started = Path(sys.argv[0]).absolute()
    sibling = Path(sys.executable).with_name("mirror")
    for found in (started, sibling):
        if found.name == "mirror" and found.is_file() and os.access(found, os.X_OK):
            return found
    raise ConfigError(
        where="--program", problem="there is no program `mirror` next to the interpreter; name it"
    )


def _install(target: Path, file: _UnitFile) -> str:
    """Write one file, whole or not at all; return the outcome in words. Raises ``ConfigError``."""
    data = file.text.encode("utf-8", "surrogateescape")
    try:
        _make_directories(target.parent)
        before = target.read_bytes() if target.is_file() else None
        if before == data:
            return "unchanged"
        if before is not None and file.is_users:
            return "kept as it is"
        if before is not None:
            _write(target.with_name(f"{target.name}.old"), before)
        _write(target, data)
    except OSError as exc:
        problem = f"can't be written: {exc.strerror}; run this as root, or pass --destdir"
        raise ConfigError(where=shown_text(str(target)), problem=problem) from exc
    return "installed" if before is None else f"replaced; the older one is {target.name}.old"


def _make_directories(directory: Path) -> None:
    """Make the missing directories, open to all, regardless of the umask."""
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)


def _write(target: Path, data: bytes) -> None:
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        with fresh.open("xb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _link(path: Path, target: str) -> str:
    """Link a drop-in into the other service too; systemd ignores a link whose target is missing."""
    if path.is_symlink() or path.exists():
        is_ours = path.is_symlink() and str(path.readlink()) == target
        return "unchanged" if is_ours else "kept as it is"
    try:
        _make_directories(path.parent)
        path.symlink_to(target)
    except OSError as exc:
        raise ConfigError(
            where=shown_text(str(path)), problem=f"can't be made: {exc.strerror}"
        ) from exc
    return f"linked to {target}"


def _print_result(path: Path, what: str) -> None:
    write_out(f"{shown_text(str(path))}: {what}")
