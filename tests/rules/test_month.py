"""A month of cycles over releases with their real dates: each file enters in the first cycle after its week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.in_process import DAY_S, Mirror
from simulator import build_sdist

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
EVERY = timedelta(hours=47)
WEEK = timedelta(days=7)

RELEASES = {
    "jinja2": {"3.1.2": "2022-04-28T17:21:25Z", "3.1.3": "2024-01-10T23:12:19Z"},
    "werkzeug": {"3.0.1": "2023-10-24T20:57:47Z"},
    "urllib3": {"2.1.0": "2023-11-13T12:29:35Z", "2.2.0": "2024-01-30T20:07:18Z"},
    "numpy": {"1.26.2": "2023-11-12T22:35:47Z", "1.26.3": "2024-01-02T22:25:39Z", "2.0.0": "2024-06-16T13:21:43Z"},
    "pandas": {"2.1.4": "2023-12-08T15:30:44Z", "2.2.0": "2024-01-20T02:03:45Z"},
    "pillow": {"10.1.0": "2023-10-15T07:40:52Z", "10.2.0": "2024-01-02T09:16:59Z"},
    "django": {"5.0": "2023-12-04T13:12:38Z", "5.0.1": "2024-01-02T10:53:54Z"},
    "setuptools": {"69.0.3": "2023-12-23T13:26:08Z"},
    "fastapi": {"0.108.0": "2023-12-26T18:50:42Z", "0.109.0": "2024-01-11T19:44:11Z"},
    "cryptography": {
        "41.0.7": "2023-11-28T02:36:21Z",
        "42.0.0": "2024-01-22T21:35:53Z",
        "42.0.1": "2024-01-24T20:56:17Z",
    },
}
"""Upload times of source distributions, as the public index lists them."""


def published_at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("has_serials", [False, True], ids=["pages-asked", "serials"])
async def test_a_month_of_cycles(simulator, tmp_path, has_serials):
    """With ``min-age = "7d"`` each file enters in the first cycle after its week and none before; an idle cycle costs
    the same requests as without the rule, and so does a cycle in which a cooldown ends, but for the file.
    """
    index = await simulator(serials=has_serials)
    ruled, plain = (Mirror(tmp_path / name, {"main": index}) for name in ("ruled", "plain"))
    ruled.rules = {"min_age_s": 7 * DAY_S}
    files = {}
    for project, versions in RELEASES.items():
        for version, time in versions.items():
            filename, data = build_sdist(project, version)
            files[filename] = (project, data, time)
    now, seen = FIRST, set()
    while now < FIRST + timedelta(days=31):
        for filename, (project, data, time) in files.items():
            if filename not in seen and published_at(time) <= now:
                index.state.publish(project, filename, data, upload_time=time)
                seen.add(filename)
        asked = {}
        for name, mirror in (("ruled", ruled), ("plain", plain)):
            mirror.clock.now = now.timestamp() - 60.0  # a cycle begins a minute later
            await mirror.unchecked_cycle()
            asked[name] = sorted((r.kind, r.project) for r in index.take_requests() if r.kind != "file")
        held = {name for found in ruled.files().values() for name in found}
        assert held == {n for n in seen if published_at(files[n][2]) + WEEK <= now}, now
        assert asked["ruled"] == asked["plain"], now
        now += EVERY
    assert len(held) > 15
    assert ruled.query("SELECT count(*) FROM deferred") == [(len(seen - held),)]
    assert seen - held
