"""Nothing that lies beside receive.py, in the working directory or on a relative PATH is run by it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.handmade_bundles import PROGRAM, Far, Site, State, some_file

FIRST = State({"aa": [some_file("aa", "1.0")]}, 1)
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


def find_python(version: str) -> str:
    """Return an interpreter of this version, or skip the test."""
    own = [sys.executable] if version == "{}.{}".format(*sys.version_info[:2]) else []
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for found in [*own, *map(str, installed), shutil.which(f"python{version}")]:
        if found and subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0:
            return found
    pytest.skip(f"Python {version} is not installed")


def plant(directory: Path) -> None:
    """Lay a module with the name of each one of the standard library into a directory."""
    for name in {*sys.stdlib_module_names, "__future__", "sitecustomize", "usercustomize"}:
        (directory / f"{name}.py").write_text(f"import os\nos._exit(77)  # {name}\n")
        package = directory / name
        package.mkdir()
        (package / "__init__.py").write_text("import os\nos._exit(78)\n")


@pytest.mark.parametrize("isolated", [True, False], ids=["-I", "not-isolated"])
@pytest.mark.parametrize("version", PYTHONS)
def test_modules_that_lie_beside_it(site: Site, far: Far, tmp_path: Path, version: str, isolated: bool) -> None:
    """A bundle is applied beside modules of every name of the standard library, also without -I."""
    python = find_python(version)
    home = tmp_path / "host"
    home.mkdir()
    plant(home)
    shutil.copy(PROGRAM, home / "receive.py")
    words = [
        python,
        *(["-I"] if isolated else []),
        "receive.py",
        site.make(FIRST).path,
        "--root",
        far.root,
        "--site",
        "lab",
    ]
    words += ["--trust", far.trust]
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run([str(w) for w in words], check=False, capture_output=True, text=True, cwd=home, env=env)
    assert done.returncode == 0, done.stderr
    far.check_serves(FIRST)


@pytest.mark.parametrize("variable", ["directory", "deep"])
def test_directories_of_the_user_are_no_source_of_modules(site: Site, far: Far, tmp_path: Path, variable: str) -> None:
    """PYTHONPATH leads to nothing that the program imports itself."""
    planted = tmp_path / "planted"
    planted.mkdir()
    names = {"directory": ["argparse", "json", "fcntl"], "deep": ["subprocess", "hashlib", "secrets", "shutil"]}
    for name in names[variable]:
        (planted / f"{name}.py").write_text("import os\nos._exit(77)\n")
    words = [sys.executable, PROGRAM, site.make(FIRST).path, "--root", far.root, "--site", "lab", "--trust", far.trust]
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONPATH": str(planted)}
    done = subprocess.run([str(w) for w in words], check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def plant_judge(directory: Path, mark: Path) -> None:
    """Lay a ssh-keygen into a directory that accepts everything and leaves a mark."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "ssh-keygen"
    lines = [
        "#!/bin/sh",
        f"touch {mark}",
        'if [ "$2" = find-principals ] && [ $# = 2 ]; then echo "find-principals: missing" >&2; exit 1; fi',
        'if [ "$2" = find-principals ]; then echo anybody; fi',
        "exit 0",
    ]
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)


@pytest.mark.parametrize("element", ["", ".", "bin", "./bin", "../lab-000001", "ABSOLUTE", "GIVEN"])
def test_the_medium_brings_its_own_ssh_keygen(
    site: Site, far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, element: str
) -> None:
    """An element of PATH that is empty, relative, or on the medium finds no judge there: a bad signature stays refused."""
    made = site.make(FIRST)
    (made.path / "bundle.json.sig").write_text("-----BEGIN SSH SIGNATURE-----\n")
    mark = tmp_path / "ran"
    for directory in (made.path, made.path / "bin", made.path.parent / "bin"):
        plant_judge(directory, mark)
    absolute = {"ABSOLUTE": str(made.path), "GIVEN": str(made.path.parent / "bin")}
    monkeypatch.setenv("PATH", f"{absolute.get(element, element)}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(made.path)
    done = far.receive(made.path.parent if element == "GIVEN" else made)
    assert done.code == 7, done.err
    assert not mark.exists()
    assert not (far.public / "simple").exists()


def test_a_path_of_relative_elements_only(
    site: Site, far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no absolute element has a ssh-keygen it is missing, whatever lies in the working directory."""
    made = site.make(FIRST)
    mark = tmp_path / "ran"
    plant_judge(made.path, mark)
    monkeypatch.setenv("PATH", ".:")
    monkeypatch.chdir(made.path)
    done = far.receive(made)
    assert (done.code, mark.exists(), far.root.exists()) == (2, False, False)
    assert "install OpenSSH 8.2 or newer" in done.err


def test_the_documents_always_say_isolated() -> None:
    """Each command line with the program in the documents and in README.txt runs it by python3 -I."""
    from mirror.bundle import manifest, receive

    top = Path(__file__).parents[2]
    texts = [path.read_text() for path in [top / "README.md", *sorted(top.glob("docs/**/*.md"))]]
    texts += [str(receive.__doc__), manifest._README, manifest._CHECK_FIRST, manifest._UNSIGNED]
    for text in texts:
        for line in text.splitlines():
            for before, after in zip(line.split("receive.py")[:-1], line.split("receive.py")[1:], strict=True):
                is_command = after.startswith((" --", " DIR", " BUNDLE", " /"))
                is_copied = line.lstrip(" $").startswith("cp ")
                assert not is_command or is_copied or "python3 -I " in before, line
