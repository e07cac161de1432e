"""Which bundle applies on which state, and what is said about one that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.handmade_bundles import Far, Made, Signer, Site, State, canonical, read_tree, some_file

A, B, C, D = (some_file(name, "1.0") for name in ("aa", "bb", "cc", "dd"))
A2 = some_file("aa", "2.0")

FIRST = State({"aa": [A], "bb": [B]}, 1)
SECOND = State({"aa": [A, A2], "bb": [B], "cc": [C]}, 2)
THIRD = State({"aa": [A2], "cc": [C]}, 3)
FOURTH = State({"aa": [A2], "cc": [C], "dd": [D]}, 4)


def test_a_full_bundle_makes_the_tree(site: Site, far: Far) -> None:
    """The first bundle makes a tree that is served, a record and a receipt."""
    made = site.make(FIRST)
    done = far.receive(made)
    assert (done.code, done.out) == (
        0,
        f"lab-000001 is applied and served\ncarry {far.root}/receipt.json back to the near side\n",
    )
    far.check_serves(FIRST)
    far.check_holds(FIRST)
    entry = {
        "name": "bundle-000001",
        "sequence": 1,
        "digest": made.digest,
        "state": FIRST.digest,
        "created_at": "2026-01-02T03:04:05Z",
        "applied_at": far.receipt["applied_at"],
    }
    assert far.record == {
        "format": 1,
        "site": "lab",
        "chain": site.chain,
        "signer": "near@example.org",
        "applied": [entry],
        "next": None,
        "sweep": False,
    }
    assert far.receipt == {
        "format": 1,
        "site": "lab",
        "chain": site.chain,
        "sequence": 1,
        "digest": made.digest,
        "state_digest": FIRST.digest,
        "applied_at": entry["applied_at"],
        "free_bytes": far.receipt["free_bytes"],
        "damage": [],
        "host": "",
    }
    assert (far.public / "simple").readlink() == Path("snapshots/bundle-000001/simple")
    assert (far.public / "snapshots/bundle-000001/files").readlink() == Path("../../files")
    assert not list((far.root / "staging").iterdir())


def test_an_update_brings_only_what_changed(site: Site, far: Far) -> None:
    """An update changes, adds and removes; pages that did not change are hard links."""
    far.receive_well(site.make(FIRST))
    far.receive_well(site.make(SECOND))
    far.check_serves(SECOND)
    old, new = (far.public / f"snapshots/bundle-00000{n}/simple/bb/index.html" for n in (1, 2))
    assert old.samefile(new)
    far.receive_well(site.make(THIRD))
    far.check_serves(THIRD)
    assert far.kept == [1, 2, 3]


def test_the_same_bundle_again_changes_nothing(site: Site, far: Far) -> None:
    """A bundle that was applied last is accepted again, exit code 0, and nothing changes."""
    made = site.make(FIRST)
    far.receive_well(made)
    before = {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in far.public.rglob("*")}
    record = far.record
    done = far.receive(made)
    assert (done.code, done.out.splitlines()[0]) == (
        0,
        "lab-000001 was applied before; nothing changed; served is bundle-000001",
    )
    after = {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in far.public.rglob("*")}
    assert (after, far.record) == (before, record)


def refused(far: Far, made: Made, *options: str) -> str:
    """Receive a bundle that must be refused without any change; return the reason."""
    before = (
        {path: data for path, data in read_tree(far.root).items() if "/files/" in path} if far.root.exists() else {}
    )
    record = (far.root / "receive.json").read_bytes() if (far.root / "receive.json").exists() else None
    done = far.receive(made, options=options)
    assert done.code == 7, done
    assert record == ((far.root / "receive.json").read_bytes() if record else None)
    assert before == {p: d for p, d in read_tree(far.root).items() if "/files/" in p}
    return done.err.splitlines()[-1]


def test_another_sites_bundle_is_refused(site: Site, far: Far, tmp_path: Path, signer: Signer) -> None:
    """A bundle for another site is refused, even with --new-chain."""
    far.receive_well(site.make(FIRST))
    other = Site(tmp_path / "other", signer, name="plant", chain="d" * 32).make(FIRST)
    reason = "receive: plant-000001 is for the site 'plant'; this one is 'lab'"
    assert refused(far, other) == reason
    assert refused(far, other, "--new-chain") == reason


def test_a_gap_is_refused_and_the_missing_bundles_are_named(site: Site, far: Far) -> None:
    """A bundle that builds on one that did not come names all that are missing."""
    far.receive_well(site.make(FIRST))
    site.make(SECOND)
    site.make(THIRD)
    last = site.make(FOURTH)
    assert refused(far, last) == (
        "receive: lab-000004 builds on lab-000003; this site has lab-000001. Missing: lab-000002, lab-000003. "
        "If that is lost, ask the near side for a bundle made with --since 1"
    )


def test_wrong_order_then_right_order(site: Site, far: Far) -> None:
    """Bundles that came in the wrong order are applied in the right one."""
    first, second, third = site.make(FIRST), site.make(SECOND), site.make(THIRD)
    assert refused(far, second) == (
        "receive: lab-000002 builds on lab-000001, and nothing was received here yet: missing is lab-000001 and what came "
        "before it, or a bundle made with --full"
    )
    for made in (first, second, third):
        far.receive_well(made)
    far.check_serves(THIRD)


def test_a_lost_bundle_is_superseded(site: Site, far: Far) -> None:
    """After a bundle was lost, one made since the last that arrived applies; the lost one is older then."""
    far.receive_well(site.make(FIRST))
    lost = site.make(SECOND)
    far.receive_well(site.make(THIRD, since=1))
    far.check_serves(THIRD)
    assert refused(far, lost) == (
        "receive: lab-000002 is older than lab-000003, which was applied here; an older state is served by --rollback"
    )


def test_a_superseding_bundle_applies_on_what_it_supersedes(site: Site, far: Far) -> None:
    """A bundle made since an older one applies on a far side where the lost one did arrive."""
    far.receive_well(site.make(FIRST))
    far.receive_well(site.make(SECOND))
    far.receive_well(site.make(THIRD, since=1))
    far.check_serves(THIRD)


def test_a_fork_is_refused(site: Site, far: Far, tmp_path: Path, signer: Signer) -> None:
    """Bundles of a near side that was set back to an older state are refused: same sequence, or built on another one."""
    site.make(FIRST)
    fork = Site(tmp_path / "fork", signer, made=list(site.made))
    far.receive_well(site.made[0])
    far.receive_well(site.make(SECOND))
    other = fork.make(THIRD)
    assert refused(far, other) == (
        "receive: lab-000002 is another bundle than the lab-000002 that was applied here (a fork of the chain)"
    )
    assert refused(far, fork.make(FOURTH)) == (
        "receive: lab-000003 builds on another lab-000002 than the one that was applied here (a fork of the chain): ask the "
        "near side for a bundle made with --full"
    )


def test_a_near_side_that_was_put_back_goes_on(site: Site, far: Far, tmp_path: Path, signer: Signer) -> None:
    """After the near side came back from a backup, a full bundle with an older number applies with --new-chain only."""
    for state in (FIRST, SECOND, THIRD):
        far.receive_well(site.make(state))
    back = Site(tmp_path / "back", signer, made=site.made[:1])
    full = back.make(FOURTH, full=True)
    assert refused(far, full) == (
        "receive: lab-000002 is older than lab-000003, which was applied here; an older state is served by --rollback. If the "
        "near side was put back from a backup, and this is wanted: run it again with --new-chain"
    )
    far.receive_well(full, options=["--new-chain"])
    far.check_serves(FOURTH)
    assert far.receive(full).code == 0
    far.receive_well(back.make(SECOND))
    far.check_serves(SECOND)
    assert far.kept == [3, 2, 3]


def test_kept_states_of_one_number_are_told_apart(site: Site, far: Far, tmp_path: Path, signer: Signer) -> None:
    """A near side that was put back again and again: each kept state has a place of its own."""
    far.receive_well(site.make(FIRST))
    far.receive_well(site.make(SECOND))
    for work, state in (("once", THIRD), ("twice", FOURTH)):
        back = Site(tmp_path / work, signer, made=site.made[:1])
        far.receive_well(back.make(state, full=True), options=["--new-chain"])
        far.check_serves(state)
    assert far.kept == [2, 2, 2]
    far.check_holds(SECOND, THIRD, FOURTH)
    assert far.run("--check").code == 0


def test_a_bundle_that_skips_the_applied_one_is_refused(site: Site, far: Far) -> None:
    """A bundle built on an older state that does not supersede the applied one is a fork."""

    def forget(manifest: dict[str, object]) -> None:
        manifest["supersedes"] = []

    far.receive_well(site.make(FIRST))
    far.receive_well(site.make(SECOND))
    assert refused(far, site.make(THIRD, since=1, change=forget)) == (
        "receive: lab-000003 builds on lab-000001 and does not supersede lab-000002, which was applied here (a fork of the "
        "chain): ask the near side for a bundle made with --since 2"
    )


def test_a_full_bundle_of_the_same_chain_applies_on_any_state(site: Site, far: Far) -> None:
    """A later full bundle needs no base."""
    far.receive_well(site.make(FIRST))
    site.make(SECOND)
    far.receive_well(site.make(THIRD, full=True))
    far.check_serves(THIRD)


def test_a_new_chain_needs_a_word(site: Site, far: Far, tmp_path: Path, signer: Signer) -> None:
    """A full bundle of another chain applies with --new-chain only, also when a kept state has its name."""
    far.receive_well(site.make(FIRST))
    other = Site(tmp_path / "other", signer, chain="d" * 32)
    full = other.make(SECOND)
    assert refused(far, full) == (
        "receive: lab-000001 begins a new chain (dddddddd…): ask the near side why; if this is wanted, run it again with "
        "--new-chain"
    )
    far.receive_well(full, options=["--new-chain"])
    far.check_serves(SECOND)
    assert [entry["name"] for entry in far.record["applied"]] == ["bundle-000001", f"bundle-000001-{full.digest[:8]}"]
    assert refused(far, site.make(THIRD)) == (
        "receive: lab-000002 belongs to another chain (c0ffee00…) than what was applied here (dddddddd…): ask the near side "
        "for a bundle made with --full"
    )
    far.receive_well(other.make(THIRD))
    far.check_serves(THIRD)


def test_a_lost_record_needs_a_word(site: Site, far: Far) -> None:
    """Without receive.json in a tree that has pages, a full bundle applies with --new-chain only; old states go."""
    far.receive_well(site.make(FIRST))
    (far.root / "receive.json").unlink()
    full = site.make(THIRD, full=True)
    assert refused(far, full) == (
        "receive: receive.json is missing, but something was received here before: put it back from a backup, or run this "
        "again with --new-chain"
    )
    far.receive_well(full, options=["--new-chain"])
    far.check_serves(THIRD)
    far.check_holds(THIRD)
    assert [p.name for p in (far.public / "snapshots").iterdir()] == ["bundle-000002"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _: b"{", id="no-json"),
        pytest.param(lambda text: text.replace(b'"format":1', b'"format":2'), id="newer-format"),
        pytest.param(lambda text: text.replace(b"bundle-000001", b"../../escape"), id="escaping-name"),
    ],
)
def test_a_damaged_record_is_told(site: Site, far: Far, spoil: Callable[[bytes], bytes]) -> None:
    """A record that can't be read ends every command with exit code 6 and advice."""
    far.receive_well(site.make(FIRST))
    path = far.root / "receive.json"
    path.write_bytes(spoil(path.read_bytes()))
    for done in (far.receive(site.make(SECOND)), far.run("--status"), far.run("--rollback"), far.run("--check")):
        assert done.code == 6
        assert "receive.json is damaged" in done.err
        assert "--new-chain" in done.err


def test_only_kept_states_stay(site: Site, far: Far) -> None:
    """The last three states stay, and the blobs that they list; --keep says otherwise."""
    states = [FIRST, SECOND, THIRD, FOURTH]
    for state in states:
        far.receive_well(site.make(state))
    assert far.kept == [2, 3, 4]
    far.check_holds(SECOND, THIRD, FOURTH)
    assert sorted(p.name for p in (far.root / "states").iterdir()) == [f"bundle-00000{n}.sha256" for n in (2, 3, 4)]
    far.receive_well(site.make(FIRST), options=["--keep", "1"])
    assert far.kept == [5]
    far.check_holds(FIRST)
    far.check_serves(FIRST)
    assert [p.name for p in (far.public / "snapshots").iterdir()] == ["bundle-000005"]


def test_rollback_lasts_until_the_next_bundle(site: Site, far: Far) -> None:
    """--rollback serves the state before, or a named one, and the next bundle builds on the newest all the same."""
    for state in (FIRST, SECOND, THIRD):
        far.receive_well(site.make(state))
    assert far.run("--rollback").code == 0
    far.check_serves(SECOND)
    assert far.run("--rollback").code == 0
    far.check_serves(FIRST)
    done = far.run("--rollback")
    assert (done.code, done.err) == (2, "receive: there is no such state; kept are 1, 2, 3; served is bundle-000001\n")
    assert far.run("--rollback", 9).code == 2
    assert far.receive(site.made[-1]).code == 0
    far.check_serves(FIRST)
    assert far.run("--rollback", 3).code == 0
    far.check_serves(THIRD)
    assert far.run("--rollback", "1").code == 0
    far.receive_well(site.make(FOURTH))
    far.check_serves(FOURTH)
    assert far.kept == [2, 3, 4]


def test_the_status_tells_what_is_served(site: Site, far: Far) -> None:
    """--status names the kept states and the one that is served, as text and as JSON."""
    assert far.run("--status").code == 6
    far.receive_well(site.make(FIRST))
    far.receive_well(site.make(SECOND))
    far.run("--rollback")
    at = [entry["applied_at"] for entry in far.record["applied"]]
    assert far.run("--status").out == (
        "site lab, chain c0ffee00…, signed by near@example.org\n"
        f"       1  made 2026-01-02T03:04:05Z  applied {at[0]}  (served)\n"
        f"       2  made 2026-01-02T03:04:05Z  applied {at[1]}\n"
    )
    report = far.run("--status", "--json").report
    assert (report["format"], report["outcome"], report["live"], report["applied"]) == (
        1,
        "status",
        "bundle-000001",
        far.record["applied"],
    )


def test_a_bundle_without_changes_applies(site: Site, far: Far) -> None:
    """A bundle that brings nothing, without volumes, leads to an equal state."""
    far.receive_well(site.make(FIRST))
    made = site.make(FIRST)
    assert made.manifest["volumes"] == []
    far.receive_well(made)
    far.check_serves(FIRST)
    assert far.kept == [1, 2]


def test_the_state_must_come_out_right(site: Site, far: Far) -> None:
    """A bundle whose pages do not lead to the state that it promises is refused before anything is switched."""

    def promise(manifest: dict[str, object]) -> None:
        manifest["state"] = {**json.loads(canonical(manifest["state"])), "digest": "0" * 64}

    far.receive_well(site.make(FIRST))
    done = far.receive(site.make(SECOND, change=promise))
    assert (done.code, done.err.splitlines()[-1]) == (
        7,
        "receive: the pages are not those that the near side has: a page here is damaged; run --check",
    )
    far.check_serves(FIRST)


def test_a_sidecar_must_be_the_one_that_its_page_lists(site: Site, far: Far) -> None:
    """A bundle whose page lists another sidecar than the one that came is refused: no client would take the file."""
    far.receive_well(site.make(FIRST))

    class Lying(State):
        @property
        def blobs(self) -> dict[str, bytes]:
            return {**super().blobs, f"{C.path}.metadata": b"Name: other\n"}

    done = far.receive(site.make(Lying(SECOND.projects, 2)))
    assert done.code == 7
    assert f"receive: {C.path}.metadata: is listed with another sha256 than the one that came" in done.err
    far.check_serves(FIRST)


def test_a_page_must_not_list_what_does_not_come(site: Site, far: Far) -> None:
    """A bundle whose pages list a file that it lacks is refused before anything is switched."""
    far.receive_well(site.make(FIRST))

    def lose(manifest: dict[str, object]) -> None:
        assert isinstance(manifest["blobs"], list)
        manifest["blobs"] = [item for item in manifest["blobs"] if not item["path"].startswith(C.path)]

    def without(_: int, members: list) -> bytes:
        from harness.handmade_bundles import tar_of

        return tar_of(_, [m for m in members if not m[0].name.startswith(C.path)])

    done = far.receive(site.make(SECOND, change=lose, tarballs=without))
    assert done.code == 7
    assert f"receive: {C.path}: is listed and not there" in done.err
    assert f"receive: {C.path}.metadata: is listed and not there" in done.err
    far.check_serves(FIRST)
