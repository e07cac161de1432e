"""The picture of the README: a terminal in which the real program mirrors an embedded index.

``python tests/docs/terminal_picture.py`` writes ``docs/images/terminal.svg``. The picture names no
font, script or style of another host.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from simulator import ThreadedSimulator, build_wheel  # noqa: E402

PICTURE = REPOSITORY / "docs/images/terminal.svg"
WIDTH_CHARACTERS = 96
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
 aria-label="mirror sync, mirror status and pip install in a terminal">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
 font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def main() -> None:
    """Run the commands and write the picture."""
    console = Console(record=True, width=WIDTH_CHARACTERS, file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder, ThreadedSimulator(serials=True) as index:
        _publish(index)
        shown = "https://INDEX/simple/"
        root = Path(folder, "mirror")
        here = ["--root", str(root)]
        _run(console, folder, ["sync", "--once", "--index-url", index.url, *here], (index.url, shown))
        _run(console, folder, ["status", *here], (index.url, shown))
        _run(console, folder, ["explain", "flask", *here], (index.url, shown))
        _run(console, folder, ["verify", *here], (index.url, shown))
    svg = console.export_svg(title="mirror", theme=DIMMED_MONOKAI, code_format=FORMAT, unique_id="terminal")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg, encoding="utf-8")
    sys.stdout.write(f"wrote {PICTURE}\n")


def _publish(index: ThreadedSimulator) -> None:
    released = {"flask": ("3.0.3", "3.1.0"), "jinja2": ("3.1.4",), "werkzeug": ("3.0.4", "3.1.1")}
    for project, versions in released.items():
        for version in versions:
            index.state.publish(project, *build_wheel(project, version))


def _run(console: Console, folder: str, arguments: list[str], hidden: tuple[str, str]) -> None:
    """Print the prompt, the command, and its output with the host's own names replaced."""
    environment = {"PATH": os.environ["PATH"], "HOME": folder, "COLUMNS": str(WIDTH_CHARACTERS)}
    done = subprocess.run(
        [sys.executable, "-m", "mirror", *arguments],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    command = " ".join(["mirror", *arguments])
    for old, new in (hidden, (folder, "/srv")):
        command = command.replace(old, new)
    output = done.stdout.replace(*hidden).replace(folder, "/srv")
    console.print(Text(f"$ {command}", style="bold green"))
    console.print(Text(output.rstrip() + "\n"))


if __name__ == "__main__":
    main()
