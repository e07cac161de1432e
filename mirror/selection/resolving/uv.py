"""uv as a program: found, started with only the view's address, limited, and ended with the
mirror's process.

It gets an empty environment, no configuration, no Python to download, requirement lines that the
mirror wrote, and a folder that is deleted after the cycle. The credential of the view is in its
environment, never in its arguments, and is removed from its words.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import ByteReceiveStream, Process

from mirror.selection.resolving.program import Uv
from mirror.selection.targets import Environment

LIMIT_S = 600.0
"""How long one run may take."""
MEMORY_BYTES = 2 << 30
"""Maximum address space of one run."""
_OUTPUT_BYTES = 16 << 20
"""Maximum length of the resolver's answer, and of its words."""

_LAUNCHER = (
    "import ctypes, os, resource, signal, sys\n"
    "ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)\n"
    "os.execve(sys.argv[3], sys.argv[3:], dict(os.environ))\n"
)
"""Sets the limits and the end with the mirror's process, then becomes the resolver."""


class ResolverFailed(Exception):
    """The resolver did not come to an answer; the text says why."""


class UvAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one run."""

    code: int
    lines: tuple[str, ...]
    """Its output: ``name==version``."""
    words: str
    """Its text on stderr, without secrets."""


async def run_uv(
    uv: Uv,
    lines: Sequence[str],
    constraints: Sequence[str],
    environment: Environment,
    *,
    folder: Path,
    url: str,
    hidden: Sequence[str],
    stop: anyio.Event,
    pre_releases: bool = False,
) -> UvAnswer:
    """Resolve requirement lines for one environment; ``pre_releases`` are then like other versions.

    ``folder``: for this run alone, with the cycle's cache next to it. ``hidden``: texts to remove
    from its words. ``stop``: ends the run at once. Raises ``ResolverFailed``.
    """
    await anyio.to_thread.run_sync(_write_input, folder, lines, constraints)
    command = _command(uv, environment, folder, pre_releases=pre_releases)
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_DEFAULT_INDEX": url,
        "UV_NO_PROGRESS": "1",
        "NO_PROXY": "*",
    }
    process = await anyio.open_process(
        command, stdin=subprocess.DEVNULL, env=env, cwd=folder, start_new_session=True
    )
    try:
        with anyio.fail_after(LIMIT_S):
            out, words = await _output(process, stop)
    except TimeoutError:
        raise ResolverFailed(f"it did not end within {LIMIT_S:g} s") from None
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                _kill_group(process)
            await process.aclose()
    code = process.returncode
    assert code is not None
    for secret in hidden:
        words = words.replace(secret, "***")
    if code < 0 and not stop.is_set():
        raise ResolverFailed(f"it was ended by signal {-code}, or its memory ran out")
    plain = tuple(
        line.strip() for line in out.splitlines() if line.strip() and not line.startswith("#")
    )
    return UvAnswer(code=code, lines=plain, words=words)


def _command(uv: Uv, environment: Environment, folder: Path, *, pre_releases: bool) -> list[str]:
    """Return the command of one run, which begins with the launcher."""
    launcher = (sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(MEMORY_BYTES))
    return [
        *launcher,
        uv.path,
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"),
        *(("--prerelease", "allow") if pre_releases else ()),
        *("--python", sys.executable, "--python-version", environment.uv_python_version),
        *("--python-platform", environment.uv_python_platform),
        *("--cache-dir", str(folder.parent / "cache")),
        *("--constraints", str(folder / "constraints.txt"), str(folder / "requirements.in")),
    ]


def _write_input(folder: Path, lines: Sequence[str], constraints: Sequence[str]) -> None:
    (folder / "requirements.in").write_text(
        "".join(f"{line}\n" for line in lines), encoding="utf-8"
    )
    (folder / "constraints.txt").write_text(
        "".join(f"{line}\n" for line in constraints), encoding="utf-8"
    )


async def _output(process: Process, stop: anyio.Event) -> tuple[str, str]:
    """Return the output and the messages of a process, until it ends or is stopped."""
    texts: dict[str, str] = {"out": "", "words": ""}

    async def read(name: str, stream: ByteReceiveStream | None) -> None:
        assert stream is not None
        data = bytearray()
        async for chunk in stream:
            if len(data) < _OUTPUT_BYTES:
                data += chunk
        texts[name] = data[:_OUTPUT_BYTES].decode(errors="replace")

    async def end_early() -> None:
        await stop.wait()
        _kill_group(process)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_early)
        async with anyio.create_task_group() as reading:
            reading.start_soon(read, "out", process.stdout)
            reading.start_soon(read, "words", process.stderr)
            await process.wait()
            _kill_group(process)  # a process that it left would hold its output open
        tasks.cancel_scope.cancel()
    return texts["out"], texts["words"]


def _kill_group(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
