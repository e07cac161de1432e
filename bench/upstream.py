"""The index that the benchmark mirrors: the tests' simulator in a process of its own, told what to do on its input.

One command a line, each answered by one JSON line: ``publish N`` (a new release of N projects), ``serials on|off``,
``requests`` (how many there were since the last time). It ends with its input.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from simulator import IndexState, ThreadedSimulator, build_wheel


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--projects", type=int, required=True)
    parser.add_argument("--files", type=int, required=True)
    options = parser.parse_args()
    state = IndexState()
    for number in range(options.projects):
        for minor in range(options.files):
            _publish(state, number, minor)
    with ThreadedSimulator(state, serials=True) as server:
        _answer({"url": server.url})
        for line in sys.stdin:
            _answer(_obey(server, options.files, *line.split()))


def _obey(server: ThreadedSimulator, files: int, command: str, value: str = "") -> Any:
    match command:
        case "publish":
            for number in range(int(value)):
                _publish(server.state, number, files)
            return int(value)
        case "serials":
            server.settings.serials = value == "on"
            return value
        case "requests":
            return len(server.take_requests())
    raise ValueError(command)


def _publish(state: IndexState, number: int, minor: int) -> None:
    name = f"project-{number:06}"
    state.publish(name, *build_wheel(name, f"1.{minor}"))


def _answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
