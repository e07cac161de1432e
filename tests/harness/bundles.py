"""A near side and a far side on one machine, for the tests of bundles: real cycles, the real key, the real receiver."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from harness.in_process import Mirror
from harness.snapshots import shown
from mirror.bundle import receive as far_program
from mirror.bundle.volumes import SMALLEST_VOLUME
from mirror.config import SiteConfig
from mirror.jobs import bundle_create
from mirror.jobs.bundle_create import BundleRequest, Dialog
from simulator import ThreadedSimulator

SITE = "plant"


def make_key(directory: Path, name: str = "key") -> Path:
    """Make a key without a passphrase, and trust it beside others in ``allowed_signers``."""
    path = directory / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    public = path.with_name(f"{name}.pub").read_text().split()
    with (directory / "allowed_signers").open("a") as trust:
        trust.write(f'{name} namespaces="{far_program.NAMESPACE}" {public[0]} {public[1]}\n')
    return path


class Gap:
    """A mirror of one simulated index, a medium, and a far side."""

    def __init__(self, work: Path, upstream: ThreadedSimulator, key: Path | None) -> None:
        self.work, self.upstream, self.key = work, upstream, key
        self.mirror = Mirror(work / "near", {"main": upstream})
        self.mirror.settings["max_shrink"] = 1.0
        self.sites: tuple[SiteConfig, ...] = ()
        self.medium = work / "medium"
        self.medium.mkdir(parents=True, exist_ok=True)
        self.far = work / "far"

    @property
    def trust(self) -> Path:
        assert self.key is not None
        return self.key.with_name("allowed_signers")

    def cycle(self, **options: Any) -> None:
        """Mirror what the index has now, removals too."""
        anyio.run(lambda: self.mirror.cycle(allow_shrink=True, **options))

    def settle(self) -> None:
        """Mirror until what left is gone from the pages: two looks."""
        self.cycle()
        self.cycle()

    def create(self, **options: Any) -> dict[str, Any]:
        """Make a bundle as the command does; return its report."""
        repair = options.pop("repair", None)
        request = BundleRequest(
            **{
                "config": self.config,
                "site": SITE,
                "to": self.medium,
                "key": self.key,
                "volume_size": 4_000_000_000,
                "snapshot": None,
                "since": None,
                "full": False,
                **options,
            }
        )
        if repair is not None:
            return bundle_create.create_repair(request, repair, Dialog())
        return bundle_create.create_bundle(request, Dialog(), wait_s=0.0)

    @property
    def config(self):
        import msgspec

        return msgspec.structs.replace(self.mirror.config, sites=self.sites)

    def receive(self, *directories: Path | str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Apply a bundle; return the exit code and the report."""
        words = [str(d) for d in directories] + ["--root", str(self.far), "--json", "--site", SITE]
        words += ["--trust", str(self.trust)] if self.key is not None else ["--unsigned"]
        return self.run(*words, *(f"--{name.replace('_', '-')}" for name, value in options.items() if value is True))

    def check(self) -> tuple[int, dict[str, Any]]:
        return self.run("--root", str(self.far), "--json", "--check", "--list", str(self.work / "damage.json"))

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = far_program.main(words)
        return code, json.loads(out.getvalue())

    def carry(self, **options: Any) -> dict[str, Any]:
        """Make a bundle and apply it; both must succeed, and the far side then equals the near side."""
        report = self.create(**options)
        assert report["outcome"] == "made", report
        code, told = self.receive(report["path"])
        assert code == 0, told
        return report

    def check_equal(self, wants: Callable[[str], bool] = lambda _name: True) -> None:
        """Fail unless the far side's live pages and their blobs are the near side's, and nothing else is served."""
        near, far = self.mirror.root / "public", self.far / "public"
        names = {name for name in shown(near) if wants(name)}
        assert shown(far) == {name: files for name, files in shown(near).items() if name in names}
        for name in names:
            for page in far_program.PAGE_NAMES:
                assert (far / "simple" / name / page).read_bytes() == (near / "simple" / name / page).read_bytes()

    def far_blobs(self) -> set[str]:
        """Return the paths of all blobs of the far tree, without sidecars."""
        files = self.far / "public/files"
        return {str(p.relative_to(files)) for p in files.rglob("*") if p.is_file() and p.suffix != ".metadata"}


def flip(path: Path, at: int = -1) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


__all__ = ["SITE", "SMALLEST_VOLUME", "Gap", "flip", "make_key", "sha256"]
