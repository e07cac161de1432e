"""``make demo``: the whole way on this machine alone, from an index that asks for a password to ``pip install``.

The index is the simulator of the tests, on loopback; the mirror is the real program. What is shown is also
checked: the exit code is not 0 where the mirror did other than it says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulator import ThreadedSimulator, build_sdist, build_wheel

PROJECT = Path(__file__).parents[1]
USER, PASSWORD = "demo-org/demo-token", "a-secret-of-the-demo"

PROGRAM = """\
import demo_app, demo_lib


def main():
    print(f"Hello from demo-app {demo_app.__version__}, with demo-lib {demo_lib.__version__}")
"""


class DemoError(Exception):
    """The demo did not go as it says."""


def main() -> int:
    """Run the demo and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="mirror-demo-") as work:
        try:
            _run(Path(work))
        except DemoError as exc:
            print(f"\nThe demo failed: {exc}", file=sys.stderr)
            return 1
    print(_WITH_YOUR_OWN)
    return 0


def _run(work: Path) -> None:
    root = work / "mirror"
    with ThreadedSimulator(username=USER, password=PASSWORD, second_origin=True, serials=True) as index:
        _publish_first(index)
        _say(1, f"An index on {index.url} that wants a password; its files redirect to {index.store_url}.")
        _show(f"publishes {', '.join(name for p in index.state.projects.values() for name in p.files)}")

        _say(2, "Mirror it.")
        _show("$ mirror sync --once --index-url URL --root ROOT")
        report = _sync(index, root)
        _expect(report, files_new=3, files_failed=0, projects_listed=3)
        _show(_words(report))
        index.take_requests()

        _say(3, "Install from the mirror: a program and what it depends on, with the tree as pip's only index.")
        _show(f"$ pip install --index-url {_tree_url(root).replace(str(work), '')} demo-app")
        _show(_install(root, work / "first"))
        if index.requests:
            raise DemoError("the installation asked the index instead of the mirror")

        filename, data = build_wheel("demo-lib", "1.1")
        index.state.publish("demo-lib", filename, data)
        _say(4, "Upstream, demo-lib 1.1 is released. Mirror again: only that is fetched.")
        report = _sync(index, root)
        _expect(report, files_new=1, projects_changed=1, bytes_downloaded=len(data), files_failed=0)
        _expect_requests(index, filename)
        _show(_words(report))
        _show("asked for: " + ", ".join(f"{r.kind} {r.filename or r.project or ''}".strip() for r in index.requests))

        _say(5, "Install again.")
        _show(_install(root, work / "second"))
        _expect_versions(work)
        _want(index, work)


def _want(index: ThreadedSimulator, work: Path) -> None:
    """Mirror what one requirements.txt needs, and prove that it installs."""
    _say(6, "Mirror only what a requirements.txt needs, and prove that it installs on this machine.")
    (work / "requirements.txt").write_text("demo-app\n")
    _show("$ cat requirements.txt\n   demo-app")
    credential = {"MIRROR_DEMO_USERNAME": USER, "MIRROR_DEMO_PASSWORD": PASSWORD}
    mirror = [sys.executable, "-m", "mirror"]
    target = _call([*mirror, "target", "here"], {})
    config = work / "needed.toml"
    config.write_text(_NEEDED.format(root=work / "needed", url=index.url, target=target))
    _show(f"$ mirror target here\n{_indented(target)}")
    report = json.loads(_call([*mirror, "--config", str(config), "sync", "--once", "--json"], credential))
    _expect(report, files_new=2, files_failed=0, projects_listed=3)
    _show(f"$ mirror sync --once\n   {_words(report)}: demo-tool is needed by nobody")
    index.take_requests()
    proof = _call([*mirror, "--config", str(config), "check"], {})
    if "installs: 2 files" not in proof or index.requests:
        raise DemoError(f"the proof says otherwise, or asked the index: {proof}")
    _show(f"$ mirror check\n{_indented(proof)}")
    _show(_install(work / "needed", work / "third"))


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.strip().splitlines())


def _publish_first(index: ThreadedSimulator) -> None:
    app = build_wheel(
        "demo-app",
        "1.0",
        requires=["demo-lib>=1"],
        requires_python=">=3.8",
        extra_files={"demo_app/cli.py": PROGRAM},
        scripts={"demo-app": "demo_app.cli:main"},
    )
    index.state.publish("demo-app", *app, requires_python=">=3.8")
    index.state.publish("demo-lib", *build_wheel("demo-lib", "1.0"))
    index.state.publish("demo-tool", *build_sdist("demo-tool", "0.1"))


def _sync(index: ThreadedSimulator, root: Path) -> dict[str, Any]:
    """Run one cycle and return its report. The credential comes from the environment."""
    credential = {"MIRROR_DEFAULT_USERNAME": USER, "MIRROR_DEFAULT_PASSWORD": PASSWORD}
    command = [
        sys.executable,
        "-m",
        "mirror",
        "sync",
        "--once",
        "--index-url",
        index.url,
        "--root",
        str(root),
        "--json",
    ]
    report = json.loads(_call(command, credential))
    if not isinstance(report, dict) or report["outcome"] != "complete":
        raise DemoError(f"the cycle ended otherwise: {report}")
    return report


def _install(root: Path, target: Path) -> str:
    """Install demo-app from the tree alone, run it, and return what it says."""
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir", "--quiet"]
    _call([*pip, "install", "--index-url", _tree_url(root), "--target", str(target), "demo-app"], {})
    return _call([str(target / "bin" / "demo-app")], {"PYTHONPATH": str(target)}).strip()


def _call(command: Sequence[str], variables: dict[str, str]) -> str:
    """Run a program with nothing of this machine's configuration and return its standard output."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    environment = {**kept, "HOME": "/nonexistent", "PIP_CONFIG_FILE": os.devnull, **variables}
    done = subprocess.run(command, cwd=PROJECT, env=environment, check=False, text=True, capture_output=True)
    if done.returncode != 0:
        raise DemoError(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _expect(report: dict[str, Any], **wanted: int) -> None:
    (index,) = report["indexes"]
    found = {key: index[key] for key in wanted}
    if found != wanted:
        raise DemoError(f"expected {wanted}, the report says {found}")


def _expect_requests(index: ThreadedSimulator, filename: str) -> None:
    asked = [(r.kind, r.project, r.filename) for r in index.requests]
    wanted = [
        ("root", None, None),
        ("page", "demo-lib", None),
        ("file", "demo-lib", filename),
        ("store", "demo-lib", filename),
    ]
    if asked != wanted:
        raise DemoError(f"expected the requests {wanted}, there were {asked}")


def _expect_versions(work: Path) -> None:
    for target, version in (("first", "1.0"), ("second", "1.1")):
        if not (work / target / f"demo_lib-{version}.dist-info").is_dir():
            raise DemoError(f"the {target} installation did not get demo-lib {version}")


def _tree_url(root: Path) -> str:
    return (root / "public" / "simple").as_uri() + "/"


def _words(report: dict[str, Any]) -> str:
    (index,) = report["indexes"]
    return (
        f"{report['outcome']}: {index['files_new']} new file(s), {index['bytes_downloaded']} bytes, "
        f"{index['requests']} requests, {index['projects_listed']} projects listed"
    )


def _say(number: int, text: str) -> None:
    print(f"{number}. {text}", flush=True)


def _show(text: str) -> None:
    print(f"   {text}", flush=True)


_NEEDED = """\
[mirror]
root = "{root}"

[[index]]
name = "demo"
url = "{url}"

{target}
[[want]]
name = "demo"
files = ["requirements.txt"]
"""

_WITH_YOUR_OWN = """
All of it went as shown. The same with your own index:

   export MIRROR_DEFAULT_USERNAME=…  MIRROR_DEFAULT_PASSWORD=…      # if it wants a credential
   .venv/bin/mirror sync --once --index-url https://INDEX/simple/ --root ./mirror --dry-run
   .venv/bin/mirror sync --once --index-url https://INDEX/simple/ --root ./mirror
   pip install --index-url "file://$PWD/mirror/public/simple/" PROJECT

or exactly what a project needs, with a proof:

   .venv/bin/mirror init --from requirements.txt      # or uv.lock, pyproject.toml, …: writes mirror.toml; then edit it
   .venv/bin/mirror sync --once
   .venv/bin/mirror check

or with a configuration file, to choose projects and to use several indexes:

   .venv/bin/mirror init            # writes mirror.toml; then edit it
   .venv/bin/mirror sync --once"""

if __name__ == "__main__":
    sys.exit(main())
