"""The real program and its peers as processes, for tests that look at ``mirror`` from outside.

``Mirror`` runs ``python -m mirror`` with nothing of this machine's configuration; ``Serving`` runs a server until the
test ends; ``published`` reads a tree as a client would, and checks every byte that it names.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from harness import forked_program

GUARD_S = 240
"""How long a process may take before a test gives up: a guard against hanging, not a measure."""

Done = subprocess.CompletedProcess[str]


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """Return an environment with nothing of this machine in it but the path, the language and coverage's own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    measured = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    return {**kept, **measured, "HOME": str(home), **variables}


def call(command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path) -> Done:
    """Run a program to its end."""
    return forked_program.run([str(word) for word in command], env=env, cwd=cwd, timeout=GUARD_S)


def call_well(command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path) -> Done:
    """Run a program that must succeed."""
    done = call(command, env=env, cwd=cwd)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done


@dataclass
class Running:
    """A ``mirror`` process under way."""

    process: subprocess.Popen[str] | forked_program.Forked

    def end(self, number: signal.Signals | None = None) -> Done:
        """Send a signal, if one is given, and return how the process ended."""
        if number is not None:
            self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=GUARD_S)
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, stdout, stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@dataclass
class Mirror:
    """One mirror in a directory of its own: its root, an empty home, and the variables that each run gets."""

    work: Path
    url: str | None = None
    """Given as ``--index-url``; else the configuration file is used."""
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.work / "home"
        self.home.mkdir(parents=True, exist_ok=True)

    @property
    def root(self) -> Path:
        return self.work / "mirror"

    @property
    def simple(self) -> Path:
        return self.root / "public" / "simple"

    @property
    def config(self) -> Path:
        return self.work / "mirror.toml"

    def configure(self, index: str, *, mirror: str = "", limits: str = "") -> None:
        """Write the configuration file: the lines of its first ``[[index]]`` (named default), and of other tables."""
        lines = [
            "[mirror]",
            f'root = "{self.root}"',
            mirror,
            "[limits]",
            limits,
            "[[index]]",
            'name = "default"',
            index,
        ]
        self.config.write_text("\n".join(lines) + "\n")

    def run(self, *arguments: str | Path, **variables: str) -> Done:
        """Run the program with these arguments, and nothing else."""
        return call(self._command(arguments), env=self._environment(variables), cwd=self.work)

    def sync(self, *arguments: str | Path, **variables: str) -> Done:
        """Run ``mirror sync --once`` for this mirror."""
        return self.run(*self._sync(arguments), **variables)

    def start_sync(self, *arguments: str | Path, **variables: str) -> Running:
        """Start ``mirror sync --once``; used as ``with``."""
        return self.start(*self._sync(arguments), **variables)

    def start(self, *arguments: str | Path, **variables: str) -> Running:
        """Start the program; used as ``with``."""
        environment = self._environment(variables)
        command = [str(word) for word in self._command(arguments)]
        return Running(forked_program.start(command, env=environment, cwd=self.work))

    def sync_well(self, *arguments: str | Path, **variables: str) -> dict[str, Any]:
        """Run a cycle that must be complete, and return its report."""
        done = self.sync("--json", *arguments, **variables)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return report_of(done)

    def _sync(self, arguments: Sequence[str | Path]) -> list[str | Path]:
        source = ["--config", self.config] if self.url is None else ["--index-url", self.url, "--root", self.root]
        return ["sync", "--once", *source, *arguments]

    def _command(self, arguments: Sequence[str | Path]) -> list[str | Path]:
        return [sys.executable, "-m", "mirror", *arguments]

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        return clean_environment(self.home, **{**self.variables, **variables})


def report_of(done: Done) -> dict[str, Any]:
    """Return the report: exactly one JSON object, on one line of standard output."""
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert isinstance(report, dict)
    assert report["format"] == 1
    return report


def counters(report: Mapping[str, Any], *names: str) -> dict[str, int]:
    """Return some counters of a report's only index."""
    (index,) = report["indexes"]
    return {name: index[name] for name in names}


def events_of(done: Done) -> list[dict[str, Any]]:
    """Return the log: each line of standard error is one JSON object."""
    return [json.loads(line) for line in done.stderr.splitlines()]


class Serving:
    """A server process that says on its first line of standard output where it listens; used as ``with``."""

    def __init__(self, command: Sequence[str | Path], *, work: Path, env: Mapping[str, str]) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.log_path = work / "server.log"
        self.greeting = ""
        self._command, self._work, self._env = [str(word) for word in command], work, env
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with self.log_path.open("w") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self._work, env=self._env
            )
        assert self._process.stdout is not None
        self.greeting = self._process.stdout.readline()
        assert self.greeting, self.log_path.read_text()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        # Asked, not killed: a server may have processes of its own to end.
        self._process.terminate()
        try:
            self._process.communicate(timeout=GUARD_S)
        finally:
            self._process.kill()

    def log(self) -> str:
        """Return what the server has said of its requests so far."""
        return self.log_path.read_text()


def published(root: Path) -> dict[str, dict[str, bytes]]:
    """Return project -> file name -> bytes, as the pages have it.

    Fails where a page names what is not there or has another digest, or where root and pages disagree.
    """
    simple = root / "public" / "simple"
    listed = [project["name"] for project in json.loads((simple / "index.v1_json").read_bytes())["projects"]]
    assert sorted(listed) == sorted(path.name for path in simple.iterdir() if path.is_dir())
    found: dict[str, dict[str, bytes]] = {}
    for name in listed:
        page = simple / name
        found[name] = {}
        for file in json.loads((page / "index.v1_json").read_bytes())["files"]:
            data = (page / unquote(file["url"])).read_bytes()
            assert file["hashes"] == {"sha256": hashlib.sha256(data).hexdigest()}
            assert file["size"] == len(data)
            found[name][file["filename"]] = data
        assert (page / "index.v1_html").read_bytes() == (page / "index.html").read_bytes()
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """Return path -> bytes of all that lies below a directory."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def on_terminal(mirror: Mirror, words: list[str], answers: dict[bytes, str]) -> tuple[int, bytes]:
    """Run the program on a terminal of its own, with an answer for each prompt; return its exit code and what it wrote."""
    env = clean_environment(mirror.work, TERM="xterm")
    pid, terminal = os.forkpty()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "mirror", *words], env)
    said, seen = b"", 0
    while True:
        select.select([terminal], [], [])
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        said += data
        for prompt, answer in answers.items():
            if prompt in said[seen:] and said.rstrip(b" ").endswith((b":", b"]")):
                os.write(terminal, answer.encode())
                seen = len(said)
                break
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said
