"""The frame of the command line: options before and after a command, exit codes, and what is said when it ends."""

import errno
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer
from typer.main import get_command

from harness.program import call, clean_environment
from mirror import __version__, logs
from mirror.cli import app as app_module
from mirror.cli import main, outcome
from mirror.cli.arguments import Arguments
from mirror.cli.groups import _WITH_VALUE, Group, command_of, describe
from mirror.cli.options import PARAMETERS, GlobalOptions, LogFormat, LogLevel
from mirror.cli.outcome import write_error, write_out
from mirror.errors import (
    AccessDenied,
    BadPage,
    ConfigError,
    DigestMismatch,
    LockHeld,
    MirrorError,
    StateError,
    TreeError,
    Unavailable,
)
from mirror.exit_codes import ExitCode, exit_code_for, first_of


def mirror(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does."""
    command = [sys.executable, "-m", "mirror", *arguments]
    return call(command, env=clean_environment(Path.home(), **(env or {})), cwd=Path.cwd())


class TryArguments(Arguments):
    """A command of a test, without arguments of its own."""

    work = f"{__name__}:work"


class TryLoudlyArguments(Arguments):
    """A command of a test, with arguments of its own."""

    work = f"{__name__}:work"

    name: str
    loud: bool = False


def work(_options: GlobalOptions, _given: Arguments) -> ExitCode:
    """Stand for what a test puts here."""
    raise NotImplementedError


@pytest.fixture
def run(monkeypatch):
    """Run a program of one group and one command, ``try``, that does what the test says."""

    def run(command, arguments: Sequence[str] = ("try",)) -> int:
        monkeypatch.setattr(sys.modules[__name__], "work", lambda options, _given: command(options))
        group = Group(help="A group.", commands={"try": f"{__name__}:TryArguments"})
        commands = {"try": f"{__name__}:TryArguments", "group": group}
        monkeypatch.setattr(app_module, "PROGRAM", Group(help="A test.", commands=commands))
        return main(list(arguments))

    return run


def test_version():
    """--version prints name and version, alone, after other options, and after any command."""
    expected = (f"mirror {__version__}\n", "", 0)
    after = (["sync", "--once", "--version"], ["config", "--version"], ["config", "show", "--version"])
    for arguments in (["--version"], ["--log-level", "debug", "--version"], *after):
        done = mirror(*arguments)
        assert (done.stdout, done.stderr, done.returncode) == expected


@pytest.mark.parametrize("arguments", [[], ["config"]], ids=["program", "group"])
def test_no_command(arguments):
    """Without a command the help goes to stderr, with the exit code of wrong usage."""
    done = mirror(*arguments)
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr == mirror(*arguments, "--help").stdout


def test_help_names_all_options():
    """The help names each option that works with every command."""
    done = mirror("--help")
    assert (done.stderr, done.returncode) == ("", 0)
    for option in ("--config", "--root", "--wait", "--log-level", "--log-format", "--version", "--show-completion"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["try"], GlobalOptions()),
        (
            ["--config", "a", "--root", "b", "--wait", "1m", "--log-level", "error", "--log-format", "json", "try"],
            GlobalOptions(
                config=Path("a"), root=Path("b"), wait_s=60, log_level=LogLevel.ERROR, log_format=LogFormat.JSON
            ),
        ),
        (
            ["try", "--config", "a", "--root", "b", "--wait", "0", "--log-level", "error", "--log-format", "json"],
            GlobalOptions(config=Path("a"), root=Path("b"), log_level=LogLevel.ERROR, log_format=LogFormat.JSON),
        ),
        (["--config", "a", "--root", "b", "try", "--config", "c"], GlobalOptions(config=Path("c"), root=Path("b"))),
        (
            ["--config", "a", "group", "--config", "b", "--root", "c", "try", "--root", "d"],
            GlobalOptions(config=Path("b"), root=Path("d")),
        ),
    ],
    ids=["none", "before", "after", "after-wins", "in-between"],
)
def test_global_options(run, arguments, expected):
    """Global options work before and after a command; the later one wins."""
    seen = []

    def command(options: GlobalOptions) -> ExitCode:
        seen.append(options)
        return ExitCode.OK

    assert run(command, arguments) == 0
    assert seen == [expected]


def test_own_arguments(monkeypatch):
    """A command has its own arguments and options beside the global ones; they are fixed."""
    seen = []

    def command(options: GlobalOptions, given: TryLoudlyArguments) -> ExitCode:
        seen.append((options.root, given.name, given.loud))
        with pytest.raises(AttributeError):
            given.loud = False
        return ExitCode.OK

    monkeypatch.setattr(sys.modules[__name__], "work", command)
    commands = {"try": f"{__name__}:TryLoudlyArguments"}
    monkeypatch.setattr(app_module, "PROGRAM", Group(help="A test.", commands=commands))
    assert main(["try", "x", "--loud", "--root", "r"]) == 0
    assert seen == [(Path("r"), "x", True)]


def test_command_configures_the_log(run, capsys):
    """The log level and format of the command line are those of the command."""

    def command(_options: GlobalOptions) -> ExitCode:
        logs.get_logger("x").info("left.out")
        logs.get_logger("x").warning("was.said")
        return ExitCode.PARTIAL

    assert run(command, ["try", "--log-level", "warning", "--log-format", "json"]) == ExitCode.PARTIAL
    assert json.loads(capsys.readouterr().err)["event"] == "was.said"


USAGE = {
    "command": (["chek"], "error: No such command 'chek'"),
    "option": (["config", "check", "--bad"], "error: No such option: --bad"),
    "argument": (["config", "check", "https://u:hunter2@h/x"], "(https://h/x)"),
    "level": (["--log-level", "x", "config", "check"], "error: Invalid value for '--log-level': 'x' is not one of"),
    "wait": (
        ["config", "check", "--wait", "5"],
        'error: Invalid value for \'--wait\': expected a duration such as "30s" or "5m"; see `mirror config check --help`',
    ),
    "no-value": (["config", "check", "--config"], "error: Option '--config' requires an argument"),
}


@pytest.mark.parametrize(("arguments", "said"), USAGE.values(), ids=USAGE)
def test_wrong_usage(capsys, arguments, said):
    """Wrong usage is one line on stderr without secrets, exit code 2."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert said in captured.err
    assert "hunter2" not in captured.err


DENIED = AccessDenied(url="https://a/", index="a", status=401, source="the variable A")
ERRORS = {
    "config": (ConfigError(where="a.b", problem="no"), 2, "error: a.b: no\n"),
    "lock": (
        LockHeld(path="/r/tree.lock", pid=7),
        8,
        "error: process 7 is working on this mirror (/r/tree.lock); wait for it, or pass --wait DURATION\n",
    ),
    "state": (StateError(path="/r/state.db", problem="damaged"), 6, "error: /r/state.db: damaged\n"),
    "tree": (TreeError(path="/r", problem="full"), 6, "error: /r: full\n"),
    "denied": (
        DENIED,
        3,
        "error: index 'a' answered 401 for https://a/; credential from the variable A: "
        "check that it is set, has not expired and is entitled to this index\n",
    ),
    "unreachable": (
        Unavailable(url="https://u:hunter2@a/?hunter2", cause="refused"),
        4,
        "error: https://a/ could not be fetched: refused\n",
    ),
    "bad-page": (
        BadPage(url="https://a/", cause="login"),
        4,
        "error: https://a/ is not a page of a simple index: login\n",
    ),
    "integrity": (
        DigestMismatch(filename="f", algorithm="sha256", expected="a", actual="b"),
        5,
        "error: f: the index lists sha256 a, the bytes have b; not published, tried again in the next cycle\n",
    ),
    "group": (
        ExceptionGroup(
            "x",
            [DENIED, ExceptionGroup("y", [TreeError(path="/r", problem="full"), TreeError(path="/r", problem="full")])],
        ),
        6,
        "error: index 'a' answered 401 for https://a/; credential from the variable A: "
        "check that it is set, has not expired and is entitled to this index\nerror: /r: full\n",
    ),
    "secret": (
        ConfigError(where="", problem="see https://u:hunter2@h/?x\nand more"),
        2,
        "error: see https://h/ and more\n",
    ),
}


@pytest.mark.parametrize(("error", "code", "said"), ERRORS.values(), ids=ERRORS)
def test_expected_errors(run, capsys, error, code, said):
    """An error that was raised on purpose is one line on stderr, and has its exit code."""

    def command(_options: GlobalOptions) -> ExitCode:
        raise error

    assert run(command) == code
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("hunter22"), ExceptionGroup("x", [DENIED, ZeroDivisionError("hunter22")])],
    ids=["alone", "group"],
)
def test_bug(run, capsys, monkeypatch, error):
    """An unexpected exception is a traceback in the log, without variables and secrets, and exit code 1."""
    monkeypatch.setattr(logs, "_SECRETS", logs._Secrets())
    logs.register_secret("hunter22")

    def command(_options: GlobalOptions) -> ExitCode:
        value_nobody_may_see = "abracadabra" * len("x")
        assert value_nobody_may_see
        raise error

    assert run(command, ["try", "--log-format", "json"]) == 1
    captured = capsys.readouterr()
    event = json.loads(captured.err)
    assert (captured.out, event["event"], event["level"]) == ("", "program.failed", "error")
    assert "ZeroDivisionError: ***" in event["exception"]
    assert "abracadabraabra" not in captured.err


def test_unknown_error_is_a_bug():
    """An error of our own that has no exit code is a bug."""
    assert exit_code_for(MirrorError()) == ExitCode.BUG


def test_interrupt(run):
    """Ctrl-C ends with 130, also out of a task group, and says nothing."""

    def alone(_options: GlobalOptions) -> ExitCode:
        raise KeyboardInterrupt

    def grouped(_options: GlobalOptions) -> ExitCode:
        raise BaseExceptionGroup("x", [KeyboardInterrupt(), ValueError("x")])

    assert (run(alone), run(grouped)) == (130, 130)


def test_interrupt_outside_of_a_command(monkeypatch):
    """Ctrl-C before a command runs ends with 130 too."""

    def interrupted(_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("mirror.cli._run", interrupted)
    assert main([]) == 130


def test_exit_inside_a_group_of_base_exceptions(run, capsys):
    """Another exception that is none of the usual ones is a bug."""

    def command(_options: GlobalOptions) -> ExitCode:
        raise BaseExceptionGroup("x", [GeneratorExit()])

    assert run(command) == 1
    assert "program.failed" in capsys.readouterr().err


ORDER = [2, 8, 6, 1, 3, 4, 7, 5]


def test_first_of_follows_the_order():
    """The exit code is the first that applies in the documented order."""
    assert first_of([]) == ExitCode.OK
    assert [int(first_of(map(ExitCode, [0, *ORDER[n:]]))) for n in range(len(ORDER))] == ORDER
    assert [int(first_of(map(ExitCode, [*reversed(ORDER[n:]), 0]))) for n in range(len(ORDER))] == ORDER
    assert first_of(ExitCode) == ExitCode.SIGINT


def test_every_code_has_its_place():
    """No exit code is left out of the order."""
    assert {first_of([code]) for code in ExitCode} == set(ExitCode)


def test_reader_that_has_seen_enough(tmp_path):
    """Output into a closed pipe is quiet and keeps the command's exit code, also for the help."""
    (tmp_path / "m.toml").write_text('[mirror]\nroot = "/r"\n[[index]]\nname = "a"\nurl = "https://a/"\n')
    for arguments in (["config", "show", "--config", str(tmp_path / "m.toml")], ["--help"], ["--version"]):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "mirror", *arguments]
        done = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        assert (done.stderr, done.returncode) == ("", 0)


def test_output_that_cannot_be_written():
    """A full disk under standard output is an error of storage."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "mirror", "config", "schema"]
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    said = f"error: standard output: can't be written: {os.strerror(errno.ENOSPC)}\n"
    assert (done.stderr, done.returncode) == (said, 6)


def test_closed_output_and_error(monkeypatch):
    """Without stdout and stderr nothing is printed, nothing fails, and nothing lands in the other one."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    write_out("x")
    write_error("x")


def test_broken_output_in_this_process(monkeypatch):
    """Output into a closed pipe is sent nowhere from then on."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        write_out("x")
        write_out("y")
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closed below, after what failed is sent nowhere
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(TreeError):
        write_out("x")
    full.close()


def test_help_into_a_closed_pipe_in_this_process(run, monkeypatch):
    """A reader that leaves in the middle of what typer prints is no error."""
    closed = []
    monkeypatch.setattr(outcome, "close_output", lambda: closed.append(True))

    def command(_options: GlobalOptions) -> ExitCode:
        raise BrokenPipeError(errno.EPIPE, "closed")

    stdout, stderr = sys.stdout, sys.stderr
    try:
        assert run(command) == 0
    finally:
        sys.stdout, sys.stderr = stdout, stderr
    assert closed == [True]


def test_exit_of_another_kind(run):
    """Whatever ends a command without a number is success."""

    def command(_options: GlobalOptions) -> ExitCode:
        raise SystemExit

    assert run(command) == 0


SHELLS = ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_script(shell):
    """The completion script of each shell calls the program."""
    done = mirror(env={"_MIRROR_COMPLETE": f"source_{shell}"})
    assert done.returncode == 0
    assert "_MIRROR_COMPLETE" in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_show_completion(shell):
    """--show-completion prints the script of the shell that is named."""
    done = mirror("--show-completion", shell, env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert f"complete_{shell}" in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_install_completion(tmp_path, shell):
    """--install-completion writes the script into the user's home, and nowhere else."""
    env = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    done = mirror("--install-completion", shell, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "_MIRROR_COMPLETE" in written


def test_completion_of_commands():
    """Completing after the program's name offers its commands."""
    env = {"_MIRROR_COMPLETE": "complete_bash", "COMP_WORDS": "mirror ", "COMP_CWORD": "1"}
    done = mirror(env=env)
    assert {"init", "config"} <= set(done.stdout.split())


HEAVY = {"aiohttp", "aiosqlite", "anyio", "msgspec", "rich", "selectolax", "ssl", "structlog", "pydantic"}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_start_imports_nothing_heavy(option):
    """--version and --help import none of the libraries that take time."""
    code = (
        "import sys; from mirror.cli import main; main([sys.argv[1]]); "
        "print(*sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, option], check=True, capture_output=True, text=True)
    assert set(done.stderr.split()) & HEAVY == set()


def test_program_and_module_are_the_same():
    """The installed entry point is the function that ``python -m mirror`` calls."""
    assert main.__module__ == "mirror.cli"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("sync --once", "sync"),
        ("--config mirror.toml sync", "sync"),
        ("--config=mirror.toml --wait 5s --log-level info --log-format=json --root tree status --json", "status"),
        ("--config sync verify", "verify"),
        ("--config=sync --wait=-1 verify", "verify"),
        ("--help sync", None),
        ("--version", None),
        ("--unknown 1 sync", None),
        ("--config", None),
        ("-- sync", None),
        ("", None),
    ],
)
def test_command_of_some_arguments(arguments, command):
    """The command is found behind global options, so that one that runs often is described to typer alone."""
    assert command_of(arguments.split()) == command


def test_global_options_before_the_command():
    """Each global option that has a value is known where the command is looked for."""
    options = {word for annotated in PARAMETERS.values() for word in _words(annotated)}
    assert options - {"--version"} == _WITH_VALUE


def _words(annotated):
    (option,) = get_args(annotated)[1:]
    return {word for word in (option.default, *option.param_decls) if isinstance(word, str)}


def test_one_command_alone():
    """Each command has the same help alone as among all the others; with another name all of them are there."""
    everything = get_command(describe(app_module.PROGRAM))
    for name, command in everything.commands.items():
        alone = get_command(describe(app_module.PROGRAM, name))
        context = typer.Context(alone, info_name="mirror")
        assert list(alone.commands) == [name]
        assert alone.commands[name].get_help(context) == command.get_help(context)
    for name in ("unknown", None):
        assert list(get_command(describe(app_module.PROGRAM, name)).commands) == list(everything.commands)


def _kinds(group: Group):
    for found in group.commands.values():
        if isinstance(found, Group):
            yield from _kinds(found)
        else:
            module, _, name = found.partition(":")
            yield getattr(import_module(module), name)


KINDS = {kind.__name__: kind for kind in _kinds(app_module.PROGRAM)}
ASKING_MORE = {
    "SyncArguments": ({"once": True}, {"once": True, "dry_run": True}, {"once": True, "json": True}),
    "ListArguments": ({"fallback": True},),
    "VerifyArguments": ({"repair": True},),
    "ProbeArguments": ({"index": "s3://bucket/prefix"},),
    "InitArguments": ({"from_file": Path("x")},),
    "SnapshotCreateArguments": ({"require_proof": True},),
    "SnapshotPromoteArguments": ({"require_proof": True},),
}
"""Arguments that need other work than the defaults."""


@pytest.mark.parametrize("name", KINDS)
def test_work_takes_its_arguments(name):
    """The function that a class of arguments names takes arguments of that class, and returns an exit code."""
    kind = KINDS[name]
    for values in ({}, *ASKING_MORE.get(name, ())):
        module, _, function = kind(**values).work.partition(":")
        work = getattr(import_module(module), function)
        parameters = list(inspect.signature(work, eval_str=True).parameters.values())
        assert [one.annotation for one in parameters[:2]] == [GlobalOptions, kind]
        assert all(one.default is not inspect.Parameter.empty for one in parameters[2:])
        assert get_type_hints(work)["return"] is ExitCode
