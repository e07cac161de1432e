"""The bar for what goes on byte by byte."""

from __future__ import annotations

import io

from rich.console import Console

from mirror.cli.progress.byte_count import shown_bytes


def test_the_bar_tells_what_is_done_and_leaves_nothing_behind():
    """On a terminal the bar names the work and the bytes so far, and is taken away at the end."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, highlight=False, markup=False, emoji=False)
    with shown_bytes(4000, "writing plant-000001", console) as told:
        told(1000)
        told(3000)
    text = out.getvalue()
    assert "writing plant-000001" in text
    assert "4.0/4.0 kB" in text
    assert text.endswith("\x1b[2K")


def test_without_a_terminal_nothing_is_written():
    """A pipe gets no bar."""
    out = io.StringIO()
    with shown_bytes(10, "hashing", Console(file=out, force_terminal=False)) as told:
        told(10)
    assert "\x1b" not in out.getvalue()
