"""Fills of an object store by worker processes, and its faults as they meet them."""

import json
import re

import pytest

from harness.program import call, clean_environment
from harness.worker_program import Beside, needs_two_cores, used_processes
from simulator import build_sdist, build_wheel

pytestmark = needs_two_cores

SMALL_ROOM = (
    "import mirror.sync.fetching.jobs, mirror.sync.staging_room;"
    "mirror.sync.fetching.jobs.UNLISTED_BYTES = mirror.sync.staging_room.UNLISTED_BYTES = 4 << 20"
)

MIB = 1 << 20
FAULTS = {
    "none": (None, ""),
    "full": ((507, "InsufficientStorage"), "the store is full; free some space there or raise its quota"),
}


@pytest.fixture
def index(threaded_simulator):
    started = threaded_simulator()
    for number in range(6):
        started.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0"))
        started.state.publish(f"p{number}", *build_sdist(f"p{number}", "1.0"))
    started.state.publish("middle", *build_wheel("middle", "1.0", size_pad=3 * MIB))
    # more than the first room of a file of unlisted size: it is fetched by the cycle's own process
    started.state.publish("large", *build_wheel("large", "1.0", size_pad=20 * MIB), size=None)
    return started


@pytest.mark.parametrize("name", FAULTS)
def test_fill(index, mirror_of, front, tmp_path, name):
    """Worker processes put what they fetch; a fault ends the cycle with exit code 6, and the next one completes."""
    fault, words = FAULTS[name]
    mirror = mirror_of(index)
    config = tmp_path / "mirror.toml"
    config.write_text(
        f'[mirror]\nroot = "{mirror.root}"\ntree = "{mirror.prefix.address}"\nstaging-size = "24MiB"\n[limits]\ndisk-reserve = "0"\n'
        f'[[index]]\nname = "main"\nurl = "{index.url}"\nauth = {{ kind = "none" }}\n'
    )
    env = clean_environment(tmp_path, **(mirror.prefix.env | {"AWS_ENDPOINT_URL": front.url}))
    arguments = ["sync", "--once", "--config", config, "--json", "--log-level", "debug"]
    command = Beside(tmp_path, "", {}, before=SMALL_ROOM)._command(arguments)
    lost = []

    def disturb(method, path):
        if method != "PUT" or not re.search(r"/files/.*\.(whl|gz)", path):
            return None
        if fault is None and path not in lost and len(lost) < 5:
            lost.append(path)  # some answers are lost, and some puts are to wait
            return "lose" if len(lost) % 2 else (503, "SlowDown")
        return fault if "/p3-" in path else None

    front.rule = disturb
    done = call(command, env=env, cwd=tmp_path)
    if fault is not None:
        assert done.returncode == 6, done.stderr
        assert words in done.stderr
        front.rule = lambda method, path: None
        done = call(command, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert used_processes(done)
    assert env["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
    keys = [key for key in mirror.prefix.keys() if key.startswith("simple-json/")]  # noqa: SIM118 - a method
    files = [file for key in keys for file in json.loads(mirror.prefix.read(key)).get("files", ())]
    assert len(files) == 14
    held = {f.filename: f.data for p in index.state.projects.values() for f in p.offered()}
    for file in files:
        assert mirror.prefix.read(file["url"].removeprefix("../../")) == held[file["filename"]]
    assert any("uploadId=" in path for _, path in front.requests)  # the large file, in parts
    assert json.loads(mirror.prefix.read(".lock"))["is_free"]
