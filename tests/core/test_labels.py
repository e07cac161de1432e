"""Each label of a file is read, written and compared everywhere: one list has them all."""

from __future__ import annotations

import pytest

from mirror.core.changes import PublishedFile, compare_project
from mirror.core.files.labels import FILE_KEYS, TEXT_LABELS, merged_labels
from mirror.core.model import Entry, Labels, ProjectMeta, ProjectView
from mirror.core.names import ProjectName, Sha256
from mirror.core.pages.parse_html import parse_project_page as parse_html
from mirror.core.pages.parse_json import parse_project_page as parse_json
from mirror.core.pages.render_pages import render_project

NAME = ProjectName("demo")
URL = "https://index/simple/demo/"
SAMPLES = {
    "requires_python": ">=3.9",
    "yanked": "broken",
    "upload_time": "2024-01-02T03:04:05Z",
    "provenance": "https://index/provenance",
    "extra": '{"a-new-key":"value"}',
}
"""A value of each label: a new one needs one here."""
ALL = Labels(**SAMPLES)
TEXTS = sorted(TEXT_LABELS)


def rendered(labels: Labels) -> tuple[bytes, bytes]:
    """Return the page of a file with these labels, as HTML and JSON."""
    entry = Entry(filename="demo-1.tar.gz", sha256=Sha256("0" * 64), size=1, labels=labels)
    page = render_project(ProjectView(name=NAME, meta=ProjectMeta(), entries=(entry,), serial=1))
    return page.html, page.json


def test_all_labels_are_listed() -> None:
    """A field of the labels is a text of the list; only the yank and the unknown keys are not."""
    assert {*TEXT_LABELS, "yanked", "extra"} == set(Labels.__struct_fields__) == set(SAMPLES)
    assert {label.key for label in TEXT_LABELS.values()} <= FILE_KEYS


@pytest.mark.parametrize("name", Labels.__struct_fields__)
@pytest.mark.parametrize("has_others", [False, True])
def test_pages_have_each_label(name: str, *, has_others: bool) -> None:
    """A label of a page that the mirror writes is read from it again: in JSON all, in HTML all but unknown keys."""
    labels = ALL if has_others else Labels(**{name: SAMPLES[name]})
    html, json = rendered(labels)
    [file] = parse_json(json, project=NAME, url=URL).files
    assert file.labels == labels
    [file] = parse_html(html, project=NAME, url=URL, charset=None).files
    assert file.labels == (Labels(**{**SAMPLES, "extra": "{}"}) if has_others else expected_in_html(labels))


def expected_in_html(labels: Labels) -> Labels:
    return Labels() if labels.extra != "{}" else labels


@pytest.mark.parametrize("name", TEXTS)
def test_a_label_that_is_not_as_specified(name: str) -> None:
    """A label that is no text is left out, and counted under its key."""
    key = TEXT_LABELS[name].key
    json = rendered(Labels())[1].replace(b'"size":1', f'"size":1,"{key}":7'.encode())
    page = parse_json(json, project=NAME, url=URL)
    assert page.files[0].labels == Labels()
    assert [warning for warning in page.warnings if warning.startswith(f"{key}: ")]


@pytest.mark.parametrize("name", Labels.__struct_fields__)
def test_html_keeps_what_it_lacks(name: str) -> None:
    """A label that an HTML page need not have stays as the last JSON page had it; the others are those of the page."""
    old = Labels(**{name: SAMPLES[name]})
    is_kept = name == "extra" or (name != "yanked" and not TEXT_LABELS[name].is_html)
    assert merged_labels(Labels(), old) == (old if is_kept else Labels())
    assert merged_labels(old, Labels()) == old


def test_html_does_not_keep_what_clients_cannot_read() -> None:
    """A time that an earlier version took in, and that pip or uv can't read, is not kept."""
    assert merged_labels(Labels(), Labels(upload_time="yesterday")) == Labels()


@pytest.mark.parametrize("name", [*TEXTS, "extra"])
def test_a_changed_label_is_a_relabelling(name: str) -> None:
    """A difference in any label but the yank is a relabelling between two states."""
    file = PublishedFile(sha256="0", size=1, labels=Labels(**{name: SAMPLES[name]}))
    other = PublishedFile(sha256="0", size=1)
    difference = compare_project(NAME, {"f": other}, {"f": file})
    assert difference is not None
    assert difference.relabelled == ("f",)
