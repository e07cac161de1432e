"""The findings of a probe, as a table that fits the terminal."""

from __future__ import annotations

from mirror.cli.text import fits, folded, safe, stdout_width, table
from mirror.tree.probing.findings import StoreProbe
from mirror.upstream.probe import Probe


def describe_probe(title: str, found: Probe | StoreProbe) -> list[str]:
    """Return the lines under a title."""
    rows = [("QUESTION", "ANSWER", "WHAT IT MEANS")]
    rows += [(finding.name, safe(finding.answer), finding.meaning) for finding in found.findings]
    width = stdout_width()
    lines = table(rows)
    if not fits(lines, width):
        lines = [
            line
            for f in found.findings
            for line in (f"{f.name}: {safe(f.answer)}", f"  {f.meaning}")
        ]
    if found.error is not None:
        lines.append(f"ended: {safe(str(found.error))}")
    return folded([title, *lines, ""], width)
