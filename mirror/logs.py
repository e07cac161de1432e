"""The program's log: one line for each event, on stderr, free of secrets.

Guarantees three properties for every value of an event: a URL appears without user info, query and
fragment; a registered secret appears as ``***``; text from an index can't control the terminal or
forge a line. Tracebacks pass the same way and never show local variables. A log that can't be
written stops nothing.

The form for a terminal is structlog's, which takes 0.1 s of CPU to import (with rich and pygments):
it is imported for that form only. msgspec is imported with the first line, so that ``--version``
goes without it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Literal, TextIO
from urllib.parse import quote, quote_plus

from mirror.errors import shown_text, shown_url

LogFormat = Literal["console", "json"]

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_MAY_WAIT: Final = frozenset({"debug", "info"})
"""A line of these levels may wait for the end of its batch; a kill before it loses the line."""

_PRIORITIES: Final[Mapping[str, int]] = {
    "debug": 7,
    "info": 6,
    "warning": 4,
    "error": 3,
    "critical": 2,
}
"""As in syslog."""

MIN_SECRET_LENGTH = 4
"""A shorter text would blank out half of every line, and is too weak to be a secret."""

MAX_TEXT = 4000
"""Of one value, or of one line of a traceback."""

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/?#@]*@)*[^\s'\"<>]+")

_PERCENT: Final = re.compile(r"%[0-9A-F]{2}")


class _Secrets:
    """The texts that must not appear.

    Known to the whole process, since any part of it may write a log line.
    """

    def __init__(self) -> None:
        self._texts: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self._adding = threading.Lock()

    def add(self, text: str) -> None:
        encoded = {quote(text, safe=""), quote(text), quote_plus(text)}
        encoded |= {_PERCENT.sub(lambda found: found[0].lower(), form) for form in encoded}
        escaped = {
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            repr(text)[1:-1],
        }
        forms = {text, *encoded, *escaped}
        with self._adding:  # credentials are read in threads
            if forms <= self._texts:
                return
            self._texts |= forms
            # The longest first: a secret that contains another one disappears as a whole.
            longest_first = sorted(self._texts, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def hide(self, text: str) -> str:
        return self._pattern.sub("***", text) if self._pattern else text

    def are_in(self, text: str) -> bool:
        return self._pattern is not None and self._pattern.search(text) is not None


_SECRETS: Final = _Secrets()


def register_secret(text: str) -> None:
    """Make ``text`` appear as ``***`` from now on, also percent-encoded or escaped; under four
    characters: ignored.
    """
    if len(text) >= MIN_SECRET_LENGTH:
        _SECRETS.add(text)


def has_secret(text: str) -> bool:
    """Return whether ``text`` contains a registered secret."""
    return _SECRETS.are_in(text)


def redact(text: str) -> str:
    """Return ``text`` without registered secrets, and its URLs without user info, query and
    fragment.
    """
    hidden = _SECRETS.hide(text)
    return _URL.sub(lambda match: shown_url(match[0]), hidden) if "://" in hidden else hidden


Event = dict[str, Any]
Renderer = Callable[[Event], str]


class _Output:
    """The level, the form and the place of all lines: one for the whole process, as
    ``_Secrets``.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget a configuration."""
        self.is_configured = False
        self.gathered: list[str] | None = None
        """Finished lines that are not written yet, below level warning (``gathered_lines``)."""
        self.level: int = logging.INFO
        self.render: Renderer = _to_json
        self.write: Callable[[str], None] = _LineWriter(None).write

    def take(self, line: str, *, is_urgent: bool) -> None:
        """Write a line, or keep it for its batch, which an urgent one ends."""
        if self.gathered is None:
            self.write(line)
        else:
            self.gathered.append(line)
            if is_urgent:
                self.write_gathered([])

    def write_gathered(self, rest: list[str] | None) -> None:
        """Write the lines of a batch at once."""
        lines, self.gathered = self.gathered, rest
        if lines:
            self.write("\n".join(lines))


class EventLogger:
    """Writes events of one module, with the values bound to it."""

    __slots__ = ("_bound",)

    def __init__(self, bound: Mapping[str, Any]) -> None:
        self._bound = bound

    def bind(self, **values: Any) -> EventLogger:
        """Return a logger that adds these values to each event."""
        return EventLogger({**self._bound, **values})

    def is_enabled_for(self, level: int) -> bool:
        """Return whether events of a level of ``logging`` are written."""
        return level >= _OUTPUT.level

    def debug(self, event: str, **values: Any) -> None:
        """Log an event for whoever searches for a fault."""
        if _OUTPUT.level <= logging.DEBUG:
            self._write("debug", event, values)

    def info(self, event: str, **values: Any) -> None:
        """Log a change."""
        if _OUTPUT.level <= logging.INFO:
            self._write("info", event, values)

    def warning(self, event: str, **values: Any) -> None:
        """Log a thing that was retried or skipped."""
        if _OUTPUT.level <= logging.WARNING:
            self._write("warning", event, values)

    def error(self, event: str, **values: Any) -> None:
        """Log a failure that needs a person."""
        if _OUTPUT.level <= logging.ERROR:
            self._write("error", event, values)

    def exception(self, event: str, **values: Any) -> None:
        """Log a failure with the exception that is being handled."""
        self.error(event, **{"exc_info": True, **values})

    def log(self, level: int, event: str, **values: Any) -> None:
        """Log an event at a level of ``logging``."""
        if _OUTPUT.level <= level:
            self._write(logging.getLevelName(level).lower(), event, values)

    def _write(self, level: str, event: str, values: Event) -> None:
        timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        full = {"timestamp": timestamp, "level": level, "event": event, **self._bound, **values}
        if "exc_info" in full:
            _add_traceback(full, full.pop("exc_info"))
        _OUTPUT.take(_OUTPUT.render(_clean_event(full)), is_urgent=level not in _MAY_WAIT)


def get_logger(name: str) -> EventLogger:
    """Return the logger of a module.

    It follows ``configure_logging`` also when that is called later.
    """
    return EventLogger({"module": name})


def configure_logging(
    level: str = "info",
    format: LogFormat | None = None,  # noqa: A002
    stream: TextIO | None = None,
) -> None:
    """Write events of ``level`` and above to ``stream``: JSON, or lines for people where it is a
    terminal.

    Without a stream, the value of ``sys.stderr`` at each event is used, so that a progress display
    can replace it. Where the stream leads into systemd's journal, each line begins with its
    priority (sd-daemon(3)). The standard library's logging, which aiohttp and asyncio use, is
    written the same way from WARNING on.
    """
    console = format == "console" or (format is None and _is_terminal(stream or sys.stderr))
    render = _console_renderer(colors=_wants_colors(stream or sys.stderr)) if console else _to_json
    if _is_journal(stream or sys.stderr):
        render = _with_priorities(render)
    _OUTPUT.level, _OUTPUT.render = LEVELS[level], render
    _OUTPUT.write = _LineWriter(stream).write
    _OUTPUT.is_configured = True
    _route_standard_logging()


@contextlib.contextmanager
def gathered_lines() -> Iterator[None]:
    """Write the lines of the ``with`` at its end, in one call of the system.

    A line of level warning or above is written at once, after those before it. Code inside must not
    wait for anything: a line is late by no more than its own work.
    """
    _OUTPUT.gathered = []
    try:
        yield
    finally:
        _OUTPUT.write_gathered(None)


def forward_log(send: Callable[[str], None]) -> None:
    """Pass each finished line to ``send`` instead of writing it; level and format stay as
    configured.
    """
    _OUTPUT.write = send


def write_log_here() -> None:
    """Undo ``forward_log``: write to standard error again, in the configured format."""
    _OUTPUT.write = _LineWriter(None).write


def write_line(line: str) -> None:
    """Write a finished line of a worker process, which may not have known all secrets."""
    _LineWriter(None).write(_SECRETS.hide(line))


def use_default_logging() -> None:
    """Configure the log unless that was done: for failures before the command line is read."""
    if not _OUTPUT.is_configured:
        configure_logging()


def _console_renderer(*, colors: bool) -> Renderer:
    import structlog  # 0.1 s: for the form of people only

    renderer = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )

    def render(event: Event) -> str:
        event.pop("module", None)  # for people the event is enough
        return str(renderer(None, event["level"], event))

    return render


def _with_priorities(render: Renderer) -> Renderer:
    """Return a renderer that begins each line as the journal wants it: a traceback has many."""

    def render_lines(event: Event) -> str:
        priority = _PRIORITIES.get(str(event.get("level")), 6)
        return "\n".join(f"<{priority}>{line}" for line in render(event).split("\n"))

    return render_lines


def _add_traceback(event: Event, exc_info: object) -> None:
    """Add the traceback of an exception, of ``sys.exc_info()`` or, for True, of the one being
    handled.

    It never shows local variables: secrets live there.
    """
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = "".join(traceback.format_exception(error)).rstrip("\n")


def _to_json(event: Event) -> str:
    """Return JSON in ASCII, which every stream takes; a cycle writes a line for each file, so the
    fast encoder first.
    """
    import msgspec  # 24 ms: not needed for --version and --help

    text = msgspec.json.encode(event).decode()
    return text if text.isascii() else json.dumps(event)


def _clean_event(event: Event) -> Event:
    """Make each value of an event fit to be shown."""
    if _is_clean(event):
        return event
    return {
        shown_text(redact(key)): _clean(value, lines=key == "exception")
        for key, value in event.items()
    }


def _is_clean(event: Mapping[str, object]) -> bool:
    """Return whether an event can be shown as it is: plain values, nothing to hide in them.

    Nearly all are so.
    """
    texts = [value for value in event.values() if type(value) is str]
    if len(texts) < len(event) and not all(type(v) in _PLAIN for v in event.values()):
        return False
    text = " ".join([*event, *texts])
    return (
        len(text) <= MAX_TEXT
        and text.isprintable()
        and "://" not in text
        and _SECRETS.hide(text) == text
    )


def _clean(value: object, *, lines: bool = False) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case str() if lines:
            return "\n".join(shown_text(line, limit=MAX_TEXT) for line in redact(value).split("\n"))
        case Enum():
            return _clean(value.value)
        case str():
            return shown_text(redact(value), limit=MAX_TEXT)
        case Mapping():
            return {shown_text(redact(str(key))): _clean(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(inner) for inner in value]
        case bytes():
            return _clean(value.decode("utf-8", "backslashreplace"))
    return _clean(str(value))


class _LineWriter:
    """Writes whole lines."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Write a line, whatever becomes of it."""
        stream = self._stream or sys.stderr
        # A reader of the log that went away, or a full disk under it, must not stop a cycle in its
        # middle.
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                try:
                    stream.write(f"{line}\n")
                    stream.flush()
                except BrokenPipeError:
                    _lead_nowhere(stream)


def _lead_nowhere(stream: TextIO) -> None:
    """Redirect a stream without a reader: the interpreter's exit would flush it again and end with
    code 120.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


_OUTPUT: Final = _Output()


class _IntoEvents(logging.Handler):
    """Turns records of the standard library's logging into events."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = str(record.msg)
        get_logger(record.name).log(
            record.levelno, "library.message", message=message, exc_info=record.exc_info
        )


def _route_standard_logging() -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _IntoEvents)]:
        root.removeHandler(handler)
    root.addHandler(_IntoEvents(logging.WARNING))


def error_priority(stream: TextIO) -> str:
    """Return the prefix of a line about an error where ``stream`` leads into systemd's journal;
    else nothing.
    """
    return f"<{_PRIORITIES['error']}>" if _is_journal(stream) else ""


def _is_journal(stream: TextIO | None) -> bool:
    """Return whether a stream is the one that ``$JOURNAL_STREAM`` names (systemd.exec(5)); it may
    have been redirected.
    """
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if stream is None or not (device.isdigit() and inode.isdigit()):
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (found.st_dev, found.st_ino) == (int(device), int(inode))


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _wants_colors(stream: TextIO | None) -> bool:
    return (
        _is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )
