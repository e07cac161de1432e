"""An index that shows strangers less is not read without the credential with which it was read before."""

from __future__ import annotations

import sqlite3

import pytest

from harness.in_process import Mirror, failures, offered
from mirror.config import AuthConfig
from simulator import build_wheel

VARIABLES = {"MIRROR_MAIN_USERNAME": "user", "MIRROR_MAIN_PASSWORD": "secret"}


async def with_strangers(simulator, **settings):
    """Start an index whose private project only its users see."""
    index = await simulator(username="user", password="secret", anonymous=("public", "other"), **settings)
    for name in ("private", "public", "other"):
        index.state.publish(name, *build_wheel(name, "1.0"))
    return index


def automatic(mirror: Mirror) -> None:
    mirror.env = {"HOME": "/nonexistent", **VARIABLES}
    mirror.configure("main", auth=None)


def lose(mirror: Mirror) -> None:
    mirror.env = {"HOME": "/nonexistent"}


def bit(mirror: Mirror):
    return mirror.query("SELECT had_credential FROM source")[0][0]


def forget(mirror: Mirror) -> None:
    """Make the state one of an older version."""
    connection = sqlite3.connect(mirror.root / "state.db")
    with connection:
        connection.execute("UPDATE source SET had_credential = NULL")
    connection.close()


@pytest.mark.parametrize("options", [{}, {"indexes": ("main",)}, {"projects": ("public",)}, {"dry_run": True}],
                         ids=["whole", "index", "project", "dry-run"])  # fmt: skip
async def test_a_lost_credential_removes_nothing(simulator, mirror_of, options):
    """With the variable gone nothing is asked, in however many cycles: exit 3, the reason named, all stays."""
    index = await with_strangers(simulator)
    mirror = mirror_of(index)
    automatic(mirror)
    await mirror.cycle()
    lose(mirror)
    index.take_requests()
    for _ in range(3):
        report = await mirror.cycle(**options)
        assert (report.outcome.value, mirror.exit_code) == ("aborted", 3)
        assert failures(report) == [("main", None, None, "denied")]
        detail = report.failures[0].detail
        assert "was read with a credential; none was found in $MIRROR_MAIN_USERNAME and $MIRROR_MAIN_PASSWORD" in detail
        assert "mirror sync --once --allow-shrink --index main" in detail
        assert index.take_requests() == []
    assert mirror.files() == offered(index)
    automatic(mirror)
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))


async def test_kind_none_is_no_way_around(simulator, mirror_of):
    """A configuration that says that there is no credential is asked for the command as well."""
    index = await with_strangers(simulator)
    mirror = mirror_of(index)
    automatic(mirror)
    await mirror.cycle()
    mirror.configure("main", auth=AuthConfig(kind="none"))
    report = await mirror.cycle()
    assert mirror.exit_code == 3
    assert "none was found in the configuration" in report.failures[0].detail


@pytest.mark.parametrize("options", [{}, {"indexes": ("main",)}], ids=["whole", "index"])
async def test_only_allow_shrink_reads_it_without(simulator, mirror_of, options):
    """--allow-shrink reads the shorter root and is remembered: then two looks remove what strangers do not see."""
    index = await with_strangers(simulator)
    mirror = mirror_of(index)
    automatic(mirror)
    await mirror.cycle()
    lose(mirror)
    await mirror.cycle(allow_shrink=True, projects=("public",))
    assert (mirror.exit_code, bit(mirror)) == (3, 1)
    await mirror.cycle(allow_shrink=True, dry_run=True)
    assert (mirror.exit_code, bit(mirror)) == (0, 1)
    await mirror.cycle(allow_shrink=True, **options)
    assert (mirror.exit_code, bit(mirror)) == (0, 0)
    assert sorted(mirror.files()) == ["other", "private", "public"]
    await mirror.cycle(allow_shrink=True)
    assert (mirror.exit_code, sorted(mirror.files())) == (0, ["other", "public"])
    await mirror.cycle()
    assert mirror.exit_code == 0


async def test_another_credential_is_the_same_identity(simulator, mirror_of):
    """Another user, another token and another kind of credential are read as before."""
    index = await with_strangers(simulator, token="a-token")
    mirror = mirror_of(index)
    automatic(mirror)
    await mirror.cycle()
    index.settings.username, index.settings.password = "someone", "else"
    mirror.env = {"HOME": "/nonexistent", "MIRROR_MAIN_USERNAME": "someone", "MIRROR_MAIN_PASSWORD": "else"}
    await mirror.cycle()
    assert mirror.exit_code == 0
    mirror.env["TOKEN"] = "a-token"
    mirror.configure("main", auth=AuthConfig(kind="bearer", token_env="TOKEN"))
    await mirror.cycle()
    assert (mirror.exit_code, bit(mirror)) == (0, 1)


async def test_a_credential_that_comes_later_is_remembered(simulator, mirror_of):
    """An index that was read without a credential is read with one as soon as there is one, and then only so."""
    index = await with_strangers(simulator)
    mirror = mirror_of(index)
    automatic(mirror)
    lose(mirror)
    await mirror.cycle()
    assert (mirror.exit_code, bit(mirror), sorted(mirror.files())) == (0, 0, ["other", "public"])
    automatic(mirror)
    await mirror.cycle()
    assert (mirror.exit_code, bit(mirror), mirror.files()) == (0, 1, offered(index))
    lose(mirror)
    await mirror.cycle()
    assert mirror.exit_code == 3


@pytest.mark.parametrize("has_credential", [True, False])
async def test_a_state_of_an_older_version_takes_its_next_look(simulator, mirror_of, has_credential):
    """Where the state does not know how the index was read, the next look tells."""
    index = await with_strangers(simulator)
    mirror = mirror_of(index)
    automatic(mirror)
    if not has_credential:
        lose(mirror)
    await mirror.cycle()
    forget(mirror)
    await mirror.cycle()
    assert (mirror.exit_code, bit(mirror)) == (0, int(has_credential))


async def test_without_a_root_page(simulator, mirror_of):
    """With list = "config" the pages tell how the index was read, and nothing is asked without a credential."""
    index = await with_strangers(simulator)
    mirror = mirror_of(index)
    automatic(mirror)
    mirror.configure("main", list="config", projects=("private", "public"))
    await mirror.cycle()
    assert bit(mirror) == 1
    forget(mirror)
    await mirror.cycle()
    assert bit(mirror) == 1
    lose(mirror)
    index.take_requests()
    await mirror.cycle()
    assert (mirror.exit_code, index.take_requests()) == (3, [])


async def test_a_wrong_credential_is_no_look(simulator, mirror_of):
    """A credential that was refused is not remembered: without it the index is read as before."""
    index = await with_strangers(simulator)
    index.settings.anonymous = None
    mirror = mirror_of(index)
    automatic(mirror)
    mirror.env["MIRROR_MAIN_PASSWORD"] = "wrong"
    await mirror.cycle()
    assert (mirror.exit_code, bit(mirror)) == (3, None)


async def test_a_credential_that_vanishes_in_the_middle(simulator, mirror_of, tmp_path):
    """An entry that leaves the netrc file while pages are read ends the part: no page is asked for without it."""
    index = await with_strangers(simulator)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    mirror = mirror_of(index)
    mirror.configure("main", auth=None)
    mirror.env = {"NETRC": str(netrc)}
    await mirror.cycle()
    assert bit(mirror) == 1
    index.take_requests()
    async with mirror.opened() as cycle:
        (run,) = cycle.runs
        netrc.write_text("")
        run.access.session.credentials._check_at = 0.0
        with pytest.raises(Exception, match="was read with a credential"):
            await run.access.client.fetch_root(None)
    assert index.take_requests() == []


async def test_the_other_index_goes_on(simulator, mirror_of):
    """Only the index whose credential is gone ends; the other one is mirrored, and takes over nothing."""
    first, second = await with_strangers(simulator), await simulator()
    second.state.publish("private", *build_wheel("private", "6.6.6"))
    second.state.publish("more", *build_wheel("more", "1.0"))
    mirror = mirror_of(first=first, second=second)
    mirror.configure("first", auth=None)
    mirror.env = {"HOME": "/nonexistent", "MIRROR_FIRST_USERNAME": "user", "MIRROR_FIRST_PASSWORD": "secret"}
    await mirror.cycle()
    before = mirror.files()
    lose(mirror)
    second.state.publish("more", *build_wheel("more", "2.0"))
    report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("partial", 3)
    assert mirror.files() == before | {"more": offered(second)["more"]}
