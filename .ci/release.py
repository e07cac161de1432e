"""Make a release: reproducible wheel and source distribution, SBOM, digest list, and a signature over the list.

What is built is the commit, not the working tree: its files with the commit's time, in a directory of its own. Exit code 2:
something is missing, and nothing was written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
BASE = re.compile(r"\S+@sha256:[0-9a-f]{64}")
PINNED = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ]+)[^\n]*\n(?P<hashes>(?: +--hash=[^\n]+\n)+)", re.MULTILINE
)


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", required=True, help="private key of `mirror bundle key` that signs SHA256SUMS")
    parser.add_argument("--base", required=True, help="image that the container is built from, with @sha256:")
    parser.add_argument("--out", default="dist", help="where the release is written; must be empty or not there")
    given = parser.parse_args()
    out = Path(given.out)
    if problem := find_problem(given.key, given.base, out):
        print(f"error: {problem}", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    commit_time = int(run_git("log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "source")
        source.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
        build(source, out.absolute(), commit_time)
        (wheel,) = out.glob("*.whl")
        version = wheel.name.split("-")[1]
        sbom = describe(version, wheel, (source / "requirements.lock").read_text(), commit_time)
        (out / f"offline_mirror-{version}.cdx.json").write_text(json.dumps(sbom, indent=1, sort_keys=True) + "\n")
        for name in ("requirements.lock", "build.lock", "Containerfile"):
            shutil.copyfile(source / name, out / name)
    (out / "base-image").write_text(given.base + "\n")
    names = sorted(path.name for path in out.iterdir())
    sums = "".join(f"{hashlib.sha256((out / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (out / "SHA256SUMS").write_text(sums)
    sign(sums.encode(), Path(given.key), out / "SHA256SUMS.sig")
    print(sums, end="")
    print(f"signed: {out}/SHA256SUMS.sig. The image: podman build --build-arg BASE={given.base} -t mirror:{version} .")
    return 0


def find_problem(key: str, base: str, out: Path) -> str:
    """Return why there can be no release; empty where there can be one."""
    if not BASE.fullmatch(base):
        return f"BASE: expected an image by digest, such as python@sha256:…, got {base!r}"
    if not key or not Path(key).is_file():
        return "KEY: expected a key that `mirror bundle key FILE` has made"
    if out.exists() and any(out.iterdir()):
        return f"OUT: {out} is not empty"
    if run_git("status", "--porcelain", "--untracked-files=no"):
        return "the working tree has changes that are not committed"
    return ""


def build(source: Path, out: Path, commit_time: int) -> None:
    """Build wheel and source distribution; the same bytes wherever and whenever it is done."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(commit_time), "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    for kind in ("sdist", "wheel"):
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out]
        subprocess.run(command, cwd=source, env=env, check=True, stdout=subprocess.DEVNULL)
    for leftover in out.glob(".git*"):
        leftover.unlink()


def describe(version: str, wheel: Path, lock: str, commit_time: int) -> dict[str, object]:
    """Return the bill of materials (CycloneDX 1.5): the wheel, and each pinned dependency with its digests."""
    components = [
        {
            "type": "library",
            "name": found["name"],
            "version": found["version"],
            "purl": f"pkg:pypi/{found['name']}@{found['version']}",
            "bom-ref": f"pkg:pypi/{found['name']}@{found['version']}",
            # One for each file of the release that an installer may choose.
            "properties": [
                {"name": "sha256", "value": digest} for digest in re.findall(r"sha256:([0-9a-f]{64})", found["hashes"])
            ],
        }
        for found in PINNED.finditer(lock)
    ]
    own = {
        "type": "application",
        "name": "offline-mirror",
        "version": version,
        "bom-ref": f"pkg:pypi/offline-mirror@{version}",
        "purl": f"pkg:pypi/offline-mirror@{version}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
    }
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(commit_time))
    refs = [str(component["bom-ref"]) for component in components]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": timestamp, "component": own},
        "components": components,
        "dependencies": [{"ref": own["bom-ref"], "dependsOn": refs}],
    }


def sign(data: bytes, key: Path, target: Path) -> None:
    """Sign with the program's own means; the far side of an air gap verifies bundles in the same way."""
    from mirror.bundle import signing

    with tempfile.TemporaryDirectory() as private:
        signed = Path(private) / target.stem
        signed.write_bytes(data)
        target.write_bytes(signing.sign_file(signed, key))


def run_git(*words: str) -> str:
    """Return what git says."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
