"""What ``mirror status`` says of the daemon, its upkeep, damage and the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.cli.words.status import describe_status
from mirror.core.schedule import DiskSample
from mirror.exit_codes import ExitCode
from mirror.state.cycles import CycleRow
from mirror.state.notes import Activity, DamageNote, Notes, UpkeepNote
from mirror.state.readers.overview import Overview
from mirror.status.objects import status_object
from mirror.status.value import Status

NOW, DAY = 1_800_000_000.0, 86_400.0
GB = 10**9


def status(**values) -> Status:
    row = CycleRow(id=7, started_at=NOW - 65, finished_at=NOW - 60, outcome="complete", exit_code=0, report=None)
    overview = Overview(first_cycle_at=NOW - DAY, last_cycle=row, last_finished=row, indexes=(), failures=(), brakes=())
    fields = {"root": Path("/srv/m"), "config": None, "now": NOW, "pid": None, "credentials": {}}
    return Status(overview=overview, **fields | values)


def sample(days_ago: float, used_gb: int) -> DiskSample:
    return DiskSample(at=NOW - days_ago * DAY, used=used_gb * GB, free=(500 - used_gb) * GB)


ACTIVITY = Activity(pid=12, doing="waiting; next cycle at 08:10", since=NOW - 60, next_cycle_at=NOW + 600)
UPKEEP = UpkeepNote(at=NOW - 2 * 3600, pruned=3, pruned_bytes=GB, checked=1200, checked_bytes=5 * GB)
DAMAGE = DamageNote(path="files/a-1.whl", damage="bytes", detail="other bytes", found_at=NOW - 3600)

SAID = {
    "daemon": (
        {"notes": Notes(activity=ACTIVITY), "daemon_pid": 12},
        "Daemon:     process 12, waiting; next cycle at 08:10",
    ),
    "upkeep": (
        {"notes": Notes(upkeep=UPKEEP)},
        "Upkeep:     2 h ago, deleted 3 files, hashed 1,200 files again (5.0 GB)",
    ),
    "disk-unknown-growth": ({"disk": sample(0, 100)}, "Disk:       400 GB of 500 GB free"),
    "disk-grows": (
        {"disk": sample(0, 100), "notes": Notes(disk=(sample(10, 60),))},
        "Disk:       400 GB of 500 GB free; grows 4.0 GB a day: full in about 100 days",
    ),
    "disk-shrinks": (
        {"disk": sample(0, 100), "notes": Notes(disk=(sample(10, 160),))},
        "Disk:       400 GB of 500 GB free; not growing",
    ),
    "disk-full": (
        {"disk": sample(0, 500), "notes": Notes(disk=(sample(10, 60),))},
        "Disk:       0 B of 500 GB free; grows 44.0 GB a day: full",
    ),
    "disk-almost-full": (
        {"disk": sample(0, 499), "notes": Notes(disk=(sample(10, 60),))},
        "Disk:       1.0 GB of 500 GB free; grows 43.9 GB a day: full in less than a day",
    ),
    "state": ({"notes": Notes(damage=(DAMAGE,))}, "State:      1 file DAMAGED"),
    "damage": ({"notes": Notes(damage=(DAMAGE,))}, "DAMAGED: files/a-1.whl: other bytes"),
    "damage-advice": ({"notes": Notes(damage=(DAMAGE,))}, "1 file found damaged: run `mirror verify --repair`"),
}


@pytest.mark.parametrize(("values", "line"), SAID.values(), ids=SAID)
def test_words(values, line):
    """Each thing that is known is one line."""
    assert line in describe_status(status(**values))


def test_note_of_another_process_is_not_shown():
    """What a daemon noted that is no more says nothing of now."""
    for pid in (None, 13):
        given = status(notes=Notes(activity=ACTIVITY), daemon_pid=pid)
        assert (given.activity, status_object(given)["daemon"]) == (None, None)


def test_damage_is_an_exit_code():
    """Damage that was found is exit code 7, as of ``verify``."""
    assert status(notes=Notes(damage=(DAMAGE,))).exit_code == ExitCode.DAMAGED


def test_json():
    """The object has it all."""
    notes = Notes(activity=ACTIVITY, upkeep=UPKEEP, damage=(DAMAGE,), disk=(sample(10, 60),))
    shown = status_object(status(notes=notes, daemon_pid=12, disk=sample(0, 100)))
    assert {key: shown[key] for key in ("daemon", "upkeep", "damage", "disk")} == {
        "daemon": {
            "pid": 12,
            "doing": "waiting; next cycle at 08:10",
            "since": "2027-01-15T07:59:00Z",
            "next_cycle_at": "2027-01-15T08:10:00Z",
        },
        "upkeep": {
            "finished_at": "2027-01-15T06:00:00Z",
            "pruned": 3,
            "pruned_bytes": GB,
            "checked": 1200,
            "checked_bytes": 5 * GB,
        },
        "damage": [
            {
                "path": "files/a-1.whl",
                "damage": "bytes",
                "detail": "other bytes",
                "found_at": "2027-01-15T07:00:00Z",
            }
        ],
        "disk": {
            "free_bytes": 400 * GB,
            "size_bytes": 500 * GB,
            "growth_bytes_per_day": 4 * GB,
            "days_until_full": 100.0,
        },
    }
