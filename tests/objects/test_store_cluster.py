"""A replicated cluster loses a volume server during a fill and during reads: nothing is lost, nothing listed is missing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator

import pytest

from harness.program import Mirror
from harness.seaweed_cluster import Cluster, start_cluster
from harness.store_mirror import listed_and_missing
from harness.storing import Prefix
from simulator import ThreadedSimulator, build_wheel

IS_SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
_PROJECTS = 120
_LARGE_BYTES = 9_000_000
"""More than one part of an upload."""

pytestmark = pytest.mark.skipif(not IS_SOAK, reason="six processes of an engine, for make soak")


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    started = start_cluster(tmp_path / "cluster")
    yield started
    started.stop()


@pytest.fixture
def index() -> Iterator[ThreadedSimulator]:
    """An index of small wheels, and some of several parts."""
    with ThreadedSimulator() as index:
        for number in range(_PROJECTS):
            size = _LARGE_BYTES if number % 20 == 0 else 20_000
            index.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0", size_pad=size))
        yield index


def damaged(prefix: Prefix) -> list[str]:
    """Return the files whose bytes are not those that a page lists."""
    found = []
    for key in [*prefix.keys()]:
        if key.startswith("simple-json/"):
            for file in json.loads(prefix.read(key)).get("files", ()):
                data = prefix.read(file["url"].removeprefix("../../"))
                if hashlib.sha256(data).hexdigest() != file["hashes"]["sha256"]:
                    found.append(file["filename"])
    return found


def fullest(cluster: Cluster, among: set[int]) -> int:
    """Return the volume server that holds the most."""
    return max(among, key=cluster.held_bytes)


def test_a_volume_server_is_killed(tmp_path, cluster, index):
    """Both copies of a file are written before its page; the fill goes on, and reads go to the other copy."""
    place = cluster.prefix()
    mirror = Mirror(tmp_path / "mirrored", variables=place.env)
    mirror.configure(f'url = "{index.url}"', mirror=f'tree = "{place.address}"')
    with mirror.start_sync() as filling:
        while len(place.keys()) < _PROJECTS:
            assert filling.process.poll() is None, "the fill ended before the kill"
        first = fullest(cluster, {0, 1, 2})
        cluster.kill_volume(first)
        done = filling.end()
    assert listed_and_missing(place) == []
    assert damaged(place) == []
    assert done.returncode in {0, 5, 6}, done.stderr
    report = mirror.sync_well()
    assert report["outcome"] == "complete"
    assert listed_and_missing(place) == []

    cluster.volumes[first] = cluster.start_volume(first)
    while mirror.run("verify", "--config", mirror.config).returncode != 0:  # until the master has its volumes again
        pass
    second = fullest(cluster, {0, 1, 2} - {first})
    with mirror.start("verify", "--config", mirror.config) as reading:
        cluster.kill_volume(second)
        done = reading.end()
    assert done.returncode == 0, done.stdout + done.stderr
    assert damaged(place) == []
