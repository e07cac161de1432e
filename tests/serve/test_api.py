"""The API: whole objects, their schema, limits, and what is refused."""

from __future__ import annotations

import json
import re
from urllib.parse import urljoin

import jsonschema
import pytest

from harness.people_tree import SCRIPT

TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
ADDRESSES = {
    "status": "StatusObject",
    "projects": "ProjectsObject",
    "projects?q=demo&limit=1": "ProjectsObject",
    "projects/demo-app": "ProjectObject",
    "projects/planted": "ProjectObject",
    "changes": "ChangesObject",
}


def get(server, address):
    answer = server.get(f"/-/api/v1/{address}")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return json.loads(answer.body)


@pytest.mark.parametrize("address", ADDRESSES)
def test_answers_are_as_the_schema_says(people, address):
    """Each object is valid by the schema that the server gives, and by no looser one: unknown keys are refused too."""
    schema = get(people, "schema.json")
    for definition in schema["$defs"].values():
        definition["additionalProperties"] = definition.get("additionalProperties", False)
    found = get(people, address)
    jsonschema.validate(found, {"$ref": f"#/$defs/{ADDRESSES[address]}", "$defs": schema["$defs"]})
    assert found["format"] == 1


def test_a_project_as_a_whole(people, people_mirror):
    """Versions by PEP 440, files with their labels and addresses, dependencies that are held or not."""
    found = get(people, "projects/demo-app")
    files = people_mirror.files

    def file(name, tags, requires_python=None):
        address, data = files[name]
        listed = next(f for v in found["versions"] for f in v["files"] if f["filename"] == name)
        assert urljoin("http://x/-/api/v1/projects/demo-app", listed["url"]) == f"http://x{address}"
        assert people.get(address).body == data
        return {
            "filename": name,
            "size": len(data),
            "sha256": address.split("/")[4],
            "upload_time": listed["upload_time"],
            "requires_python": requires_python,
            "tags": tags,
            "url": f"../../../..{address}",
        }

    assert found == {
        "format": 1,
        "project": "demo-app",
        "summary": "The project demo-app",
        "status": "active",
        "indexes": [{"name": "default", "lists": True, "owns": True}],
        "versions": [
            {
                "version": "1.10",
                "yanked": False,
                "files": [
                    file(
                        "demo_app-1.10-cp312-cp312-manylinux_2_28_x86_64.whl",
                        ["cp312-cp312-manylinux_2_28_x86_64"],
                    )
                ],
            },
            {"version": "1.9", "yanked": False, "files": [file("demo_app-1.9-py3-none-any.whl", ["py3-none-any"])]},
            {
                "version": "1.0",
                "yanked": False,
                "files": [file("demo_app-1.0-py3-none-any.whl", ["py3-none-any"], ">=3.8")],
            },
        ],
        "dependencies": [{"requirement": "demo-lib", "project": "demo-lib", "held": True}],
    }


def test_a_yanked_version_and_missing_dependencies(people):
    """The reason of a yank is that of the version; a requirement that is none has no project."""
    found = get(people, "projects/planted")
    assert [(v["version"], v["yanked"]) for v in found["versions"]] == [("2.0", False), ("1.0", f"Reason {SCRIPT}")]
    assert found["dependencies"] == [
        {"requirement": "demo-lib>=0.9", "project": "demo-lib", "held": True},
        {"requirement": 'not-mirrored>1; extra == "x"', "project": "not-mirrored", "held": False},
        {"requirement": SCRIPT, "project": None, "held": False},
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=demo&limit=1", (["demo-app"], 2)),
        ("q=DEMO_LIB", (["demo-lib"], 1)),
        ("q=demo.l", (["demo-lib"], 1)),
        ("q=ot&limit=2", (["other-0", "other-1"], 7)),
        ("q=project+other-3", (["other-3"], 1)),
        ("q=nothing-like-it", ([], 0)),
        ("limit=1000&q=planted", (["planted"], 1)),
    ],
)
def test_search(people, query, expected):
    """Names and summaries are found, whatever the case and separators; the total counts what the limit cuts."""
    found = get(people, f"projects?{query}")
    assert ([one["project"] for one in found["projects"]], found["total"]) == expected


def test_a_hit_as_a_whole(people):
    """The version is the newest that is neither yanked nor a pre-release."""
    assert get(people, "projects?q=demo-lib")["projects"] == [
        {"project": "demo-lib", "summary": "The project demo-lib", "version": "1.1", "files": 3}
    ]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=", "limit=-1", "limit=1.5", "limit=%D9%A3"]
)
def test_a_limit_out_of_range_is_refused(people, query):
    """The limit of the search is 1 to 1,000."""
    answer = people.get(f"/-/api/v1/projects?{query}")
    assert answer.status == 400
    assert json.loads(answer.body)["format"] == 1
    assert answer.headers["Cache-Control"] == "no-store"


def test_changes_page_by_page(people):
    """Following ``since`` gives every change once, in whole revisions, oldest first; then nothing more."""
    whole = get(people, "changes?limit=10000")
    assert not whole["more"]
    seen, since = [], 0
    while True:
        part = get(people, f"changes?since={since}&limit=2")
        seen += part["changes"]
        since = part["revision"]
        if not part["more"]:
            break
        revisions = [change["revision"] for change in part["changes"]]
        assert since == revisions[-1]
        assert len([r for r in revisions if r != revisions[-1]]) < 2
    assert seen == whole["changes"]
    assert get(people, f"changes?since={since}") == {"format": 1, "revision": since, "changes": [], "more": False}
    assert all(TIME.fullmatch(change["at"]) for change in seen)
    kinds = {(c["project"], c["filename"], c["action"]) for c in seen}
    assert {
        ("planted", "planted-1.0-py3-none-any.whl", "add"),
        ("planted", "planted-1.0-py3-none-any.whl", "relabel"),
        ("other-1", "other_1-1.0-py3-none-any.whl", "replace"),
        ("other-2", "other_2-1.0-py3-none-any.whl", "remove"),
    } <= kinds


@pytest.mark.parametrize("query", ["since=x", "since=-1", "limit=0", "since=1.0"])
def test_changes_refuse_what_is_no_number(people, query):
    """A malformed revision or limit is 400."""
    assert people.get(f"/-/api/v1/changes?{query}").status == 400


def test_status_without_paths_of_the_host(people, people_mirror):
    """The status is that of the command, without the root, the configuration and any path of the host."""
    found = get(people, "status")
    done = people_mirror.mirror.run("status", "--json", "--config", people_mirror.mirror.config)
    expected = json.loads(done.stdout)
    for key in ("root", "configuration", "disk"):
        del expected[key]
        found.pop(key, None)
    for one in (found, expected):
        for index in one["indexes"]:
            index.pop("credential")
    assert found == expected
    assert str(people_mirror.mirror.root) not in people.get("/-/api/v1/status").text
    assert [(row["project"], row["reason"]) for row in found["failures"]] == [("broken", "digest-mismatch")]


def test_tags_of_answers(people):
    """An object that the client has is 304; without compression it has another tag than with it."""
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        first = people.get("/-/api/v1/changes", headers)
        assert first.headers["Cache-Control"] == "no-cache"
        again = people.get("/-/api/v1/changes", {**headers, "If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/-/api/v1/projects/nope", 404),
        ("/-/api/v1/projects/broken", 200),
        ("/-/api/v1/projects/", 404),
        ("/-/api/v1/", 404),
        ("/-/api/v2/status", 404),
        ("/-/api/v1/status/", 404),
        ("/-/api/v1/projects/%00", 400),
        ("/-/api/v1/projects/..%2fx", 404),
    ],
)
def test_other_addresses(people, address, status):
    """What is not there is 404; a project of which nothing is held yet is known."""
    assert people.get(address).status == status


def test_a_name_in_another_spelling_is_redirected(people):
    """The normalised name is the address of a project."""
    answer = people.get("/-/api/v1/projects/Demo_App")
    assert (answer.status, answer.headers["Location"]) == (301, "demo-app")
    assert people.get("/-/api/v1/projects/No_Pe").status == 404


def test_an_api_of_other_indexes_names_this_one(people):
    """The JSON API of PyPI is not here, and says where to look."""
    answer = people.get("/pypi/demo-app/json")
    assert answer.status == 404
    assert "/-/api/v1/projects/" in answer.text


def test_metrics_have_the_facts_of_the_state(people):
    """The metrics are those of the daemon's endpoint, with the server's own."""
    text = people.get("/metrics").text
    for line in (
        'mirror_index_held_projects{index="default"} 10.0',
        'mirror_index_failures{index="default",reason="digest-mismatch"} 1.0',
        "mirror_damaged_files 0.0",
        "mirror_disk_free_bytes ",
        "mirror_serve_connections ",
    ):
        assert line in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
