"""Two commands, one truth: who finds damage records it, who mends it clears it, and each sentence is true."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.older_state import downgrade
from mirror.cli import main
from mirror.exit_codes import ExitCode
from mirror.tree.lock import hold
from simulator import Status, build_sdist, build_wheel

pytestmark = pytest.mark.usefixtures("here")


def configure(tmp_path: Path, *indexes: tuple[str, str], more: str = "") -> None:
    tables = "".join(f'[[index]]\nname = "{name}"\nurl = "{url}"\n' for name, url in indexes)
    (tmp_path / "mirror.toml").write_text(f'[mirror]\nroot = "m"\n[limits]\ndisk-reserve = "0"\n{tables}{more}')


def run(capsys, *words: str) -> tuple[int, list[str]]:
    code = main(list(words))
    return code, capsys.readouterr().out.splitlines()


def state(capsys) -> tuple[int, str]:
    code, lines = run(capsys, "status")
    return code, lines[1].removeprefix("State:").strip()


WHOLE = (ExitCode.OK, "fresh and whole")


def lose_file(root: Path) -> Path:
    (path,) = (root / "public/files").rglob("one-*.whl")
    path.unlink()
    return path


def spoil_page(root: Path) -> Path:
    path = root / "public/simple/one"
    (path / "index.html").write_text("spoilt")
    return path


def plant_file(root: Path) -> Path:
    path = root / "public/simple/one/planted"
    path.write_text("x")
    return path


DAMAGES = pytest.mark.parametrize("harm", [lose_file, spoil_page, plant_file], ids=["file", "page", "foreign"])


@DAMAGES
def test_what_verify_finds_status_says_until_it_is_mended(index, tmp_path, capsys, harm):
    """Both end with 7, and both with 0 after verify --repair."""
    configure(tmp_path, ("main", index.url))
    assert run(capsys, "sync", "--once")[0] == ExitCode.OK
    path = harm(tmp_path / "m")
    assert state(capsys) == WHOLE  # nobody has looked yet
    assert run(capsys, "verify")[0] == ExitCode.DAMAGED
    for _ in range(2):
        code, lines = run(capsys, "status")
        assert (code, lines[1]) == (ExitCode.DAMAGED, "State:      1 file DAMAGED")
        assert any(line.startswith(f"DAMAGED: {path}") for line in lines)
        run(capsys, "sync", "--once")  # an idle cycle mends nothing
    assert run(capsys, "verify", "--repair")[0] == ExitCode.OK
    assert state(capsys) == WHOLE
    assert run(capsys, "verify")[0] == ExitCode.OK


def test_what_verify_finds_under_a_state_of_an_older_version(index, tmp_path, capsys):
    """``verify`` writes, so it brings the state up to its own version first, unless another process works on it."""
    configure(tmp_path, ("main", index.url))
    assert run(capsys, "sync", "--once")[0] == ExitCode.OK
    lose_file(tmp_path / "m")
    downgrade(tmp_path / "m/state.db", 3)
    with hold(tmp_path / "m/daemon.lock"):
        assert run(capsys, "verify")[0] == ExitCode.DAMAGED
        assert state(capsys) == WHOLE  # nothing could be recorded
    assert run(capsys, "verify")[0] == ExitCode.DAMAGED
    assert state(capsys) == (ExitCode.DAMAGED, "1 file DAMAGED")


@DAMAGES
def test_what_is_mended_by_hand_is_cleared_by_the_next_whole_look(index, tmp_path, capsys, harm):
    """A look at everything that finds nothing clears what an earlier one has found; a look at a part clears nothing."""
    configure(tmp_path, ("main", index.url))
    assert run(capsys, "sync", "--once")[0] == ExitCode.OK
    before = {path: path.read_bytes() for path in (tmp_path / "m/public").rglob("*") if path.is_file()}
    harm(tmp_path / "m")
    assert run(capsys, "verify")[0] == ExitCode.DAMAGED
    for path in (tmp_path / "m/public").rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, data in before.items():
        path.write_bytes(data)
    if harm is not lose_file:
        run(capsys, "verify", "--sample", "50%")
        assert state(capsys)[0] == ExitCode.DAMAGED
    assert run(capsys, "verify")[0] == ExitCode.OK
    assert state(capsys) == WHOLE


def test_a_page_that_a_cycle_writes_anew_is_mended(index, tmp_path, capsys):
    """A cycle that changes the project writes its page, and clears the damage."""
    configure(tmp_path, ("main", index.url))
    run(capsys, "sync", "--once")
    spoil_page(tmp_path / "m")
    run(capsys, "verify")
    index.state.publish("one", *build_wheel("one", "2.0"))
    assert run(capsys, "sync", "--once")[0] == ExitCode.OK
    assert state(capsys) == WHOLE
    assert run(capsys, "verify")[0] == ExitCode.OK


def test_new_files_are_counted_in_the_projects_that_have_them(index, tmp_path, capsys):
    """Projects that only change their labels are none of those that have new files."""
    configure(tmp_path, ("main", index.url))
    run(capsys, "sync", "--once")
    index.state.publish("one", *build_wheel("one", "2.0"))
    index.state.publish("one", *build_sdist("one", "2.0"))
    index.state.status("two", "archived")
    (line, *_) = run(capsys, "sync", "--once")[1]
    assert line.startswith("main: 2 new files (")
    assert line.endswith(" in 1 project")


def test_nothing_could_be_mirrored_is_never_said_beside_new_files(index, threaded_simulator, tmp_path, capsys):
    """An index that ends in the middle has brought something; one that never answers has not."""
    configure(tmp_path, ("main", index.url), more="[index.auth]\nkind = 'none'\n")
    for number in range(40):
        index.state.publish(f"zz{number:02}", *build_wheel(f"zz{number:02}", "1.0"))
        index.inject(Status(status=401), kind="page", project=f"zz{number:02}")
    code, lines = run(capsys, "sync", "--once")
    if code != ExitCode.PARTIAL:
        assert lines[-1] == "No index could be read to its end; what came before that is kept and published."
    assert "Nothing could be mirrored" not in "\n".join(lines)

    silent = threaded_simulator()
    silent.inject(Status(status=404), kind="root")
    configure(tmp_path, ("other", silent.url))
    (tmp_path / "mirror.toml").write_text((tmp_path / "mirror.toml").read_text().replace('"m"', '"n"'))
    assert run(capsys, "sync", "--once")[1][-1].startswith("Nothing could be mirrored;")


def test_an_index_that_rightly_waits_says_so(index, threaded_simulator, tmp_path, capsys):
    """While the root of an earlier index was never read, a later one does not say «nothing new»."""
    first = threaded_simulator()
    first.state.publish("own", *build_wheel("own", "1.0"))
    first.inject(Status(status=404), kind="root")
    configure(tmp_path, ("first", first.url), ("second", index.url))
    lines = run(capsys, "sync", "--once")[1]
    waits = "second: waits, since the root of an earlier index was never read: no new project comes from it until then"
    assert waits in lines
    assert not any("nothing new" in line for line in lines)
    said = run(capsys, "status")[1]
    assert "second: waits, no new project comes from it until the root of first was read once" in said

    first.faults.clear()
    assert run(capsys, "sync", "--once")[0] == ExitCode.OK
    assert not any("waits" in line for line in run(capsys, "status")[1])


def test_after_a_repair_nothing_has_left_the_configuration(index, tmp_path, capsys):
    """What a rebuilt state holds waits for its indexes."""
    configure(tmp_path, ("main", index.url))
    run(capsys, "sync", "--once")
    for path in (tmp_path / "m").glob("state.db*"):
        path.unlink()
    assert run(capsys, "verify", "--repair")[0] == ExitCode.OK
    said = "\n".join(run(capsys, "status")[1])
    assert "left the configuration" not in said
    assert "2 files rebuilt from the tree, which no index has claimed yet" in said
    assert run(capsys, "sync", "--once")[0] == ExitCode.OK
    assert state(capsys) == WHOLE


def test_a_fatal_error_has_its_priority_in_the_journal(tmp_path, capfd, monkeypatch):
    """Where stderr leads into the journal, the one line of an error begins with <3>; elsewhere it does not."""
    assert main(["status", "--root", "m"]) == ExitCode.STORAGE
    assert capfd.readouterr().err.startswith("error: ")
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    monkeypatch.setattr("sys.stderr", open(2, "w", buffering=1, closefd=False))  # noqa: SIM115 - the real one
    assert main(["status", "--root", "m"]) == ExitCode.STORAGE
    assert capfd.readouterr().err.startswith("<3>error: ")
