"""Listed against held."""

import msgspec
import pytest

from mirror.core.diff import (
    Fetch,
    FetchMetadata,
    HeldFile,
    ProjectChange,
    Rehash,
    Relabel,
    Removal,
    RemovalKind,
    diff_page,
    diff_unchanged,
)
from mirror.core.model import IndexPolicy, Labels, ListedFile, ProjectMeta, ProjectPage, RefusedFile
from mirror.core.names import ProjectName, Sha256
from mirror.core.policy import Selection
from mirror.errors import Reason

SHA, OTHER = Sha256("a" * 64), Sha256("b" * 64)
MD5, MD5B = ("md5", "1" * 32), ("md5", "2" * 32)
SHA512 = ("sha512", "c" * 128)
URL = "https://files/a.whl"
CYCLE = 7


def listed(digests=(("sha256", SHA),), *, url=URL, size=None, **labels):
    """Return the listing of a.whl."""
    return ListedFile(filename="a.whl", url=url, digests=tuple(digests), size=size, labels=Labels(**labels))


def held(digests=(("sha256", SHA),), *, absent_since=None, refused=(), **labels):
    """Return the open entry of a.whl."""
    return HeldFile(
        id=1,
        filename="a.whl",
        sha256=SHA,
        size=10,
        digests=tuple(digests),
        url=URL,
        labels=Labels(**labels),
        absent_since=absent_since,
        refused=refused,
    )


def diff(file, entry, *, policy=None, is_html=False, meta=None, old_meta=None, unwanted=(), **more):
    """Compare a page of at most one file with at most one entry."""
    policy = policy or IndexPolicy(name="i")
    files = (file,) if file else ()
    page = ProjectPage(name=ProjectName("p"), files=files, meta=meta or ProjectMeta(), is_html=is_html, **more)
    return diff_page(
        page,
        Selection(policy).select(page, {}),
        {entry.filename: entry} if entry else {},
        cycle=CYCLE,
        old_meta=old_meta or ProjectMeta(),
        keep_replaced=policy.keep_replaced,
        unwanted=frozenset(unwanted),
    )


def test_a_new_file_is_fetched():
    """Listed and not held: fetch."""
    assert diff(listed(), None) == ProjectChange(fetch=(Fetch(file=listed()),))


def test_the_same_bytes_ask_for_nothing():
    """Equal sha256 and labels: nothing to do."""
    change = diff(listed(size=99), held())
    assert change == ProjectChange()
    assert change.is_empty


def test_a_yank_is_a_relabelling():
    """Labels change without a download."""
    change = diff(listed(yanked="bad"), held())
    assert change == ProjectChange(relabel=(Relabel(held=held(), labels=Labels(yanked="bad")),))
    assert not change.is_empty


def test_other_bytes_are_fetched_and_labels_taken_at_once():
    """Until the new bytes are held the old entry stays, but a yank counts at once."""
    file = listed([("sha256", OTHER)], yanked="")
    expected = ProjectChange(
        fetch=(Fetch(file=file, replaces=held()),), relabel=(Relabel(held=held(), labels=Labels(yanked="")),)
    )
    assert diff(file, held()) == expected


def test_other_bytes_are_refused_once():
    """With on-replace = "keep" the refused digests are remembered."""
    policy = IndexPolicy(name="i", keep_replaced=True)
    file = listed([("sha256", OTHER)])
    assert diff(file, held(), policy=policy) == ProjectChange(refuse=((held(), file.digests),))
    again = held(refused=file.digests)
    assert diff(file, again, policy=policy) == ProjectChange()


def test_a_digest_that_was_refused_is_not_compared_again():
    """With on-replace = "keep", a digest that appeared later and did not fit is refused once."""
    policy = IndexPolicy(name="i", keep_replaced=True)
    file = listed([MD5])
    assert len(diff(file, held([]), policy=policy).rehash) == 1
    assert diff(file, held([], refused=file.digests), policy=policy) == ProjectChange()


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        pytest.param([MD5], [MD5], "same", id="equal md5"),
        pytest.param([MD5], [MD5B], "other", id="other md5"),
        pytest.param([], [], "same", id="no digest at all"),
        pytest.param([], [MD5], "compare", id="md5 appears"),
        pytest.param([MD5], [MD5, SHA512], "compare", id="sha512 appears"),
        pytest.param([SHA512], [SHA512], "same", id="equal sha512"),
        pytest.param([], [SHA512, ("sha256", SHA)], "compare", id="sha512 appears beside the held sha256"),
        pytest.param([SHA512], [("sha512", "2" * 128), ("sha256", SHA)], "other", id="other sha512, held sha256"),
        pytest.param(
            [SHA512, ("sha256", OTHER)], [SHA512, ("sha256", OTHER)], "other", id="equal sha512, other sha256"
        ),
        pytest.param([MD5], [MD5B, ("sha256", SHA)], "touch", id="a weak one beside a strong one counts for nothing"),
        pytest.param([MD5], [("sha256", SHA)], "touch", id="the held sha256 appears"),
        pytest.param([MD5], [("sha256", OTHER)], "other", id="another sha256 appears"),
        pytest.param([("sha256", SHA)], [], "touch", id="digests vanish"),
    ],
)
def test_identity_by_digest(before, now, verdict):
    """A strong digest decides; without one, all that both looks say; what appears later is compared with the blob."""
    file, entry = listed(now), held(before)
    strong = tuple(d for d in now if d[0] == "sha512")
    expected_change = {
        "same": ProjectChange(),
        "touch": ProjectChange(touch=((entry, file),)),
        "other": ProjectChange(fetch=(Fetch(file=file, replaces=entry),)),
        "compare": ProjectChange(rehash=(Rehash(held=entry, file=file, expected=strong or tuple(now)),)),
    }
    assert diff(file, entry) == expected_change[verdict]


@pytest.mark.parametrize(
    ("metadata", "has_metadata", "filename", "is_asked"),
    [
        pytest.param((("sha256", SHA),), False, "p-1.tar.gz", True, id="missing"),
        pytest.param((("sha256", SHA),), True, "p-1.tar.gz", False, id="held"),
        pytest.param((("sha256", SHA),), False, "p-1-py3-none-any.whl", False, id="a wheel has its own"),
        pytest.param((MD5,), False, "p-1.tar.gz", False, id="nothing proves it"),
        pytest.param((), False, "p-1.tar.gz", False, id="no digest"),
        pytest.param(None, False, "p-1.tar.gz", False, id="not advertised"),
    ],
)
def test_metadata_of_a_held_file(metadata, has_metadata, filename, is_asked):
    """Advertised metadata that does not lie beside a held file is asked for; never that of a wheel."""
    file = msgspec.structs.replace(listed([MD5]), filename=filename, metadata=metadata)
    entry = msgspec.structs.replace(held([MD5]), filename=filename, has_metadata=has_metadata)
    expected = (FetchMetadata(held=entry, file=file),) if is_asked else ()
    assert diff(file, entry) == ProjectChange(metadata=expected)


@pytest.mark.parametrize(
    ("file", "entry"),
    [
        pytest.param(listed([MD5], size=11), held([MD5]), id="size"),
        pytest.param(listed([MD5], upload_time="2"), held([MD5], upload_time="1"), id="upload time"),
    ],
)
def test_without_a_strong_digest_size_and_time_count(file, entry):
    """Another size or upload time is another file where no strong digest says otherwise."""
    assert diff(file, entry).fetch == (Fetch(file=file, replaces=entry),)


def test_a_changed_query_is_no_news_but_a_moved_file_is_noted():
    """The address is kept up to date, a signature in its query is not."""
    assert diff(listed(url=URL + "?sig=2"), held()) == ProjectChange()
    moved = listed(url="https://other/a.whl")
    assert diff(moved, held()) == ProjectChange(touch=((held(), moved),))


def test_html_keeps_what_only_json_can_say():
    """JSON yesterday, HTML today: upload time, provenance and unknown keys of the same bytes stay."""
    day, later = "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"
    entry = held(upload_time=day, provenance="https://p", extra='{"k":1}', yanked="x")
    change = diff(listed(), entry, is_html=True)
    kept = Labels(upload_time=day, provenance="https://p", extra='{"k":1}')
    assert change == ProjectChange(relabel=(Relabel(held=entry, labels=kept),))
    told = listed(upload_time=later, provenance="https://q", extra='{"k":2}')
    assert diff(told, entry, is_html=True).relabel[0].labels == told.labels
    unreadable = held(upload_time="last week")
    assert diff(listed(), unreadable, is_html=True).relabel == (Relabel(held=unreadable, labels=Labels()),)


def test_html_keeps_the_pages_own_keys():
    """Versions and unknown keys of the page stay, its status is the new one."""
    old = ProjectMeta(versions=("1",), extra='{"a":1}', extra_meta='{"b":1}', status="archived")
    kept = ProjectMeta(versions=("1",), extra='{"a":1}', extra_meta='{"b":1}')
    assert diff(listed(), held(), is_html=True, old_meta=old).meta == kept
    told = ProjectMeta(versions=("2",), extra='{"a":2}', extra_meta='{"b":2}')
    assert diff(listed(), held(), is_html=True, old_meta=old, meta=told).meta == told


def test_the_first_miss_is_noted_and_the_second_removes():
    """A file leaves after two looks of different cycles."""
    assert diff(None, held()) == ProjectChange(missing=(held(),))
    again = held(absent_since=CYCLE - 1)
    assert diff(None, again) == ProjectChange(remove=(Removal(held=again, kind=RemovalKind.ABSENT),))
    same_cycle = held(absent_since=CYCLE)
    assert diff(None, same_cycle) == ProjectChange()


def test_a_page_that_is_not_whole_misses_nothing():
    """What a page that was cut does not list is neither missed for the first time nor for the second."""
    for entry in (held(), held(absent_since=CYCLE - 1)):
        assert diff(None, entry, is_whole=False) == ProjectChange()


def test_a_held_file_that_is_refused_stays_and_takes_its_yank():
    """A listing with a digest that can't be compared costs neither the held bytes nor the warning."""
    entry = held(absent_since=CYCLE - 1)
    refused = RefusedFile(name="a.whl", cause="c", reason=Reason.BAD_FILE, labels=Labels(yanked="broken"))
    change = diff(None, entry, refused=(refused,))
    assert change.relabel == (Relabel(held=entry, labels=Labels(yanked="broken")),)
    assert (change.returned, change.missing, change.remove) == ((entry,), (), ())


def test_an_unchanged_page_is_a_second_look():
    """A page confirmed unchanged removes what an earlier cycle missed, and nothing else."""
    gone = held(absent_since=CYCLE - 1)
    removal = Removal(held=gone, kind=RemovalKind.ABSENT)
    assert diff_unchanged({"a.whl": gone}, cycle=CYCLE) == ProjectChange(remove=(removal,))
    assert diff_unchanged({"a.whl": held(absent_since=CYCLE)}, cycle=CYCLE) == ProjectChange()
    assert diff_unchanged({"a.whl": held()}, cycle=CYCLE) == ProjectChange()


def test_what_returns_is_forgiven():
    """A file that is listed again is no longer absent."""
    entry = held(absent_since=CYCLE - 1)
    assert diff(listed(), entry) == ProjectChange(returned=(entry,))


def test_the_configuration_removes_at_once():
    """What the patterns no longer want leaves without a second look, listed or not."""
    policy = IndexPolicy(name="i", exclude_files=("*.whl",))
    removal = ProjectChange(remove=(Removal(held=held(), kind=RemovalKind.CONFIGURATION),))
    assert diff(listed(), held(), policy=policy) == removal
    assert diff(None, held(), policy=policy, unwanted={"a.whl"}) == removal


def test_a_refused_file_is_not_absent():
    """A held file whose digest the index no longer lists stays, though a new one of its kind would be refused."""
    policy = IndexPolicy(name="i", refuse_unhashed=True)
    change = diff(listed([]), held(), policy=policy)
    assert (change.remove, change.missing, len(change.refusals)) == ((), (), 1)
    returned = held(absent_since=CYCLE - 1)
    assert diff(listed([]), returned, policy=policy).returned == (returned,)


def test_a_quarantined_project_is_withdrawn():
    """Status quarantined takes all files off the pages, whatever the page lists (PEP 792)."""
    meta = ProjectMeta(status="quarantined", status_reason="bad")
    change = diff(listed(), held(), meta=meta)
    assert change == ProjectChange(remove=(Removal(held=held(), kind=RemovalKind.WITHDRAWN),), meta=meta)
    assert diff(listed(), None, meta=meta, old_meta=meta) == ProjectChange()


@pytest.mark.parametrize(
    ("filename", "others", "kind"),
    [
        pytest.param("q-1.0.zip", (), RemovalKind.FOREIGN, id="named after another project"),
        pytest.param("help.html", ("help.html",), RemovalKind.NO_FILE, id="a link that is no file's"),
    ],
)
def test_what_should_not_have_been_mirrored_leaves(filename, others, kind):
    """A held file that no client takes, or that is a page's link to a document, leaves at once."""
    entry = msgspec.structs.replace(held(), filename=filename)
    assert diff(None, entry, others=frozenset(others)).remove == (Removal(held=entry, kind=kind),)


def test_a_file_that_is_refused_without_labels_stays_as_it_is():
    """Where a refused file's labels can't be read, the held ones stay; a file that was missing has returned."""
    entry = held(yanked="bad", absent_since=CYCLE - 1)
    change = diff(None, entry, refused=(RefusedFile(name="a.whl", cause="why"),))
    assert (change.relabel, change.remove, change.returned) == ((), (), (entry,))
