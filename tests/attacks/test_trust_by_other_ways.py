"""Trust is not taken from the medium by any way to it, and a key signs for the sites of each line that names it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.handmade_bundles import NAMESPACE, PROGRAM, Far, Signer, Site, State, some_file

FIRST = State({"aa": [some_file("aa", "1.0")]}, 1)


@pytest.mark.parametrize(
    ("principals", "code"),
    [
        pytest.param(["a@site:plant", "b@site:lab"], 0, id="a-line-for-each-site"),
        pytest.param(["b@site:lab", "a@site:plant"], 0, id="the-other-order"),
        pytest.param(["a@site:plant", "ops@host"], 0, id="all-sites-in-the-second-line"),
        pytest.param(["a@site:plant", "b@site:field"], 7, id="two-other-sites"),
        pytest.param(["*@site:*,!mirror@site:lab"], 7, id="an-excluded-principal-is-none"),
        pytest.param(["*@site:*"], 7, id="a-pattern-is-no-site"),
        pytest.param(["mirror@site:la?"], 7, id="a-mark-is-no-site"),
        pytest.param(['"a@site:plant,x y@site:lab"'], 0, id="quoted"),
    ],
)
def test_every_line_of_a_key_counts(tmp_path: Path, principals: list[str], code: int) -> None:
    """One key may sign for several sites, in a line for each: ssh-keygen itself names the first line only."""
    signer = Signer.make(tmp_path / "keys")
    public = " ".join(signer.key.with_suffix(".pub").read_text().split()[:2])
    signer.trust.write_text("".join(f'{name} namespaces="{NAMESPACE}" {public}\n' for name in principals))
    done = Far(tmp_path / "far", signer.trust, "lab").receive(Site(tmp_path / "near", signer, name="lab").make(FIRST))
    assert done.code == code, done.err


def test_a_line_for_other_namespaces_does_not_hide_the_next(tmp_path: Path) -> None:
    """A line that lets the key sign commits only says nothing of bundles, and hides no line that does."""
    signer = Signer.make(tmp_path / "keys")
    public = " ".join(signer.key.with_suffix(".pub").read_text().split()[:2])
    lines = [f'dev@host namespaces="git" {public}', f'b@site:lab namespaces="{NAMESPACE}" {public}']
    signer.trust.write_text("\n".join(lines))
    far = Far(tmp_path / "far", signer.trust, "lab")
    far.receive_well(Site(tmp_path / "near", signer, name="lab").make(FIRST))
    assert far.record["signer"] == "b@site:lab"
    signer.trust.write_text(lines[0] + "\n")
    assert far.receive(Site(tmp_path / "again", signer, name="lab").make(FIRST)).code == 7


def test_a_certificate_signs_for_what_its_line_and_its_principals_say(tmp_path: Path) -> None:
    """An authority that is trusted for one site can't make keys for another, whatever it writes into a certificate."""
    signer = Signer.make(tmp_path / "keys")
    authority = Signer.make(tmp_path / "authority")
    public = " ".join(authority.key.with_suffix(".pub").read_text().split()[:2])
    names = "eve@site:plant,ops@host,x@site:lab"
    command = ["ssh-keygen", "-q", "-s", authority.key, "-I", "id", "-n", names, signer.key.with_suffix(".pub")]
    subprocess.run(command, check=True)
    by_certificate = Signer(signer.key.with_name("key-cert.pub"), signer.trust)
    made = Site(tmp_path / "near", by_certificate, name="lab").make(FIRST)
    for pattern, code in (("*@site:plant", 7), ("eve@site:*", 7), ("*@site:lab", 0)):
        signer.trust.write_text(f"{pattern} cert-authority {public}\n")
        done = Far(tmp_path / "far", signer.trust, "lab").receive(made)
        assert done.code == code, (pattern, done.err)


@pytest.mark.parametrize("way", ["over-a-link", "through-a-folder", "dots"])
def test_a_way_to_the_trust_file_that_leads_over_the_medium(
    site: Site, far: Far, tmp_path: Path, signer: Signer, way: str
) -> None:
    """A link on the medium decides what is trusted, wherever it leads: it is refused as the file itself would be."""
    made = site.make(FIRST)
    keys = tmp_path / "keys"
    keys.mkdir()
    shutil.copy(signer.trust, keys / "allowed")
    medium = made.path.parent / "else"
    medium.mkdir()
    if way == "over-a-link":
        (medium / "allowed").symlink_to(keys / "allowed")
        (tmp_path / "trust").symlink_to(medium / "allowed")
        far.trust = tmp_path / "trust"
    elif way == "through-a-folder":
        (medium / "keys").symlink_to(keys)
        (tmp_path / "folder").symlink_to(medium / "keys")
        far.trust = tmp_path / "folder" / "allowed"
    else:
        (medium / "keys").symlink_to(keys)
        far.trust = Path(f"{tmp_path}/near/../near/else/keys/../keys/allowed")
    done = far.receive(made)
    assert (done.code, "lies in the bundle" in done.err, far.root.exists()) == (2, True, False), done.err
    far.trust = keys / "allowed"
    far.receive_well(made)


def in_own_mounts(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount; skip where that is not permitted."""
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if subprocess.run([*command, "mount -t tmpfs none /mnt"], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    return subprocess.run([*command, script], check=False, capture_output=True, text=True)


@pytest.mark.parametrize("way", ["file", "folder", "bundle"])
def test_a_trust_file_that_is_mounted_from_the_folder_of_the_bundle(
    site: Site, far: Far, tmp_path: Path, way: str
) -> None:
    """A mount gives a file a second name without a second link: where it lies on the disk counts."""
    made = site.make(FIRST)
    folder, other = made.path.parent, tmp_path / "with space"
    other.mkdir()
    (other / "allowed").touch()
    shutil.copy(far.trust, folder / "allowed")
    mount, trust, bundle = {
        "file": (f"'{folder}/allowed' '{other}/allowed'", other / "allowed", made.path),
        "folder": (f"'{folder}' '{other}'", other / "allowed", made.path),
        "bundle": (f"'{made.path}' '{other}'", folder / "allowed", other),
    }[way]
    words = f"{sys.executable} -I {PROGRAM} '{bundle}' --root '{far.root}' --site lab --trust"
    done = in_own_mounts(f"mount --bind {mount}; {words} '{trust}' && exit 99; exec {words} {far.trust}")
    assert done.returncode == 0, done.stderr
    assert "lies in the bundle" in done.stderr


def test_a_link_on_a_mounted_medium(site: Site, far: Far, tmp_path: Path) -> None:
    """A link that lies on a medium of its own file system is refused, as a file there is."""
    made = site.make(FIRST)
    mount = tmp_path / "usb"
    mount.mkdir()
    words = f"{sys.executable} -I {PROGRAM} {mount}/a/b/lab-000001 --root {far.root} --site lab --trust"
    done = in_own_mounts(
        f"mount -t tmpfs none {mount}; mkdir -p {mount}/a/b; cp -r {made.path} {mount}/a/b/;"
        f" ln -s {far.trust} {mount}/allowed; {words} {mount}/allowed && exit 99; exec {words} {far.trust}"
    )
    assert done.returncode == 0, done.stderr
    assert "lies on the same medium as the bundle" in done.stderr
