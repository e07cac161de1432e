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

_PROGRAMS = {"mirror": [sys.executable, "-m", "mirror"], "cat": ["cat"]}
_RELEASED = {
    "flask": {
        "3.0.3": ["jinja2>=3.1", "werkzeug>=3"],
        "3.1.0": ["jinja2>=3.1", "werkzeug>=3.1", 'asgiref>=3.2; extra == "async"'],
    },
    "jinja2": {"3.1.4": ["markupsafe>=2"]},
    "werkzeug": {"3.0.4": ["markupsafe>=2.1"], "3.1.1": ["markupsafe>=2.1"]},
    "markupsafe": {"3.0.2": []},
    "asgiref": {"3.8.1": []},
    "django": {"5.1": ["asgiref>=3.8"]},
}
_CONFIGURATION = """\
[mirror]
root = "{root}"

[[index]]
name = "main"
url = "{url}"

[[target]]
name = "linux"
python = ["3.11.2", "3.13.5"]
platforms = ["linux-x86_64", "linux-aarch64"]

[[want]]
name = "web"
files = ["requirements.txt"]
"""
PICTURE = REPOSITORY / "docs/images/terminal.svg"
WIDTH_CHARACTERS = 96
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
 aria-label="mirror sync, mirror check, mirror why and mirror status in a terminal">
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
        hidden = (index.url, "https://INDEX/simple/")
        Path(folder, "requirements.txt").write_text("flask[async]>=3\n", encoding="utf-8")
        configuration = _CONFIGURATION.format(url=index.url, root=f"{folder}/mirror")
        Path(folder, "mirror.toml").write_text(configuration, encoding="utf-8")
        _run(console, folder, ["cat", "requirements.txt"], hidden)
        _run(console, folder, ["mirror", "sync", "--once", "--log-level", "error"], hidden)
        _run(console, folder, ["mirror", "check"], hidden)
        _run(console, folder, ["mirror", "why", "markupsafe"], hidden)
        _run(console, folder, ["mirror", "status"], hidden)
    svg = console.export_svg(title="mirror", theme=DIMMED_MONOKAI, code_format=FORMAT, unique_id="terminal")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg, encoding="utf-8")
    sys.stdout.write(f"wrote {PICTURE}\n")


def _publish(index: ThreadedSimulator) -> None:
    for project, versions in _RELEASED.items():
        for version, requirements in versions.items():
            index.state.publish(project, *build_wheel(project, version, requires=requirements))


def _run(console: Console, folder: str, arguments: list[str], hidden: tuple[str, str]) -> None:
    """Print the prompt, the command, and its output with the host's own names replaced."""
    environment = {"PATH": os.environ["PATH"], "HOME": folder, "COLUMNS": str(WIDTH_CHARACTERS)}
    done = subprocess.run(
        [*_PROGRAMS[arguments[0]], *arguments[1:]],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    command = " ".join(arguments).replace(" --log-level error", "")
    output = done.stdout.replace(*hidden).replace(folder, "/srv")
    console.print(Text(f"$ {command}", style="bold green"))
    console.print(Text(output.rstrip() + "\n"))


if __name__ == "__main__":
    main()
