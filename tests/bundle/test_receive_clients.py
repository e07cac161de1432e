"""pip and uv on the far side, with no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from harness.handmade_bundles import Far, File, Site, State
from harness.program import Serving, call_well, clean_environment
from simulator import build_sdist, build_wheel
from simulator.wheels import wheel_metadata

pytestmark = pytest.mark.usefixtures("unmeasured")

NOWHERE = "http://127.0.0.1:9"


def wheel(name: str, version: str, **options: object) -> File:
    filename, data = build_wheel(name, version, **options)
    return File(filename, data, metadata=wheel_metadata(data))


def stored() -> list[State]:
    library = [wheel("demo-lib", "1.0"), wheel("demo-lib", "1.1")]
    first = {"demo-app": [wheel("demo-app", "1.0", requires=["demo-lib"])], "demo-lib": library[:1]}
    second = {
        "demo-app": [*first["demo-app"], wheel("demo-app", "2.0", requires=["demo-lib>=1.1", "demo-src"])],
        "demo-lib": library,
        "demo-src": [File(*build_sdist("demo-src", "0.1"))],
    }
    return [State(first, 1), State(second, 2)]


def install(client: str, index: str, work: Path, *requirements: str, run: int) -> dict[str, str]:
    """Install into an empty directory, with proxies that lead nowhere; return project -> version."""
    target = work / f"target-{run}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
    local = {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"} if index.startswith("http") else {}
    if client == "pip":
        command: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
        command += ["--index-url", index]
        own = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    else:
        command = [uv.find_uv_bin(), "pip", "install", "--default-index", index]
        own = {"UV_NO_CONFIG": "1", "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
        own["UV_CACHE_DIR"] = str(work / f"cache-{run}")
    env = clean_environment(work, **proxies, **local, **own)
    call_well([*command, "--target", target, *requirements], env=env, cwd=work)
    infos = [path.name.removesuffix(".dist-info") for path in target.glob("*.dist-info")]
    return dict(sorted(info.split("-") for info in infos))


@pytest.mark.parametrize("way", ["file", "http"])
@pytest.mark.parametrize("client", ["pip", "uv"])
def test_clients_install_from_what_was_received(site: Site, far: Far, tmp_path: Path, client: str, way: str) -> None:
    """Both clients install from the tree as a directory and behind a plain server, after each bundle and a rollback."""
    server = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(far.public)]
    first, second = stored()
    far.receive_well(site.make(first))
    if way == "file":
        check_installs(client, f"{far.public.as_uri()}/simple/", site, far, tmp_path, second)
        return
    (tmp_path / "server").mkdir()
    with Serving(server, work=tmp_path / "server", env=clean_environment(tmp_path)) as running:
        url = running.greeting.partition("(")[2].partition(")")[0]
        check_installs(client, f"{url}simple/", site, far, tmp_path, second)


def check_installs(client: str, index: str, site: Site, far: Far, work: Path, second: State) -> None:
    assert install(client, index, work, "demo-app", run=1) == {"demo_app": "1.0", "demo_lib": "1.0"}
    far.receive_well(site.make(second))
    expected = {"demo_app": "2.0", "demo_lib": "1.1", "demo_src": "0.1"}
    assert install(client, index, work, "demo-app", run=2) == expected
    assert far.run("--rollback").code == 0
    assert install(client, index, work, "demo-app", run=3) == {"demo_app": "1.0", "demo_lib": "1.0"}


def test_a_network_namespace_without_any_network(site: Site, far: Far, tmp_path: Path) -> None:
    """receive.py and pip in a namespace that has no network at all, not even loopback."""
    if (
        subprocess.run(["unshare", "--net", "--map-root-user", "true"], check=False, capture_output=True).returncode
        != 0
    ):
        pytest.skip("network namespaces are not permitted here")
    made = site.make(stored()[1])
    program = tmp_path / "receive.py"
    program.write_bytes((made.path / "receive.py").read_bytes())
    target = tmp_path / "target"
    pip = f"{sys.executable} -m pip --disable-pip-version-check install --target {target} demo-app"
    script = (
        f"{sys.executable} -I {program} {made.path} --root {far.root} --site lab --trust {far.trust}\n"
        f"{pip} --index-url {far.public.as_uri()}/simple/"
    )
    env = clean_environment(tmp_path, PIP_CONFIG_FILE=os.devnull, PIP_NO_CACHE_DIR="1")
    call_well(["unshare", "--net", "--map-root-user", "sh", "-ec", script], env=env, cwd=tmp_path)
    assert sorted(path.name for path in target.glob("*.dist-info")) == [
        "demo_app-2.0.dist-info",
        "demo_lib-1.1.dist-info",
        "demo_src-0.1.dist-info",
    ]
