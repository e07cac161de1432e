"""SeaweedFS as a cluster for tests: a master, three volume servers that keep two copies, a filer and an S3 gateway.

Each is a process of its own, which ends with the test process.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from harness.ports import claim_ports
from harness.storing import ObjectStore, make_bucket, start_weed, write_identities

VOLUME_SERVERS = 3


@dataclass
class Cluster(ObjectStore):
    """A running cluster; ``process`` is its gateway."""

    folder: Path
    master: str
    """With both of its ports."""
    volumes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: list[tuple[int, int]] = field(default_factory=list)

    def start_volume(self, number: int) -> subprocess.Popen[bytes]:
        """Start a volume server, or start it again with what it holds."""
        port, grpc = self.ports[number]
        place = self.folder / f"volume-{number}"
        place.mkdir(exist_ok=True)
        options = [f"-mserver={self.master}", f"-dir={place}", "-max=100", "-preStopSeconds=0"]
        return start_weed(self.folder, "volume", *_at(port, grpc), *options)

    def kill_volume(self, number: int) -> None:
        """Kill a volume server."""
        self.volumes[number].kill()
        self.volumes[number].wait()

    def held_bytes(self, number: int) -> int:
        """Return the size of what a volume server keeps."""
        return sum(path.stat().st_size for path in (self.folder / f"volume-{number}").glob("*.dat"))

    def stop(self) -> None:
        """End it: it keeps nothing that a test needs."""
        for process in (self.process, *self.others, *self.volumes):
            process.kill()
            process.wait()


def start_cluster(folder: Path) -> Cluster:
    """Start a cluster with a bucket in it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_identities(folder)
    ports = claim_ports(6 + 2 * VOLUME_SERVERS)
    master, master_grpc, filer, filer_grpc, s3, s3_grpc, *volumes = ports
    pairs = list(zip(volumes[::2], volumes[1::2], strict=True))
    (folder / "master").mkdir()
    others = [
        start_weed(
            folder,
            "master",
            *_at(master, master_grpc),
            f"-mdir={folder}/master",
            "-defaultReplication=001",
            "-volumeSizeLimitMB=64",
            "-telemetry=false",
        )
    ]
    asked = f"127.0.0.1:{master}.{master_grpc}"
    others.append(
        start_weed(
            folder,
            "filer",
            *_at(filer, filer_grpc),
            f"-master={asked}",
            "-defaultReplicaPlacement=001",
            f"-defaultStoreDir={folder}",
            f"-localSocket=/tmp/weed-{s3}-f",
        )
    )
    gateway = start_weed(
        folder,
        "s3",
        f"-port={s3}",
        f"-port.grpc={s3_grpc}",
        "-ip.bind=127.0.0.1",
        f"-filer=127.0.0.1:{filer}.{filer_grpc}",
        f"-config={folder}/s3.json",
        "-autoCreateBucket=false",
        "-port.iceberg=0",
        "-port.lance=0",
        f"-localSocket=/tmp/weed-{s3}-s",
    )
    cluster = Cluster(f"http://127.0.0.1:{s3}", gateway, folder, asked, others=others, ports=pairs)
    try:
        cluster.volumes = [cluster.start_volume(number) for number in range(VOLUME_SERVERS)]
        make_bucket(cluster, filer, folder)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _at(port: int, grpc: int) -> list[str]:
    return ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-port={port}", f"-port.grpc={grpc}"]
