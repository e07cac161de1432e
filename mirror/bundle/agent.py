"""A private ssh-agent for the length of one command, so that a passphrase is asked for once, before
anything is copied.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mirror.bundle import signing
from mirror.errors import BundleError

_ANSWER_S = 10.0


@contextlib.contextmanager
def unlocked_key(key: Path | None) -> Iterator[None]:
    """Ask for the passphrase of a key, where it has one, and let ``ssh-keygen`` sign without asking
    in the block.

    Without a terminal, or without OpenSSH's agent, ``ssh-keygen`` asks by itself. Raises
    ``BundleError``.
    """
    agent, add = _program("ssh-agent"), _program("ssh-add")
    if (
        key is None
        or agent is None
        or add is None
        or not _can_ask()
        or not signing.is_protected(key)
    ):
        yield
        return
    with tempfile.TemporaryDirectory() as place:
        socket = f"{place}/agent"
        with subprocess.Popen([agent, "-D", "-a", socket], stdout=subprocess.DEVNULL) as process:  # noqa: S603
            try:
                _wait_for(process, socket)
                env = {**os.environ, "SSH_AUTH_SOCK": socket}
                if subprocess.run([add, "-q", str(key)], env=env, check=False).returncode:  # noqa: S603 - fixed words
                    raise BundleError(
                        problem=f"{key} could not be opened; the message of ssh-add is above"
                    )
                with _variable("SSH_AUTH_SOCK", socket):
                    yield
            finally:
                process.terminate()


def _program(name: str) -> str | None:
    places = filter(os.path.isabs, os.environ.get("PATH", os.defpath).split(os.pathsep))
    return shutil.which(name, path=os.pathsep.join(places))


def _can_ask() -> bool:
    if os.environ.get("SSH_ASKPASS"):
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _wait_for(process: subprocess.Popen[bytes], socket: str) -> None:
    left = _ANSWER_S
    while not os.path.lexists(socket):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
        left -= 0.02
        if process.returncode is not None or left < 0:
            raise BundleError(
                problem="ssh-agent did not start, so the passphrase can't be kept for the"
                " second signature"
            )


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
