"""The JSON form of pages: whole values for captured pages, one table for each rule, and any bytes at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.core.model import Labels, ListedFile, ProjectMeta, ProjectPage, RefusedFile, RootPage
from mirror.core.names import ProjectName
from mirror.core.pages.parse_json import parse_project_page, parse_root_page
from mirror.errors import BadPage, Reason

PAGES = Path(__file__).parents[1] / "pages"
DEMO = ProjectName("demo")
URL = "https://packages.example/simple/demo/"
ROOT = "https://packages.example/simple/"
A, B, C = "a" * 64, "b" * 64, "c" * 64


def page_of(*files: object, **more: object) -> bytes:
    """Return a page of API 1.1 for the project ``demo``; ``more`` replaces top-level keys (``_`` for ``-``)."""
    page = {"meta": {"api-version": "1.1"}, "name": "demo", "files": list(files)}
    return msgspec.json.encode(page | {key.replace("_", "-"): value for key, value in more.items()})


def file_of(**more: object) -> dict[str, object]:
    """Return a minimal file; ``more`` replaces or adds keys (``_`` for ``-``)."""
    keys = {key.replace("_", "-"): value for key, value in more.items()}
    return {"filename": "demo-1.0.tar.gz", "url": "demo-1.0.tar.gz", "hashes": {}} | keys


def listed(**more: Any) -> ListedFile:
    """Return what ``file_of`` is read as."""
    return ListedFile(**({"filename": "demo-1.0.tar.gz", "url": f"{URL}demo-1.0.tar.gz"} | more))


CAPTURED = {
    "pypi-1.4": ProjectPage(
        name=ProjectName("sampleproject"),
        files=(
            ListedFile(
                filename="sampleproject-4.0.0-py3-none-any.whl",
                url="https://files.example/packages/d7/b7/af0c/sampleproject-4.0.0-py3-none-any.whl",
                digests=(("sha256", A),),
                size=4662,
                labels=Labels(
                    requires_python=">=3.9",
                    upload_time="2024-11-06T22:37:49.123456Z",
                    provenance="https://index.example/integrity/sampleproject/v4.0.0"
                    "/sampleproject-4.0.0-py3-none-any.whl/provenance",
                ),
                metadata=(("sha256", C),),
            ),
            ListedFile(
                filename="sampleproject-3.0.0.tar.gz",
                url="https://files.example/packages/67/2a/9f05/sampleproject-3.0.0.tar.gz",
                digests=(("md5", "d41d8cd98f00b204e9800998ecf8427e"), ("sha256", B)),
                size=5330,
                labels=Labels(yanked="wrong metadata", upload_time="2022-12-01T18:51:00Z"),
            ),
        ),
        meta=ProjectMeta(versions=("3.0.0", "4.0.0"), extra='{"alternate-locations":[]}'),
        serial=25950124,
    ),
    "simple-repository-server-no-hashes": ProjectPage(
        name=ProjectName("acc-py-devtools"),
        files=(
            ListedFile(
                filename="acc_py_devtools-0.8-py3-none-any.whl",
                url="https://packages.example/resources/acc-py-devtools/acc_py_devtools-0.8-py3-none-any.whl",
                size=31337,
                labels=Labels(upload_time="2023-05-02T11:12:13.000000Z"),
                metadata=(),
            ),
        ),
        meta=ProjectMeta(versions=("0.8",)),
    ),
    "quarantined": ProjectPage(
        name=ProjectName("evil"),
        files=(),
        meta=ProjectMeta(status="quarantined", status_reason="malware", versions=()),
        serial=7,
    ),
}


@pytest.mark.parametrize(("name", "expected"), CAPTURED.items(), ids=CAPTURED.keys())
def test_a_captured_page_is_read_whole(name: str, expected: ProjectPage) -> None:
    """Pages in the form of real servers give exactly these values."""
    body = (PAGES / f"{name}.json").read_bytes()
    assert parse_project_page(body, project=expected.name, url=URL) == expected


def test_the_root_of_pypi_is_read_whole() -> None:
    """A root's names are normalised and keep their serials."""
    assert parse_root_page((PAGES / "root-pypi.json").read_bytes(), url=ROOT) == RootPage(
        projects={
            ProjectName("0"): 3075854,
            ProjectName("0-0"): 1448421,
            ProjectName("django"): 25000000,
            ProjectName("zope-interface"): 24000000,
        },
        serial=31000000,
    )


FILES: dict[str, tuple[dict[str, object], ListedFile]] = {
    "minimal": (file_of(), listed()),
    "without hashes": ({"filename": "a.egg", "url": "a.egg"}, ListedFile(filename="a.egg", url=f"{URL}a.egg")),
    "all null": (
        file_of(hashes=None, size=None, upload_time=None, requires_python=None, yanked=None, core_metadata=None)
        | {"provenance": None, "gpg-sig": None},
        listed(),
    ),
    "hashes": (
        file_of(hashes={"SHA256": A.upper(), "md5": "x", "sha1": 5, "blake2b_256": B}),
        listed(digests=(("sha256", A),)),
    ),
    "absolute url with user info and fragment": (
        file_of(url="https://u:p@h.example/x%2By?z=%7E#sha256=1"),
        listed(url="https://h.example/x%2By?z=%7E"),
    ),
    "size 0": (file_of(size=0), listed(size=0)),
    "largest size": (file_of(size=2**63 - 1), listed(size=2**63 - 1)),
    "requires-python": (file_of(requires_python=">=3, <4"), listed(labels=Labels(requires_python=">=3, <4"))),
    "requires-python empty": (file_of(requires_python=" "), listed()),
    "upload time as it is": (
        file_of(upload_time="2026-01-02 03:04:05.120+02:00"),
        listed(labels=Labels(upload_time="2026-01-02 03:04:05.120+02:00")),
    ),
    "digests that are none": (file_of(hashes={"sha256": None, "sha512": "", "crc32": "x", "md5": None}), listed()),
    "yanked": (file_of(yanked=True), listed(labels=Labels(yanked=""))),
    "not yanked": (file_of(yanked=False), listed()),
    "yanked with a reason": (file_of(yanked="<broken>"), listed(labels=Labels(yanked="<broken>"))),
    "yanked with an empty reason": (file_of(yanked=""), listed()),
    "metadata": (file_of(core_metadata=True), listed(metadata=())),
    "metadata with digest": (file_of(core_metadata={"sha256": C}), listed(metadata=(("sha256", C),))),
    "metadata without digest": (file_of(core_metadata={}), listed(metadata=())),
    "metadata under the older key": (
        file_of(core_metadata=False, dist_info_metadata={"sha256": C}),
        listed(metadata=(("sha256", C),)),
    ),
    "metadata under the oldest key": (file_of(data_dist_info_metadata=True), listed(metadata=())),
    "no metadata": (file_of(core_metadata=False, dist_info_metadata=False, data_dist_info_metadata=False), listed()),
    "provenance": (
        file_of(provenance="https://h.example/p"),
        listed(labels=Labels(provenance="https://h.example/p")),
    ),
    "gpg-sig is dropped": (file_of(gpg_sig=True), listed()),
    "unknown keys": (
        file_of(variants={"b": 1, "a": [None, 1.5, "é"]}, aaa=None),
        listed(labels=Labels(extra='{"aaa":null,"variants":{"a":[null,1.5,"é"],"b":1}}')),
    ),
}


@pytest.mark.parametrize(("given_file", "expected"), FILES.values(), ids=FILES.keys())
def test_a_file_is_read(given_file: dict[str, object], expected: ListedFile) -> None:
    """Each key of a file has its place, and nothing of it needs a warning."""
    assert parse_project_page(page_of(given_file), project=DEMO, url=URL) == ProjectPage(name=DEMO, files=(expected,))


def deep(levels: int) -> object:
    """Return lists and objects nested so many levels."""
    value: object = 1
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "hashes": (file_of(hashes=["sha256"]), "hashes"),
    "size is text": (file_of(size="12"), "size"),
    "size is negative": (file_of(size=-1), "size"),
    "size is a boolean": (file_of(size=True), "size"),
    "size is no whole number": (file_of(size=1.0), "size"),
    "size is too large": (file_of(size=2**63), "size"),
    "requires-python": (file_of(requires_python=3), "requires-python"),
    "upload-time": (file_of(upload_time=1700000000), "upload-time"),
    "upload-time that is no time": (file_of(upload_time="2026-02-30T25:00:00Z"), "upload-time"),
    "core-metadata": (file_of(core_metadata="true"), "core-metadata"),
    "provenance is no text": (file_of(provenance={"url": "https://h"}), "provenance"),
    "provenance is relative": (file_of(provenance="/p"), "provenance"),
    "provenance is http": (file_of(provenance="http://h.example/p"), "provenance"),
    "nested too deep": (file_of(x=deep(33)), "an unknown key nested deeper than 32 levels"),
}


@pytest.mark.parametrize(("given_file", "kind"), WRONG.values(), ids=WRONG.keys())
def test_a_key_of_the_wrong_type_is_absent_and_told_once(given_file: dict[str, object], kind: str) -> None:
    """A wrong type does not cost the file; two files with it make one warning."""
    assert parse_project_page(page_of(given_file, given_file), project=DEMO, url=URL) == ProjectPage(
        name=DEMO, files=(listed(), listed()), warnings=(f"{kind}: not as specified, left out (2 times)",)
    )


@pytest.mark.parametrize("value", [1, 0, ["x"], [], {"reason": "x"}, {}, 1.5], ids=repr)
def test_a_yank_that_cannot_be_read_is_a_yank(value: object) -> None:
    """What is neither a boolean nor a text may still be a warning: it counts, and is told once."""
    given_file = file_of(yanked=value)
    assert parse_project_page(page_of(given_file, given_file), project=DEMO, url=URL) == ProjectPage(
        name=DEMO,
        files=(listed(labels=Labels(yanked="")),) * 2,
        warnings=("yanked: not as specified, taken for yanked (2 times)",),
    )


def test_unknown_keys_may_be_nested_to_a_limit() -> None:
    """What is nested no deeper than the limit is passed through."""
    page = parse_project_page(page_of(file_of(x=deep(32))), project=DEMO, url=URL)
    assert json.loads(page.files[0].labels.extra) == {"x": deep(32)}
    assert page.warnings == ()


SLASH = "it contains a path separator"
NAMELESS = "it lists files without a name that can be read: nothing is removed because of this page"


def refused(**more: Any) -> RefusedFile:
    """Return a refused file without labels."""
    return RefusedFile(**({"labels": Labels()} | more))


REFUSED: dict[str, tuple[object, RefusedFile]] = {
    "a number that is too large": (
        msgspec.Raw(b'{"filename":"a.whl","url":"a.whl","yanked":true,"x":1e999}'),
        refused(name="a.whl", cause="Number out of range - at `$[...]`", labels=Labels(yanked="")),
    ),
    "malformed digest": (
        file_of(hashes={"sha512": "1" * 128, "sha256": "abc123"}, yanked="x"),
        refused(
            name="demo-1.0.tar.gz",
            cause="its listed sha256 is 'abc123' instead of 64 hexadecimal digits",
            reason=Reason.BAD_FILE,
            labels=Labels(yanked="x"),
        ),
    ),
    "digest of another type": (
        file_of(hashes={"sha256": 5}),
        refused(
            name="demo-1.0.tar.gz",
            cause="its listed sha256 is 5 instead of 64 hexadecimal digits",
            reason=Reason.BAD_FILE,
        ),
    ),
    "not an object": (5, RefusedFile(name="", cause="Expected `object`, got `int`")),
    "no filename": ({"url": "a.whl"}, refused(name="", cause="it is listed without a filename")),
    "filename is no text": (file_of(filename=1), refused(name="", cause="it is listed without a filename")),
    "no url": (
        {"filename": "a.whl"},
        refused(name="a.whl", cause="it is listed without a url"),
    ),
    "url is no text": (file_of(url=["a"]), refused(name="demo-1.0.tar.gz", cause="it is listed without a url")),
    "url is empty": (file_of(url=" "), refused(name="demo-1.0.tar.gz", cause="it is listed without a url")),
    "url of another scheme": (
        file_of(url="file:///etc/passwd"),
        refused(name="demo-1.0.tar.gz", cause="it is not an http or https URL"),
    ),
    "url without a host": (
        file_of(url="https:///a"),
        refused(name="demo-1.0.tar.gz", cause="it is a URL without a usable host"),
    ),
    "traversal": (file_of(filename="../../x.whl"), refused(name="../../x.whl", cause=SLASH)),
    "absolute": (file_of(filename="/etc/passwd"), refused(name="/etc/passwd", cause=SLASH)),
    "backslash": (file_of(filename="a\\b.whl"), refused(name="a\\b.whl", cause=SLASH)),
    "NUL": (
        file_of(filename="a\0b.whl"),
        refused(name="a\\x00b.whl", cause="it contains control or unprintable characters"),
    ),
    "too long": (
        file_of(filename="x" * 241),
        refused(name="x" * 200 + "…", cause="longer than 240 bytes"),
    ),
    "sidecar": (
        file_of(filename="a.whl.metadata"),
        refused(name="a.whl.metadata", cause="the ending .metadata is reserved for metadata sidecars"),
    ),
}


@pytest.mark.parametrize(("given_file", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_a_broken_or_unsafe_file_is_refused_and_the_page_goes_on(given_file: object, expected: RefusedFile) -> None:
    """One file that must not be touched does not cost the others."""
    assert parse_project_page(page_of(given_file, file_of()), project=DEMO, url=URL) == ProjectPage(
        name=DEMO,
        files=(listed(),),
        refused=(expected,),
        is_whole=bool(expected.name),
        warnings=() if expected.name else (NAMELESS,),
    )


def test_the_same_filename_twice_stays_twice() -> None:
    """Which one counts is not for the parser to say; as many files as allowed are no error."""
    page = parse_project_page(page_of(file_of(), file_of(size=1)), project=DEMO, url=URL, max_files=2)
    assert page.files == (listed(), listed(size=1))


METAS: dict[str, tuple[dict[str, object], dict[str, Any]]] = {
    "no files": ({}, {}),
    "no version": ({"meta": {}}, {"warnings": ("the page does not say its API version; it was read as 1.0",)}),
    "higher minor version": (
        {"meta": {"api-version": "1.9"}},
        {"warnings": ("the page has the API version 1.9, newer than 1.4: what is new in it may be left out",)},
    ),
    "serial": ({"meta": {"api-version": "1.0", "_last-serial": 5}}, {"serial": 5}),
    "serial of another type": ({"meta": {"api-version": "1.0", "_last-serial": True}}, {}),
    "unknown keys of meta": (
        {"meta": {"api-version": "1.2", "tracks": ["https://h.example/"], "x": None}},
        {"meta": ProjectMeta(extra_meta='{"tracks":["https://h.example/"],"x":null}')},
    ),
    "unknown keys of the page": (
        {"zzz": None, "alternate_locations": [], "a": {"b": 1, "a": 2}},
        {"meta": ProjectMeta(extra='{"a":{"a":2,"b":1},"alternate-locations":[],"zzz":null}')},
    ),
    "unnormalised name": ({"name": "DEMO"}, {}),
    "name null": ({"name": None}, {}),
    "versions": ({"versions": ["1.0", "?"]}, {"meta": ProjectMeta(versions=("1.0", "?"))}),
    "versions null": ({"versions": None}, {}),
    "versions of another type": (
        {"versions": [1]},
        {"warnings": ("versions: not as specified, left out (1 times)",)},
    ),
    "status": ({"project_status": {"status": "archived"}}, {"meta": ProjectMeta(status="archived")}),
    "status and reason": (
        {"project_status": {"status": "deprecated", "reason": "old"}},
        {"meta": ProjectMeta(status="deprecated", status_reason="old")},
    ),
    "status of a later standard": ({"project_status": {"status": "asleep"}}, {"meta": ProjectMeta(status="asleep")}),
    "status empty": ({"project_status": {}}, {}),
    "status null": ({"project_status": None}, {}),
    "status in capitals": (
        {"project_status": {"status": " Quarantined"}},
        {"meta": ProjectMeta(status="quarantined")},
    ),
    "reason of another type": (
        {"project_status": {"status": "archived", "reason": 1}},
        {"meta": ProjectMeta(status="archived"), "warnings": ("reason: not as specified, left out (1 times)",)},
    ),
    "unknown key nested too deep": (
        {"x": deep(33)},
        {"warnings": ("an unknown key nested deeper than 32 levels: not as specified, left out (1 times)",)},
    ),
}


@pytest.mark.parametrize(("keys", "expected"), METAS.values(), ids=METAS.keys())
def test_the_keys_of_a_page_are_read(keys: dict[str, object], expected: dict[str, Any]) -> None:
    """What a page says of the project, known or not, is kept; a page without files is a page."""
    assert parse_project_page(page_of(**keys), project=DEMO, url=URL) == ProjectPage(name=DEMO, files=(), **expected)


def test_an_unknown_key_that_can_not_be_read_is_left_out() -> None:
    """A number out of range in a key that nobody asked for does not cost the page."""
    body = b'{"meta":{"api-version":"1.0"},"files":[],"x":1e999}'
    assert parse_project_page(body, project=DEMO, url=URL) == ProjectPage(
        name=DEMO, files=(), warnings=("an unknown key of the page: not as specified, left out (1 times)",)
    )


def test_a_page_without_a_name_and_with_a_byte_order_mark_is_read() -> None:
    """The name may be missing; a byte order mark before the page is ignored."""
    body = b'\xef\xbb\xbf{"meta":{"api-version":"1.0"},"files":[]}'
    assert parse_project_page(body, project=DEMO, url=URL) == ProjectPage(name=DEMO, files=())


def test_a_flat_page_is_of_no_project() -> None:
    """A page of many projects' files may have any name; its files are read as those of a project."""
    page = parse_project_page(page_of(file_of(), name="stable"), project=None, url=URL)
    assert (page.name, page.files) == ("flat", (listed(),))


BAD = {
    "status that is text": (
        page_of(project_status="archived"),
        "its project-status can't be read: Expected `object | null`, got `str`",
    ),
    "status that is a list": (
        page_of(project_status=["quarantined"]),
        "its project-status can't be read: Expected `object | null`, got `array`",
    ),
    "status of another type": (page_of(project_status={"status": 1}), "the status in its project-status is not a text"),
    "empty": (b"", "Input data was truncated"),
    "HTML": (b"<!DOCTYPE html>", "JSON is malformed: invalid character (byte 0)"),
    "list": (b"[]", "Expected `object`, got `array`"),
    "cut": (page_of(file_of())[:-3], "Input data was truncated"),
    "not UTF-8": (b'{"\xff":1}', "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    "no number": (b'{"meta":NaN}', "JSON is malformed: invalid character (byte 8)"),
    "nested very deep": (
        b'{"meta":' + b"[" * 100_000,
        "maximum recursion depth exceeded while deserializing an object",
    ),
    "reason of a 409": ((PAGES / "withheld-409.json").read_bytes(), "it has no 'meta'"),
    "meta is a list": (page_of(meta=[]), "its 'meta' can't be read: Expected `object`, got `array`"),
    "other major version": (
        page_of(meta={"api-version": "2.0"}),
        "it has the API version 2.0, and only 1.x can be read",
    ),
    "version is a number": (
        page_of(meta={"api-version": 1.0}),
        "its API version is not a text such as '1.0'",
    ),
    "no files": (b'{"meta":{"api-version":"1.0"},"projects":[]}', "it has no 'files'"),
    "files null": (page_of(files=None), "its 'files' can't be read: Expected `array`, got `null`"),
    "other project": (page_of(name="Other"), "it is the page of 'Other', not of 'demo'"),
    "name of no project": (
        page_of(name="../x"),
        "its name can't be read: the name '../x' is refused: "
        "not the name of a project (letters, digits, '.', '_' and '-')",
    ),
    "name is a number": (page_of(name=1), "its name can't be read: Expected `str | null`, got `int`"),
    "too many files": (page_of(1, 2, 3, 4), "it lists more than 3 files; raise limits.files-per-project to allow it"),
}


@pytest.mark.parametrize(("body", "cause"), BAD.values(), ids=BAD.keys())
def test_what_is_no_page_is_refused(body: bytes, cause: str) -> None:
    """What is not a page of this project and of API 1.x is a BadPage that says why."""
    with pytest.raises(BadPage) as caught:
        parse_project_page(body, project=DEMO, url=URL, max_files=3)
    assert (caught.value.url, caught.value.cause) == (URL, cause)


def test_a_page_from_nowhere_is_refused() -> None:
    """A URL that can't be a base of links is a BadPage too."""
    with pytest.raises(BadPage) as caught:
        parse_project_page(page_of(), project=DEMO, url="ftp://h.example/")
    assert caught.value.cause == "its own URL can't be used: it is not an http or https URL"


def root_of(*projects: object, **meta: object) -> bytes:
    """Return a root page of API 1.0 with these projects."""
    keys = {"api-version": "1.0"} | {key.replace("last_serial", "_last-serial"): value for key, value in meta.items()}
    return json.dumps({"meta": keys, "projects": list(projects)}).encode()


def nameless(count: int) -> str:
    """Return the warning of a root with items that can't be read."""
    return f"it lists {count} projects without a name that can be read: nothing is removed because of it"


ROOTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "empty": (root_of(), {"projects": {}}),
    "no serials": (root_of({"name": "a"}, {"name": "b"}), {"projects": {"a": None, "b": None}}),
    "serial null": (root_of({"name": "a", "_last-serial": None}), {"projects": {"a": None}}),
    "unknown keys": (root_of({"name": "a", "x": [1]}), {"projects": {"a": None}}),
    "serial of the root": (root_of(last_serial=9), {"projects": {}, "serial": 9}),
    "same project twice": (
        root_of(
            {"name": "A.b", "_last-serial": 3},
            {"name": "a-b", "_last-serial": 5},
            {"name": "a_b", "_last-serial": 4},
            {"name": "a--b"},
        ),
        {"projects": {"a-b": 5}},
    ),
    "same project twice, first without serial": (
        root_of({"name": "a"}, {"name": "A", "_last-serial": 0}),
        {"projects": {"a": 0}},
    ),
    "names that are none": (
        root_of({"name": "ok"}, {"name": "../x"}, {"name": ""}, {"name": "x" * 201}, {"name": "é"}),
        {"projects": {"ok": None}, "refused": 4},
    ),
    "broken items": (
        root_of({"name": "a", "_last-serial": 1}, 5, {"name": 1}, {}, {"name": "b", "_last-serial": "7"}),
        {"projects": {"a": 1, "b": None}, "refused": 3, "unreadable": 3, "warnings": (nameless(3),)},
    ),
    "items that can't be read": (
        b'{"meta":{"api-version":"1.0"},"projects":[{"name":"a"},{"name":"b","x":1e999},{"name":true}]}',
        {"projects": {"a": None}, "refused": 2, "unreadable": 2, "warnings": (nameless(2),)},
    ),
    "serials that are none": (
        root_of({"name": "a", "_last-serial": -1}, {"name": "b", "_last-serial": 2**63}, last_serial="9"),
        {"projects": {"a": None, "b": None}},
    ),
    "no version": (
        b'{"meta":{},"projects":[]}',
        {"projects": {}, "warnings": ("the page does not say its API version; it was read as 1.0",)},
    ),
}


@pytest.mark.parametrize(("body", "expected"), ROOTS.values(), ids=ROOTS.keys())
def test_a_root_page_is_read(body: bytes, expected: dict[str, Any]) -> None:
    """Names are normalised and listed once with the highest serial; what is no name is counted."""
    assert parse_root_page(body, url=ROOT) == RootPage(**expected)


BAD_ROOTS = {
    "no projects": (page_of(), "it has no 'projects'"),
    "projects null": (
        b'{"meta":{},"projects":null}',
        "its 'projects' can't be read: Expected `array`, got `null`",
    ),
    "HTML": (b"<html>", "JSON is malformed: invalid character (byte 0)"),
    "other major version": (
        b'{"meta":{"api-version":"3.0"},"projects":[]}',
        "it has the API version 3.0, and only 1.x can be read",
    ),
}


@pytest.mark.parametrize(("body", "cause"), BAD_ROOTS.values(), ids=BAD_ROOTS.keys())
def test_what_is_no_root_page_is_refused(body: bytes, cause: str) -> None:
    """What is no root page of API 1.x is a BadPage that says why, not an empty index."""
    with pytest.raises(BadPage) as caught:
        parse_root_page(body, url=ROOT)
    assert (caught.value.url, caught.value.cause) == (ROOT, cause)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = ("filename", "url", "hashes", "size", "upload-time", "requires-python", "yanked", "core-metadata", "provenance")
MUTATED_FILE = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), JSON).map(lambda more: file_of() | more)
MUTATED_PAGE = st.builds(
    lambda files, more: {"meta": {"api-version": "1.0"}, "files": files, "projects": files} | more,
    st.lists(MUTATED_FILE | JSON, max_size=4),
    st.dictionaries(st.sampled_from(["meta", "name", "files", "versions", "project-status", "x"]), JSON, max_size=3),
).map(lambda page: json.dumps(page).encode())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a page of which some bytes were cut out or replaced."""
    body = draw(MUTATED_PAGE)
    start = draw(st.integers(0, len(body)))
    return body[:start] + draw(st.binary(max_size=6)) + body[start + draw(st.integers(0, 20)) :]


@given(st.binary() | MUTATED_PAGE | damaged())
@example(b'{"meta":{"api-version":"1.0"},"files":[{"filename":"\\ud800","url":"a"}]}')
@example(b'{"meta":{"api-version":"1.0"},"files":[{"filename":"a","url":"a","x":' + b"9" * 5000 + b"}]}")
@example(b'{"meta":{"api-version":"1.0"},"files":[{"filename":"a","url":"a","x":' + b"[" * 900 + b"]" * 900 + b"}]}")
@example(b'{"meta":{"api-version":"1.0","a":1,"a":2},"files":[],"files":[{}]}')
@example(b'{"meta":{"api-version":"1.0"},"files":' + b"[" * 100_000 + b"}")
def test_any_bytes_are_a_page_or_a_bad_page(body: bytes) -> None:
    """Whatever comes is read or a BadPage; every text of the result can be written as UTF-8."""
    for read in (
        lambda: parse_project_page(body, project=DEMO, url=URL),
        lambda: parse_root_page(body, url=ROOT),
    ):
        try:
            page: object = read()
        except BadPage as exc:
            page = str(exc)
        assert msgspec.json.encode(page)
        assert repr(page).encode()
