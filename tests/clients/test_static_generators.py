"""Real peers: the trees that dumb-pypi and python-pypi-mirror write, behind a plain file server, as upstreams."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.program import Mirror, Serving, call_well, clean_environment, published
from simulator import build_sdist, build_wheel

SERVE = """\
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
"""

FILES = dict(
    [
        build_wheel("demo.app", "1.0", requires=["demo-lib"]),
        build_wheel("demo.app", "1.1"),
        build_wheel("demo-lib", "1.0+cgr.1"),
        build_sdist("demo-lib", "0.9"),
    ]
)
EXPECTED = {
    "demo-app": {name: data for name, data in FILES.items() if "app" in name},
    "demo-lib": {name: data for name, data in FILES.items() if "lib" in name},
}


def write_packages(place: Path) -> Path:
    place.mkdir(parents=True)
    for name, data in FILES.items():
        (place / name).write_bytes(data)
    return place


def by_dumb_pypi(site: Path, work: Path) -> str:
    """Write a tree with dumb-pypi, which links ``name/index.html``; return where its index is."""
    packages = write_packages(site / "packages")
    listing = work / "packages.txt"
    listing.write_text("".join(f"{path.name}\n" for path in sorted(packages.iterdir())))
    words = ["--package-list", listing, "--packages-url", "../../packages/", "--output-dir", site]
    command = [sys.executable, "-W", "ignore", "-m", "dumb_pypi.main", *words]
    call_well(command, env=clean_environment(work), cwd=work)
    return "simple/"


def by_pypi_mirror(site: Path, work: Path) -> str:
    """Write a tree with python-pypi-mirror; return where its index is."""
    packages = write_packages(work / "downloads")
    program = "import sys; from pypi_mirror import main; sys.exit(main())"
    command = [sys.executable, "-W", "ignore", "-c", program, "create", "-d", packages, "-m", site / "simple", "-c"]
    call_well(command, env=clean_environment(work), cwd=work)
    return "simple/"


GENERATORS = {"dumb_pypi": by_dumb_pypi, "pypi_mirror": by_pypi_mirror}


@pytest.fixture(params=GENERATORS)
def generated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Serve what a generator has written, and yield the address of its index."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    site = tmp_path / "site"
    site.mkdir()
    write: Callable[[Path, Path], str] = GENERATORS[request.param]
    index = write(site, tmp_path)
    with Serving(
        [sys.executable, "-c", SERVE, site], work=tmp_path / "server", env=clean_environment(tmp_path)
    ) as serving:
        yield serving.greeting.strip() + index


@pytest.mark.usefixtures("unmeasured")
def test_generated_tree(generated: str, tmp_path: Path) -> None:
    """Every file is mirrored with its bytes, under the names as normalised; a second cycle downloads nothing."""
    mirror = Mirror(tmp_path / "work", url=generated)
    report = mirror.sync_well()
    assert report["outcome"] == "complete"
    assert published(mirror.root) == EXPECTED
    again = mirror.sync_well()
    assert again["indexes"][0]["bytes_downloaded"] == 0
    assert published(mirror.root) == EXPECTED
