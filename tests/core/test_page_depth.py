"""Links of a snapshot's page, on a disk and in an object store."""

import pytest

from mirror.core.pages.page_depth import deepened, raised

HTML = b'<a href="../../files/aa/bb/x.whl#sha256=0">x</a> ../../files/ &quot;../../files/'
JSON = b'{"files":[{"filename":"\\"url\\":\\"../../files/","url":"../../files/aa/bb/x.whl"}]}'


@pytest.mark.parametrize("page", [HTML, JSON], ids=["HTML", "JSON"])
def test_depth(page):
    """Links of files change, texts of an index stay, and the way back is the same page."""
    deep = deepened(page)
    assert deep.count(b"../../../../files/") == 1
    assert deep.count(b"../../files/") == page.count(b"../../files/")
    assert raised(deep) == page
