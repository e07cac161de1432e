"""Clients of many ages install projects whose metadata spells its name in another way than links do."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients.conftest import PASSWORD, USERNAME, Served, mirror_of, serve

from harness.interpreters import installed_client
from harness.program import call, clean_environment
from simulator import ThreadedSimulator, build_wheel

PIPS = {
    "21.2": ("pip~=21.2.0", (9, 8, 10)),
    "22.0": ("pip~=22.0.0", (10, 9, 8)),
    "22.3": ("pip~=22.3.0", (11, 10, 9)),
    "23.0": ("pip~=23.0.0", (11, 10, 9)),
    "23.1": ("pip~=23.1.0", (11, 10, 9)),
    "23.2": ("pip~=23.2.0", (12, 11, 10)),
    "24": ("pip~=24.0", (12, 11, 13)),
    "newest": ("pip", (13, 12, 11, 14)),
}
"""Version -> requirement, and the minor versions of Python 3 that can run it."""
MANAGERS = {
    "poetry": (
        "poetry",
        "pyproject.toml",
        """[project]\nname = "app"\nversion = "0"\nrequires-python = ">=3.10"\ndependencies = ["Foo.Bar"]
[tool.poetry]\npackage-mode = false\n[[tool.poetry.source]]\nname = "mirror"\nurl = "{url}"\npriority = "primary"\n""",
    ),
    "pdm": (
        "pdm hishel<2",  # with a newer one, which it does not exclude, it ends with an AttributeError
        "pyproject.toml",
        """[project]\nname = "app"\nversion = "0"\nrequires-python = ">=3.10"\ndependencies = ["Foo.Bar"]
[[tool.pdm.source]]\nname = "pypi"\nurl = "{url}"\nverify_ssl = false\n""",
    ),
    "pipenv": (
        "pipenv",
        "Pipfile",
        """[[source]]\nname = "mirror"\nurl = "{url}"\nverify_ssl = false\n[packages]\n"Foo.Bar" = "*"\n""",
    ),
    "uv": (
        "uv",
        "pyproject.toml",
        """[project]\nname = "app"\nversion = "0"\nrequires-python = ">=3.10"\ndependencies = ["Foo.Bar"]
[[tool.uv.index]]\nurl = "{url}"\ndefault = true\n""",
    ),
}
"""Manager -> requirement, the file that asks for a project, and its text."""
soak = pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "soak", reason="slow, and needs the network: `make soak` runs it"
)

INSTALLS = {
    "poetry": ["install", "--no-root"],
    "pdm": ["sync", "--no-self"],
    "pipenv": ["sync"],
    "uv": ["sync"],
}
"""The words by which each manager installs what it has locked."""


@pytest.fixture(scope="module")
def odd_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public part of a mirror of two projects whose metadata has their names as people write them."""
    with ThreadedSimulator(username=USERNAME, password=PASSWORD, core_metadata=True) as index:
        index.state.publish("foo-bar", *build_wheel("Foo_Bar", "1.0", requires=["Zope.Odd>=1"]))
        index.state.publish("zope-odd", *build_wheel("Zope.Odd", "2.0"))
        mirror = mirror_of(index, tmp_path_factory.mktemp("odd"))
        mirror.sync_well()
    return mirror.root / "public"


@pytest.fixture(scope="module")
def places(odd_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """The ways in which that tree is served, one server for all clients."""
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(contextlib.contextmanager(serve)(kind, odd_tree, tmp_path_factory.mktemp(kind)))
            for kind in ("file", "static", "nginx", "mirror", "serve.py")
        }


# Each pip is asked in `make test` with pages in HTML (by a file or a static server, in turn) and behind nginx, whose
# pages a newer pip gets as JSON; the rest of the product is for `make soak`.
BY_FILE, BY_STATIC = list(PIPS)[::2], list(PIPS)[1::2]


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        *itertools.product(["file"], BY_FILE),
        *itertools.product(["static"], BY_STATIC),
        *itertools.product(["nginx"], PIPS),
        *itertools.product(["mirror", "serve.py"], ["21.2", "newest"]),
        *(pytest.param("file", version, marks=soak) for version in BY_STATIC),
        *(pytest.param("static", version, marks=soak) for version in BY_FILE),
    ],
)
def test_pip(places: dict[str, Served], tmp_path: Path, version: str, kind: str) -> None:
    """Pip installs a project and what its metadata asks for, whatever the spelling of their names."""
    requirement, minors = PIPS[version]
    python = installed_client(f"pip-{version}", requirement, minors)
    target = tmp_path / "target"
    words = ("install", "--no-cache-dir", "--disable-pip-version-check", "--index-url", places[kind].url)
    env = clean_environment(tmp_path, PIP_CONFIG_FILE=os.devnull)
    done = call([python, "-m", "pip", *words, "--target", target, "Foo.Bar"], env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inconsistent" not in done.stdout + done.stderr
    names = sorted(path.name for path in target.glob("*.dist-info"))
    assert names == ["foo_bar-1.0.dist-info", "zope_odd-2.0.dist-info"]


@soak
@pytest.mark.parametrize("kind", ["static", "nginx", "mirror", "serve.py"])
@pytest.mark.parametrize("manager", MANAGERS)
def test_managers(places: dict[str, Served], tmp_path: Path, manager: str, kind: str) -> None:
    """The newest of each manager locks the project with what its metadata asks for, and installs it from there."""
    requirement, filename, text = MANAGERS[manager]
    python = installed_client(manager, requirement, (13, 12, 11, 10))
    (tmp_path / filename).write_text(text.format(url=places[kind].url))
    env = clean_environment(
        tmp_path,
        PIPENV_PYTHON=str(python),
        PIPENV_VENV_IN_PROJECT="1",
        POETRY_VIRTUALENVS_IN_PROJECT="true",
        PYTHON_KEYRING_BACKEND="keyring.backends.null.Keyring",
    )
    for words in (["lock"], INSTALLS[manager]):
        done = call([python.with_name(manager), *words], env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    names = sorted(path.name for path in tmp_path.glob(".venv/lib/python*/site-packages/*.dist-info"))
    assert {"foo_bar-1.0.dist-info", "zope_odd-2.0.dist-info"} <= set(names)
    (lock,) = (path for path in tmp_path.iterdir() if "lock" in path.name.lower())
    locked = re.sub("[-_.]+", "-", lock.read_text().lower())
    assert "foo-bar" in locked
    assert "zope-odd" in locked
