"""Lock files of each format: which packages count where, and which files an installer chooses."""

import json

import pytest

from harness.locks import LINUX, MAC, packages_of
from mirror.selection.wants import LockedFile, LockedSet, LockFormat, UnresolvedFile

A, B = "a" * 64, "b" * 64

UV = """\
version = 1
revision = 9
requires-python = ">=3.11"
conflicts = [[{ package = "app", extra = "x" }, { package = "app", group = "dev" }]]

[[package]]
name = "app"
version = "0"
source = { virtual = "." }
dependencies = [
    { name = "numpy" },
    { name = "winonly", marker = "sys_platform == 'win32'" },
    { name = "web", extra = ["fast"] },
    { name = "own" },
    { name = "fromgit", marker = "sys_platform == 'linux'" },
]
[package.optional-dependencies]
x = [{ name = "twice", version = "1.0", source = { registry = "https://u:hunter2@i/simple" }, marker = "extra == 'extra-3-app-x'" }]
[package.dev-dependencies]
dev = [{ name = "twice", version = "2.0", marker = "extra != 'extra-3-app-x' and sys_platform == 'linux'" }]

[[package]]
name = "numpy"
version = "1.0"
source = { registry = "https://u:hunter2@i/simple" }
sdist = { url = "https://u:hunter2@f/numpy-1.0.tar.gz", hash = "sha256:AA", size = 7 }
wheels = [
    { url = "https://u:hunter2@f/numpy-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", hash = "sha256:AA", size = 1 },
    { url = "https://f/numpy-1.0-cp311-cp311-manylinux_2_28_x86_64.whl?token=hunter2", hash = "sha256:BB", size = 2 },
    { url = "https://f/numpy-1.0-1-cp311-cp311-manylinux_2_28_x86_64.whl", hash = "sha256:BB" },
    { url = "https://f/numpy-1.0-cp311-cp311-manylinux_2_34_x86_64.whl", hash = "sha256:AA" },
    { url = "https://f/numpy-1.0-cp311-cp311-macosx_11_0_arm64.whl", hash = "sha256:AA" },
]

[[package]]
name = "winonly"
version = "1.0"
source = { registry = "https://i/simple" }
wheels = [{ url = "https://f/winonly-1.0-py3-none-any.whl", hash = "sha256:AA" }]

[[package]]
name = "web"
version = "1.0%2Blocal"
source = { registry = "../flat" }
wheels = [{ path = "web-1.0%2Blocal-py3-none-any.whl" }]
[package.optional-dependencies]
fast = [{ name = "loop" }]
slow = [{ name = "unused" }]

[[package]]
name = "loop"
version = "1.0"
source = { registry = "https://i/simple" }
sdist = { url = "https://f/loop-1.0.tar.gz", hash = "sha256:AA" }
dependencies = [{ name = "web" }]

[[package]]
name = "unused"
version = "1.0"
source = { registry = "https://i/simple" }

[[package]]
name = "twice"
version = "1.0"
source = { registry = "https://u:hunter2@i/simple" }
wheels = [{ url = "https://f/twice-1.0-py3-none-any.whl", hash = "sha256:AA" }]

[[package]]
name = "twice"
version = "2.0"
source = { registry = "https://i/simple" }
wheels = [{ url = "https://f/twice-2.0-py3-none-any.whl", hash = "sha256:AA" }]

[[package]]
name = "own"
version = "1"
source = { directory = "../own" }

[[package]]
name = "fromgit"
version = "1"
source = { git = "https://u:hunter2@h/x?rev=1#abc" }
""".replace("AA", A).replace("BB", B)


def test_uv_lock(read):
    """A uv.lock is walked from the project with all extras and groups, each side of conflicts too."""
    lock = read({"uv.lock": UV})
    assert packages_of(lock) == {
        "numpy 1.0": "numpy-1.0-1-cp311-cp311-manylinux_2_28_x86_64.whl",
        "loop 1.0": "loop-1.0.tar.gz",
        "twice 1.0": "twice-1.0-py3-none-any.whl",
        "twice 2.0": "twice-2.0-py3-none-any.whl",
    }
    assert packages_of(lock, MAC) == {
        "numpy 1.0": "numpy-1.0-cp311-cp311-macosx_11_0_arm64.whl",
        "loop 1.0": "loop-1.0.tar.gz",
        "twice 1.0": "twice-1.0-py3-none-any.whl",
    }
    assert [(f.project, f.detail) for f in lock.foreign_for(LINUX)] == [
        ("web", "a local folder"),
        ("own", "a local folder"),
        ("fromgit", "a git repository"),
    ]
    assert [f.project for f in lock.foreign_for(MAC)] == ["web", "own"]
    assert len(lock.packages) == 6
    assert "hunter2" not in repr(lock)
    numpy = lock.packages[0]
    assert (numpy.index, numpy.files[-1].size) == ("https://i/simple", 7)
    assert numpy.files[1] == LockedFile(
        filename="numpy-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", digests=(f"sha256:{B}",), size=2
    )


UV_SCRIPT = """\
version = 1
revision = 3
[manifest]
requirements = [{ name = "a", specifier = ">=1", extras = ["x"], marker = "sys_platform == 'linux'" }]
[[package]]
name = "a"
version = "1"
source = { registry = "https://i/simple" }
resolution-markers = ["sys_platform == 'darwin'"]
[[package]]
name = "a"
version = "2"
source = { registry = "https://i/simple" }
resolution-markers = ["sys_platform == 'linux'", "sys_platform == 'win32'"]
dependencies = []
[package.optional-dependencies]
x = [{ name = "b" }]
[[package]]
name = "b"
version = "1"
source = { editable = "../b" }
"""


def test_uv_lock_of_a_script(read):
    """The lock of a script starts from its manifest; of two versions the fork of the platform counts."""
    lock = read({"run.py.lock": UV_SCRIPT})
    assert packages_of(lock) == {"a 2": None}
    assert [f.project for f in lock.foreign_for(LINUX)] == ["b"]
    assert packages_of(lock, MAC) == {}


def test_uv_lock_of_a_workspace(read):
    """Members of a workspace are no gap, wherever they lie, and their dependencies count."""
    text = """\
version = 1
[manifest]
members = ["a", "lib"]
dependency-groups = { dev = [{ name = "c" }] }
[[package]]
name = "a"
version = "1"
source = { editable = "packages/a" }
dependencies = [{ name = "lib" }]
[[package]]
name = "lib"
version = "1"
source = { directory = "packages/lib" }
dependencies = [{ name = "b" }]
[[package]]
name = "b"
version = "1"
source = { registry = "https://i/simple" }
[[package]]
name = "c"
version = "1"
source = { registry = "https://i/simple" }
"""
    lock = read({"uv.lock": text})
    assert (packages_of(lock), lock.foreign) == ({"b 1": None, "c 1": None}, ())


PYLOCK = f"""\
lock-version = "1.0"
created-by = "x"
[[packages]]
name = "a"
version = "1"
index = "https://u:hunter2@i/simple"
marker = "sys_platform == 'linux' and ('dev' in dependency_groups or 'x' in extras)"
wheels = [
    {{ name = "a-1-py3-none-any.whl", url = "https://f/other", size = 5, upload-time = 2026-01-01T00:00:00Z, hashes = {{ sha256 = "{A.upper()}", odd = "x" }} }},
]
sdist = {{ path = "./sd/a-1.tar.gz", hashes = {{ sha512 = "{B + B}" }} }}
[[packages]]
name = "me"
directory = {{ path = "." , editable = true }}
[[packages]]
name = "b"
directory = {{ path = "../b" }}
[[packages]]
name = "c"
marker = "os_name == 'nt'"
archive = {{ url = "https://hunter2@h/c.tar.gz", hashes = {{ sha256 = "{A}" }} }}
[[packages]]
name = "d"
vcs = {{ type = "git", url = "https://hunter2@h/d", commit-id = "{A}" }}
"""


def test_pylock(read):
    """A pylock.toml's packages count by their markers, whatever extras and groups are chosen."""
    lock = read({"pylock.dev.toml": PYLOCK})
    assert packages_of(lock) == {"a 1": "a-1-py3-none-any.whl"}
    assert packages_of(lock, MAC) == {}
    assert lock.packages[0].files == (LockedFile(filename="a-1-py3-none-any.whl", digests=(f"sha256:{A}",), size=5),)
    assert [(f.project, f.detail) for f in lock.foreign_for(LINUX)] == [
        ("b", "a local folder"),
        ("d", "a repository"),
    ]
    assert "hunter2" not in repr(lock)


POETRY = f"""\
[[package]]
name = "A.b"
version = "1"
groups = ["main", "dev"]
markers = {{ main = "sys_platform == 'win32'", dev = "extra == 'x' and sys_platform == 'linux'" }}
files = [{{ file = "a_b-1-py3-none-any.whl", hash = "sha256:{A}" }}, {{ file = "a_b-1.tar.gz", hash = "sha256:{B}" }}]
[package.source]
type = "legacy"
url = "https://u:hunter2@i/simple"
reference = "x"
[[package]]
name = "c"
version = "1"
groups = ["main"]
markers = "sys_platform == 'darwin'"
files = []
[[package]]
name = "g"
version = "1"
groups = ["main"]
files = []
[package.source]
type = "git"
url = "https://u:hunter2@h/g"
[metadata]
lock-version = "2.1"
content-hash = "x"
"""

POETRY_OLD = f"""\
[[package]]
name = "A.b"
version = "1"
category = "main"
optional = false
python-versions = "*"
marker = "sys_platform == 'win32'"
[metadata]
lock-version = "1.1"
[metadata.files]
"A.b" = [{{file = "a_b-1-py3-none-any.whl", hash = "sha256:{A}"}}]
"""


def test_poetry_lock(read):
    """Packages of a poetry.lock count by their own markers; those of an older one always."""
    lock = read({"poetry.lock": POETRY})
    assert packages_of(lock) == {"a-b 1": "a_b-1-py3-none-any.whl"}
    assert packages_of(lock, MAC) == {"c 1": None}
    assert (lock.packages[0].index, [f.project for f in lock.foreign_for(MAC)]) == ("https://i/simple", ["g"])
    old = read({"poetry.lock": POETRY_OLD})
    assert packages_of(old, MAC) == {"a-b 1": "a_b-1-py3-none-any.whl"}


PDM = f"""\
[metadata]
groups = ["default", "dev"]
strategy = ["inherit_metadata"]
lock_version = "4.5.0"
content_hash = "sha256:x"
[[package]]
name = "a"
version = "1"
marker = "sys_platform == 'linux'"
files = [{{file = "a-1-py3-none-any.whl", hash = "sha256:{A}"}}]
[[package]]
name = "a"
version = "1"
extras = ["x"]
marker = "sys_platform == 'darwin'"
files = [{{url = "https://u:hunter2@f/a-1-py3-none-any.whl", hash = "sha256:{A}"}}]
[[package]]
name = "b"
version = "1"
path = "./b"
"""


def test_pdm_lock(read):
    """Packages of a pdm.lock count by their markers, with their extras as one package."""
    lock = read({"pdm.lock": PDM})
    assert packages_of(lock) == packages_of(lock, MAC) == {"a 1": "a-1-py3-none-any.whl"}
    assert [(f.project, f.detail) for f in lock.foreign] == [("b", "a local path")]
    assert lock.format is LockFormat.PDM


PIPFILE = json.dumps(
    {
        "_meta": {
            "hash": {"sha256": "x"},
            "pipfile-spec": 6,
            "sources": [{"name": "pypi", "url": "https://u:hunter2@i/simple", "verify_ssl": True}],
        },
        "default": {
            "A_b": {"hashes": [f"sha256:{A}"], "index": "pypi", "version": "==1.0", "markers": "os_name == 'nt'"},
            "g": {"git": "https://hunter2@h/g", "ref": "x"},
            "u": {"version": "*"},
            "v": {"version": ">=1,<2"},
        },
        "develop": {
            "a-b": {"hashes": [f"sha256:{A}", f"sha256:{B}"], "version": "==1.0", "markers": "os_name=='posix'"}
        },
        "docs": {"z": {"version": "==1"}},
    }
)


def test_pipfile_lock(read):
    """Both categories of a Pipfile.lock count, with digests instead of files."""
    lock = read({"Pipfile.lock": PIPFILE})
    assert [p.digests for p in lock.packages_for(LINUX)] == [(f"sha256:{A}", f"sha256:{B}")]
    assert packages_of(lock) == {"a-b 1.0": None}
    assert lock.packages[0].index == "https://i/simple"
    unpinned = "whatever its index lists: the lock pins no version"
    assert [(f.project, f.version, f.detail) for f in lock.foreign] == [
        ("g", None, "a repository"),
        ("u", None, unpinned),
        ("v", None, unpinned),
    ]


PACKAGE = '[[package]]\nname = "a"\nversion = "1"\n'
REGISTRY = 'source = { registry = "https://i/" }\n'
HOSTILE = {
    "uv-version": ("uv.lock", "version = 2\n", "uv.lock: is a lock of format version 2; known: 1"),
    "uv-no-version": ("uv.lock", "", "uv.lock: is a lock of format version another version; known: 1"),
    "uv-source": (
        "uv.lock",
        f"version = 1\n{PACKAGE}source = {{ hunter2 = 'x' }}",
        "uv.lock: package[0].source: expected",
    ),
    "uv-name": ("uv.lock", 'version = 1\n[[package]]\nname = "../x"\n', "uv.lock: package[0].name: expected the name"),
    "uv-hash": (
        "uv.lock",
        f'version = 1\n{PACKAGE}{REGISTRY}wheels = [{{ url = "https://f/a-1.whl", hash = "md6:hunter2" }}]',
        "uv.lock: package[0].wheels[0].hash: expected a digest",
    ),
    "uv-path-as-name": (
        "uv.lock",
        f'version = 1\n{PACKAGE}{REGISTRY}wheels = [{{ url = "https://f/..%2Fhunter2" }}]',
        "uv.lock: package[0].wheels[0].url: expected the name of a file at its end",
    ),
    "uv-no-file-name": (
        "uv.lock",
        f'version = 1\n{PACKAGE}{REGISTRY}wheels = [{{ url = "https://hunter2@f/" }}]',
        "uv.lock: package[0].wheels[0].url: expected the name of a file at its end",
    ),
    "uv-marker": (
        "uv.lock",
        f'version = 1\n{PACKAGE}{REGISTRY}dependencies = [{{ name = "a", marker = "hunter2" }}]',
        "uv.lock: package[0].dependencies[0].marker: expected a marker",
    ),
    "uv-deep-marker": (
        "uv.lock",
        f'version = 1\n{PACKAGE}{REGISTRY}dependencies = [{{ name = "a", marker = "{"(" * 9000}" }}]',
        "uv.lock: package[0].dependencies[0].marker: expected a marker",
    ),
    "uv-types": ("uv.lock", "version = 1\npackage = 3\n", "uv.lock: package: expected a list of tables"),
    "uv-size": (
        "uv.lock",
        f'version = 1\n{PACKAGE}{REGISTRY}sdist = {{ url = "https://f/a.zip", size = -1 }}',
        "uv.lock: package[0].sdist.size: expected a number of bytes",
    ),
    "pylock-version": (
        "pylock.toml",
        'lock-version = "2.0"\ncreated-by = "x"\npackages = []',
        "pylock.toml: is a lock of",
    ),
    "pylock-content": (
        "pylock.toml",
        'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "A B hunter2"\n',
        "pylock.toml: packages[0].name: is no valid pylock.toml here",
    ),
    "pylock-other-file": (
        "pylock.toml",
        f'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "a"\nversion = "1"\nwheels = [{{ url = "https://hunter2@f/b-1-py3-none-any.whl", hashes = {{ sha256 = "{A}" }} }}]\n',
        "pylock.toml: packages[0]",
    ),
    "poetry-version": ("poetry.lock", '[metadata]\nlock-version = "9"\n', "poetry.lock: is a lock of format version"),
    "poetry-file": (
        "poetry.lock",
        f'{PACKAGE}files = [{{ file = "../../hunter2", hash = "sha256:{A}" }}]\n[metadata]\nlock-version = "2.1"\n',
        "poetry.lock: package[0].files[0].file: expected the name of a file",
    ),
    "pdm-version": ("pdm.lock", '[metadata]\nlock_version = "5.0"\n', "pdm.lock: is a lock of format version"),
    "pipfile-version": (
        "Pipfile.lock",
        '{"_meta": {"pipfile-spec": 7}}',
        "Pipfile.lock: is a lock of format version 7",
    ),
    "pipfile-list": ("Pipfile.lock", "[]", "Pipfile.lock: is not valid JSON: expected an object"),
    "pipfile-deep": ("Pipfile.lock", "[" * 200_000, "Pipfile.lock: is not valid JSON: nested too deeply"),
    "pipfile-no-version": (
        "Pipfile.lock",
        '{"_meta": {"pipfile-spec": 6}, "default": {"a": {}}}',
        "Pipfile.lock: default.a.version: missing: expected a text such as ==1.0",
    ),
    "no-toml": ("uv.lock", "version = 1\nhunter2", "uv.lock: is not valid TOML (at "),
    "deep-toml": ("uv.lock", "a = " + "[" * 100_000, "uv.lock: is not valid TOML"),
    "many-edges": (
        "uv.lock",
        "version = 1\n" + f'{PACKAGE}{REGISTRY}dependencies = [{{ name = "a" }}]\n' * 600,
        "uv.lock: package[500].dependencies[0]: more than 300,000 dependencies",
    ),
    "many-files": (
        "poetry.lock",
        f'{PACKAGE}files = [{", ".join(["{}"] * 10_001)}]\n[metadata]\nlock-version = "2.1"\n',
        "poetry.lock: package[0]: more than 10,000 files",
    ),
    "nothing": ("uv.lock", "version = 1\n", "uv.lock: names no package"),
    "huge": ("uv.lock", b"#" * ((32 << 20) + 1), "uv.lock: is larger than 32 MiB"),
    "binary": ("poetry.lock", b"\xff\x00\xfe", "poetry.lock:1: is not UTF-8"),
}


@pytest.mark.parametrize(("name", "text", "problem"), HOSTILE.values(), ids=HOSTILE)
def test_a_bad_lock_fails_alone(read, name, text, problem):
    """A broken or hostile lock fails in one line that names the key and repeats no value."""
    found = read({name: text})
    assert isinstance(found, UnresolvedFile)
    assert found.problem.startswith(problem)
    assert "hunter2" not in found.problem
    assert found.problem.isprintable()


def test_eggs_and_installers_are_never_chosen(read):
    """Of an old release without a wheel that fits, the source distribution is chosen, whatever else is listed."""
    names = ("a-1-py2.7.egg", "a-1.win32-py2.7.exe", "a-1.zip", "a-1-cp27-none-any.whl")
    files = ", ".join(f'{{ file = "{name}", hash = "sha256:{A}" }}' for name in names)
    text = f'{PACKAGE}files = [{files}]\n[metadata]\nlock-version = "2.1"\n'
    assert packages_of(read({"poetry.lock": text})) == {"a 1": "a-1.zip"}
    assert packages_of(read({"poetry.lock": text.replace("a-1.zip", "a-1.msi")})) == {"a 1": None}


def test_formats_by_name(read):
    """The format is that of the file's name."""
    text = f"version = 1\n{PACKAGE}{REGISTRY}"
    assert isinstance(read({"deep/er/uv.lock": text}), LockedSet)
    assert isinstance(read({"x.py.lock": text}), LockedSet)
