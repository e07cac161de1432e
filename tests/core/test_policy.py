"""Which files of a page are wanted, and when removals are too many."""

import msgspec
import pytest

from mirror.core.model import IndexPolicy, Labels, ListedFile, ProjectPage, RefusedFile
from mirror.core.names import ProjectName
from mirror.core.policy import (
    FileRefusal,
    Selected,
    Selection,
    believable_cutoff,
    brake_holds,
    compile_selections,
    digest_of_needed,
    literal_names,
    narrow,
)
from mirror.errors import Reason

SHA, OTHER = "a" * 64, "b" * 64


def listed(name, sha256=SHA, url=None, size=None):
    """Return a listed file."""
    digests = (("sha256", sha256),) if sha256 else ()
    return ListedFile(filename=name, url=url or f"https://files/{name}", digests=digests, size=size)


def page(*files, **fields):
    """Return a page of the project p."""
    return ProjectPage(name=ProjectName("p"), files=files, **fields)


def select(policy, shown, held=None, claimed=()):
    """Select with one policy alone."""
    return Selection(policy).select(shown, held or {}, claimed)


@pytest.mark.parametrize(
    ("projects", "excluded", "name", "wanted"),
    [
        (("*",), (), "a", True),
        (("a", "b-*"), (), "b-c", True),
        (("a",), (), "b", False),
        (("*",), ("a*",), "ab", False),
        (("a",), ("a",), "a", False),
    ],
)
def test_projects_by_pattern(projects, excluded, name, wanted):
    """A project is wanted if a pattern wants it and none excludes it."""
    policy = IndexPolicy(name="i", projects=projects, exclude_projects=excluded)
    assert Selection(policy).wants_project(ProjectName(name)) is wanted


def test_files_by_pattern_and_url():
    """What patterns or the URL leave out is named with its rule; the URL's query does not count."""
    policy = IndexPolicy(name="i", files=("*.whl",), exclude_files=("*-cp27-*",))
    good = listed("a-1.whl", url="https://files/a-1.whl?x=/python-upstream/")
    shown = page(
        good,
        listed("a-1.tar.gz"),
        listed("a-1-cp27-x.whl"),
        listed("b-1.whl", url="https://files/python-upstream/b-1.whl?sig=1"),
    )
    assert select(policy, shown) == Selected(
        files={"a-1.whl": good},
        left_out={"a-1.tar.gz": "files", "a-1-cp27-x.whl": "exclude-files", "b-1.whl": "skip-url-patterns"},
    )


def test_refused_names_and_warnings_are_passed_on():
    """What the parser refused becomes a refusal of that file; its warnings stay."""
    shown = page(refused=(RefusedFile(name="../a", cause="why"),), warnings=("odd",))
    refusal = FileRefusal(filename="../a", reason=Reason.UNSAFE_NAME, detail="why")
    assert select(IndexPolicy(name="i"), shown) == Selected(files={}, refusals=(refusal,), warnings=("odd",))


@pytest.mark.parametrize(
    ("held", "taken"),
    [({}, SHA), ({"a.whl": OTHER}, OTHER), ({"a.whl": "c" * 64}, SHA)],
    ids=["none held", "second held", "other held"],
)
def test_of_duplicates_the_held_one_else_the_first(held, taken):
    """The same filename twice: the held bytes if they are offered, else the first offer."""
    selected = select(IndexPolicy(name="i"), page(listed("a.whl"), listed("a.whl", OTHER)), held)
    assert dict(selected.files["a.whl"].digests)["sha256"] == taken
    assert selected.warnings == ("a.whl is listed more than once",)


def test_unhashed_files_are_refused_on_demand():
    """With unhashed = "refuse" a file without a strong digest is refused, with what a later try needs."""
    weak = listed("a.whl", None)
    selected = select(IndexPolicy(name="i", refuse_unhashed=True), page(weak, listed("b.whl")))
    assert list(selected.files) == ["b.whl"]
    assert [(r.filename, r.reason, r.file) for r in selected.refusals] == [("a.whl", Reason.REFUSED_UNHASHED, weak)]


def test_an_owner_claims_what_its_patterns_leave_out():
    """Where an overlay comes later, the owner's excluded filenames are remembered as its own."""
    owner, overlay = compile_selections(
        [
            IndexPolicy(name="owner", files=("*.whl",), exclude_files=("*-2.whl",)),
            IndexPolicy(name="over", overlay=True),
        ]
    )
    selected = owner.select(page(listed("a-1.whl"), listed("a-2.whl"), listed("a-1.zip")), {})
    assert selected.claims == ("a-2.whl", "a-1.zip")
    assert not overlay.wants_filename("a-2.whl", {"owner"})
    assert overlay.wants_filename("a-2.whl")
    assert overlay.wants_filename("a-1.zip", {"owner"})


def test_an_overlay_leaves_claimed_names_alone():
    """A filename that belongs to the owner is not taken, and no rule leaves it out here."""
    selected = select(IndexPolicy(name="i", overlay=True), page(listed("a.whl"), listed("b.whl")), claimed={"a.whl"})
    assert (list(selected.files), selected.skipped) == (["b.whl"], 0)


def test_what_the_owner_excludes_is_left_out_for_the_overlay_by_the_same_rule():
    """A name that only the overlay lists and the owner's exclude-files names is left out of the overlay."""
    _, overlay = compile_selections(
        [IndexPolicy(name="owner", exclude_files=("*.zip",)), IndexPolicy(name="over", overlay=True)]
    )
    selected = overlay.select(page(listed("a-1.zip")), {}, (), {"owner"})
    assert (selected.files, selected.left_out) == ({}, {"a-1.zip": "exclude-files"})


def test_a_name_that_is_offered_twice_is_not_left_out_where_one_offer_is_taken():
    """Of two offers of one filename an address leaves out one: the file is wanted, and nothing is left out."""
    passed = listed("a.whl", url="https://files/python-upstream/a.whl")
    good = listed("a.whl", url="https://files/a.whl")
    for offers in ((passed, good), (good, passed)):
        assert select(IndexPolicy(name="i"), page(*offers)) == Selected(files={"a.whl": good})


@pytest.mark.parametrize(
    ("limit", "size", "too_large"), [(0, 10**12, False), (10, 10, False), (10, 11, True), (10, None, False)]
)
def test_the_listed_size_is_judged(limit, size, too_large):
    """A listed size over the limit is too large; 0 is no limit."""
    selection = Selection(IndexPolicy(name="i", file_size_limit=limit))
    assert selection.too_large(listed("a", size=size)) is too_large


def test_the_digest_follows_patterns_not_limits():
    """Another pattern is another selection, another limit is not."""
    base = Selection(IndexPolicy(name="i"))
    assert Selection(IndexPolicy(name="i", file_size_limit=5)).page_digest == base.page_digest
    assert Selection(IndexPolicy(name="i", files=("*.whl",))).page_digest != base.page_digest
    assert Selection(IndexPolicy(name="i", projects=("a",))).page_digest == base.page_digest
    assert Selection(IndexPolicy(name="i", projects=("a",))).root_digest != base.root_digest


@pytest.mark.parametrize(
    ("leaving", "published", "holds"),
    [(5, 5, False), (6, 60, False), (6, 59, True), (100, 1000, False), (101, 1000, True), (6, 0, True)],
)
def test_the_brake(leaving, published, holds):
    """More than five files and more than the share: held back."""
    assert brake_holds(leaving=leaving, published=published, max_shrink=0.1) is holds


DAY = 86_400.0


@pytest.mark.parametrize(
    ("starts", "now", "keep", "cutoff"),
    [
        ([], 100 * DAY, 30 * DAY, None),
        ([], 7.0, 0, 7.0),
        ([99 * DAY], 100 * DAY, 30 * DAY, None),
        ([DAY * d for d in range(99, 0, -1)], 100 * DAY, 30 * DAY, 70 * DAY),
        ([10 * DAY, 9 * DAY], 400 * DAY, 30 * DAY, None),
        ([100 * DAY, 50 * DAY], 150 * DAY, 30 * DAY, None),
        ([DAY * d for d in (143, 136, 100, 90, 50)], 150 * DAY, 30 * DAY, 88 * DAY),
        ([500 * DAY, 99 * DAY], 100 * DAY, 30 * DAY, None),
    ],
    ids=["no cycle", "kept not at all", "young", "daily", "one jump", "two long gaps", "five gaps", "backwards"],
)
def test_one_jump_of_the_clock_ends_no_retention(starts, now, keep, cutoff):
    """Between two cycles at most a week and a quarter of a retention passes, whatever the clock says."""
    assert believable_cutoff(starts, now=now, keep_s=keep) == cutoff


def test_a_yank_of_either_offer_counts():
    """The same filename twice, yanked once: the mark is not lost, whichever is taken."""
    yanked = ListedFile(filename="a.whl", url="https://files/2/a.whl", labels=Labels(yanked="broken"))
    for offers in ((listed("a.whl"), yanked), (yanked, listed("a.whl"))):
        for held in ({}, {"a.whl": SHA}):
            assert select(IndexPolicy(name="i"), page(*offers), held).files["a.whl"].labels.yanked == "broken"


def test_refused_names_follow_the_patterns():
    """What the patterns leave out, or an owner claims, is no failure, however often it is listed; a nameless item is."""
    refused = [RefusedFile(name=name, cause="c") for name in ("a.zip", "a.zip", "x/y.zip", "b.zip", "z-1.whl", "")]
    policy = IndexPolicy(name="i", files=("*.zip",), exclude_files=("a.*", "x/*"))
    selected = select(policy, page(refused=tuple(refused)), claimed={"b.zip", "z-1.whl"})
    assert [refusal.filename for refusal in selected.refusals] == [""]
    assert selected.left_out["a.zip"] == "exclude-files"


@pytest.mark.parametrize(
    "options", [{"page_hosts": ("pages.example",)}, {"is_flat": True}, {"projects": ("a",)}], ids=str
)
def test_rules_of_the_root_have_a_digest(options):
    """Each rule that changes which projects of a root are wanted changes the digest."""
    assert Selection(IndexPolicy(name="i", **options)).root_digest != Selection(IndexPolicy(name="i")).root_digest


def test_a_name_that_is_listed_and_refused_is_listed():
    """Of two offers for one filename one is refused: the other is taken, and the repetition is a warning."""
    refused = tuple(RefusedFile(name=name, cause="why") for name in ("a.whl", "b.whl", "c.whl"))
    shown = page(*map(listed, ("a.whl", "b.whl", "b.whl")), refused=refused)
    selected = select(IndexPolicy(name="i"), shown)
    assert (list(selected.files), [r.filename for r in selected.refusals]) == (["a.whl", "b.whl"], ["c.whl"])
    assert selected.warnings == ("b.whl is listed more than once, and so are files in 2 more places",)


def test_a_name_that_is_refused_and_not_wanted_is_left_out():
    """Neither a pattern's files nor the owner's are refused here."""
    refused = tuple(RefusedFile(name=name, cause="why") for name in ("a.whl", "b.zip", "c.whl"))
    policy = IndexPolicy(name="i", files=("*.whl",), overlay=True)
    selected = select(policy, page(refused=refused), claimed={"a.whl"})
    assert [r.filename for r in selected.refusals] == ["c.whl"]
    assert selected.left_out == {"b.zip": "files"}


def test_files_of_other_projects_are_left_out():
    """A distribution that is named after another project is no file of this one."""
    selected = select(IndexPolicy(name="i"), page(listed("p-1.zip"), listed("q-1.zip")))
    assert (list(selected.files), list(selected.left_out)) == (["p-1.zip"], ["q-1.zip"])


def test_of_two_offers_one_is_yanked():
    """The offer that is taken is yanked where the other one is: somebody withdrew that filename."""
    withdrawn = msgspec.structs.replace(listed("a.whl", OTHER), labels=Labels(yanked="bad"))
    for offers in ((listed("a.whl"), withdrawn), (withdrawn, listed("a.whl"))):
        (file,) = select(IndexPolicy(name="i"), page(*offers), {"a.whl": SHA}).files.values()
        assert (dict(file.digests), file.labels.yanked) == ({"sha256": SHA}, "bad")


def test_literal_names():
    """A pattern without a wildcard is a name that somebody asked for."""
    assert literal_names(("a", "b*", "c?", "d[ef]", "g.h")) == ("a", "g.h")


def test_narrow():
    """Of the wanted files the needed ones are kept, and of the refusals; what rules leave out stays as it is."""
    refused = tuple(RefusedFile(name=name, cause="why") for name in ("c.whl", "d.whl"))
    shown = page(*map(listed, ("a.whl", "b.whl", "q-1.zip")), refused=refused)
    selected = narrow(select(IndexPolicy(name="i"), shown), {"a.whl", "c.whl", "elsewhere.whl"})
    assert (list(selected.files), [r.filename for r in selected.refusals]) == (["a.whl"], ["c.whl"])
    assert list(selected.left_out) == ["q-1.zip"]


def test_digest_of_needed():
    """Equal rules and equal names, in any order, have equal digests."""
    assert digest_of_needed("d", ["a", "b"]) == digest_of_needed("d", {"b", "a"})
    assert len({digest_of_needed("d", ["a"]), digest_of_needed("d", []), digest_of_needed("e", ["a"])}) == 3
