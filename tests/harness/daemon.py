"""The daemon as a process: started, told by signals, listened to by its log and by a real notification socket."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness import forked_program
from harness.program import GUARD_S, Done, call, clean_environment

Event = dict[str, Any]

HERE, LAST = "TEST=here", "TEST=last"
"""Messages of a listener to itself: all that was sent before them has been read."""

PROGRAM = "import sys; from mirror.cli import main; sys.exit(main())"
"""As ``python -m mirror``."""


def get(address: str, path: str) -> tuple[int, str]:
    """Return status and text of an answer."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Listener:
    """What a service manager hears: a datagram socket in a directory, or without one (``@name``).

    A thread reads what is sent, as a service manager does: pulses must not fill the socket's queue while a test looks
    elsewhere, since a message that finds it full is dropped.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.heard: list[str] = []
        self._address = str(path) if isinstance(path, Path) else f"\0{path[1:]}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._address)
        self._messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="listener", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while (message := self._socket.recv(4096).decode()) != LAST:
            self._messages.put(message)

    def _say(self, message: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), self._address)

    def until(self, *words: str) -> list[str]:
        """Return the assignments up to the first that begins with one of these words."""
        before = len(self.heard)
        ends_at = time.monotonic() + GUARD_S
        while not any(line.startswith(words) for line in self.heard[before:]):
            self.heard += self._messages.get(timeout=max(0.0, ends_at - time.monotonic())).split("\n")
        return self.heard[before:]

    def rest(self) -> list[str]:
        """Return what was sent and not read yet."""
        self._say(HERE)
        found = []
        while (message := self._messages.get(timeout=GUARD_S)) != HERE:
            found += message.split("\n")
        return found

    def falls_silent(self, address: str) -> bool:
        """Return whether nothing comes any more, after what was still on its way.

        Each look at the pulse takes a hundredth of a second: fifty scrapes are longer than several of them.
        """
        for _ in range(100):
            for _ in range(50):
                get(address, "/metrics")
            if not self.rest():
                return True
        return False

    def close(self) -> None:
        """Let the socket vanish, once."""
        if not self._reader.is_alive():
            return
        self._say(LAST)
        self._reader.join()
        self._socket.close()
        if isinstance(self.path, Path):
            self.path.unlink(missing_ok=True)


class Daemon:
    """One daemon; used as ``with``. Its interval is long: cycles come by signals and by what is due.

    ``arguments`` follow the command line's; ``before`` is what Python runs first, such as an impatient ``CHECK_EVERY_S``.
    """

    def __init__(self, work: Path, **variables: str) -> None:
        self.work = work
        self.root = work / "mirror"
        self.config = work / "mirror.toml"
        self.events: list[Event] = []
        self.arguments: tuple[str, ...] = ()
        self.before = ""
        self.is_forked = True
        self._variables = variables
        self._process: subprocess.Popen[str] | forked_program.Forked | None = None
        work.mkdir(parents=True, exist_ok=True)

    def configure(self, *indexes: str, mirror: str = "", service: str = "") -> None:
        """Write the configuration: the lines of each ``[[index]]``."""
        tables = "".join(f"[[index]]\n{lines}\n" for lines in indexes)
        self.config.write_text(
            f'[mirror]\nroot = "{self.root}"\n{mirror}\n[limits]\ndisk-reserve = 0\n[service]\n{service}\n{tables}'
        )

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", f"{self.before}\n{PROGRAM}", "sync", "--config", str(self.config)]
        environment = clean_environment(self.work, **self._variables)
        self._process = forked_program.start(
            [*command, *self.arguments], env=environment, cwd=self.work, is_forked=self.is_forked
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def until(self, name: str, fits: Callable[[Event], bool] = lambda _event: True) -> Event:
        """Read the log up to the next event of this name."""
        assert self._process is not None
        assert self._process.stderr is not None
        while line := self._line():
            event = json.loads(line)
            self.events.append(event)
            if event["event"] == name and fits(event):
                return event
        raise AssertionError(f"the daemon ended before {name}: {self.events}")

    def _line(self) -> str:
        """Return the next line of the log; a guard against hanging, not a measure."""
        assert self._process is not None
        assert self._process.stderr is not None
        guard = threading.Timer(GUARD_S, self._process.kill)
        guard.start()
        try:
            return self._process.stderr.readline()
        finally:
            guard.cancel()

    def idle(self) -> Event:
        """Read the log until the daemon waits."""
        return self.until("daemon.waits")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def hang_up(self) -> None:
        """Listen to its log no more."""
        assert self._process is not None
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process.stderr = None

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> int:
        """End it and return its exit code; what it still says is in ``events``."""
        assert self._process is not None
        if number is not None:
            self.send(number)
        _, rest = self._process.communicate(timeout=GUARD_S)
        lines = (rest or "").splitlines()
        self.events += [json.loads(line) for line in lines if line.startswith("{")]
        self.words = [line for line in lines if not line.startswith("{")]
        return self._process.returncode

    def run(self, *arguments: str) -> Done:
        """Run another command with its configuration, to its end."""
        command = [sys.executable, "-m", "mirror", "--config", self.config, *arguments]
        return call(command, env=clean_environment(self.work), cwd=self.work)

    def names(self) -> list[str]:
        """Return the names of all events that were read."""
        return [event["event"] for event in self.events]
