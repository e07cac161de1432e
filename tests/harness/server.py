"""``mirror serve`` as a process, what it answers as it stands on the wire, and a small tree for it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from harness import forked_program
from harness.program import GUARD_S, Mirror, clean_environment
from simulator import ThreadedSimulator, build_sdist, build_wheel

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    """Still encoded."""

    @property
    def text(self) -> str:
        return self.body.decode()


class Server:
    """``mirror serve`` as a process; used as ``with``."""

    def __init__(
        self, mirror: Mirror, *arguments: str | Path, program: str = "", before: Sequence[str] = (), **variables: str
    ) -> None:
        code = f"import sys; from mirror.cli import main; {program or 0}; sys.exit(main())"
        # ``before``: a program that starts ours, such as unshare; ``program``: what Python runs first.
        self._command = [*before, sys.executable, "-c", code, "--root", str(mirror.root), "serve"]
        self._command += ["--listen", "127.0.0.1:0", *map(str, arguments)]
        self._mirror, self._env = mirror, clean_environment(mirror.home, **variables)
        self._log: list[dict[str, Any]] = []
        self._heard = threading.Condition()
        self._begun = b""
        """A line of the log whose end has not come yet."""

    def __enter__(self) -> Self:
        self.process = forked_program.start(self._command, env=self._env, cwd=self._mirror.work)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()
        found = re.search(r"https?://([0-9.]+):([0-9]+)/", self.greeting)
        if found is None:
            self.__exit__(None, None, None)
            raise AssertionError(self.events())
        self.url, self.address = found[0], (found[1], int(found[2]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=GUARD_S)
        self._reader.join()
        return code

    def _read(self) -> None:
        log = self.process.stderr
        assert log is not None
        has_more = True
        while has_more:
            select.select([log], [], [])
            has_more = self._take(log.fileno())
        with self._heard:
            log.close()

    def _take(self, log: int) -> bool:
        """Take what lies in the pipe, in whichever thread comes first; return False at its end."""
        with self._heard:
            if not select.select([log], [], [], 0)[0]:
                return True
            data = os.read(log, 1 << 16)
            *lines, self._begun = (self._begun + data).split(b"\n")
            if not data and self._begun:
                lines, self._begun = [self._begun], b""
            for line in lines:
                is_event = line.startswith(b"{")
                self._log.append(msgspec.json.decode(line) if is_event else {"event": "", "line": line.decode()})
            self._heard.notify_all()
            return bool(data)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return what was logged so far, all or the events of one name; what came before an answer is there with it."""
        assert self.process.stderr is not None
        with self._heard:
            while not self.process.stderr.closed and select.select([self.process.stderr], [], [], 0)[0]:
                if not self._take(self.process.stderr.fileno()):
                    break
            return [event for event in self._log if name in {None, event["event"]}]

    def heard(self, name: str, **values: Any) -> dict[str, Any]:
        """Wait for an event with these values, and return it."""

        def found() -> dict[str, Any] | None:
            return next((e for e in self._log if e["event"] == name and values.items() <= e.items()), None)

        with self._heard:
            event = self._heard.wait_for(found, timeout=GUARD_S)
        assert event is not None, self._log
        return event

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Ask until something is so; the guard is against hanging."""
        until_s = time.monotonic() + GUARD_S
        while not is_so():
            assert time.monotonic() < until_s
            time.sleep(0.05)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=GUARD_S)

    def get(self, target: str, headers: Mapping[str, str] | None = None, *, method: str = "GET") -> Answer:
        """Ask for a target as it is written here, over a connection of its own."""
        lines = [f"{method} {target} HTTP/1.1", "Host: mirror.test", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send(self, data: bytes) -> Answer:
        """Send bytes and return the answer."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_answer(connection, has_body=not data.startswith(b"HEAD"))


def read_answer(connection: socket.socket, *, has_body: bool = True) -> Answer:
    """Read one answer to its end."""
    file = connection.makefile("rb")
    try:
        status = int(file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := file.readline().strip():
            name, _, value = line.decode("latin-1").partition(": ")
            headers[name] = value
        size = int(headers.get("Content-Length", 0)) if has_body and status not in {204, 304} else 0
        return Answer(status, headers, file.read(size))
    finally:
        file.close()


@dataclass
class Tree:
    """A mirror after its first cycle, with the index that it came from."""

    mirror: Mirror
    index: ThreadedSimulator
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Filename -> (target, bytes)."""

    def learn(self) -> None:
        """Look up where each file lies."""
        for path in (self.mirror.root / "public/files").rglob("*"):
            if path.is_file():
                self.files[path.name] = (f"/{path.relative_to(self.mirror.root / 'public')}", path.read_bytes())


@contextlib.contextmanager
def made_tree(work: Path, *mirror_lines: str) -> Iterator[Tree]:
    """Mirror a small index with the real program."""
    with ThreadedSimulator() as index:
        big = build_wheel("demo-app", "1.0", requires=["demo.lib"], extra_files={"demo_app/data.txt": "x" * 100_000})
        index.state.publish("demo-app", *big)
        index.state.publish("Demo.Lib", *build_wheel("demo-lib", "1.0"))
        index.state.publish("Demo.Lib", *build_sdist("demo-lib", "0.9"))
        for number in range(60):
            index.state.publish("many", *build_wheel("many", f"1.{number}"))
        mirror = Mirror(work)
        mirror.configure("\n".join([f'url = "{index.url}"', *mirror_lines]))
        mirror.sync_well()
        tree = Tree(mirror, index)
        tree.learn()
        yield tree
