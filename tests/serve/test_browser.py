"""The pages in a real browser: the distribution's headless Chromium, driven by Playwright, judged by axe.

Its shell has no windows: a page opens there for a quarter of the CPU.

Each page is opened with and without script, dark and light, at 360 and 1,440 pixels. Planted script in the texts of an
index does not run, nothing is asked of another origin, and axe finds nothing serious.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = [
    "",
    "?q=demo",
    "projects/demo-app/",
    "projects/planted/",
    "projects/nope/",
    "changes/",
    "snapshots/?from=first&to=now",
    "failures/",
    "wants/",
    "setup/",
]
LOOKS = [("light", 1440, True), ("dark", 1440, False), ("dark", 360, True), ("light", 360, False)]
"""(colours, width, with script)"""


def look_name(look: tuple[str, int, bool]) -> str:
    return f"{look[0]}-{look[1]}-{'script' if look[2] else 'plain'}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The browser; its driver takes a second to import, so only the tests that need it do so."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def windows(browser, people) -> Callable[..., Any]:
    """Return the window of one look, opened once: to open one costs a second of CPU, to leave a page nothing."""

    @functools.cache
    def window_of(colours: str, width: int, *, has_script: bool = True, bypass_csp: bool = False) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=colours,
            java_script_enabled=has_script,
            bypass_csp=bypass_csp,
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=people.url)
        window = context.new_page()
        window.problems, window.outside = [], []
        window.on("console", lambda message: window.problems.append(message.text) if message.type == "error" else None)
        window.on("pageerror", lambda error: window.problems.append(str(error)))

        def decide(route):
            if route.request.url.startswith(people.url):
                route.continue_()
            else:
                window.outside.append(route.request.url)
                route.abort()

        context.route("**/*", decide)
        window.has_script, window.width, window.colours = has_script, width, colours
        return window

    return window_of


@pytest.fixture(params=LOOKS, ids=look_name)
def look(request, windows):
    """A window of one look; what leaves the origin, fails or runs is noted."""
    colours, width, has_script = request.param
    window = windows(colours, width, has_script=has_script)
    yield window
    window.goto("about:blank")
    window.problems.clear()
    window.outside.clear()


def test_every_page_in_every_look(look, people):
    """No page is wider than the window, asks anything of another origin or logs an error; colour and background are set."""
    for address in PAGES:
        look.goto(people.url + address)
        assert look.title().endswith("package mirror")
        assert look.locator("h1").count() == 1
        if not look.has_script:
            continue
        wide = look.evaluate("document.documentElement.scrollWidth")
        assert wide <= look.width, address
        assert look.evaluate("typeof window.planted") == "undefined"
        back, text = look.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        dark = look.colours == "dark"
        assert (sum(map(int, back[4:-1].split(","))) < 200) == dark
        assert (sum(map(int, text[4:-1].split(","))) > 500) == dark
    assert look.outside == []
    assert [problem for problem in look.problems if "404" not in problem] == []


def test_a_walk(look, people):
    """From the overview through the search to a project, its file, and the configuration of pip."""
    look.goto(people.url)
    look.get_by_label("Search projects by name and summary").fill("demo-li")
    if not look.has_script:
        look.get_by_role("button", name="Search").click()
    # The text of the last result: an earlier one may have been shown meanwhile.
    look.get_by_text("1 project", exact=True).wait_for()
    look.get_by_role("link", name="demo-lib").click()
    look.wait_for_url("**/projects/demo-lib/")
    assert look.locator("h1").inner_text().startswith("demo-lib")
    file = look.get_by_role("link", name="demo_lib-1.1-py3-none-any.whl")
    with look.expect_download() as download:
        file.click()
    assert download.value.suggested_filename == "demo_lib-1.1-py3-none-any.whl"
    copies = look.get_by_role("button", name="Copy the command")
    assert copies.count() == (1 if look.has_script else 0)
    look.get_by_role("navigation", name="Pages").get_by_role("link", name="Setup").click()
    look.wait_for_url("**/setup/")
    assert f"index-url = {people.url}simple/" in look.locator("main").inner_text()
    if look.has_script:
        look.get_by_role("button", name="Copy the configuration of pip", exact=True).click()
        look.get_by_text("Copied").wait_for()
        assert f"index-url = {people.url}simple/" in look.evaluate("navigator.clipboard.readText()")
    assert look.outside == []


def test_planted_markup_stays_text(look, people):
    """A search for markup shows it, as typed and as a form."""
    planted = "<img src=x onerror=window.planted=1>"
    look.goto(people.url)
    look.get_by_label("Search projects by name and summary").fill(planted)
    if look.has_script:
        look.get_by_text("No project here matches").wait_for()
        assert planted in look.locator("#results").inner_text()
        assert look.evaluate("typeof window.planted") == "undefined"
    else:
        look.get_by_role("button", name="Search").click()
        assert planted in look.locator("#results").inner_text()
    assert look.locator("img").count() == 0


@pytest.mark.parametrize("look", [one for one in LOOKS if one[2]], indirect=True, ids=look_name)
def test_by_keyboard(look, people):
    """The first stop is a link that skips to the content; the next stops show where they are."""
    # The browser tells its focus by script.
    look.goto(people.url + "failures/")
    look.keyboard.press("Tab")
    assert look.evaluate("document.activeElement.textContent") == "Skip to the content"
    look.keyboard.press("Enter")
    assert look.evaluate("document.activeElement.id") == "main"
    look.keyboard.press("Tab")
    assert look.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert look.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize(
    ("address", "colours"),
    [(address, "light") for address in PAGES] + [(address, "dark") for address in ("", "projects/planted/", PAGES[6])],
)
def test_axe_finds_nothing(windows, people, address, colours):
    """No violation of any kind."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    window = windows(colours, 1440, bypass_csp=True)
    window.goto(people.url + address)
    results = axe.run(window).response
    found = [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in results["violations"]]
    assert found == []
