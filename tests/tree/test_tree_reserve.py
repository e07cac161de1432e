"""The reserve of the disk: real figures of a real file system, whose answer is the only thing that a test sets."""

from __future__ import annotations

import contextlib
import threading
from array import array
from pathlib import Path

import pytest

from mirror.errors import NoRoom, TreeError
from mirror.tree import reserve as module
from mirror.tree.reserve import Reserve

MIB = 1 << 20


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free bytes of the disk, and how often it was asked for them."""
    disk = [10 * MIB, 0]

    def ask(_: str) -> int:
        disk[1] += 1
        return disk[0]

    monkeypatch.setattr(module, "free_bytes", ask)
    return disk


def test_reserve_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """What would use up the reserve of a real disk is refused; the message names the path, the free space and the key."""
    with pytest.raises(TreeError) as caught:
        Reserve(str(tmp_path), 1 << 60).writing(10)
    assert caught.value.path == str(tmp_path)
    assert caught.value.problem.startswith(f"10 bytes more would use up the reserve of {1 << 60} bytes (")
    assert caught.value.problem.endswith(" bytes free); free some space, or lower `disk-reserve`")


def test_promised_bytes_count_until_they_are_written(tmp_path: Path, free: list[int]) -> None:
    """What others were allowed and have not written yet counts as used, however fresh the system's answer is."""
    kept = Reserve(str(tmp_path), 6 * MIB)
    with kept.writing(2 * MIB), kept.writing(2 * MIB), pytest.raises(TreeError):
        kept.writing(1)
    free[0] = 8 * MIB  # one of them was written, the other given up
    with kept.writing(2 * MIB):
        pass


def test_written_bytes_count_until_the_system_is_asked_again(tmp_path: Path, free: list[int]) -> None:
    """The system is not asked for each write; between two questions what was written is counted."""
    kept = Reserve(str(tmp_path), 6 * MIB)
    for _ in range(4):
        with kept.writing(MIB):
            pass
    assert free[1] == 1
    free[0] = 6 * MIB
    with pytest.raises(TreeError):
        kept.writing(1)
    assert free[1] == 2


def test_other_processes_promises_count(tmp_path: Path, free: list[int]) -> None:
    """What other processes were allowed counts as well: all write their sums where the others see them."""
    pending_bytes = memoryview(array("q", [0, 0]))
    ours = Reserve(str(tmp_path), 6 * MIB, pending_bytes=pending_bytes, slot=0)
    theirs = Reserve(str(tmp_path), 6 * MIB, pending_bytes=pending_bytes, slot=1)
    with theirs.writing(3 * MIB):
        with pytest.raises(TreeError):
            ours.writing(2 * MIB)
        with ours.writing(MIB):
            assert pending_bytes.tolist() == [MIB, 3 * MIB]
    assert pending_bytes.tolist() == [0, 0]


def test_threads_together_keep_the_reserve(tmp_path: Path, free: list[int]) -> None:
    """Of many threads that ask at once only so many are allowed as fit."""
    kept = Reserve(str(tmp_path), 6 * MIB)
    start, allowed = threading.Barrier(16), []

    def ask() -> None:
        start.wait()
        with contextlib.suppress(TreeError):
            allowed.append(kept.writing(MIB))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(allowed) == 4


def test_file_system_that_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows the free space, nothing is held back."""
    monkeypatch.setattr(module, "free_bytes", lambda _: None)
    with Reserve(str(tmp_path), 1 << 60).writing(MIB):
        pass


@pytest.mark.parametrize(
    ("written", "announced", "free_now", "is_refused"),
    [
        pytest.param(40, None, 46, False, id="as much is left free"),
        pytest.param(41, None, 46, True, id="more than is left free"),
        pytest.param(3, None, 10, False, id="the disk is full without it"),
        pytest.param(0, 94, 100, False, id="what is announced fits"),
        pytest.param(0, 95, 100, True, id="more is announced than there was"),
        pytest.param(50, 90, 46, False, id="its end is announced"),
    ],
)
def test_a_body_that_no_listing_bounds(
    tmp_path: Path, free: list[int], written: int, announced: int | None, free_now: int, is_refused: bool
) -> None:
    """It leaves as much free as it takes, or fits into what was free at first; on a full disk it is not what is at fault."""
    kept = Reserve(str(tmp_path), 6 * MIB)
    free[0] = 100 * MIB
    kept.check_unlisted(0, None)
    free[0] = free_now * MIB
    kept._asked_again_at_s = 0.0
    total = None if announced is None else announced * MIB
    with pytest.raises(NoRoom) if is_refused else contextlib.nullcontext():
        kept.check_unlisted(written * MIB, total)


def test_a_disk_that_does_not_say_bounds_nothing(tmp_path: Path, free: list[int | None]) -> None:
    """Where nobody knows how much is free, the listing and the settings alone bound a body."""
    free[0] = None
    Reserve(str(tmp_path), 6 * MIB).check_unlisted(1 << 60, None)
