"""Which key signs for which site, until when a bundle counts, and which trust file is believed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.handmade_bundles import PROGRAM, Far, Signer, Site, State, run, some_file

FIRST = State({"aa": [some_file("aa", "1.0")]}, 1)
SECOND = State({"aa": [some_file("aa", "1.0"), some_file("aa", "2.0")]}, 2)


@pytest.mark.parametrize(
    ("principal", "site", "code"),
    [
        pytest.param("mirror@site:lab", "lab", 0, id="its-own-site"),
        pytest.param("mirror@site:plant", "lab", 7, id="another-site"),
        pytest.param("ops@host", "lab", 0, id="a-host-is-no-site"),
        pytest.param("mirror", "lab", 0, id="plain"),
        pytest.param("ops@host@site:plant", "lab", 7, id="host-and-another-site"),
        pytest.param("ops@host@site:lab", "lab", 0, id="host-and-site"),
        pytest.param("a@site:plant,b@site:lab", "lab", 0, id="one-of-two"),
        pytest.param("a@site:plant,b@site:field", "lab", 7, id="none-of-two"),
        pytest.param("*@site:plant", "lab", 7, id="pattern-of-another-site"),
        pytest.param("*@site:lab", "lab", 0, id="pattern-of-the-site"),
        pytest.param("mirror@site:", "lab", 7, id="of-no-site"),
    ],
)
def test_a_key_of_a_site_signs_for_that_site_only(tmp_path: Path, principal: str, site: str, code: int) -> None:
    """A principal that ends in @site:SITE signs for that site, any other for all."""
    signer = Signer.make(tmp_path / "keys", principal)
    far = Far(tmp_path / "far", signer.trust, site)
    done = far.receive(Site(tmp_path / "near", signer, name=site).make(FIRST))
    assert done.code == code, done.err
    assert (far.public / "simple").exists() == (code == 0)


def test_the_first_use_names_the_site(site: Site, far: Far, signer: Signer, tmp_path: Path) -> None:
    """Without --site nothing is touched the first time; it is remembered, may be repeated, and no other name is taken."""
    made = site.make(FIRST)
    words = [made.path, "--root", far.root, "--trust", far.trust]
    done = run(*words)
    assert (done.code, "--site is missing" in done.err, far.root.exists()) == (2, True, False)
    for bad in ("UPPER", "", "a/b", "-x"):
        assert run(*words, f"--site={bad}").code == 2
    assert not far.root.exists()
    # The first bundle of another site is not taken by a fresh far side.
    other = Site(tmp_path / "other", signer, name="plant").make(FIRST)
    done = far.receive(other)
    assert (done.code, "is for the site 'plant'; this one is 'lab'" in done.err) == (7, True)
    assert run(*words, "--site", "lab").code == 0
    assert run(*words).code == 0
    assert run(*words, "--site", "lab").code == 0
    done = run(*words, "--site", "plant")
    assert (done.code, "is of the site lab" in done.err) == (2, True)
    assert far.run("--status", "--site", "plant").code == 2
    assert far.run("--status", "--site", "lab").code == 0


def moment(offset_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + offset_s))


def ending(at: Any) -> Any:
    def change(manifest: dict[str, Any]) -> None:
        manifest["valid_until"] = at

    return change


def test_a_bundle_whose_time_is_over(site: Site, far: Far) -> None:
    """It is refused without --allow-expired; what was applied already is not judged again."""
    old = site.make(FIRST, change=ending(moment(-60)))
    done = far.receive(old)
    assert (done.code, "should have been applied until" in done.err) == (7, True)
    assert not (far.public / "simple").exists()
    far.receive_well(old, options=["--allow-expired"])
    assert far.receive(old).code == 0
    far.receive_well(site.make(SECOND, change=ending(moment(3600))))


@pytest.mark.parametrize("value", [None, 5, "tomorrow", "2026-13-40T00:00:00Z", "2026-01-02"])
def test_an_end_that_is_no_time(site: Site, far: Far, value: Any) -> None:
    """An end that can't be read is not taken for none."""
    assert far.receive(site.make(FIRST, change=ending(value)), options=["--allow-expired"]).code == 7


def test_a_clock_before_the_bundle_was_made(site: Site, far: Far) -> None:
    """A far clock that is behind gives a warning."""

    def later(manifest: dict[str, Any]) -> None:
        manifest["created_at"] = moment(86400)

    done = far.receive(site.make(FIRST, change=later))
    assert (done.code, "warning: lab-000001 was made at" in done.err) == (0, True)


@pytest.mark.parametrize("way", ["beside", "deep-beside", "link-to-beside", "link-on-medium", "second-link"])
def test_a_trust_file_in_the_folder_of_the_bundle(
    site: Site, far: Far, tmp_path: Path, signer: Signer, way: str
) -> None:
    """A trust file below the folder above the bundle, or with a second name there, is refused."""
    made = site.make(FIRST)
    deep = made.path.parent / "keys" / "of" / "mine"
    deep.mkdir(parents=True)
    if way == "second-link":
        far.trust = Path(shutil.copy(signer.trust, tmp_path / "allowed"))
        (deep / "x").hardlink_to(far.trust)
    elif way == "link-on-medium":
        far.trust = deep / "allowed"
        far.trust.symlink_to(signer.trust)
    else:
        place = deep if way == "deep-beside" else made.path.parent
        far.trust = Path(shutil.copy(signer.trust, place / "allowed"))
        if way == "link-to-beside":
            link = tmp_path / "link"
            link.symlink_to(far.trust)
            far.trust = link
    done = far.receive(made)
    assert (done.code, "lies in the bundle" in done.err, far.root.exists()) == (2, True, False)


def test_every_trust_file_of_a_mounted_medium_is_refused(site: Site, far: Far, tmp_path: Path) -> None:
    """Where the bundle lies on a file system of its own, no trust file on it is believed, however far away."""
    made = site.make(FIRST)
    mount = tmp_path / "usb"
    mount.mkdir()
    words = f"{sys.executable} -I {PROGRAM} {mount}/a/b/lab-000001 --root {far.root} --site lab"
    script = (
        f"mount -t tmpfs none {mount}; mkdir -p {mount}/a/b {mount}/else; cp -r {made.path} {mount}/a/b/;"
        f" cp {far.trust} {mount}/else/allowed; {words} --trust {mount}/else/allowed && exit 99;"
        f" [ ! -e {far.root} ] || exit 98; exec {words} --trust {far.trust}"
    )
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    probe = subprocess.run([*command, "mount -t tmpfs none /mnt"], check=False, capture_output=True)
    if probe.returncode != 0:
        pytest.skip("mounting is not permitted here")
    done = subprocess.run([*command, script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lies on the same medium as the bundle" in done.stderr


def html_of(page: str) -> type[State]:
    """Return a state whose HTML page of the project ``aa`` is spoiled by a function of its text."""

    class Spoiled(State):
        @property
        def pages(self) -> dict[str, bytes]:
            found = super().pages
            old, _, new = page.partition(" -> ")
            for name in ("index.html", "index.v1_html"):
                for path in (f"simple/{name}", f"simple/aa/{name}"):
                    found[path] = found[path].replace(old.encode(), new.encode())
            return found

    return Spoiled


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("</body> -> <script>alert(1)</script></body>", id="script"),
        pytest.param('href=" -> onclick="x()" href="', id="handler"),
        pytest.param('href="../.. -> href="https://evil.example', id="absolute-link"),
        pytest.param('href="../.. -> href="//evil.example', id="scheme-relative-link"),
        pytest.param("aa-1.0-py3-none-any.whl# -> aa-9.0-py3-none-any.whl#", id="another-file"),
        pytest.param("#sha256= -> #sha256=0", id="another-digest"),
        pytest.param('data-core-metadata="sha256= -> data-core-metadata="sha256=0', id="other-metadata"),
        pytest.param('</body> -> <a href="x">x</a></body>', id="one-more-link"),
        pytest.param('<body> -> <body><base href="https://evil.example">', id="base"),
        pytest.param('<body> -> <body><meta http-equiv="refresh" content="0">', id="refresh"),
        pytest.param("<body> -> <body><!--> <script>x</script> -->", id="comment"),
        pytest.param('<a -> <A HREF="x" ', id="upper-case"),
        pytest.param('href="aa/" -> href="bb/"', id="root-names-another-project"),
    ],
)
def test_html_that_is_not_what_the_json_says(site: Site, far: Far, change: str) -> None:
    """The HTML pages of a bundle name what the JSON does, by relative links, and hold nothing that runs."""
    far.receive_well(site.make(State({"aa": [some_file("aa", "0.1")]}, 1)))
    done = far.receive(site.make(html_of(change)(FIRST.projects, 2)))
    assert done.code == 7, done.err
    assert json.loads((far.public / "simple/aa/index.v1_json").read_bytes())["files"][0]["filename"].startswith(
        "aa-0.1"
    )


def test_html_that_is_json(site: Site, far: Far) -> None:
    """One page under all three names is no HTML, although its bytes are those of the JSON page."""

    class Same(State):
        @property
        def pages(self) -> dict[str, bytes]:
            found = super().pages
            data = found["simple/aa/index.v1_json"].replace(b'"meta": {', b'"meta": {"x": "<script>x</script>", ')
            return {**found, **{f"simple/aa/{n}": data for n in ("index.html", "index.v1_html", "index.v1_json")}}

    done = far.receive(site.make(Same(FIRST.projects, 1)))
    assert (done.code, "something else than links" in done.err) == (7, True), done.err


@pytest.mark.parametrize("change", [{"name": "bb"}, {"files": []}], ids=["another-project", "fewer-files"])
def test_json_that_is_not_what_the_html_says(site: Site, far: Far, change: dict[str, Any]) -> None:
    """A JSON page of another project, or with other files than the HTML, is refused."""

    class Spoiled(State):
        @property
        def pages(self) -> dict[str, bytes]:
            found = super().pages
            page = json.loads(found["simple/aa/index.v1_json"])
            return {**found, "simple/aa/index.v1_json": json.dumps(page | change).encode()}

    assert far.receive(site.make(Spoiled(FIRST.projects, 1))).code == 7


def test_a_root_that_hides_or_invents_a_project(site: Site, far: Far) -> None:
    """The root page lists exactly the projects that are there, also where a bundle does not bring it."""

    class Hiding(State):
        @property
        def pages(self) -> dict[str, bytes]:
            shorter = replace(FIRST, revision=self.revision).pages
            return {**super().pages, **{p: d for p, d in shorter.items() if p.count("/") == 1}}

    both = {**FIRST.projects, "bb": [some_file("bb", "1.0")]}
    assert far.receive(site.make(Hiding(both, 1))).code == 7
    site.made.clear()
    site.work = site.work / "again"
    far.receive_well(site.make(FIRST))
    done = far.receive(site.make(Hiding(both, 1)))
    assert (done.code, "lists other projects than have pages: bb" in done.err) == (7, True)


def test_pages_of_both_renderers_are_accepted(site: Site, far: Far) -> None:
    """Pages with data-dist-info-metadata, as the first release wrote them, and pages without it are applied."""
    from mirror.core.pages.render_pages import _foot, _head

    class Old(State):
        @property
        def pages(self) -> dict[str, bytes]:
            found = super().pages
            html = found["simple/aa/index.html"].decode()
            digest = html.partition('data-core-metadata="')[2].partition('"')[0]
            anchors = [line for line in html.splitlines() if line.startswith("<a ")]
            label = f' data-size="700" data-yanked="" data-dist-info-metadata="{digest}" data-core-metadata'
            body = "".join(line.replace(" data-core-metadata", label).replace("</a>", "</a><br>") for line in anchors)
            status = "<p>Status: archived: &lt;no&gt; longer</p>\n"
            page = _head("Links for aa", [("pypi:project-status", "archived")]) + f"{status}{body}\n{_foot(3)}".encode()
            return {**found, **{f"simple/aa/{name}": page for name in ("index.html", "index.v1_html")}}

    far.receive_well(site.make(Old(FIRST.projects, 1)))
    far.receive_well(site.make(SECOND))
