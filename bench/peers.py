"""Who is measured, and how each of them is asked for the same work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.corpus import Shape, iter_files, name_of
from bench.measure import OURS, Contender
from bench.upstream import PASSWORD, USER, Upstream

HERE = Path(__file__).parents[1]
CREDENTIAL = {"MIRROR_DEFAULT_USERNAME": USER, "MIRROR_DEFAULT_PASSWORD": PASSWORD}
_OWN = {"PYTHONPATH": str(HERE)}


def mirror(
    upstream: Upstream,
    shape: Shape,
    *,
    server: str = "serials",
    port: int | None = None,
    keeps: bool = False,
    name: str = OURS,
    config: str = "",
    holds_all: bool = True,
) -> Contender:
    """``mirror sync --once`` with default settings, its log written to a file. ``config``: more of the configuration, at
    its end; ``holds_all``: False where that leaves files out.
    """
    url = upstream.url(server, port)

    def prepare(directory: Path) -> None:
        patterns = "" if shape.file_bytes else 'exclude-files = ["*"]\n'
        settings = f'[mirror]\nroot = "{directory}/root"\n\n[[index]]\nname = "default"\nurl = "{url}"\n{patterns}'
        (directory / "mirror.toml").write_text(settings + config)

    return Contender(
        name=name,
        command=lambda directory: [
            sys.executable, "-m", "mirror", "sync", "--once", "--config", f"{directory}/mirror.toml", "--json",
        ],
        prepare=prepare,
        check=lambda directory: check_mirror(directory, shape, None if holds_all else 0),
        environment=CREDENTIAL | _OWN,
        server=server,
        keeps=keeps,
    )  # fmt: skip


def check_mirror(directory: Path, shape: Shape, files: int | None = None) -> None:
    """Let the mirror hash its whole tree again, and compare the count with the corpus."""
    command = [sys.executable, "-m", "mirror", "verify", "--root", f"{directory}/root", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | _OWN)
    if done.returncode != 0:
        raise SystemExit(f"mirror verify: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    expected = files if files is not None else (shape.file_count if shape.file_bytes else 0)
    if expected > found["blobs_checked"]:
        raise SystemExit(f"mirror verify: {found['blobs_checked']} files are held, {expected} are listed")


def bandersnatch(
    program: str | None, upstream: Upstream, shape: Shape, *, port: int | None = None, keeps: bool = False
) -> list[Contender]:
    """bandersnatch as fast as it can be told: 10 workers, its maximum. It knows no password; none at all without it."""
    if program is None:
        return []
    address = f"http://127.0.0.1:{port or upstream.ports['open']}"

    def prepare(directory: Path) -> None:
        (directory / "bandersnatch.conf").write_text(
            f"[mirror]\ndirectory = {directory}/root\nmaster = {address}\nallow-non-https = true\napi-method = simple\n"
            f"download-mirror = {address}\ndownload-mirror-no-fallback = true\njson = true\nworkers = 10\ntimeout = 60\n"
        )

    def check(directory: Path) -> None:
        check_files(directory / "root/web/packages", shape)

    return [
        Contender(
            name="bandersnatch",
            command=lambda directory: [program, "-c", f"{directory}/bandersnatch.conf", "mirror"],
            prepare=prepare,
            check=check,
            server="open",
            keeps=keeps,
        )
    ]


def loop(upstream: Upstream, shape: Shape, *, port: int | None = None, is_durable: bool = False) -> Contender:
    """The bare loop that fetches, hashes and renames; ``is_durable``: with one syncfs for each batch."""
    work = "fill-durable" if is_durable else "fill"
    return Contender(
        name="bare loop+syncfs" if is_durable else "bare loop",
        command=lambda directory: [*_LOOPS, work, upstream.url("plain", port), f"{directory}/files"],
        check=lambda directory: check_files(directory / "files", shape),
        environment=_OWN,
        server="plain",
    )


def idle_loop(upstream: Upstream, shape: Shape) -> Contender:
    """The bare loop of conditional requests."""
    url = upstream.url("plain")

    def prepare(directory: Path) -> None:
        subprocess.run([*_LOOPS, "idle", url, f"{directory}/etags.json"], check=True, env=os.environ | _OWN)

    def check(directory: Path) -> None:
        if len(json.loads((directory / "etags.json").read_bytes())) != shape.projects:
            raise SystemExit("the bare loop missed projects")

    return Contender(
        name="bare loop",
        command=lambda directory: [*_LOOPS, "idle", url, f"{directory}/etags.json"],
        check=check,
        prepare=prepare,
        environment=_OWN,
        server="plain",
        keeps=True,
    )


def curl(upstream: Upstream, site: Path, shape: Shape) -> list[Contender]:
    """curl -Z with 16 connections, pages and files by name: no hash, no state, no fsync."""
    program = shutil.which("curl")
    if program is None:
        return []
    base = f"http://127.0.0.1:{upstream.ports['serials']}"

    def prepare(directory: Path) -> None:
        (directory / "files").mkdir()
        (directory / "pages").mkdir()
        urls = [(f"{base}/simple/{name}/", f"pages/{name}") for name in map(name_of, range(shape.projects))]
        urls += [(f"{base}/packages/{path.name}", f"files/{path.name}") for path in iter_files(site)]
        lines = [f'url = "{url}"\noutput = "{directory}/{out}"\n' for url, out in urls]
        (directory / "curlrc").write_text(f'user = "{USER}:{PASSWORD}"\n' + "".join(lines))

    return [
        Contender(
            name="curl -Z",
            command=lambda directory: [
                program,
                "-q",
                "-sS",
                "-f",
                "-Z",
                "--parallel-max",
                "16",
                "-K",
                f"{directory}/curlrc",
            ],
            prepare=prepare,
            check=lambda directory: check_files(directory / "files", shape),
            server="serials",
        )
    ]


def floor(site: Path, shape: Shape) -> list[Contender]:
    """sha256sum and cp of the same bytes."""
    return [
        Contender(
            name="sha256sum",
            command=lambda _: ["sh", "-c", f"find {site}/packages -type f -print0 | xargs -0 sha256sum > /dev/null"],
            check=lambda _: None,
        ),
        Contender(
            name="cp",
            command=lambda directory: ["cp", "-r", f"{site}/packages", f"{directory}/files"],
            check=lambda directory: check_files(directory / "files", shape),
        ),
    ]


def writer(site: Path, shape: Shape) -> Contender:
    """Write the same files, one syncfs for each batch: no network, no hash."""
    return Contender(
        name="write+syncfs",
        command=lambda directory: [*_LOOPS, "write", f"{site}/packages", f"{directory}/files"],
        check=lambda directory: check_files(directory / "files", shape),
        environment=_OWN,
    )


def verify(tree: Path) -> Contender:
    """``mirror verify`` of a tree that is there."""
    command = [sys.executable, "-m", "mirror", "verify", "--root", f"{tree}/root"]
    return Contender(name=OURS, command=lambda _: command, check=lambda _: None, environment=_OWN)


def hash_loop(tree: Path) -> Contender:
    """One core's loop of hashlib over the same files: no sidecars, no pages, no foreign files."""
    command = [*_LOOPS, "hash", f"{tree}/root/public/files", "-"]
    return Contender(name="hashlib", command=lambda _: command, check=lambda _: None, environment=_OWN)


def plain_command(name: str, command: Sequence[str]) -> Contender:
    """Anything that needs no check but its exit code."""
    return Contender(name=name, command=lambda _: command, check=lambda _: None, environment=_OWN)


def check_files(directory: Path, shape: Shape) -> None:
    """Count what has any bytes: a peer that was killed may have left empty temporary files behind."""
    found = [path for path in directory.rglob("*") if path.is_file() and path.stat().st_size]
    if len(found) < shape.file_count:
        raise SystemExit(f"{directory}: {len(found)} files instead of {shape.file_count}")


_LOOPS = [sys.executable, "-m", "bench.loops"]
