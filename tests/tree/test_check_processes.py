"""Blobs checked by processes: the same results as here, whatever becomes of the processes, and an end in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.program import clean_environment

PROGRAM = """\
import hashlib, json, os, select, signal, sys
from pathlib import Path
import anyio
from mirror.logs import configure_logging
from mirror.tree.checking.blobs import check_blob
from mirror.tree.layout import Layout, create_tree
from mirror.workers.checking import BlobQuestion, Checkers, serve
from mirror.workers.fork_server import started_fork_server

configure_logging("error", "json")
layout = Layout(Path(sys.argv[1]))
create_tree(layout)

def question(data, name, size=None, written=None, metadata=None, is_vouched=True):
    digest = hashlib.sha256(data).hexdigest()
    path = Path(layout.blob_path(digest, name))
    path.parent.mkdir(parents=True)
    if written is not None:
        path.write_bytes(written)
    return BlobQuestion(sha256=digest, filename=name, size=len(data) if size is None else size,
                        metadata_sha256=metadata, is_vouched=is_vouched)

LARGE = os.urandom(1 << 20) * 20
ASKED = [
    question(b"whole", "a.zip", written=b"whole"),
    question(b"other", "b.zip", written=b"wrong"),
    question(b"short", "c.zip", written=b"x"),
    question(b"gone", "d.zip"),
    question(b"<html>", "e.whl", written=b"<html>", is_vouched=False),
    question(b"bare", "f.whl", written=b"bare", metadata="0" * 64),
    question(LARGE, "g.zip", written=LARGE),
    question(LARGE + b"x", "h.zip", written=LARGE + b"y"),
]
HERE = [check_blob(layout, q.sha256, q.filename, q.size, q.metadata_sha256, 1000, is_vouched=q.is_vouched) for q in ASKED]
ENDLESS = question(b"", "endless.zip", size=1 << 40, written=b"")
os.truncate(layout.blob_path(ENDLESS.sha256, ENDLESS.filename), 1 << 40)
noted = [0]

async def run(fork_server):
    begun = anyio.Event()
    def note(count):
        noted[0] += count
        if noted[0] > len(LARGE) * 20:
            begun.set()
    checkers = Checkers(layout, 1000, note)
    await checkers.start(fork_server)
    same = [await checkers.check(ASKED) == tuple(HERE)]
    counts = [noted[0]]
    async with anyio.create_task_group() as tasks:
        for _ in checkers._members:
            tasks.start_soon(checkers.check, ASKED)
    pids = [member._process.pid for member in checkers._members]
    endings = [os.pidfd_open(pid) for pid in pids]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(checkers.check, [ENDLESS])
        await begun.wait()
        same.append(await checkers.check(ASKED) == tuple(HERE))  # by the other process
        tasks.cancel_scope.cancel()
    os.kill(pids[1], signal.SIGKILL)
    checkers.close()
    await anyio.to_thread.run_sync(lambda: [select.select([one], [], [], 300) for one in endings])
    same.append(await Checkers(layout, 1000, note).check(ASKED) == tuple(HERE))  # by none
    print(json.dumps({"same": same, "count": counts[0], "read": sum(check.bytes_read for check in HERE),
                      "damage": [check.damage and check.damage.value for check in HERE],
                      "left": [pid for pid in pids if Path(f"/proc/{pid}").exists()]}))

with started_fork_server(serve) as fork_server:
    anyio.run(run, fork_server)
"""
DAMAGE = [None, "bytes", "size", "missing", "bad-file", "sidecar", None, "bytes"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core needs no second process")
def test_processes_find_the_same_and_end_in_the_middle(tmp_path: Path) -> None:
    """Processes find what is found here, count the bytes once, and are gone soon after nobody waits for them."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found == {
        "same": [True, True, True], "count": found["read"], "read": found["read"], "damage": DAMAGE, "left": [],
    }  # fmt: skip
