"""Properties of the rules over any page: narrower rules give subsets, and no order of entries changes a judgement."""

from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.model import Labels, ListedFile
from mirror.core.names import ProjectName
from mirror.core.rules.judge import RuleBook, RuleFacts, sight_of
from mirror.core.rules.model import RULE_KEYS, Admitted, Level, Rules

NOW = 1_800_000_000.0
DAY_S = 86_400.0
TAGS = ("py3-none-any", "cp312-cp312-manylinux_2_17_x86_64", "cp312-cp312-win_amd64")
VERSIONS = ("0.9", "1.0", "1.0+local.1", "1.1rc1", "1.1", "2.0.dev3", "2.0", "no.version")
SPECIFIERS = (">=1", "<2", "!=1.1", "==1.*", ">1.0rc1")
NARROWER = {None: 0, Admitted.ALWAYS: 0, Admitted.WHERE_PINNED: 1, Admitted.WHERE_NEEDED: 1, Admitted.NEVER: 2}


def at(age):
    return datetime.fromtimestamp(NOW - age * DAY_S, UTC).isoformat().replace("+00:00", "Z")


files = st.builds(
    lambda version, tag, age, yanked, digest: ListedFile(
        filename=f"p-{version}-{tag}.whl",
        url="https://i/f",
        digests=(("sha256", digest * 64),),
        labels=Labels(upload_time=None if age is None else at(age), yanked=yanked),
    ),
    st.sampled_from(VERSIONS),
    st.sampled_from(TAGS),
    st.none() | st.sampled_from([-1, 0, 3, 7, 8, 400]),
    st.none() | st.just("bad"),
    st.sampled_from("ab"),
)
pages = st.lists(files, max_size=8).map(lambda listed: {file.filename: file for file in listed})
rules = st.builds(
    Rules,
    min_age_s=st.sampled_from([0.0, 3 * DAY_S, 7 * DAY_S]),
    urgent=st.sampled_from([(), ("q",), ("p",)]),
    not_after=st.sampled_from([None, NOW - 5 * DAY_S, NOW + DAY_S]),
    pre_releases=st.sampled_from([None, Admitted.ALWAYS, Admitted.WHERE_NEEDED, Admitted.NEVER]),
    yanked=st.sampled_from([None, Admitted.ALWAYS, Admitted.WHERE_PINNED, Admitted.NEVER]),
    versions=st.lists(st.sampled_from([(ProjectName("p"), s) for s in SPECIFIERS]), max_size=3).map(tuple),
    platform_tags=st.sampled_from([None, frozenset(TAGS[:2]), frozenset()]),
    exclude_vulnerable=st.just(Level.NONE),
)


@st.composite
def facts(draw, page):
    """Return facts about a page: what is held, replaced, seen, needed."""
    names = st.sets(st.sampled_from(sorted(page))) if page else st.just(set())
    held = draw(names)
    sights = {(n, sight_of(page[n])): NOW - draw(st.sampled_from([0, 8])) * DAY_S for n in draw(names)}
    return RuleFacts(
        now=NOW,
        held=held,
        replaced=held & draw(names),
        known=held | draw(names),
        needed=draw(st.none() | names),
        sights=sights,
        listed=tuple(page),
    )


cases = pages.flatmap(lambda page: st.tuples(st.just(page), facts(page)))


def admitted(some, page, known):
    out = RuleBook(some).judge(ProjectName("p"), page, known).out
    return {name for name in page if name not in out}


@st.composite
def narrowed(draw):
    """Return rules and narrower ones: one key or several say less."""
    wide = draw(rules)
    other = draw(rules)
    latest = [moment for moment in (wide.not_after, other.not_after) if moment is not None]
    tags = [some for some in (wide.platform_tags, other.platform_tags) if some is not None]
    return wide, msgspec.structs.replace(
        wide,
        min_age_s=max(wide.min_age_s, other.min_age_s),
        urgent=tuple(set(wide.urgent) & set(other.urgent)),
        not_after=min(latest, default=None),
        pre_releases=max(wide.pre_releases, other.pre_releases, key=NARROWER.__getitem__),
        yanked=max(wide.yanked, other.yanked, key=NARROWER.__getitem__),
        versions=wide.versions + other.versions,
        platform_tags=frozenset.intersection(*tags) if tags else None,
    )


@given(cases, narrowed())
def test_a_narrower_rule_gives_a_subset(case, pair):
    """Without ``newest``, more rules never let a file in."""
    (page, known), (wide, narrow) = case, pair
    assert admitted(narrow, page, known) <= admitted(wide, page, known)


@given(cases, rules, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(case, some, random):
    """The order of specifiers, patterns and files changes no verdict; the files that are kept out are those that any
    rule alone keeps out.
    """
    page, known = case
    verdicts = RuleBook(some).judge(ProjectName("p"), page, known).out
    shuffled = random.sample(sorted(page), len(page))
    versions = tuple(random.sample(some.versions, len(some.versions)))
    again = RuleBook(msgspec.structs.replace(some, versions=versions)).judge(
        ProjectName("p"), {name: page[name] for name in shuffled}, known
    )
    assert again.out == verdicts
    keys = ("min_age_s", "not_after", "pre_releases", "yanked", "versions", "platform_tags")
    alone = [Rules(urgent=some.urgent, **{key: getattr(some, key)}) for key in keys]
    assert set(verdicts) == {name for one in alone for name in page if name not in admitted(one, page, known)}


@given(cases, rules, st.sampled_from([0, 1, 2]))
def test_held_files_stay_held(case, some, newest):
    """What the next cycle with the same inputs would bring back is not removed: a file that is admitted is still admitted
    once all that was admitted is held, and the cooldown removes nothing.
    """
    page, known = case
    some = msgspec.structs.replace(some, newest=newest)
    book = RuleBook(some)
    first = book.judge(ProjectName("p"), page, known).out
    stays = {n for n in page if n not in first} | {n for n, v in first.items() if v.keeps_held}
    replaced = {n for n, v in first.items() if v.keeps_held}
    held = msgspec.structs.replace(known, held=stays, replaced=replaced, known=set(known.known) | stays)
    second = book.judge(ProjectName("p"), page, held).out
    assert stays == {n for n in stays if n not in second or second[n].keeps_held}
    assert {n for n in page if n not in first} <= {n for n in page if n not in second}


@given(cases, rules, st.sampled_from([0, 1]))
def test_each_verdict_names_a_rule(case, some, newest):
    """A verdict has a known key; one with an end is of the cooldown, and ends after now."""
    page, known = case
    judged = RuleBook(msgspec.structs.replace(some, newest=newest)).judge(ProjectName("p"), page, known)
    for verdict in judged.out.values():
        assert verdict.rule in RULE_KEYS
        assert (verdict.until is not None) == (verdict.rule == "min-age")
        assert verdict.until is None or verdict.until > NOW
        assert verdict.after == "" or RULE_KEYS.index(verdict.after) > RULE_KEYS.index(verdict.rule)
