"""A second real object store for tests: Ceph's radosgw over one monitor, one manager and one disk of 40 GiB that is sparse.

Ceph's programs come from the distribution; without them ``start_radosgw`` raises ``FileNotFoundError``. All processes
end with the test process, however that ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from harness.storing import BUCKET, SECRETS, START_S, ObjectStore, start_with_us, takes_objects

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mgr", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
WEBSITE_HOST = "web.test"
"""A host ``BUCKET.web.test`` is answered in website mode."""
# Debian's packages are built with a path in which these lie.
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_CONFIG = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
keyring = {folder}/keyring
log_file = {folder}/$name.log
admin_socket =
run_dir = {folder}
crash_dir = {folder}/crash
pid_file =
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_port_min = {osd_first}
ms_bind_port_max = {osd_last}
mon_data = {folder}/mon
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mgr_data = {folder}/mgr
osd_data = {folder}/osd
osd_objectstore = bluestore
osd_memory_target = 939524096
bluestore_block_size = 42949672960
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
rgw_data = {folder}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{rgw}
rgw_enable_static_website = true
rgw_enable_apis = s3, s3website, admin
rgw_dns_s3website_name = {website}
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 5
"""


@dataclass
class Ceph(ObjectStore):
    """A running cluster of one node; ``process`` is its radosgw."""

    folder: Path
    others: list[subprocess.Popen[bytes]]

    @property
    def website_host(self) -> str:
        """The host whose requests are answered in website mode."""
        return f"{BUCKET}.{WEBSITE_HOST}"

    def stop(self) -> None:
        """End it: it keeps nothing that a test needs."""
        _end([*self.others, self.process], self.folder)


def missing_programs() -> list[str]:
    """Return which of Ceph's programs are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


def start_radosgw() -> Ceph:
    """Start a cluster with a bucket in it. Raises ``FileNotFoundError`` where Ceph is not installed."""
    missing = missing_programs()
    if missing:
        raise FileNotFoundError("not installed: " + ", ".join(missing))
    # Its disk is opened with O_DIRECT, which a directory in memory need not know.
    folder = Path(tempfile.mkdtemp(prefix="mirror-ceph-", dir="/var/tmp"))
    starting = _Starting(folder)
    try:
        return starting.start()
    except BaseException:
        _end(starting.started, folder)
        raise


def _end(processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    for process in reversed(processes):
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


class _Starting:
    """The steps of one start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        for name in ("mon", "mgr", "osd", "rgw", "crash"):
            (folder / name).mkdir(parents=True)
        names = ("mon_v2", "mon_v1", "rgw")
        self._ports = dict(zip(names(len(names)), strict=True))
        self._fsid = str(uuid.uuid4())
        self._config = folder / "ceph.conf"

    def start(self) -> Ceph:
        first = 6800 + (os.getpid() % 1000) * 20  # Ceph binds to a free one of these
        ports = {**self._ports, "osd_first": first, "osd_last": first + 19}
        config = _CONFIG.format(folder=self.folder, fsid=self._fsid, website=WEBSITE_HOST, **ports)
        self._config.write_text(config)
        self._make_keyring()
        self._start_monitor()
        self._start_daemon("ceph-mgr", "-i", "x")
        self._start_disk()
        gateway = self._start_daemon("radosgw", "-n", "client.rgw.a")
        self.started.remove(gateway)
        store = Ceph(f"http://127.0.0.1:{self._ports['rgw']}", gateway, self.folder, self.started)
        self._make_bucket(store)
        return store

    def _make_keyring(self) -> None:
        everything = {"mon": "allow *", "mgr": "allow *", "osd": "allow *", "mds": "allow *"}
        for number, name in enumerate(("mon.", "client.admin", "mgr.x", "osd.0", "client.rgw.a")):
            caps = [word for kind, cap in everything.items() for word in ("--cap", kind, cap)]
            create = ["--create-keyring"] if number == 0 else []
            self._run("ceph-authtool", *create, str(self.folder / "keyring"), "--gen-key", "-n", name, *caps)

    def _start_monitor(self) -> None:
        map_path = str(self.folder / "monmap")
        address = f"[v2:127.0.0.1:{self._ports['mon_v2']},v1:127.0.0.1:{self._ports['mon_v1']}]"
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, map_path)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", map_path)
        self._start_daemon("ceph-mon", "-i", "a")

    def _start_disk(self) -> None:
        disk = str(uuid.uuid4())
        self._run("ceph", "osd", "new", disk, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._run("ceph", "osd", "crush", "add", "osd.0", "1.0", "host=h", "root=default")
        self._start_daemon("ceph-osd", "-i", "0")

    def _make_bucket(self, store: Ceph) -> None:
        keys = [f"--access-key={SECRETS['AWS_ACCESS_KEY_ID']}", f"--secret={SECRETS['AWS_SECRET_ACCESS_KEY']}"]
        self._run("radosgw-admin", "user", "create", "--uid=mirror", "--display-name=mirror", *keys)
        deadline = time.monotonic() + START_S
        while not (store.send("PUT") == 200 and takes_objects(store)):
            if store.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("radosgw did not start: " + self._log("client.rgw.a"))
            time.sleep(0.2)

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            self._command(program, *words), capture_output=True, text=True, check=False, timeout=START_S, env=_env()
        )
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")

    def _start_daemon(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        command = self._command(program, "-f", *words)
        process = start_with_us(command, self.folder, self.folder / f"{program}.out", _env())
        self.started.append(process)
        return process

    def _command(self, program: str, *words: str) -> list[str]:
        found = shutil.which(program, path=_PATH)
        assert found is not None
        has_config = program not in {"ceph-authtool", "monmaptool"}
        return [found, *(["-c", str(self._config)] if has_config else []), *words]

    def _log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""


def _env() -> dict[str, str]:
    return {"PATH": _PATH, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
