"""The same filename with other bytes, and digests that come and go."""

from __future__ import annotations

import pytest

from harness.in_process import counters, failures, offered, requests
from simulator import Corrupt, build_wheel

NAME, FIRST = build_wheel("alpha", "1.0")
SECOND = build_wheel("alpha", "1.0", extra_files={"alpha/other.py": "x = 1\n"})[1]


@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
async def test_replaced_bytes_are_followed_and_the_old_ones_stay_aside(simulator, mirror_of, serials):
    """Other bytes under the same name take the place of the old ones on the page; the old blob stays."""
    index = await simulator(serials=serials)
    old = index.state.publish("alpha", NAME, FIRST).hash("sha256")
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.replace("alpha", NAME, SECOND)

    report = await mirror.cycle()

    assert mirror.files() == offered(index)
    assert counters(report) == {"projects_listed": 1, "projects_checked": 1, "projects_changed": 1, "files_replaced": 1}
    assert (mirror.root / "public/files" / old[:2] / old[2:4] / old / NAME).read_bytes() == FIRST
    assert mirror.query("SELECT unlisted_since FROM blob WHERE sha256 = ?", old) == [(mirror.clock.now,)]


async def test_replaced_and_back_again_needs_no_download(simulator, mirror_of):
    """Bytes that come back while their blob is still held are published without a download."""
    index = await simulator()
    index.state.publish("alpha", NAME, FIRST)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.replace("alpha", NAME, SECOND)
    await mirror.cycle()
    index.state.replace("alpha", NAME, FIRST)

    report = await mirror.cycle()

    assert (mirror.files(), report.indexes["main"].bytes_downloaded) == (offered(index), 0)
    assert report.indexes["main"].files_replaced == 1


async def test_replaced_bytes_that_cannot_be_had_leave_the_old_ones_with_new_labels(simulator, mirror_of):
    """Until the new bytes are held the old entry stays, but it takes the yank at once."""
    index = await simulator()
    index.state.publish("alpha", NAME, FIRST)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.replace("alpha", NAME, SECOND, yanked="broken")
    index.inject(Corrupt(), filename=NAME)

    report = await mirror.cycle()

    assert mirror.files() == before
    assert mirror.labels("alpha", NAME)["yanked"] == "broken"
    assert failures(report) == [("main", "alpha", NAME, "digest-mismatch")]
    index.faults.clear()
    report = await mirror.cycle()
    assert (mirror.files(), mirror.ledger()) == (offered(index), [])
    assert counters(report)["files_replaced"] == 1


async def test_keep_refuses_the_replacement_once(simulator, mirror_of, capsys):
    """With on-replace = "keep" the old bytes stay, without a download; it is told once, and labels still follow."""
    index = await simulator()
    index.state.publish("alpha", NAME, FIRST)
    mirror = mirror_of(index)
    mirror.configure("main", on_replace="keep")
    await mirror.cycle()
    before = mirror.files()
    index.state.replace("alpha", NAME, SECOND)
    capsys.readouterr()

    report = await mirror.cycle()
    assert mirror.files() == before
    assert report.indexes["main"].bytes_downloaded == 0
    assert "".join(capsys.readouterr()).count("file.replacement_refused") == 1

    index.state.yank("alpha", NAME)
    await mirror.cycle()
    assert mirror.files() == before
    assert mirror.labels("alpha", NAME)["yanked"] is True
    assert "file.replacement_refused" not in "".join(capsys.readouterr())


async def test_from_keep_to_follow(simulator, mirror_of):
    """A change from keep to follow takes effect in the next cycle although the page is confirmed unchanged."""
    index = await simulator(serials=True)
    index.state.publish("alpha", NAME, FIRST)
    mirror = mirror_of(index)
    mirror.configure("main", on_replace="keep")
    await mirror.cycle()
    index.state.replace("alpha", NAME, SECOND)
    await mirror.cycle()
    mirror.configure("main", on_replace="follow")

    await mirror.cycle()

    assert mirror.files() == offered(index)


@pytest.mark.parametrize("hashes", [("md5",), ()], ids=["md5", "none"])
async def test_files_without_a_strong_digest_are_pinned_and_counted(simulator, mirror_of, hashes):
    """Without a strong digest a file is held, counted as unhashed and not fetched again while nothing changes."""
    index = await simulator(hashes=hashes)
    index.state.publish("alpha", NAME, FIRST)
    mirror = mirror_of(index)

    report = await mirror.cycle()
    assert (mirror.files(), report.outcome.value, report.indexes["main"].files_unhashed) == (
        offered(index),
        "complete",
        1,
    )
    index.take_requests()
    report = await mirror.cycle(full=True)

    assert [r for r in requests(index) if r[0] == "file"] == []
    assert report.indexes["main"].files_unhashed == 1


@pytest.mark.parametrize(
    "later", [("sha256",), ("sha512",), ("md5", "sha256"), ("blake2b",)], ids=["sha256", "sha512", "both", "blake2b"]
)
@pytest.mark.parametrize("first", [("md5",), ()], ids=["md5", "none"])
async def test_a_digest_that_appears_later_and_fits(simulator, mirror_of, first, later):
    """A digest that appears later is compared with the held bytes: nothing is fetched, the file counts as hashed."""
    index = await simulator(hashes=first)
    index.state.publish("alpha", NAME, FIRST)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.settings.hashes = later
    index.take_requests()

    plan = await mirror.plan()
    report = await mirror.cycle()

    assert (plan, [r for r in requests(index) if r[0] == "file"]) == ([], [])
    assert (mirror.files(), report.indexes["main"].files_unhashed) == (offered(index), 0)
    assert mirror.labels("alpha", NAME)["hashes"] == {"sha256": index.state["alpha"].files[NAME].hash("sha256")}


@pytest.mark.parametrize("later", [("sha256",), ("sha512",), ("md5",)], ids=["sha256", "sha512", "md5"])
@pytest.mark.parametrize("policy", ["follow", "keep"])
async def test_a_digest_that_appears_later_and_differs(simulator, mirror_of, later, policy):
    """A digest that appears later and is another file's means replaced bytes, and on-replace says what follows."""
    index = await simulator(hashes=())
    index.state.publish("alpha", NAME, FIRST, size=None, upload_time=None)
    mirror = mirror_of(index)
    mirror.configure("main", on_replace=policy)
    await mirror.cycle()
    before = mirror.files()
    index.settings.hashes = later
    index.state.change("alpha", NAME, data=SECOND)

    plan = await mirror.plan()
    report = await mirror.cycle()

    if policy == "follow":
        assert plan == [("main", "alpha", NAME, "replace")]
        assert (mirror.files(), report.indexes["main"].files_replaced) == (offered(index), 1)
    else:
        assert plan == []
        assert (mirror.files(), report.indexes["main"].bytes_downloaded) == (before, 0)
        await mirror.cycle()
        assert mirror.files() == before


@pytest.mark.parametrize(
    "labels", [{"size": len(SECOND)}, {"upload_time": "2026-05-05T00:00:00Z"}], ids=["size", "upload-time"]
)
async def test_without_digests_another_size_or_upload_time_means_other_bytes(simulator, mirror_of, labels):
    """Where no digest tells, a changed size or upload time is taken for other bytes."""
    index = await simulator(hashes=())
    index.state.publish("alpha", NAME, FIRST)
    mirror = mirror_of(index)
    await mirror.cycle()
    file = index.state["alpha"].files[NAME]
    index.state.change("alpha", NAME, **{"data": SECOND, "size": None, **labels})

    await mirror.cycle()

    assert file.data == FIRST
    assert mirror.files() == offered(index)


async def test_unhashed_files_may_be_refused(simulator, mirror_of):
    """With unhashed = "refuse" such a file is in the ledger, is never asked for, and joins once it has a digest."""
    index = await simulator(hashes=("md5",))
    index.state.publish("alpha", NAME, FIRST)
    mirror = mirror_of(index)
    mirror.configure("main", unhashed="refuse")

    report = await mirror.cycle()
    await mirror.cycle()

    assert (mirror.files(), failures(report)) == ({}, [("main", "alpha", NAME, "refused-unhashed")])
    assert (mirror.exit_code, [r for r in requests(index) if r[0] == "file"]) == (5, [])
    index.settings.hashes = ("sha256",)
    await mirror.cycle()
    assert (mirror.files(), mirror.ledger(), mirror.exit_code) == (offered(index), [], 0)


async def test_a_changed_url_is_no_news(simulator, mirror_of):
    """Another address for the same bytes fetches nothing and writes no page."""
    index = await simulator()
    index.state.publish("alpha", NAME, FIRST)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.footprint()
    index.state.change("alpha", NAME, directory="elsewhere")
    index.take_requests()

    report = await mirror.cycle()

    assert [r[0] for r in requests(index)] == ["page", "root"]
    assert (mirror.footprint(), counters(report).get("projects_changed", 0)) == (before, 0)
