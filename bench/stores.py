"""The cases of a tree in an object store: fills beside rclone and a bare obstore loop, idle and changed cycles beside a
disk, and ``mirror serve --tree`` beside the engine's own HTTP.

The engine is SeaweedFS in one process on the same two cores, which takes more CPU for an object than all of its clients.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import load, peers
from bench.corpus import Shape, name_of
from bench.measure import OURS, Comparison, Contender, Run, compare, primed, run_once
from bench.records import Bench, Goal, Result, corpus, title_of
from bench.servers import Server, ours
from bench.upstream import Upstream, free_port, serving
from harness.storing import BUCKET, SECRETS, ObjectStore, Prefix, start_seaweedfs

_IN_FLIGHT = 32
_NUMBERS = itertools.count()


@contextlib.contextmanager
def engine(bench: Bench) -> Iterator[ObjectStore]:
    """Start an engine in memory."""
    folder = bench.tmpfs / "engine"
    started = start_seaweedfs(folder)
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder)


def fill(bench: Bench) -> Result:
    """Cold fill of a store, 1,000 projects of 3 files of 20 KiB."""
    shape = Shape(projects=30 if bench.is_tiny else 1_000, files=3, file_bytes=20 * 1024)
    with bench.upstream(shape) as (_, upstream), engine(bench) as store:
        disk = peers.mirror(upstream, shape, name="mirror, disk")
        tree = _run_aside(bench, disk)
        contenders = [_storing(upstream, shape, store), disk, *_rclone(store, tree, shape), _loop(store, tree, shape)]
        found = compare(contenders, bench.rounds, bench.tmpfs / "run", upstream)
        shutil.rmtree(tree)
    after_s = [a.wall_s + b.wall_s for a, b in zip(found.runs["mirror, disk"], found.runs["obstore loop"], strict=True)]
    ratios = sorted(run.wall_s / s for run, s in zip(found.runs[OURS], after_s, strict=True))
    text = "of a fill of a disk and a bare obstore loop after it"
    goals = [Goal(text=text, value=ratios[len(ratios) // 2], limit=1.0)]
    return Result(name="store-fill", title=title_of(CASES["store-fill"]), comparison=found, goals=goals)


def idle(bench: Bench) -> Result:
    """Idle cycle of 1,000 pages with a store that nobody can reach."""
    shape = Shape(projects=30 if bench.is_tiny else 1_000, files=1, file_bytes=2 * 1024)
    with bench.upstream(shape) as (_, upstream), engine(bench) as store:
        stored = primed(_storing(upstream, shape, store, server="plain", keeps=True))
        away = {**stored.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
        disk = primed(peers.mirror(upstream, shape, server="plain", keeps=True, name="mirror, disk"))
        unreached = dataclasses.replace(stored, environment=away, check=lambda _: None)
        found = compare([unreached, disk], bench.rounds, bench.tmpfs / "run", upstream)
        shutil.rmtree(bench.tmpfs / "run")
    goal = Goal(text="of the CPU with a disk", value=found.ratio("mirror, disk", "cpu_s"), limit=1.05)
    return Result(
        name="store-idle",
        title=title_of(CASES["store-idle"]),
        comparison=found,
        goals=[goal],
        extra={"requests_to_the_store": 0},
    )


def changed(bench: Bench) -> Result:
    """1 % changed, tree in a store."""
    shape = Shape(projects=100 if bench.is_tiny else 1_000, files=1, file_bytes=2 * 1024)
    site = bench.tmpfs / "corpus-changing"
    corpus(site, shape)
    with serving(site, bench.tmpfs / "nginx") as upstream, engine(bench) as store:
        contenders = [
            primed(_storing(upstream, shape, store, server="plain", keeps=True)),
            primed(peers.mirror(upstream, shape, server="plain", keeps=True, name="mirror, disk")),
        ]
        runs: dict[str, list[Run]] = {one.name: [] for one in contenders}
        folders = {one.name: bench.tmpfs / "run" / str(number) for number, one in enumerate(contenders)}
        for one in contenders:
            folders[one.name].mkdir(parents=True)
            one.prepare(folders[one.name])
        for generation in range(bench.rounds):
            corpus(site, shape, "--release=0.01", f"--generation={generation + 1}")
            for one in contenders:
                folder = folders[one.name]
                runs[one.name].append(run_once(one.command(folder), one.environment, folder / "output.log"))
    shutil.rmtree(bench.tmpfs / "run")
    shutil.rmtree(site)
    found = Comparison(runs)
    return Result(name="store-changed", title=title_of(CASES["store-changed"]), comparison=found)


def served_pages(bench: Bench) -> Result:
    """Load: project pages of 300 files from a store."""
    shape = Shape(projects=2 if bench.is_tiny else 10, files=5 if bench.is_tiny else 300, file_bytes=1_700)
    found = _served(bench, shape, "pages", count=20 if bench.is_tiny else 4_000)
    goals = [Goal(text="of the engine's CPU for a page", value=found.ratio("SeaweedFS", "cpu_s"), limit=1.0)]
    return Result(name="load-store-pages", title=title_of(CASES["load-store-pages"]), comparison=found, goals=goals)


def served_files(bench: Bench) -> Result:
    """Load: files of 20 KiB from a store."""
    shape = Shape(projects=2 if bench.is_tiny else 40, files=3, file_bytes=20 * 1024)
    found = _served(bench, shape, "files", count=20 if bench.is_tiny else 1_000)
    return Result(name="load-store-files", title=title_of(CASES["load-store-files"]), comparison=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Engine(Server):
    """The engine's own HTTP, for anybody."""

    def page(self, project: str) -> str:
        return f"{self.simple}{project}/index.html"


def _served(bench: Bench, shape: Shape, what: str, *, count: int) -> Comparison:
    with bench.upstream(shape) as (_, upstream), engine(bench) as store:
        stored = _storing(upstream, shape, store)
        folder = _run_aside(bench, stored)
        address = (folder / "address").read_text()
        work = bench.tmpfs / "servers"
        work.mkdir()
        with ours(folder / "empty", work, "--tree", address, environment=stored.environment) as server:
            port = int(store.endpoint.rpartition(":")[2])
            place = f"/{address.removeprefix('s3://')}/simple/"
            servers = [server, _Engine(name="SeaweedFS", pid=store.process.pid, port=port, simple=place)]
            projects = [name_of(number) for number in range(shape.projects)]
            found = load.measure(bench, servers, projects, what, requests={}, least=count)
        shutil.rmtree(work)
        shutil.rmtree(folder)
    return found


def _storing(
    upstream: Upstream, shape: Shape, store: ObjectStore, *, server: str = "serials", keeps: bool = False
) -> Contender:
    """The mirror with its tree in the store, below a prefix of each directory's own."""
    plain = peers.mirror(upstream, shape, server=server, keeps=keeps)

    def prepare(directory: Path) -> None:
        plain.prepare(directory)
        address = f"s3://{BUCKET}/b{next(_NUMBERS)}"
        (directory / "address").write_text(address)
        config = directory / "mirror.toml"
        config.write_text(config.read_text().replace("[mirror]\n", f'[mirror]\ntree = "{address}"\n', 1))

    def check(directory: Path) -> None:
        _check_objects(store, (directory / "address").read_text(), shape)

    return dataclasses.replace(plain, prepare=prepare, check=check, environment={**plain.environment, **store.env})


def _rclone(store: ObjectStore, tree: Path, shape: Shape) -> list[Contender]:
    """rclone, from a disk: the same files with their metadata, neither fetched nor listed by pages."""
    program = shutil.which("rclone")
    if program is None:
        print("rclone is not there: it is left out (make bench installs it)", file=sys.stderr)
        return []
    settings = {
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENDPOINT": store.endpoint,
        "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": SECRETS["AWS_ACCESS_KEY_ID"],
        "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": SECRETS["AWS_SECRET_ACCESS_KEY"],
        "RCLONE_CONFIG_STORE_NO_CHECK_BUCKET": "true",
        "RCLONE_CONFIG": "/dev/null",
        "AWS_CA_BUNDLE": "",  # rclone 1.60 ends where it is set
    }

    def command(directory: Path) -> list[str]:
        options = [f"--transfers={_IN_FLIGHT}", f"--checkers={_IN_FLIGHT}", "--no-traverse", "--quiet"]
        return [program, "copy", *options, f"{tree}/root/public/files", f"store:{BUCKET}/{_own(directory)}/files"]

    return [_aside(store, shape, "rclone", command, settings)]


def _loop(store: ObjectStore, tree: Path, shape: Shape) -> Contender:
    """A bare loop that puts the same files with their metadata by obstore, in threads."""

    def command(directory: Path) -> list[str]:
        place = f"s3://{BUCKET}/{_own(directory)}"
        return [sys.executable, "-m", "bench.loops", "put", f"{tree}/root/public/files", place]

    return _aside(store, shape, "obstore loop", command, {**store.env, "PYTHONPATH": str(peers.HERE)})


def _aside(store, shape, name, command, environment) -> Contender:  # noqa: ANN001 - as of a contender
    def prepare(directory: Path) -> None:
        (directory / "address").write_text(f"s3://{BUCKET}/b{next(_NUMBERS)}")

    def check(directory: Path) -> None:
        _check_objects(store, (directory / "address").read_text(), shape)

    return Contender(name=name, command=command, prepare=prepare, check=check, environment=environment)


def _own(directory: Path) -> str:
    return (directory / "address").read_text().removeprefix(f"s3://{BUCKET}/")


def _check_objects(store: ObjectStore, address: str, shape: Shape) -> None:
    """Count the wheels and their metadata."""
    keys = Prefix(store, address.removeprefix(f"s3://{BUCKET}/")).keys()
    found = sum(key.startswith("files/") for key in keys)
    if found < 2 * shape.file_count:
        raise SystemExit(f"{address}: {found} objects instead of {2 * shape.file_count}")


def _run_aside(bench: Bench, contender: Contender) -> Path:
    """Run a contender once, outside of what is measured; return its directory."""
    folder = bench.tmpfs / "aside"
    folder.mkdir()
    contender.prepare(folder)
    run_once(contender.command(folder), contender.environment, folder / "first.log")
    return folder


CASES = {
    "store-fill": fill,
    "store-idle": idle,
    "store-changed": changed,
    "load-store-pages": served_pages,
    "load-store-files": served_files,
}
