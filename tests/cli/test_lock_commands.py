"""``mirror lock check|rewrite`` for every format, from a state, from the root alone, and from the pages."""

import hashlib
import json
import re
from types import SimpleNamespace

import pytest

from harness.program import contents
from mirror.cli import main
from mirror.selection.reading import load_source
from simulator import build_sdist, build_wheel

LINUX, MAC = "cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-macosx_11_0_arm64"
OUTSIDE = {
    "lib-linux": build_wheel("lib", "1.0", tag=LINUX),
    "lib-mac": build_wheel("lib", "1.0", tag=MAC),
    "lib-sdist": build_sdist("lib", "1.0"),
    "pure": build_wheel("pure", "1.0+x.1"),
    "win": build_wheel("win", "1.0"),
    "gone": build_wheel("gone", "1.0"),
}
REBUILT = {name: (filename, data + b"rebuilt") for name, (filename, data) in OUTSIDE.items()}
REBUILT["pure"] = build_wheel("pure", "1.0+x.1", size_pad=9)
REBUILT["lib-linux"] = build_wheel("lib", "1.0", tag=LINUX, size_pad=9)

CONFIG = """\
[mirror]
root = "{root}"
[[index]]
name = "vendor"
url = "{url}"
exclude-files = ["*macosx*"]
[[target]]
name = "linux"
python = ["3.11"]
platforms = ["linux-x86_64"]
[[target]]
name = "mac"
python = ["3.12"]
platforms = ["macos-arm64"]
"""


def digest(name, files=OUTSIDE, algorithm="sha256"):
    return hashlib.new(algorithm, files[name][1]).hexdigest()


def blob(name, files=OUTSIDE):
    """Return the address of a file inside."""
    sha256, filename = digest(name, files), files[name][0].replace("+", "%2B")
    return f"https://in.example/files/{sha256[:2]}/{sha256[2:4]}/{sha256}/{filename}"


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory):
    """Two mirrors: of the index that made the locks, and of one that has rebuilt each file."""
    from simulator import ThreadedSimulator

    found = {}
    for kind, files in (("same", OUTSIDE), ("rebuilt", REBUILT)):
        work = tmp_path_factory.mktemp(kind)
        with ThreadedSimulator() as index:
            for name in ("lib-linux", "lib-mac", "pure"):
                project = name.partition("-")[0]
                index.state.publish(project, *files[name], upload_time="2026-02-03T04:05:06.700000Z")
            config = work / "mirror.toml"
            config.write_text(CONFIG.format(root=work / "root", url=index.url))
            assert main(["--config", str(config), "sync", "--once", "--log-level", "error"]) == 0
        found[kind] = SimpleNamespace(config=config, root=work / "root", files=files)
    return found


@pytest.fixture
def run(tmp_path, monkeypatch, capfdbinary):
    """Write a lock into the working directory and run a command on it: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIRROR_CONFIG", "")

    def run(mirror, name, text, *words, root_alone=False):
        (tmp_path / name).write_text(text, newline="")
        where = ["--root", str(mirror.root)] if root_alone else ["--config", str(mirror.config)]
        capfdbinary.readouterr()
        code = main([*where, "lock", words[0], name, *words[1:]])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


def uv_file(name, more=""):
    filename, data = OUTSIDE[name]
    return (
        f'{{ url = "https://u:hunter2@out.example/f/{filename.replace("+", "%2B")}", hash = "sha256:{digest(name)}",'
        f' size = {len(data)}, upload-time = "2026-01-01T00:00:00Z"{more} }}'
    )


UV = f"""\
version = 1
revision = 3
requires-python = ">=3.11"

# ours
[[package]]
name = "app"
version = "0"
source = {{ virtual = "." }}
dependencies = [
    {{ name = "lib", source = {{ registry = "https://u:hunter2@out.example/simple" }} }}, # why
    {{ name = "win", marker = "sys_platform == 'win32'" }},
    {{ name = "pure" }},
]

[package.metadata]
requires-dist = [{{ name = "lib", index = "https://u:hunter2@out.example/simple" }}, {{ name = "pure" }}]

[[package]]
name = "lib"
version = "1.0"
source = {{ registry = "https://u:hunter2@out.example/simple" }}
sdist = {uv_file("lib-sdist")}
wheels = [
    {uv_file("lib-linux")}, # here
    {uv_file("lib-mac")},
]

[[package]]
name = "pure"
version = "1.0+x.1"
source = {{ registry = "https://u:hunter2@out.example/simple" }}
wheels = [{uv_file("pure")}]

[[package]]
name = "win"
version = "1.0"
source = {{ registry = "https://u:hunter2@out.example/simple" }}
wheels = [{uv_file("win")}]

[[package]]
name = "side"
version = "1.0"
source = {{ git = "https://u:hunter2@git.example/side#abc" }}
"""


def pylock_file(name, more=""):
    filename, data = OUTSIDE[name]
    hashes = f'{{ sha256 = "{digest(name)}", sha512 = "{digest(name, algorithm="sha512")}" }}'
    return (
        f'{{ name = "{filename}", url = "https://u:hunter2@out.example/f", size = {len(data)},'
        f" upload-time = 2026-01-01T00:00:00Z, hashes = {hashes}{more} }}"
    )


PYLOCK = f"""\
lock-version = "1.0" # one
created-by = "x"
[[packages]]
name = "lib"
version = "1.0"
index = "https://u:hunter2@out.example/simple"
attestation-identities = [{{ kind = "x" }}]
wheels = [
    {pylock_file("lib-linux")},
    {pylock_file("lib-mac")},
]
sdist = {pylock_file("lib-sdist")}
[[packages]]
name = "pure"
version = "1.0+x.1"
[[packages.wheels]]
name = "{OUTSIDE["pure"][0]}"
url = "https://out.example/f"
hashes = {{ sha256 = "{digest("pure")}" }}
[[packages]]
name = "win"
version = "1.0"
marker = "sys_platform == 'win32'"
wheels = [{pylock_file("win")}]
[[packages]]
name = "near"
version = "1.0"
wheels = [{{ path = "near-1.0-py3-none-any.whl", hashes = {{ sha256 = "{"0" * 64}" }} }}]
"""


def poetry_file(name):
    return f'{{file = "{OUTSIDE[name][0]}", hash = "sha256:{digest(name)}"}}'


POETRY = f"""\
# @generated by Poetry

[[package]]
name = "lib"
version = "1.0"
groups = ["main"]
files = [
    {poetry_file("lib-linux")},
    {poetry_file("lib-mac")},
    {poetry_file("lib-sdist")},
]

[package.source]
type = "legacy"
url = "https://u:hunter2@out.example/simple"
reference = "out"

[[package]]
name = "pure"
version = "1.0+x.1"
groups = ["main"]
files = [
    {poetry_file("pure")},
]

[[package]]
name = "win"
version = "1.0"
groups = ["main"]
markers = "sys_platform == 'win32'"
files = [
    {poetry_file("win")},
]

[metadata]
lock-version = "2.1"
content-hash = "abc"
"""

PDM = (
    POETRY.replace("groups", "summary = 'x'\ngroups")
    .replace("markers = ", "marker = ")
    .replace('lock-version = "2.1"\ncontent-hash', 'lock_version = "4.5.0"\ncontent_hash')
    .replace(
        '\n[package.source]\ntype = "legacy"\nurl = "https://u:hunter2@out.example/simple"\nreference = "out"\n', ""
    )
)
PDM_STATIC = re.sub(r'\{file = "([^"]+)"', r'{url = "https://u:hunter2@out.example/f/\1"', PDM)

PIPFILE = (
    json.dumps(
        {
            "_meta": {
                "hash": {"sha256": "abc"},
                "pipfile-spec": 6,
                "sources": [{"name": "out", "url": "https://u:hunter2@out.example/simple", "verify_ssl": True}],
            },
            "default": {
                "lib": {
                    "hashes": sorted(f"sha256:{digest(name)}" for name in ("lib-linux", "lib-mac", "lib-sdist")),
                    "index": "out",
                    "version": "==1.0",
                },
                "win": {
                    "hashes": [f"sha256:{digest('win')}"],
                    "markers": "sys_platform == 'win32'",
                    "version": "==1.0",
                },
            },
            "develop": {"pure": {"hashes": [f"sha256:{digest('pure')}"], "version": "==1.0+x.1"}},
        },
        indent=4,
    )
    + "\n"
)

REQUIREMENTS = f"""\
--index-url https://u:hunter2@out.example/simple
lib==1.0 \\
    --hash=sha256:{digest("lib-linux")} \\
    --hash=sha256:{digest("lib-mac")} \\
    --hash=sha256:{digest("lib-sdist")}
    # via app
pure==1.0+x.1 --hash=sha256:{digest("pure")}  # for lib
win==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:{digest("win")}
side @ https://u:hunter2@out.example/side.whl
"""

LOCKS = {
    "uv.lock": UV,
    "pylock.toml": PYLOCK,
    "poetry.lock": POETRY,
    "pdm.lock": PDM,
    "pdm.static.lock": PDM_STATIC,
    "Pipfile.lock": PIPFILE,
    "requirements.txt": REQUIREMENTS,
}
NAMED = [name for name in LOCKS if name not in {"Pipfile.lock", "requirements.txt"}]
TO = ["--to", "https://in.example/simple/", "--target", "linux"]


def states(out):
    return {(f["project"], f["filename"]): f["state"] for f in json.loads(out)["files"]}


@pytest.mark.parametrize("name", LOCKS)
def test_check_what_is_held(run, mirrors, name):
    """What the target's installer may choose is held, whichever tool made the lock."""
    code, out, err = run(mirrors["same"], name, LOCKS[name], "check", "--json", "--target", "linux")
    linux, pure = OUTSIDE["lib-linux"][0], OUTSIDE["pure"][0]
    assert (code, states(out)) == (0, {("lib", linux): "held", ("pure", pure): "held"})
    assert json.loads(out)["files"][0] == {"project": "lib", "version": "1.0", "filename": linux, "state": "held"}
    assert "hunter2" not in out + err
    if name in {"uv.lock", "requirements.txt", "pylock.toml"}:
        assert err != ""  # what is no index's is named


@pytest.mark.parametrize("name", LOCKS)
def test_check_what_was_rebuilt(run, mirrors, name):
    """Other bytes under the same names are ``rebuilt``, with their index and digests."""
    code, out, _err = run(mirrors["rebuilt"], name, LOCKS[name], "check", "--json", "--target", "linux")
    first = json.loads(out)["files"][0]
    named = OUTSIDE["lib-linux"][0] if name in NAMED else None
    assert (code, first) == (
        5,
        {
            "project": "lib",
            "version": "1.0",
            "filename": named,
            "state": "rebuilt",
            "index": "vendor",
            "sha256": [digest("lib-linux", REBUILT)],
        },
    )


def test_check_for_all_targets_and_all_platforms(run, mirrors):
    """Without ``--target`` each target counts, with ``--all-platforms`` each file of the lock."""
    code, out, _err = run(mirrors["same"], "uv.lock", UV, "check", "--json")
    linux, pure, sdist = OUTSIDE["lib-linux"][0], OUTSIDE["pure"][0], OUTSIDE["lib-sdist"][0]
    assert (code, states(out)) == (5, {("lib", linux): "held", ("lib", sdist): "missing", ("pure", pure): "held"})
    code, out, _err = run(mirrors["same"], "uv.lock", UV, "check", "--json", "--all-platforms")
    missing = ["lib-mac", "lib-sdist", "win"]
    assert (code, [f["filename"] for f in json.loads(out)["files"] if f["state"] == "missing"]) == (
        5,
        [OUTSIDE[name][0] for name in missing],
    )
    text = run(mirrors["same"], "uv.lock", UV, "check")[1]
    assert text == f"{sdist}: missing\n3 files: 2 held, 1 missing\n"


@pytest.mark.parametrize("has_state", [True, False], ids=["state", "pages"])
def test_check_from_the_root_alone(run, mirrors, tmp_path, has_state):
    """From the root alone each file of the lock counts; without a state the pages and blobs do."""
    import shutil

    root = tmp_path / "far"
    shutil.copytree(mirrors["same"].root, root)
    if not has_state:
        for path in root.glob("state.db*"):
            path.unlink()
    before = contents(root / "public")
    mirror = SimpleNamespace(root=root)
    code, out, _err = run(mirror, "pylock.toml", PYLOCK, "check", "--json", root_alone=True)
    held = [f["filename"] for f in json.loads(out)["files"] if f["state"] == "held"]
    assert (code, held) == (5, [OUTSIDE["lib-linux"][0], OUTSIDE["pure"][0]])
    code, out, _err = run(mirror, "pylock.toml", PYLOCK, "rewrite", *TO[:2], root_alone=True)
    assert code == 5  # nothing of win is left
    code, out, _err = run(
        mirror,
        "poetry.lock",
        POETRY[: POETRY.index('[[package]]\nname = "win"')] + POETRY[POETRY.index("[metadata]") :],
        "rewrite",
        *TO[:2],
        root_alone=True,
    )
    assert (code, "macosx" in out, OUTSIDE["lib-linux"][0] in out) == (0, False, True)
    assert contents(root / "public") == before


def test_a_file_that_no_page_lists_is_held(run, mirrors, tmp_path):
    """A blob is held while it is served, with or without a page that lists it."""
    import shutil

    root = tmp_path / "far"
    shutil.copytree(mirrors["same"].root, root)
    for path in root.glob("state.db*"):
        path.unlink()
    (root / "public/simple/pure/index.v1_json").unlink()
    text = PYLOCK[: PYLOCK.index('[[packages]]\nname = "win"')]
    _code, out, _err = run(SimpleNamespace(root=root), "pylock.toml", text, "check", "--json", root_alone=True)
    assert states(out)["pure", OUTSIDE["pure"][0]] == "held"


@pytest.mark.parametrize("kind", ["same", "rebuilt"])
@pytest.mark.parametrize("name", LOCKS)
def test_rewrite(run, mirrors, tmp_path, name, kind):
    """The lock names the mirror's files; the second run changes nothing; nothing secret is left."""
    mirror = mirrors[kind]
    options = [*TO, *(["--accept-rebuilt"] if kind == "rebuilt" else [])]
    code, out, err = run(mirror, name, LOCKS[name], "rewrite", *options)
    assert code == 0, err
    assert run(mirror, name, out, "rewrite", *options)[:2] == (0, out)
    assert "hunter2" not in err
    kept = [digest("lib-linux", mirror.files), digest("pure", mirror.files)]
    assert all(sha256 in out for sha256 in kept)
    assert not any(digest(other) in out for other in ("lib-mac", "lib-sdist"))
    if name in {"uv.lock", "pylock.toml", "pdm.static.lock"}:
        assert blob("lib-linux", mirror.files) in out
        assert blob("pure", mirror.files) in out
    (tmp_path / name).write_text(out)
    if name == "requirements.txt":
        assert out.startswith("--index-url https://u:hunter2@out.example/simple\nlib==1.0 \\\n    --hash=sha256:")
        assert "\n    # via app\n" in out
        assert "  # for lib\n" in out
    else:
        assert "out.example" not in out.replace("git.example", "")
        load_source(tmp_path / name, want=None, folder=tmp_path)
    assert run(mirror, name, out, "check", "--target", "linux")[0] == 0


def test_rewritten_uv_lock(run, mirrors):
    """Only what must change differs: addresses, registries, indexes and, where accepted, the bytes."""
    code, out, err = run(mirrors["rebuilt"], "uv.lock", UV, "rewrite", *TO, "--accept-rebuilt")
    assert code == 0
    expected = UV.replace("https://u:hunter2@out.example/simple", "https://in.example/simple/")
    expected = expected.replace(f"sdist = {uv_file('lib-sdist')}\n", "").replace(f"    {uv_file('lib-mac')},\n", "")
    expected = expected.replace(f"wheels = [{uv_file('win')}]\n", "")
    for name in ("lib-linux", "pure"):
        size = len(REBUILT[name][1])
        new = (
            f'{{ url = "{blob(name, REBUILT)}", hash = "sha256:{digest(name, REBUILT)}", size = {size},'
            ' upload-time = "2026-02-03T04:05:06.7Z" }'
        )
        expected = expected.replace(uv_file(name), new)
    assert out == expected
    assert err.splitlines() == [
        f"{OUTSIDE['lib-mac'][0]}: left out: the mirror does not hold it",
        f"{OUTSIDE['lib-sdist'][0]}: left out: the mirror does not hold it",
        f"{OUTSIDE['win'][0]}: left out: the mirror does not hold it",
        "side 1.0: left as it is: a git repository",
        "configure uv with exactly this index, to the last slash: https://in.example/simple/",
    ]


def test_rewritten_pylock(run, mirrors):
    """Each digest, size and time of a rebuilt file is written; what is at a path stays."""
    _code, out, _err = run(mirrors["rebuilt"], "pylock.toml", PYLOCK, "rewrite", *TO, "--accept-rebuilt")
    new = REBUILT["lib-linux"]
    assert digest("lib-linux", REBUILT, "sha512") in out
    assert f"size = {len(new[1])}, upload-time = 2026-02-03T04:05:06.700000Z" in out
    assert "attestation-identities" not in out
    assert 'path = "near-1.0-py3-none-any.whl"' in out
    assert 'name = "win"' not in out
    assert out.startswith('lock-version = "1.0" # one\n')


@pytest.mark.parametrize("name", LOCKS)
def test_rewrite_refuses_what_was_rebuilt(run, mirrors, tmp_path, name):
    """Without ``--accept-rebuilt`` each rebuilt file is named with its index and digest; no output."""
    code, out, err = run(mirrors["rebuilt"], name, LOCKS[name], "rewrite", *TO, "--output", "new.lock")
    assert (code, out, (tmp_path / "new.lock").exists()) == (5, "", False)
    assert f"vendor has other bytes (sha256:{digest('lib-linux', REBUILT)})" in err


@pytest.mark.parametrize("name", LOCKS)
def test_rewrite_refuses_what_a_target_lacks(run, mirrors, tmp_path, name):
    """A package of which a target has nothing usable is named; no output."""
    code, out, err = run(mirrors["same"], name, LOCKS[name], "rewrite", *TO[:2], "--output", "new.lock")
    assert (code, out, (tmp_path / "new.lock").exists()) == (5, "", False)
    assert "mac/3.12/macos-arm64" in err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_output_is_written_whole(run, mirrors, tmp_path):
    """``--output`` may be the lock itself, whose permissions stay."""
    (tmp_path / "uv.lock").write_text("")
    (tmp_path / "uv.lock").chmod(0o640)
    code, out, _err = run(mirrors["same"], "uv.lock", UV, "rewrite", *TO, "--output", "uv.lock")
    assert (code, out) == (0, "")
    assert blob("pure") in (tmp_path / "uv.lock").read_text()
    assert (tmp_path / "uv.lock").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["uv.lock"]


@pytest.mark.parametrize(
    "to",
    [
        "https://in.example/",
        "https://u:hunter2@in.example/simple/",
        "ftp://in.example/simple/",
        "in.example/simple",
        "https://in.example/simple/?a=b",
    ],
)
def test_another_address_is_wrong_usage(run, mirrors, to):
    """``--to`` is an index that ends in /simple or /simple/, without a password."""
    code, out, err = run(mirrors["same"], "uv.lock", UV, "rewrite", "--to", to)
    assert (code, out) == (2, "")
    assert "hunter2" not in err


CLASH = (
    UV
    + f"""
[[package]]
name = "pure"
version = "1.0+x.1"
source = {{ registry = "https://u:hunter2@other.example/simple" }}
wheels = [{uv_file("pure")}]
"""
)


def test_two_entries_that_would_be_one(run, mirrors):
    """Entries of two registries that would become equal are both named; uv would refuse the lock."""
    code, out, err = run(mirrors["same"], "uv.lock", CLASH, "rewrite", *TO)
    assert (code, out) == (5, "")
    assert "pure 1.0+x.1 from https://out.example/simple and from https://other.example/simple" in err
    assert "hunter2" not in err


USAGE = {
    "unpinned": ("a.txt", "lib>=1\n", "error: a.txt:1: is not pinned by ==: this is no lock"),
    "nothing": ("a.txt", "\n", "error: a.txt: names no requirement of an index"),
    "not-toml": ("uv.lock", "hunter2", "error: uv.lock: is not valid TOML"),
    "version": ("uv.lock", "version = 2\n", "error: uv.lock: is a lock of format version 2; known: 1"),
    "foreign": ("Cargo.lock", "version = 3\n", "error: Cargo.lock: is no lock file that is known here"),
    "project": ("pyproject.toml", "[project]\n", "error: pyproject.toml: is no lock file that is known here"),
    "path": (
        "poetry.lock",
        POETRY.replace(OUTSIDE["pure"][0], "../../hunter2"),
        "error: poetry.lock: package[1].files[0].file: expected the name of a file",
    ),
    "deep": ("Pipfile.lock", "[" * 100_000, "error: Pipfile.lock: is not valid JSON: nested too deeply"),
    "deep-toml": ("uv.lock", "version = 1\na = " + "[" * 5_000, "error: uv.lock: is not valid TOML"),
    "huge": ("uv.lock", "#" * (33 << 20), "error: uv.lock: is larger than 32 MiB"),
}


@pytest.mark.parametrize(("name", "text", "message"), USAGE.values(), ids=USAGE)
def test_a_file_that_is_no_lock(run, mirrors, tmp_path, name, text, message):
    """A broken, foreign or hostile file is exit code 2 in one line; nothing is printed or written."""
    for words in (["check", "--json"], ["rewrite", *TO, "--output", "new"]):
        code, out, err = run(mirrors["same"], name, text, *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert err.startswith(message)
        assert "hunter2" not in err
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_targets_that_are_not_there(run, mirrors, tmp_path):
    """An unknown target, and a root that is no tree, are named."""
    code, _out, err = run(mirrors["same"], "uv.lock", UV, "check", "--target", "bsd")
    assert (code, err) == (2, 'error: --target: no target is named "bsd"; known: linux, mac\n')
    code, _out, err = run(SimpleNamespace(root=tmp_path / "none"), "uv.lock", UV, "check", root_alone=True)
    assert code == 6


def test_versions_of_locks_without_file_names(run, mirrors):
    """A digest that fits no target is missing; a version without digests is held by name."""
    same = mirrors["same"]
    mac = f"lib==1.0 --hash=sha256:{digest('lib-mac')}\n"
    rebuilt = {("lib", None): "rebuilt"}
    assert states(run(same, "a.txt", mac, "check", "--json", "--target", "linux")[1]) == rebuilt
    on_mac = f"lib==1.0 --hash=sha256:{digest('lib-linux')}\n"
    missing = {("lib", None): "missing"}
    assert states(run(same, "a.txt", on_mac, "check", "--json", "--target", "mac")[1]) == missing
    assert run(same, "a.txt", on_mac, "rewrite", *TO[:2], "--target", "mac", "--accept-rebuilt")[0] == 5
    bare = "lib==1.0\npure==1.0 ; os_name == 'nt'\n"
    held = {("lib", OUTSIDE["lib-linux"][0]): "held"}
    assert states(run(same, "a.txt", bare, "check", "--json", "--target", "linux")[1]) == held
    sha512 = f"lib==1.0 --hash=sha512:{digest('lib-linux', algorithm='sha512')}\n"
    assert states(run(same, "a.txt", sha512, "check", "--json", "--target", "linux")[1]) == held
    assert states(run(same, "a.txt", "gone==1\n", "check", "--json")[1]) == {("gone", None): "missing"}
