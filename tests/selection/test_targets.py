"""Environments of targets, compared with packaging on this machine and with uv on every platform."""

import platform
import subprocess
import sys
import zipfile

import pytest
from packaging.markers import default_environment
from packaging.tags import sys_tags

from mirror.config import TargetConfig
from mirror.config.wants import PLATFORMS
from mirror.selection.targets import PYTHON_RELEASES, environments, parse_environment_name


def target(**keys):
    return TargetConfig(**{"name": "t", "python": ("3.11.2",), "platforms": ("linux-x86_64",), **keys})


def test_this_machine_has_the_tags_that_packaging_finds():
    """A target that describes this machine has its tags in its order, and its markers."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        pytest.skip("only a Linux machine with glibc can be described here")
    python = ".".join(map(str, sys.version_info[:3]))
    here = target(python=(python,), platforms=(f"linux-{platform.machine()}",), glibc=platform.libc_ver()[1])
    (environment,) = environments(here)
    assert set(environment.tags) == set(sys_tags())
    assert _without_plain_linux(environment.tags) == _without_plain_linux(sys_tags())
    kernel = {"platform_release": "", "platform_version": ""}
    assert environment.markers == {**default_environment(), **kernel}


def _without_plain_linux(tags):
    """Return tags in their order; versions of packaging place those of ``linux_`` differently."""
    return [tag for tag in tags if not tag.platform.startswith("linux_")]


TAGS = {
    "glibc-2.28": ({}, "cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_31_x86_64"),
    "manylinux2014": ({}, "cp311-abi3-manylinux2014_x86_64", "cp311-cp311-musllinux_1_2_x86_64"),
    "manylinux1": ({}, "cp311-cp311-manylinux1_x86_64", "cp310-cp310-manylinux1_x86_64"),
    "old-abi3": ({}, "cp38-abi3-manylinux2014_x86_64", "cp312-abi3-manylinux2014_x86_64"),
    "odd-glibc": ({"glibc": "2.26"}, "cp311-cp311-manylinux_2_26_x86_64", "cp311-cp311-manylinux_2_27_x86_64"),
    "musl": ({"musl": "1.1"}, "cp311-cp311-musllinux_1_1_x86_64", "cp311-cp311-musllinux_1_2_x86_64"),
    "musl-no-glibc": ({"musl": "1.2"}, "py3-none-any", "cp311-cp311-manylinux2014_x86_64"),
    "aarch64": (
        {"platforms": ("linux-aarch64",)},
        "cp311-cp311-manylinux2014_aarch64",
        "cp311-cp311-manylinux1_aarch64",
    ),
    "free-threaded": (
        {"python": ("3.13t",)},
        "cp313-cp313t-manylinux_2_28_x86_64",
        "cp313-abi3-manylinux_2_28_x86_64",
    ),
    "macos": ({"platforms": ("macos-arm64",)}, "cp311-cp311-macosx_12_0_universal2", "cp311-cp311-macosx_13_0_arm64"),
    "macos-13": (
        {"platforms": ("macos-x86_64",), "macos": "13.0"},
        "cp311-cp311-macosx_10_9_x86_64",
        "cp311-cp311-macosx_14_0_x86_64",
    ),
    "windows": ({"platforms": ("windows-x86_64",)}, "cp311-cp311-win_amd64", "cp311-cp311-win32"),
    "windows-x86": ({"platforms": ("windows-x86",)}, "cp311-cp311-win32", "cp311-cp311-win_amd64"),
}


@pytest.mark.parametrize(("keys", "fits", "does_not"), TAGS.values(), ids=TAGS)
def test_tags(keys, fits, does_not):
    """A target takes the wheels that its machines can run, and no others."""
    tags = [str(tag) for tag in environments(target(**keys))[0].tags]
    assert fits in tags
    assert does_not not in tags


def test_a_minor_version_is_every_patch_release():
    """``3.11`` stands for all its patch releases, which share a name; an exact release for itself."""
    found = environments(target(python=("3.11", "3.12.99"), platforms=("linux-x86_64", "windows-arm64")))
    releases = [f"3.11.{patch}" for patch in range(PYTHON_RELEASES["3.11"] + 1)]
    assert [e.release for e in found] == [*releases, *releases, "3.12.99", "3.12.99"]
    assert list(dict.fromkeys(e.name for e in found)) == [
        "t/3.11/linux-x86_64",
        "t/3.11/windows-arm64",
        "t/3.12.99/linux-x86_64",
        "t/3.12.99/windows-arm64",
    ]
    assert parse_environment_name(found[0].name) == ("t", "3.11", "linux-x86_64")
    assert parse_environment_name("t") == ("t", None, None)


@pytest.mark.parametrize(
    ("requires", "admitted"),
    [(">=3.11", True), ("<3.11.3", True), ("!=3.11.2", False), (">=3.11.3", False), ("any", True), (None, True)],
)
def test_requires_python_is_judged_for_the_exact_release(requires, admitted):
    """Upper bounds and exclusions count; what can't be read limits nothing."""
    assert environments(target())[0].admits(requires) is admitted


def test_uv_sets_the_same_markers(tmp_path):
    """The markers that uv sets for each platform of targets are those of its environment."""
    target_of_all = target(python=("3.12.4",), platforms=PLATFORMS)
    for environment in environments(target_of_all):
        lines = [f"m-{name.replace('_', '-')} ; {name} == '{value}'" for name, value in environment.markers.items()]
        for name in environment.markers:
            _write_wheel(tmp_path, f"m_{name}")
        (tmp_path / "in.txt").write_text("\n".join(lines))
        options = ["--no-index", "--find-links", ".", "--no-header", "--no-annotate", "--quiet"]
        chosen = ["--python-platform", environment.uv_python_platform, "--python-version", environment.release]
        ran = subprocess.run(
            [sys.executable, "-m", "uv", "pip", "compile", *options, *chosen, "--cache-dir", "cache", "in.txt"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin", "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.split() == sorted(f"m-{name.replace('_', '-')}==1" for name in environment.markers)


def _write_wheel(folder, name):
    path = folder / f"{name}-1-py3-none-any.whl"
    if path.exists():
        return
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        wheel.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.dist-info/RECORD", "")
