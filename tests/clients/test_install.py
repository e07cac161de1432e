"""pip and uv install from the tree, however it is served: the tree is all that they know."""

from __future__ import annotations

import pytest

WANTED = ("demo-app", "demo-lib>=1")
CHOSEN = {"demo_app": "1.0", "demo_lib": "1.2", "demo_src": "0.1"}


def test_install(client, served):
    """A program is installed with what it depends on, a wheel's and an sdist's, and runs."""
    assert client.install_well(served, *WANTED) == CHOSEN
    assert client.run_installed("demo-app") == "1.0 1.2 0.1"


@pytest.mark.parametrize("served", ["static", "nginx"], indirect=True)
def test_metadata_is_used(client, served):
    """Wheels are judged by their ``.metadata``: the one that does not fit is never downloaded."""
    client.install_well(served, *WANTED)
    names = [path.rpartition("/")[2] for path in served.requests() if "/files/" in path]
    wheels = [name for name in names if name.endswith(".whl")]
    assert sorted(wheels) == ["demo_app-1.0-py3-none-any.whl", "demo_lib-1.2-py3-none-any.whl"]
    for wheel in ("demo_app-2.0-py3-none-any.whl", *wheels):
        assert f"{wheel}.metadata" in names
    for wheel in wheels:
        assert names.index(f"{wheel}.metadata") < names.index(wheel)


@pytest.mark.parametrize("version", ["1.1+cgr.1", "1.0"])
def test_exact_version(client, served, version):
    """An older version, also one whose link needs ``%2B``, is had by asking for it."""
    assert client.install_well(served, f"demo-lib=={version}") == {"demo_lib": version}


def test_hash_is_required(client, served, tree):
    """A requirement with a hash installs with that hash, and is refused with another one."""
    digest = next(path.parent.name for path in tree.glob("files/*/*/*/demo_lib-1.2-*.whl"))
    requirements = client.work / "requirements.txt"
    for wanted, fits in ((digest, True), (digest[::-1], False)):
        requirements.write_text(f"demo-lib==1.2 --hash=sha256:{wanted}\n")
        done = client.install(served, "-r", str(requirements), options=["--require-hashes"])
        assert (done.returncode == 0) is fits, done.stderr
        assert client.installed() == ({"demo_lib": "1.2"} if fits else {})


def test_yanked_is_not_chosen(client, served):
    """A yanked file is never chosen by itself, also where nothing else fits; pinned, it is, with its reason."""
    assert client.install_well(served, "demo-lib") == {"demo_lib": "1.2"}

    refused = client.install(served, "demo-lib>1.2")
    assert refused.returncode == 1, refused.stdout
    assert client.installed() == {}
    assert "demo-lib>1.2" in refused.stdout + refused.stderr

    assert client.install_well(served, "demo-lib==1.3") == {"demo_lib": "1.3"}
    warned = client.install(served, "demo-lib==1.3")
    assert "broken by design" in warned.stdout + warned.stderr


def test_requires_python(client, served):
    """A file for another version of Python is told by the page, without a look at the file."""
    refused = client.install(served, "demo-app==3.0")
    assert refused.returncode == 1, refused.stdout
    assert not [path for path in served.requests() if "demo_app-3.0" in path]


def test_unknown_project(client, served):
    """A project that is not mirrored is «not found» for the client."""
    refused = client.install(served, "demo-absent")
    assert refused.returncode == 1, refused.stdout
    assert client.installed() == {}
    said = {"pip": "No matching distribution found for demo-absent", "uv": "demo-absent was not found in the package"}
    assert said[client.name] in refused.stderr
