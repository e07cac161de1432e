"""A real object store for tests: one SeaweedFS for each test process, started when a test first asks for it.

It ends with the test process, however that ends.

Each test works below a prefix of its own. Readers use the engine's own HTTP, not what is tested.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.ports import claim_ports
from mirror.core.store_address import StoreAddress
from mirror.errors import TreeError
from mirror.tree.probing.requests import RawRequests

BUCKET = "mirror"
IS_CEPH = os.environ.get("MIRROR_TEST_STORE") == "ceph"
"""Whether the tests run against Ceph's radosgw (``ceph``)."""
SECRETS = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "SKTEST-0123456789"}
START_S = 240.0


def etag_form(etag: str) -> str:
    """Return an ETag as the engine takes it in a condition: radosgw wants it without its quotes."""
    return etag.strip('"') if IS_CEPH else etag


@dataclass
class ObjectStore:
    """A running engine."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @property
    def env(self) -> dict[str, str]:
        """The variables by which ``mirror`` reaches it."""
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", **SECRETS}

    def prefix(self) -> Prefix:
        """Return an empty place in it, another at each call: a fixture of a module can be set up twice."""
        return Prefix(self, f"t/{secrets.token_hex(6)}")

    def send(self, method: str, query: str = "", body: bytes = b"") -> int:
        """Send one signed request about a bucket, and return its status."""
        settings = {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": SECRETS["AWS_ACCESS_KEY_ID"],
            "secret_access_key": SECRETS["AWS_SECRET_ACCESS_KEY"],
        }
        requests = RawRequests(StoreAddress(bucket=BUCKET, prefix=""), settings, None)
        try:
            return requests.send(method, query=query, body=body, signs=True).status
        except TreeError:
            return 0

    def stop(self) -> None:
        """End it: it keeps nothing that a test needs."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Prefix:
    """The objects below one prefix, read and changed without the code under test."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        from obstore.store import S3Store

        self.store, self.name = store, name
        self.address = f"s3://{BUCKET}/{name}"
        self.env = store.env
        """The variables by which the program under test reaches it; a test may change them."""
        self._objects = S3Store(
            BUCKET,
            prefix=name,
            endpoint=store.endpoint,
            access_key_id=SECRETS["AWS_ACCESS_KEY_ID"],
            secret_access_key=SECRETS["AWS_SECRET_ACCESS_KEY"],
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def keys(self) -> list[str]:
        """Return all keys, sorted."""
        import obstore

        return sorted(meta["path"] for some in obstore.list(self._objects) for meta in some)

    def etags(self) -> dict[str, str]:
        """Return key -> ETag."""
        import obstore

        return {meta["path"]: str(meta["e_tag"]) for some in obstore.list(self._objects) for meta in some}

    def versions(self) -> dict[str, tuple[str, Any]]:
        """Return key -> ETag and time of the last put."""
        import obstore

        found = (meta for some in obstore.list(self._objects) for meta in some)
        return {meta["path"]: (str(meta["e_tag"]), meta["last_modified"]) for meta in found}

    def sizes(self) -> dict[str, int]:
        """Return key -> number of bytes."""
        import obstore

        return {meta["path"]: meta["size"] for some in obstore.list(self._objects) for meta in some}

    def read(self, key: str) -> bytes:
        """Return the bytes of an object."""
        import obstore

        return bytes(obstore.get(self._objects, key).bytes())

    def attributes(self, key: str) -> dict[str, str]:
        """Return the headers and the metadata of an object."""
        import obstore

        return dict(obstore.get(self._objects, key).attributes)

    def write(self, key: str, data: bytes, **attributes: str) -> None:
        """Write an object, as somebody else."""
        import obstore

        obstore.put(self._objects, key, data, attributes=attributes or None, use_multipart=False)

    def remove(self, *keys: str) -> None:
        """Remove objects, as somebody else."""
        import obstore

        obstore.delete(self._objects, list(keys))


def start_seaweedfs(folder: Path) -> ObjectStore:
    """Start an engine in one process, with a bucket."""
    names = ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc")
    ports = dict(zip(names, claim_ports(len(names)), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    write_identities(folder)
    sockets = Path("/tmp") / f"weed-{ports['s3']}"
    options = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.port": ports["master"],
        "master.port.grpc": ports["master_grpc"],
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.port": ports["volume"],
        "volume.port.grpc": ports["volume_grpc"],
        "volume.max": 100,
        "volume.preStopSeconds": 0,
        "filer.port": ports["filer"],
        "filer.port.grpc": ports["filer_grpc"],
        "filer.localSocket": f"{sockets}-f",
        "s3.port": ports["s3"],
        "s3.port.grpc": ports["s3_grpc"],
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": f"{sockets}-s",
        "s3.config": folder / "s3.json",
        "s3.autoCreateBucket": "false",
    }
    process = start_weed(folder, "server", "-filer", "-s3", *(f"-{k}={v}" for k, v in options.items()))
    store = ObjectStore(f"http://127.0.0.1:{ports['s3']}", process)
    try:
        make_bucket(store, ports["filer"], folder)
    except BaseException:
        store.stop()
        raise
    return store


def write_identities(folder: Path) -> None:
    """Write who may do what; anybody may read."""
    credentials = {"accessKey": SECRETS["AWS_ACCESS_KEY_ID"], "secretKey": SECRETS["AWS_SECRET_ACCESS_KEY"]}
    identities = [
        {"name": "anonymous", "actions": [f"Read:{BUCKET}"]},
        {"name": "m", "credentials": [credentials], "actions": ["Admin", "Read", "List", "Tagging", "Write"]},
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))


def start_weed(folder: Path, kind: str, *words: str) -> subprocess.Popen[bytes]:
    """Start one program of SeaweedFS."""
    program = str(Path(sys.executable).with_name("weed"))
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return start_with_us([program, "-logtostderr=true", kind, *words], folder, folder / "weed.log", env)


def start_with_us(command: list[str], folder: Path, log_path: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program that ends when this process does."""
    with log_path.open("ab") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=env,
            start_new_session=True,
        )


def make_bucket(store: ObjectStore, filer: int, folder: Path) -> None:
    """Make the bucket, which is a folder of the filer, as soon as the engine takes it."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            if _post(filer, f"/buckets/{BUCKET}/") == 201 and takes_objects(store):
                return
        except (OSError, http.client.HTTPException):
            pass
        if store.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("SeaweedFS did not start: " + (folder / "weed.log").read_text()[-2000:])
        time.sleep(0.1)


def _post(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path)
        return connection.getresponse().status
    finally:
        connection.close()


def takes_objects(store: ObjectStore) -> bool:
    """Whether an object can be put."""
    try:
        Prefix(store, "started").write("x", b"x")
    except Exception:  # noqa: BLE001 - not yet
        return False
    return True
