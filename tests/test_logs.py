"""The log: its two forms, and that no secret, no query string and no control character gets into it."""

import contextlib
import errno
import io
import json
import logging
import os
import subprocess
import sys
import threading
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.logged import reset_logging
from mirror import logs
from mirror.logs import configure_logging, get_logger, redact, register_secret


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Give each test its own secrets, and take the configuration back afterwards."""
    monkeypatch.setattr(logs, "_SECRETS", logs._Secrets())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    handlers = list(logging.getLogger().handlers)
    yield
    reset_logging()
    logging.getLogger().handlers[:] = handlers


def events(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def without_time(event: dict) -> dict:
    assert event.pop("timestamp").endswith("Z")
    return event


def test_json():
    """Without a terminal each event is one JSON object: time, level and event first, then the rest."""
    stream = io.StringIO()
    configure_logging(stream=stream)
    get_logger("mirror.x").info("file.placed", size=5, path=Path("/a/b"))
    [event] = events(stream)
    assert list(event) == ["timestamp", "level", "event", "module", "size", "path"]
    assert without_time(event) == {
        "level": "info",
        "event": "file.placed",
        "module": "mirror.x",
        "size": 5,
        "path": "/a/b",
    }


def test_console_on_a_terminal():
    """On a terminal an event is a coloured line of key=value."""
    stream = Terminal()
    configure_logging(stream=stream)
    get_logger("mirror.x").warning("file.retried", project="a b")
    assert "\x1b[" in stream.getvalue()
    assert "file.retried" in stream.getvalue()


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_console_without_colors(monkeypatch, variable, value):
    """A terminal that wants no colours gets none, and the module's name is left to machines."""
    monkeypatch.setenv(variable, value)
    stream = Terminal()
    configure_logging(stream=stream)
    get_logger("mirror.x").warning("file.retried", project="a b", n=1)
    time, *words = stream.getvalue().split()
    assert time.endswith("Z")
    assert words == ["[warning", "]", "file.retried", "project='a", "b'", "n=1"]


def test_format_is_chosen():
    """The format that is asked for counts, whatever the stream is."""
    console, machine = io.StringIO(), Terminal()
    configure_logging(format="console", stream=console)
    get_logger("a").info("x.y")
    configure_logging(format="json", stream=machine)
    get_logger("a").info("x.y")
    assert "x.y" in console.getvalue()
    assert "\x1b" not in console.getvalue()
    assert events(machine)[0]["event"] == "x.y"


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_levels(level, shown):
    """Events below the level are left out, also for a logger that was made before."""
    logger, stream = get_logger("a"), io.StringIO()
    configure_logging(level, "json", stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("x.y")
    assert [event["level"] for event in events(stream)] == shown


def test_urls_lose_what_may_be_secret():
    """A URL appears without user info, query and fragment, wherever in an event it stands."""
    stream = io.StringIO()
    configure_logging(stream=stream)
    url = "https://user:hunter2@a.example/x?sig=hunter2#hunter2"
    get_logger("a").info("x.y", url=url, text=f"see {url}, please", many=[url, {url: (url,)}])
    assert "hunter2" not in stream.getvalue()
    assert without_time(events(stream)[0]) == {
        "level": "info",
        "event": "x.y",
        "module": "a",
        "url": "https://a.example/x",
        "text": "see https://a.example/x please",
        "many": ["https://a.example/x", {"https://a.example/x": ["https://a.example/x"]}],
    }


SECRETS = ["hunter22", 'a"b\\c d', "pä55wörd", "with/slash+plus=", "dollar$1{2}[3]", "line\u2028break"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_hidden(secret, form):
    """A registered secret appears nowhere in an event: not in values, keys, nested values, objects or tracebacks."""
    stream = io.StringIO()
    configure_logging("debug", form, stream)
    register_secret(secret)
    logger = get_logger("a")
    logger.info("x.y", plain=secret, inside=f"<{secret}>", many=[secret, (secret,), {secret: secret}, {secret}])
    event = f"bad {secret}"
    logger.info(event, **{secret: 1}, data=secret.encode(), error=ValueError(secret))
    try:
        raise RuntimeError(f"failed with {secret}")
    except RuntimeError as exc:
        logger.exception("x.failed", error=exc)
    written = stream.getvalue()
    for text in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], secret[:6]):
        assert text not in written
    assert "***" in written
    assert "RuntimeError: failed with ***" in written


def test_percent_encoded_secret():
    """A secret is recognised in a URL's path too."""
    register_secret("a/b c")
    assert redact("/x/a%2Fb%20c/y and a/b%20c") == "/x/***/y and ***"


def test_longest_secret_first():
    """A secret that contains another disappears as a whole."""
    register_secret("abcd")
    register_secret("abcdefgh")
    register_secret("abcd")
    assert redact("abcdefgh abcd") == "*** ***"


def test_short_texts_are_no_secrets():
    """What is under four characters is not registered: it would blank out half of each line."""
    register_secret("abc")
    register_secret("")
    assert redact("abcdef") == "abcdef"


@given(st.text(min_size=4), st.text(), st.text())
def test_redacted_text_has_no_secret(secret, before, after):
    """Whatever a secret is made of, it is gone from a text around it."""
    secrets = logs._Secrets()
    secrets.add(secret)
    assert secret.replace("*", "") == "" or secret not in secrets.hide(before + secret + after).replace("***", "\0")


def test_secrets_of_two_threads():
    """Two threads that register secrets at the same time hide both: neither overwrites the other's."""
    secrets = logs._Secrets()
    other = threading.Thread(target=secrets.add, args=["second-secret"])

    class Slow(str):
        """Is compared with the other secrets once another thread has begun, or ended if nothing holds it back."""

        __slots__ = ()

        def __len__(self) -> int:
            if secrets._texts and other.ident is None:
                other.start()
                other.join(0.1)
            return super().__len__()

    secrets.add(Slow("first-secret"))
    other.join()
    assert secrets.hide("first-secret second-secret") == "*** ***"


def test_traceback_shows_no_variables():
    """A traceback shows where it happened, and no values of local variables."""
    stream = io.StringIO()
    configure_logging(stream=stream, format="console")

    def fail() -> None:
        password = "retnuh"[::-1] + "2"
        raise ValueError(len(password))

    try:
        fail()
    except ValueError:
        get_logger("a").error("x.failed", exc_info=True)
    assert "in fail\n" in stream.getvalue()
    assert "ValueError: 7" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_control_characters_are_escaped():
    """Text from an index can neither control the terminal nor forge a line."""
    stream = io.StringIO()
    configure_logging(format="console", stream=stream)
    try:
        raise ValueError("\x1b[2J\r")
    except ValueError:
        get_logger("a").exception("x.y", name="a\x1b[31m\nb", other=["\x1b"], **{"k\x1b": 1})
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    first, *traceback = stream.getvalue().splitlines()
    assert "a\\\\x1b[31m\\\\nb" in first or "a\\x1b[31m\\nb" in first
    assert traceback[-1] == "ValueError: \\x1b[2J\\r"


def test_values_of_all_kinds():
    """Each kind of value has a form that both renderers can write."""

    class Color(Enum):
        RED = "red"

    stream = io.StringIO()
    configure_logging(stream=stream)
    get_logger("a").info(
        "x.y", none=None, yes=True, number=1.5, member=Color.RED, names=frozenset({"b"}), error=KeyError("k")
    )
    event = without_time(events(stream)[0])
    assert event | {"module": "a"} == {
        "level": "info",
        "event": "x.y",
        "module": "a",
        "none": None,
        "yes": True,
        "number": 1.5,
        "member": "red",
        "names": ["b"],
        "error": "'k'",
    }


def test_standard_logging_comes_out_the_same_way():
    """Warnings of aiohttp and asyncio are events, redacted like ours; what is less is left out, as is a second handler."""
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    configure_logging("debug", "json", stream)
    register_secret("hunter22")
    logger = logging.getLogger("aiohttp.client")
    logger.info("left out")
    logger.warning("no answer from %s with %s", "https://a/?q", "hunter22")
    wrong = logging.LogRecord("aiohttp.client", logging.WARNING, "", 0, "wrong %d", ("hunter22",), None)
    next(h for h in logging.getLogger().handlers if isinstance(h, logs._IntoEvents)).emit(wrong)
    try:
        raise OSError("hunter22")
    except OSError:
        logger.exception("failed")
    first, second, third = map(without_time, events(stream))
    assert first == {
        "level": "warning",
        "event": "library.message",
        "module": "aiohttp.client",
        "message": "no answer from https://a/ with ***",
    }
    assert second == first | {"message": "wrong %d"}
    assert third.pop("exception").endswith("OSError: ***")
    assert third == first | {"level": "error", "message": "failed"}


class Counted(io.StringIO):
    """A stream that counts how often it was written to the system."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_lines_of_a_batch():
    """Lines below level warning are written together at the end of their batch, also after a failure; a warning at
    once, after those before it.
    """
    stream = Counted()
    configure_logging(format="json", stream=stream)
    log = get_logger("demo")
    with contextlib.suppress(KeyError), logs.gathered_lines():
        log.info("a")
        log.info("b")
        assert stream.flushes == 0
        log.warning("c")
        assert [event["event"] for event in events(stream)] == ["a", "b", "c"]
        log.info("d")
        assert stream.flushes == 1
        raise KeyError
    log.info("e")
    assert [event["event"] for event in events(stream)] == ["a", "b", "c", "d", "e"]
    assert stream.flushes == 3


def test_follows_stderr(capsys):
    """Without a stream an event goes to what stderr is at that moment, so that a progress display can step in between."""
    configure_logging(format="json")
    logger = get_logger("a")
    logger.info("x.y")
    assert json.loads(capsys.readouterr().err)["event"] == "x.y"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", io.StringIO())
        logger.info("x.z")
        assert json.loads(sys.stderr.getvalue())["event"] == "x.z"
        patch.setattr(sys, "stderr", None)
        logger.info("x.nowhere")
    assert capsys.readouterr().err == ""


def test_a_log_that_cannot_be_written_stops_nothing():
    """A full disk or a closed pipe under the log raises nothing where the event happened."""

    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    configure_logging(stream=Full())
    get_logger("a").info("x.y")
    closed = io.StringIO()
    closed.close()
    configure_logging(stream=closed)
    get_logger("a").info("x.y")


def test_default_configuration_only_when_there_is_none():
    """What fails before the command line is read is logged with the defaults; a configuration stays as it is."""
    reset_logging()
    logs.use_default_logging()
    stream = io.StringIO()
    configure_logging("error", "json", stream)
    logs.use_default_logging()
    get_logger("a").info("x.y")
    get_logger("a").error("x.z")
    assert [event["event"] for event in events(stream)] == ["x.z"]


async def test_logging_in_the_event_loop(capsys):
    """An event inside the event loop counts as no blocking call."""
    configure_logging(format="json")
    get_logger("a").info("x.y")
    assert json.loads(capsys.readouterr().err)["event"] == "x.y"


def test_import_is_cheap():
    """Importing the module does not import structlog, which would cost more than all of ``mirror --help``."""
    code = "import sys, mirror.logs; sys.exit('structlog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("form", ["json", "console"])
def test_journal_priorities(tmp_path, monkeypatch, form):
    """Where the stream leads into the journal, each line begins with its priority, those of a traceback too."""
    with (tmp_path / "journal").open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        logs.configure_logging("debug", form, stream)
        log = logs.get_logger("a")
        log.debug("a.debug")
        log.info("a.info")
        log.warning("a.warning")
        try:
            raise ValueError("b")
        except ValueError as exc:
            log.error("a.error", exc_info=exc)  # noqa: TRY400 - as the program does
    lines = (tmp_path / "journal").read_text().splitlines()
    assert [line[:3] for line in lines[:4]] == ["<7>", "<6>", "<4>", "<3>"]
    assert {line[:3] for line in lines[3:]} == {"<3>"}


@pytest.mark.parametrize("named", ["", "1:2", "nonsense", ":"])
def test_not_the_journal(tmp_path, monkeypatch, named):
    """A stream that is not the one that is named was redirected: no priorities."""
    monkeypatch.setenv("JOURNAL_STREAM", named)
    with (tmp_path / "log").open("w") as stream:
        logs.configure_logging("info", "json", stream)
        logs.get_logger("a").info("a.b")
    assert (tmp_path / "log").read_text().startswith("{")
