"""The progress display: what it computes, how it looks, and that it never stands in the way of a cycle or its log."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mirror import logs
from mirror.cli.options import GlobalOptions, LogFormat
from mirror.cli.progress.cycle import Estimate, View, describe, fraction_done, render, shown_progress
from mirror.config import AuthConfig, Config, IndexConfig, MirrorSettings
from mirror.core.wants_progress import WantsProgress
from mirror.errors import Unavailable
from mirror.sync.cycle import run_cycle
from mirror.sync.cycle_parts import Options, Phase
from mirror.sync.report import IndexCounters
from mirror.wiring.cycle import opened_cycle
from simulator import build_wheel, withheld


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch):
    """Forget the secrets that other tests registered in this process: a word of ours may be among them."""
    monkeypatch.setattr(logs, "_SECRETS", logs._Secrets())


def counters(**values: int) -> IndexCounters:
    return IndexCounters(name="main", **values)


FRACTIONS = {
    "nothing-due": (counters(), 0, 0.0),
    "pages": (counters(projects_due=4, projects_checked=1), 0, 0.25),
    "more-than-due": (counters(projects_due=4, projects_checked=5), 0, 1.0),
    "files": (counters(projects_due=4, projects_checked=2, files_wanted=4, files_done=1), 0, 0.125),
    "bytes": (counters(projects_due=1, projects_checked=1, files_wanted=4, bytes_wanted=100), 50, 0.5),
    "more-bytes-than-listed": (counters(projects_due=1, projects_checked=1, files_wanted=4, bytes_wanted=1), 50, 1.0),
    "all": (counters(projects_due=1, projects_checked=1, files_wanted=1, files_done=1, bytes_wanted=100), 0, 1.0),
}


@pytest.mark.parametrize(("given", "came", "expected"), FRACTIONS.values(), ids=FRACTIONS)
def test_fraction_done(given, came, expected):
    """The part that is done is that of the pages, times that of their files."""
    assert fraction_done(given, came) == expected


def test_estimate():
    """Rate and time left come from the last half minute, and are not told before there is something to tell."""
    estimate = Estimate()
    assert (estimate.bytes_per_s(), estimate.left_s()) == (None, None)
    estimate.add(0.0, 0.0, 0)
    estimate.add(0.5, 0.1, 500)
    assert (estimate.bytes_per_s(), estimate.left_s()) == (None, None)
    estimate.add(10.0, 0.25, 1000)
    assert (estimate.bytes_per_s(), estimate.left_s()) == (100.0, 30.0)
    estimate.add(60.0, 0.25, 1000)
    estimate.add(70.0, 0.25, 1000)
    assert (estimate.bytes_per_s(), estimate.left_s()) == (0.0, None)


@dataclass
class Run:
    """As much of an index's part of a cycle as is shown."""

    counters: IndexCounters
    access: Any = field(
        default_factory=lambda: SimpleNamespace(session=SimpleNamespace(traffic=SimpleNamespace(file_bytes=500)))
    )
    reach: Any = field(default_factory=lambda: SimpleNamespace(ended=None))
    overlay: bool = False
    name: str = "main"

    @property
    def selection(self) -> Any:
        return SimpleNamespace(policy=SimpleNamespace(overlay=self.overlay))


BUSY = {"projects_due": 4, "projects_checked": 4, "files_wanted": 4, "files_done": 2, "bytes_wanted": 1000}
VIEWS = {
    "repair": (Run(counters()), Phase.REPAIR, 0.0, "publishing what was left", ""),
    "root": (Run(counters()), Phase.ROOTS, 0.0, "reading the root", ""),
    "root-read": (Run(counters(projects_listed=1)), Phase.ROOTS, 0.0, "read the root: 1 project", ""),
    "nothing-due": (Run(counters(projects_listed=1)), Phase.PROJECTS, 1.0, "looked at all", ""),
    "wants": (
        Run(counters()),
        Phase.WANTS,
        0.0,
        "resolving wants: 12 of 1,200",
        "",
    ),
    "proofs": (Run(counters(projects_listed=1)), Phase.PROOFS, 1.0, "proving wants: 12 of 1,200", ""),
    "looking": (
        Run(counters(projects_due=4000, projects_checked=1000)),
        Phase.PROJECTS,
        0.25,
        "looking at projects",
        "1,000/4,000 projects",
    ),
    "overlay": (
        Run(counters(projects_due=4), overlay=True),
        Phase.PROJECTS,
        0.0,
        "waiting for the indexes before it",
        "0/4 projects",
    ),
    "downloading": (
        Run(counters(**BUSY, files_failed=1)),
        Phase.PROJECTS,
        0.5,
        "downloading",
        "4/4 projects · 2/4 files · 500 B of 1.0 kB · 1 failed",
    ),
    "no-sizes": (
        Run(counters(**BUSY | {"bytes_wanted": 0})),
        Phase.PROJECTS,
        0.5,
        "downloading",
        "4/4 projects · 2/4 files · 500 B",
    ),
    "removing": (
        Run(counters(projects_due=1, projects_checked=1)),
        Phase.REMOVALS,
        1.0,
        "removing and publishing",
        "1/1 projects",
    ),
    "ended": (
        Run(
            counters(projects_due=2, projects_checked=1),
            reach=SimpleNamespace(ended=Unavailable(url="https://a/", cause="no")),
        ),
        Phase.PROJECTS,
        0.5,
        "stopped: unreachable",
        "1/2 projects",
    ),
}


@pytest.mark.parametrize(("run", "phase", "fraction", "doing", "counts"), VIEWS.values(), ids=VIEWS)
def test_describe(run, phase, fraction, doing, counts):
    """Each index says what it is doing, and how far it is."""
    needs = SimpleNamespace(progress=WantsProgress(done=12, total=1_200))
    view = describe(run, phase, needs, Estimate(), 0.0)
    assert view == View(name="main", fraction=fraction, doing=doing, counts=counts, rate="", left="")


def test_describe_rate():
    """While it is busy, an index tells its rate and the time left."""
    estimate, run = Estimate(), Run(counters(**BUSY))
    describe(run, Phase.PROJECTS, None, estimate, 0.0)
    run.counters.files_done, run.access.session.traffic.file_bytes = 3, 700
    view = describe(run, Phase.PROJECTS, None, estimate, 10.0)
    assert (view.rate, view.left) == ("20 B/s", "0:10 left")


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (
            80,
            [
                "chainguard           ━━━━━━━━          50 % looking at projects        0:10 left",
                "  1/2 projects                                                          1.0 MB/s",
                "a-very-long-name-of…                    0 %",
                "",
            ],
        ),
        (30, None),
    ],
    ids=["wide", "narrow"],
)
def test_render(width, expected):
    """Two lines for each index, aligned; on a narrow terminal they are cut, not wrapped."""
    views = [
        View(
            name="chainguard",
            fraction=0.5,
            doing="looking at projects",
            counts="1/2 projects",
            rate="1.0 MB/s",
            left="0:10 left",
        ),
        View(name="a-very-long-name-of-an-index", fraction=0.0, doing="", counts="", rate="", left=""),
    ]
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(render(views))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    assert expected is None or lines == expected


def config(url: str, root) -> Config:
    index = IndexConfig(name="main", url=url, auth=AuthConfig(kind="none"))
    return Config(mirror=MirrorSettings(root=root), indexes=(index,), source="a test")


async def test_shown_progress(simulator, tmp_path):
    """The display begins with the cycle and leaves nothing behind but what was written above it."""
    index = await simulator()
    index.state.publish("demo", *build_wheel("demo", "1.0"))
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    async with (
        opened_cycle(config(index.url, tmp_path / "m"), Options(), env={}) as cycle,
        shown_progress(cycle, console),
    ):
        await run_cycle(cycle)
        print("a line of the log", file=sys.stderr)
        while "1/1 files" not in out.getvalue():
            await cycle.store.rows("SELECT 1")  # lets the display draw
    screen = out.getvalue()
    assert "publishing what was left" in screen
    assert "a line of the log\n" in screen
    assert screen.endswith("\x1b[2K")  # the display's last line is wiped


class GoneTerminal(io.StringIO):
    """A terminal whose other end is closed."""

    def write(self, _text: str) -> int:
        raise OSError(5, "Input/output error")


async def test_terminal_goes_away(simulator, tmp_path):
    """A terminal that is gone does not stop the cycle."""
    index = await simulator()
    index.state.publish("demo", *build_wheel("demo", "1.0"))
    console = Console(file=GoneTerminal(), width=80, force_terminal=True)
    async with (
        opened_cycle(config(index.url, tmp_path / "m"), Options(), env={}) as cycle,
        shown_progress(cycle, console),
    ):
        report = await run_cycle(cycle)
    assert report.outcome.value == "complete"


def run_on_terminal(arguments: list[str], columns: int, **variables: str) -> tuple[int, str, str]:
    """Run the program with stderr on a terminal; return its exit code, stdout, and what the terminal got."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES", "NO_COLOR", "TERM"}}
    command = [sys.executable, "-m", "mirror", *arguments]
    with subprocess.Popen(
        command, stdin=slave, stdout=subprocess.PIPE, stderr=slave, env={**env, "TERM": "xterm", **variables}
    ) as process:
        os.close(slave)
        pieces = []
        try:
            while piece := os.read(master, 65536):
                pieces.append(piece)
        except OSError:
            pass  # how Linux says that the other end of a terminal is closed
        assert process.stdout is not None
        stdout = process.stdout.read().decode()
    os.close(master)
    return process.returncode, stdout, b"".join(pieces).decode()


def test_on_a_terminal(threaded_simulator, tmp_path):
    """On a terminal the progress is drawn on stderr with warnings above it, and the words go to stdout alone."""
    index = threaded_simulator()
    for n in range(3):
        index.state.publish(f"demo-{n}", *build_wheel(f"demo-{n}", "1.0"))
    index.inject(withheld("POLICY_COOLDOWN"), project="demo-0", kind="page")
    command = ["sync", "--once", "--index-url", index.url, "--root", str(tmp_path / "m")]
    code, stdout, screen = run_on_terminal(command, 60)
    assert code == 0
    assert stdout.splitlines()[0].startswith("default: 2 new files (")
    assert "projects" in stdout
    assert "page.failed" in screen
    assert "cycle.started" not in screen  # information is for the log of a service
    assert "publishing what was left" in screen
    assert "default: 2 new files" not in screen


def test_no_color_on_a_terminal(threaded_simulator, tmp_path):
    """NO_COLOR takes the colours away, from the display and the log."""
    index = threaded_simulator()
    index.state.publish("demo", *build_wheel("demo", "1.0"))
    index.inject(withheld("POLICY_COOLDOWN"), project="demo", kind="page")
    command = ["sync", "--once", "--index-url", index.url, "--root", str(tmp_path / "m")]
    plain = run_on_terminal(command, 60, NO_COLOR="1")[2]
    assert re.findall(r"\x1b\[[0-9;]*3[0-7]m", plain) == []
    assert "page.failed" in plain


INTERACTIVE = {
    "terminal": (True, "xterm", None, True),
    "pipe": (False, "xterm", None, False),
    "json": (True, "xterm", LogFormat.JSON, False),
    "console": (True, "xterm", LogFormat.CONSOLE, True),
    "dumb": (True, "dumb", None, False),
    "no-terminal-type": (True, "", None, False),
    "closed": (None, "xterm", None, False),
}


@pytest.mark.parametrize(("is_terminal", "term", "log_format", "expected"), INTERACTIVE.values(), ids=INTERACTIVE)
def test_is_interactive(monkeypatch, is_terminal, term, log_format, expected):
    """Progress is for a person at a terminal that can redraw."""

    class Stderr(io.StringIO):
        def isatty(self) -> bool:
            return bool(is_terminal)

    monkeypatch.setenv("TERM", term)
    stream = Stderr()
    monkeypatch.setattr(sys, "stderr", None if is_terminal is None else stream)
    assert GlobalOptions(log_format=log_format).is_interactive is expected


def test_closed_stderr_is_not_interactive(monkeypatch):
    """A stream that was closed is no terminal."""
    stream = open(os.devnull)  # noqa: PTH123, SIM115 - closed in the next line
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    assert GlobalOptions().is_interactive is False
