"""What a static server makes of the tree: the forms of a page, and what is not there."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

JSON = "application/vnd.pypi.simple.v1+json"
HTML_V1 = "application/vnd.pypi.simple.v1+html"

ACCEPTED = {
    "nothing": (None, "text/html", "index.html"),
    "anything": ("*/*", "text/html", "index.html"),
    "browser": ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html", "index.html"),
    "pip-and-uv": (f"{JSON}, {HTML_V1};q=0.1, text/html;q=0.01", JSON, "index.v1_json"),
    "html": (HTML_V1, HTML_V1, "index.v1_html"),
}


def get(url: str, accept: str | None = None):
    """GET a URL without any proxy."""
    request = urllib.request.Request(url, headers={} if accept is None else {"Accept": accept})
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)


@pytest.mark.parametrize("page", ["", "demo-lib/"], ids=["root", "project"])
@pytest.mark.parametrize(("accept", "content_type", "name"), ACCEPTED.values(), ids=ACCEPTED)
def test_forms_of_a_page(nginx, tree, page, accept, content_type, name):
    """A page comes in the form that is asked for, HTML where none is, and caches are told so."""
    with get(nginx.url + page, accept) as answer:
        assert answer.headers["Content-Type"] == content_type
        assert answer.headers["Vary"] == "Accept"
        assert answer.read() == (tree / "simple" / page / name).read_bytes()


def test_files_of_a_page(nginx, tree):
    """Every file and every ``.metadata`` that a page names is served as it lies there, as a plain stream of bytes."""
    names = [path.parent.name for path in tree.glob("simple/*/index.v1_json")]
    assert len(names) == 3
    for name in names:
        with get(f"{nginx.url}{name}/", JSON) as answer:
            files = json.load(answer)["files"]
        assert files
        for file in files:
            endings = ("", ".metadata") if "core-metadata" in file else ("",)
            for ending in endings:
                with get(f"{nginx.url}{name}/{file['url']}{ending}") as answer:
                    assert answer.headers["Content-Type"] == "application/octet-stream"
                    found = next(tree.glob(f"files/*/*/{file['hashes']['sha256']}/{file['filename']}{ending}"))
                    assert answer.read() == found.read_bytes()


@pytest.mark.parametrize("served", ["static", "nginx"], indirect=True)
def test_missing_project_is_not_found(served):
    """A project that is not there is 404, not 403: uv would stop at that."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(f"{served.url}demo-absent/")
    caught.value.close()
    assert caught.value.code == 404
