"""The log in tests: events as values, and a log as it was before."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mirror import logs


@contextmanager
def captured_events() -> Iterator[list[dict[str, Any]]]:
    """Yield a list that has the events of the block once it has ended, those of every level."""
    stream, events = io.StringIO(), []
    try:
        with log_kept():
            logs.configure_logging("debug", "json", stream)
            yield events
    finally:
        events += [json.loads(line) for line in stream.getvalue().splitlines()]


@contextmanager
def log_kept() -> Iterator[None]:
    """Let the log be configured afterwards as it is now."""
    output = vars(logs._OUTPUT).copy()
    try:
        yield
    finally:
        vars(logs._OUTPUT).update(output)


def reset_logging() -> None:
    """Let the log be as before any configuration."""
    logs._OUTPUT.reset()
