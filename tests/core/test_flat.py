"""Files of a flat page find their projects by their names."""

from __future__ import annotations

import pytest

from mirror.core.pages.flat import ANY, group_files, project_of_filename, validators_of_part
from mirror.core.pages.parse_html import parse_project_page

PROJECTS = {
    "tide_tables-1.2+cpu-cp311-cp311-linux_x86_64.whl": "tide-tables",
    "Harbour.Log-0.3.tar.gz": "harbour-log",
    "harbour-log-0.3.zip": "harbour-log",
    "harbour-log-0.3.tar.gz.asc": "harbour-log",
    "tide_tables-1.0-py3.8.egg": None,
    "tide_tables-one-py3-none-any.whl": None,
    "odd.zip": None,
    "setup-1.0.exe": None,
    "x.tar.gz": None,
    "": None,
}


@pytest.mark.parametrize(("filename", "project"), PROJECTS.items(), ids=PROJECTS)
def test_project_of_filename(filename: str, project: str | None) -> None:
    """Wheels and source distributions tell it, with what lies beside them; nothing else does."""
    assert project_of_filename(filename) == project


def test_grouping() -> None:
    """Each project has its files in the page's order; what tells none is counted and named."""
    html = (
        '<a href="cpu/tide_tables-1.2%2Bcpu-cp311-cp311-linux_x86_64.whl">a</a><a href="../">Parent</a>'
        '<a href="https://other.example/cu121/tide_tables-1.2%2Bcu121-cp311-cp311-linux_x86_64.whl#sha256='
        + "0"
        * 64
        + '">b</a>'
        '<a href="harbour-log-0.3.tar.gz">c</a><a href="odd.zip">d</a><a href="help.html">e</a>'
    )
    flat = group_files(parse_project_page(html.encode(), project=ANY, url="https://index.example/whl/stable.html"))
    assert {name: [f.filename for f in page.files] for name, page in flat.projects.items()} == {
        "harbour-log": ["harbour-log-0.3.tar.gz"],
        "tide-tables": [
            "tide_tables-1.2+cpu-cp311-cp311-linux_x86_64.whl",
            "tide_tables-1.2+cu121-cp311-cp311-linux_x86_64.whl",
        ],
    }
    assert (flat.root.unread, flat.root.unread_names) == (1, ("odd.zip",))
    assert (
        flat.projects["tide-tables"]
        .files[0]
        .url.endswith("/whl/cpu/tide_tables-1.2%2Bcpu-cp311-cp311-linux_x86_64.whl")
    )


def test_grouping_of_refused_files() -> None:
    """A file that is refused belongs to the project of its name too, and is counted where it has none."""
    html = '<a href="a-1.zip">a</a><a href="ftp://h/a-2.zip">b</a><a href="ftp://h/b-1.zip">c</a><a href="ftp://h/odd.zip">d</a>'
    flat = group_files(parse_project_page(html.encode(), project=ANY, url="https://index.example/whl/stable.html"))
    found = {name: ([f.filename for f in p.files], [r.name for r in p.refused]) for name, p in flat.projects.items()}
    assert found == {"a": (["a-1.zip"], ["a-2.zip"]), "b": ([], ["b-1.zip"])}
    assert (flat.root.unread, flat.root.unread_names) == (1, ("odd.zip",))


def test_validators_of_a_part() -> None:
    """A change of one project's files is a change of its validators, and of no other's."""
    before, after = (
        group_files(parse_project_page(html, project=ANY, url="https://index.example/whl/stable.html")).projects
        for html in (
            b'<a href="a-1.zip">a</a><a href="b-1.zip">b</a>',
            b'<a href="a-1.zip">a</a><a href="b-2.zip">b</a>',
        )
    )
    is_same = {name: validators_of_part(page) == validators_of_part(after[name]) for name, page in before.items()}
    assert is_same == {"a": True, "b": False}
