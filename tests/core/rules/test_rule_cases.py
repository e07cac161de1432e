"""Each rule by a table of cases: what a page lists, what is known, and the rule that keeps each file out."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.config.reading import read_struct
from mirror.config.rules import RulesConfig, judged_rules
from mirror.core.model import Labels, ListedFile
from mirror.core.rules.judge import RuleBook, RuleFacts, sight_of

NOW = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
DAY_S = 86_400.0
LINUX = ("py3-none-any", "cp312-cp312-manylinux_2_17_x86_64", "cp312-abi3-manylinux_2_17_x86_64")


def listed(name, digest="a", **labels):
    """Return a listed file; ``age`` in days instead of its upload time."""
    age = labels.pop("age", None)
    if age is not None:
        labels["upload_time"] = datetime.fromtimestamp(NOW - age * DAY_S, UTC).isoformat().replace("+00:00", "Z")
    return ListedFile(filename=name, url="https://i/x", digests=(("sha256", digest * 64),), labels=Labels(**labels))


def judge(rules, files, **facts):
    """Return the rule of each file that is kept out, and the whole judgement."""
    config = read_struct(RulesConfig, rules, where="", base=Path())
    book = RuleBook(judged_rules(config, LINUX))
    listing = {file.filename: file for file in files}
    judgement = book.judge("p", listing, RuleFacts(now=NOW, listed=tuple(listing), **facts))
    return {name: verdict.rule for name, verdict in judgement.out.items()}, judgement


def wheel(version, tag="py3-none-any"):
    return f"p-{version}-{tag}.whl"


def of(*versions, **labels):
    """Return a wheel for each version."""
    return [listed(wheel(version), **labels) for version in versions]


W = wheel
VERSIONS = {
    "no-rules": ({}, of("1.0", "2.0rc1", yanked=""), {}),
    "pre-never": (
        {"pre-releases": "never"},
        of("1.0", "2.0rc1", "2.0.dev1", "1.0.post1"),
        {W("2.0rc1"): "pre-releases", W("2.0.dev1"): "pre-releases"},
    ),
    "pre-never-nothing-else": ({"pre-releases": "never"}, of("2.0b1"), {W("2.0b1"): "pre-releases"}),
    "pre-where-needed": (
        {"pre-releases": "where-needed"},
        of("1.0", "2.0rc1"),
        {W("2.0rc1"): "pre-releases"},
    ),
    "pre-where-needed-nothing-else": ({"pre-releases": "where-needed"}, of("2.0rc1", "2.0rc2"), {}),
    "pre-always": ({"pre-releases": "always"}, of("1.0", "2.0rc1"), {}),
    "pre-local": ({"pre-releases": "never"}, of("1.0+cgr.1", "2.0rc1+cgr.1"), {W("2.0rc1+cgr.1"): "pre-releases"}),
    "yanked-never": (
        {"yanked": "never"},
        [*of("1.0"), *of("1.1", yanked=""), *of("1.2", yanked="broken")],
        {W("1.1"): "yanked", W("1.2"): "yanked"},
    ),
    "yanked-where-pinned": ({"yanked": "where-pinned"}, of("1.1", yanked=""), {W("1.1"): "yanked"}),
    "yanked-always": ({"yanked": "always"}, of("1.1", yanked=""), {}),
    "versions": (
        {"versions": ["p>=1.2"]},
        of("1.0", "1.2", "2.0rc1", "1.2.dev1"),
        {W("1.0"): "versions", W("1.2.dev1"): "versions"},
    ),
    "versions-two-entries": (
        {"versions": ["p>=1.2", "P <2"]},
        of("1.0", "1.2", "2.0", "2.0rc1"),
        {W("1.0"): "versions", W("2.0"): "versions", W("2.0rc1"): "versions"},
    ),
    "versions-other-project": ({"versions": ["q>=9"]}, of("1.0"), {}),
    "versions-local": (
        {"versions": ["p<=1.26.18"]},
        of("1.26.18+cgr.1", "1.26.19"),
        {W("1.26.19"): "versions"},
    ),
    "versions-local-excluded": ({"versions": ["p!=1.0"]}, of("1.0+cgr.1", "1.0.1"), {W("1.0+cgr.1"): "versions"}),
    "versions-no-version": ({"versions": ["p>=9"]}, [listed("p-latest.zip"), listed("p.exe")], {}),
    "versions-sdist": (
        {"versions": ["p>=2"]},
        [listed("p-1.0.tar.gz"), listed("p-2.0.tar.gz")],
        {"p-1.0.tar.gz": "versions"},
    ),
    "newest": ({"newest": 2}, of("1.0", "1.10", "1.9"), {W("1.0"): "newest"}),
    "newest-counts-versions": (
        {"newest": 1},
        [listed("p-2.0.tar.gz"), *of("2.0", "2", "1.0")],
        {W("1.0"): "newest"},
    ),
    "newest-local-with-its-public": (
        {"newest": 1},
        of("1.0", "1.0+cgr.1", "0.9+cgr.2"),
        {W("0.9+cgr.2"): "newest"},
    ),
    "newest-of-what-others-leave": (
        {"newest": 1, "yanked": "never", "pre-releases": "never"},
        [*of("1.0", "3.0rc1", "0.9"), *of("2.0", yanked="")],
        {W("0.9"): "newest", W("2.0"): "yanked", W("3.0rc1"): "pre-releases"},
    ),
    "newest-no-version": ({"newest": 1}, [listed("p-latest.zip"), *of("1.0")], {}),
    "newest-pre-release-counts": ({"newest": 1}, of("1.0", "2.0rc1"), {W("1.0"): "newest"}),
    "platforms": (
        {"platforms": "targets"},
        [
            *of("1.0"),
            listed(W("1.0", "cp312-cp312-win_amd64")),
            listed(W("1.0", "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64")),
            listed(W("1.0", "cp38.cp312-abi3-manylinux_2_17_x86_64")),
            listed(W("1.0", "cp311-cp311-manylinux_2_17_x86_64")),
            listed("p-1.0.tar.gz"),
            listed("p-1.0-py3.8.egg"),
        ],
        {W("1.0", "cp312-cp312-win_amd64"): "platforms", W("1.0", "cp311-cp311-manylinux_2_17_x86_64"): "platforms"},
    ),
    "platforms-build-tag": (
        {"platforms": "targets"},
        [listed("p-1.0-1-cp312-cp312-manylinux_2_17_x86_64.whl"), listed("p-1.0-1-cp312-cp312-win32.whl")],
        {"p-1.0-1-cp312-cp312-win32.whl": "platforms"},
    ),
    "first-in-order": (
        {"platforms": "targets", "versions": ["p<1"], "yanked": "never", "pre-releases": "never"},
        [
            listed(W("2.0rc1", "cp312-cp312-win32"), yanked=""),
            listed(W("2.0", "cp312-cp312-win32"), yanked=""),
            listed(W("2.1", "cp312-cp312-win32")),
            listed(W("0.1", "cp312-cp312-win32")),
        ],
        {
            W("2.0rc1", "cp312-cp312-win32"): "pre-releases",
            W("2.0", "cp312-cp312-win32"): "yanked",
            W("2.1", "cp312-cp312-win32"): "versions",
            W("0.1", "cp312-cp312-win32"): "platforms",
        },
    ),
}


@pytest.mark.parametrize(("rules", "files", "out"), VERSIONS.values(), ids=VERSIONS)
def test_versions_and_platforms(rules, files, out):
    """Versions, yanks, pre-releases and tags decide, whatever is held: what a rule leaves out leaves."""
    assert judge(rules, files)[0] == out
    everything = tuple(file.filename for file in files)
    assert judge(rules, files, held=everything, known=everything)[0] == out


WEEK = {"min-age": "7d"}
AGES = {
    "old": (WEEK, [listed(W("1"), age=7)], {}, {}),
    "young": (WEEK, [listed(W("1"), age=6.99)], {}, {W("1"): "min-age"}),
    "in-the-future": (WEEK, [listed(W("1"), age=-3)], {}, {W("1"): "min-age"}),
    "offset": (WEEK, [listed(W("1"), upload_time="2026-11-13T02:00:00+02:00")], {}, {}),
    "offset-young": (WEEK, [listed(W("1"), upload_time="2026-11-13T00:00:00-00:01")], {}, {W("1"): "min-age"}),
    "held": (WEEK, [listed(W("1"), age=0)], {"held": {W("1")}, "known": {W("1")}}, {}),
    "urgent": ({**WEEK, "urgent": ["P", "x*"]}, [listed(W("1"), age=0)], {}, {}),
    "urgent-other": ({**WEEK, "urgent": ["pp", "x*"]}, [listed(W("1"), age=0)], {}, {W("1"): "min-age"}),
    "urgent-all": ({**WEEK, "urgent": ["*"]}, [listed(W("1"), age=0)], {}, {}),
    "no-time": (WEEK, [listed(W("1"))], {}, {W("1"): "min-age"}),
    "no-time-seen": (WEEK, [listed(W("1"))], {"sights": {(W("1"), "sha256:" + "a" * 64): NOW - 7 * DAY_S}}, {}),
    "no-time-other-digest": (
        WEEK,
        [listed(W("1"))],
        {"sights": {(W("1"), "sha256:" + "b" * 64): NOW - 7 * DAY_S}},
        {W("1"): "min-age"},
    ),
    "unreadable-time": (WEEK, [listed(W("1"), upload_time="yesterday")], {}, {W("1"): "min-age"}),
    "seen-in-the-future": (
        WEEK,
        [listed(W("1"))],
        {"sights": {(W("1"), "sha256:" + "a" * 64): NOW + 99 * DAY_S}},
        {W("1"): "min-age"},
    ),
    "replaced": (
        WEEK,
        [listed(W("1"), age=900)],
        {"held": {W("1")}, "replaced": {W("1")}, "known": {W("1")}},
        {W("1"): "min-age"},
    ),
    "replaced-seen": (
        WEEK,
        [listed(W("1"), age=900)],
        {
            "held": {W("1")},
            "replaced": {W("1")},
            "known": {W("1")},
            "sights": {(W("1"), "sha256:" + "a" * 64): NOW - 8 * DAY_S},
        },
        {},
    ),
    "once-held": (WEEK, [listed(W("1"), age=900)], {"known": {W("1")}}, {W("1"): "min-age"}),
    "no-version": (WEEK, [listed("p-latest.zip", age=1)], {}, {"p-latest.zip": "min-age"}),
    "not-after": ({"not-after": "2026-11-10"}, [listed(W("1"), upload_time="2026-11-10T23:59:59Z")], {}, {}),
    "not-after-next-day": (
        {"not-after": "2026-11-10"},
        [listed(W("1"), upload_time="2026-11-11T00:00:00Z")],
        {},
        {W("1"): "not-after"},
    ),
    "not-after-held": ({"not-after": "2026-11-10"}, [listed(W("1"), age=0)], {"held": {W("1")}, "known": {W("1")}}, {}),
    "not-after-urgent": (
        {"not-after": "2026-11-10", "urgent": ["p"]},
        [listed(W("1"), age=0)],
        {},
        {W("1"): "not-after"},
    ),
    "not-after-no-time": ({"not-after": "2026-11-10"}, [listed(W("1"))], {}, {W("1"): "not-after"}),
    "not-after-no-time-seen": (
        {"not-after": "2026-11-10"},
        [listed(W("1"))],
        {"sights": {(W("1"), "sha256:" + "a" * 64): NOW - 30 * DAY_S}},
        {},
    ),
    "not-after-to-come": ({"not-after": "2026-12-24"}, [listed(W("1"))], {}, {}),
    "both": ({**WEEK, "not-after": "2026-11-10"}, [listed(W("1"), age=1)], {}, {W("1"): "min-age"}),
    "before-versions": ({**WEEK, "versions": ["p>9"]}, [listed(W("1"), age=1)], {}, {W("1"): "min-age"}),
    "displaces-none": ({**WEEK, "newest": 1}, [listed(W("2"), age=1), listed(W("1"), age=9)], {}, {W("2"): "min-age"}),
    "displaces": ({**WEEK, "newest": 1}, [listed(W("2"), age=7), listed(W("1"), age=9)], {}, {W("1"): "newest"}),
    "held-displaces": (
        {**WEEK, "newest": 1},
        [listed(W("2"), age=1), listed(W("1"), age=9)],
        {"held": {W("2")}, "known": {W("2")}},
        {W("1"): "newest"},
    ),
}


@pytest.mark.parametrize(("rules", "files", "facts", "out"), AGES.values(), ids=AGES)
def test_ages(rules, files, facts, out):
    """Upload time, else first sight, decides about what is not held; only first sight about a name that ever was."""
    assert judge(rules, files, **facts)[0] == out


NEEDED = {
    "newest": ({"newest": 1}, of("1.0", "2.0"), {W("1.0")}, {}),
    "platforms": ({"platforms": "targets"}, [listed(W("1", "cp312-cp312-win32"))], {W("1", "cp312-cp312-win32")}, {}),
    "pre-releases": ({"pre-releases": "where-needed"}, of("1.0", "2.0rc1"), {W("2.0rc1")}, {}),
    "pre-releases-never": ({"pre-releases": "never"}, of("2.0rc1"), {W("2.0rc1")}, {W("2.0rc1"): "pre-releases"}),
    "yanked": ({"yanked": "where-pinned"}, of("1.0", yanked=""), {W("1.0")}, {}),
    "yanked-never": ({"yanked": "never"}, of("1.0", yanked=""), {W("1.0")}, {W("1.0"): "yanked"}),
    "versions": ({"versions": ["p>1"]}, of("1.0"), {W("1.0")}, {W("1.0"): "versions"}),
    "min-age": (WEEK, of("1.0", age=1), {W("1.0")}, {W("1.0"): "min-age"}),
}


@pytest.mark.parametrize(("rules", "files", "needed", "out"), NEEDED.values(), ids=NEEDED)
def test_what_a_want_needs(rules, files, needed, out):
    """A file that a want needs is judged by the rules of wants, the others by those of patterns."""
    assert judge(rules, files, needed=needed)[0] == out
    assert judge(rules, files, needed=None)[0] == out


def test_a_verdict_says_until_when_and_what_comes_after():
    """The end of the cooldown, the rule that keeps the file out even then, and whether the held file stays."""
    rules = {**WEEK, "yanked": "never"}
    files = [listed(W("1"), age=2), listed(W("2"), age=2, yanked=""), listed(W("3"), age=900)]
    held = {"held": {W("3")}, "replaced": {W("3")}, "known": {W("3")}}
    _, judgement = judge(rules, files, **held)
    assert [(v.until, v.after, v.keeps_held) for v in judgement.out.values()] == [
        (NOW + 5 * DAY_S, "", False),
        (NOW + 5 * DAY_S, "yanked", False),
        (NOW + 7 * DAY_S, "", True),
    ]
    assert judgement.sights == {(W("3"), sight_of(files[2])): NOW}


def test_an_advisory_keeps_out_what_is_not_held():
    """Words about an advisory are a fact; of several rules the first is named; what is held stays."""
    rules = {**WEEK, "exclude-vulnerable": "high"}
    files = [listed(W("1"), age=9), listed(W("2"), age=1), listed(W("3"), age=9)]
    advised = {file.filename: "GHSA-1 (high)" for file in files}
    out, _ = judge(rules, files, advised=advised, held={W("3")}, known={W("3")})
    assert out == {W("1"): "exclude-vulnerable", W("2"): "min-age"}


def test_a_file_is_known_by_its_digest():
    """sha256 before others; without a strong digest size and upload time count too."""
    both = ListedFile(filename="f", url="u", digests=(("sha256", "1" * 64), ("sha512", "2" * 128)))
    weak = ListedFile(filename="f", url="u", digests=(("md5", "3" * 32),), size=5)
    assert sight_of(both) == "sha256:" + "1" * 64
    assert sight_of(weak) == f"md5:{'3' * 32} size:5 time:None"
    assert sight_of(listed("f", digest="1")) == sight_of(both)
