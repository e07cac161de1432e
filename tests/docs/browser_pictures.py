"""The browser's pictures of the README: pages for people, of a mirror that is made for the purpose.

``python tests/docs/browser_pictures.py`` writes ``docs/images/overview.png`` and
``docs/images/project.png``, with the Chromium of the distribution.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from harness.program import Mirror  # noqa: E402
from harness.server import Server  # noqa: E402
from simulator import IndexState, ThreadedSimulator, build_sdist, build_wheel  # noqa: E402

IMAGES = REPOSITORY / "docs/images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
WIDTH, HEIGHT = 1180, 860
DAY_S = 86_400
ADDRESS = "https://pypi.example/"

PROJECTS = {
    "flask": ("3.1.0", "A small framework for web applications", ["werkzeug>=3.1", "jinja2>=3.1.2", "click>=8.1"]),
    "werkzeug": ("3.1.3", "Tools for WSGI web applications", ["markupsafe>=2.1"]),
    "jinja2": ("3.1.6", "A fast template engine", ["markupsafe>=2.0"]),
    "markupsafe": ("3.0.2", "Strings that are safe in HTML", []),
    "click": ("8.1.8", "Command lines that compose", []),
    "numpy": ("2.2.0", "Arrays for scientific computing", []),
    "pandas": ("2.2.3", "Data structures for analysis", ["numpy>=1.26"]),
    "requests": ("2.32.3", "HTTP for people", ["idna>=2.5"]),
    "idna": ("3.10", "Internationalised domain names", []),
    "rich": ("13.9.4", "Colours and tables for terminals", []),
}
METADATA = """\
Metadata-Version: 2.4
Name: {name}
Version: {version}
Summary: {summary}
License-Expression: BSD-3-Clause
Author: The {name} developers
Requires-Python: >=3.9
Project-URL: Documentation, https://{name}.example/
Project-URL: Source, https://code.example/{name}
{requires}

# {name}

{summary}. This text is the description that the project wrote for its own page; it is shown as
text, whatever markup it uses.
"""


def main() -> None:
    """Write both pictures."""
    with tempfile.TemporaryDirectory() as work, ThreadedSimulator() as index:
        mirror = Mirror(Path(work))
        mirror.configure(f'url = "{index.url}"\n[serve]\nurl = "{ADDRESS}"')
        for number, names in enumerate([("click", "idna", "rich"), ("numpy", "pandas", "requests"), tuple(PROJECTS)]):
            for name in names:
                publish(index.state, name, older=number < 2)
            mirror.sync_well()
        index.state.yank("click", build_wheel("click", "8.1.7")[0], "breaks completion")
        mirror.sync_well()
        spread_days(mirror.root / "state.db")
        with Server(mirror) as server:
            take_pictures(server.url)


def publish(state: IndexState, name: str, *, older: bool) -> None:
    version, summary, requires = PROJECTS[name]
    if older:
        *head, last = version.split(".")
        version = ".".join([*head, str(max(int(last) - 1, 0))])
    lines = "\n".join(f"Requires-Dist: {one}" for one in requires)
    text = METADATA.format(name=name, version=version, summary=summary, requires=lines)
    pad = 40_000 * len(name)
    tags = ["py3-none-any"]
    if name in {"numpy", "pandas", "markupsafe"}:
        tags = ["cp312-cp312-manylinux_2_28_x86_64", "cp313-cp313-manylinux_2_28_aarch64", "cp312-cp312-win_amd64"]
    for tag in tags:
        filename, data = build_wheel(name, version, tag=tag, metadata=text, size_pad=pad)
        state.publish(name, filename, data, requires_python=">=3.9")
    state.publish(name, *build_sdist(name, version), requires_python=">=3.9")


def spread_days(path: Path) -> None:
    """Let the cycles lie some days apart, as if the mirror had run for a while."""
    with closing(sqlite3.connect(path)) as connection:
        last = connection.execute("SELECT max(cycle) FROM revision").fetchone()[0]
        connection.execute(f"UPDATE revision SET at = at - (? - cycle) * 9 * {DAY_S}", (last,))
        connection.commit()


def take_pictures(url: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        for address, name, colours in [("", "overview", "light"), ("projects/flask/", "project", "dark")]:
            window = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=colours)
            window.goto(url + address)
            window.screenshot(path=IMAGES / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
