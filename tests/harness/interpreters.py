"""Interpreters of this machine, and programs for clients that are installed from the network once and then kept."""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import uv

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", "") or "~/.cache").expanduser() / "offline-mirror-tests"
"""Outside of the project: what is installed here is of use for each checkout."""


def find_interpreter(minors: Sequence[int]) -> tuple[int, str] | None:
    """Return the first of some versions of Python 3 that is here, (minor version, path)."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    for minor in minors:
        by_name = shutil.which(f"python3.{minor}")  # may be a shim that starts nothing
        others = sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python"), reverse=True)
        for found in [*([by_name] if by_name else []), *map(str, others)]:
            command = [found, "-c", "import ssl, venv"]
            if subprocess.run(command, check=False, capture_output=True).returncode == 0:
                return minor, found
    return None


def installed_client(name: str, requirement: str, minors: Sequence[int]) -> Path:
    """Return the interpreter of an environment with a client in it; skip the test where none can be made.

    What is wanted in its newest version is installed anew each week.
    """
    interpreter = find_interpreter(minors)
    if interpreter is None:
        pytest.skip(f"{requirement} needs an interpreter that is not here: Python 3.{', 3.'.join(map(str, minors))}")
    minor, path = interpreter
    week = "" if "=" in requirement else "-{}-{}".format(*dt.datetime.now(tz=dt.UTC).isocalendar())
    wanted = hashlib.sha256(requirement.encode()).hexdigest()[:8]
    place = _CACHE / f"{name}-{wanted}-py3.{minor}{week}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(f"{place.suffix}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other workers of the test run want the same one
        if not (place / "complete").exists():
            _install(place, path, requirement)
    return place / "bin/python"


def _install(place: Path, interpreter: str, requirement: str) -> None:
    shutil.rmtree(place, ignore_errors=True)
    commands: list[list[str | Path]] = [
        [interpreter, "-m", "venv", "--without-pip", place],
        [
            uv.find_uv_bin(),
            "pip",
            "install",
            "-q",
            "--no-config",
            "--python",
            place / "bin/python",
            *requirement.split(),
        ],
    ]
    for command in commands:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{requirement} can't be installed here: {done.stderr.strip()[-300:]}")
    (place / "complete").touch()
