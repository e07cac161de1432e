"""Signatures by the host's own ``ssh-keygen`` (OpenSSH ≥ 8.2): the program has no cryptography, and
reads no private key.

Passphrases, touches of a hardware key and an agent are handled between ``ssh-keygen`` and the
terminal. Each signature is checked right after it is made.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from mirror.bundle import receive
from mirror.errors import BundleError, ConfigError, shown_text

_SIGNED_WITH = re.compile(r"Good .* signature with (.*)")


def check_tool() -> None:
    """Raise ``ConfigError`` unless ``ssh-keygen`` is there and new enough."""
    try:
        receive.check_ssh_keygen()
    except receive.ReceiveError as exc:
        raise ConfigError(where="ssh-keygen", problem=str(exc)) from exc


def sign_file(path: Path, key: Path) -> bytes:
    """Return the signature of a private file, of any size. ``ssh-keygen`` may ask on the terminal.

    Raises ``BundleError``.
    """
    words = ["-Y", "sign", "-q", "-f", str(key), "-n", receive.NAMESPACE]
    command = [receive.find_ssh_keygen(), *words]
    with path.open("rb") as file:
        done = subprocess.run(command, stdin=file, stdout=subprocess.PIPE, check=False)  # noqa: S603 - fixed words
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise BundleError(
            problem=f"ssh-keygen could not sign with {key}; its message is above."
            " Run it again to go on"
        )
    return done.stdout


def public_half(key: Path) -> str:
    """Return the identity of a key: its public half where that file is next to it, else its
    path.
    """
    public = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    try:
        return " ".join(public.read_text().split()[:2])
    except (OSError, UnicodeDecodeError):
        return str(key.absolute())


def describe_signer(path: Path, signature: Path) -> str:
    """Return the kind and fingerprint of the key that signed a private file, trusted or not.

    Raises ``BundleError``.
    """
    with path.open("rb") as file:
        return _describe(file.fileno(), str(signature), path)


def describe_signer_of(data: bytes | int, signature: bytes, path: Path) -> str:
    """As ``describe_signer``, for bytes in hand or a descriptor; ``path`` is where they were read,
    for the message.
    """
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(signature)
        copy.flush()
        return _describe(data, copy.name, path)


def _describe(data: bytes | int, signature: str, path: Path) -> str:
    command = [
        receive.find_ssh_keygen(),
        "-Y",
        "check-novalidate",
        "-n",
        receive.NAMESPACE,
        "-s",
        signature,
    ]
    given: dict[str, Any] = {"input": data}
    if isinstance(data, int):
        os.lseek(data, 0, os.SEEK_SET)
        given = {"stdin": data}
    done = subprocess.run(command, capture_output=True, check=False, env=_plain(), **given)  # noqa: S603 - fixed words
    found = _SIGNED_WITH.match(done.stdout.decode("utf-8", "replace"))
    if done.returncode or not found:
        said = shown_text((done.stderr or done.stdout).decode("utf-8", "replace").strip())
        raise BundleError(problem=f"{path}.sig: no signature of {path.name} ({said})")
    return found[1].strip()


def is_protected(key: Path) -> bool:
    """Return whether a private key needs a passphrase; False for any other file."""
    command = [receive.find_ssh_keygen(), "-y", "-P", "", "-f", str(key)]
    done = subprocess.run(command, capture_output=True, check=False, env=_plain())  # noqa: S603 - fixed words
    return done.returncode != 0 and b"passphrase" in done.stderr


def is_hardware(key: Path) -> bool:
    """Return whether a key is on a device that must be touched."""
    return public_half(key).startswith("sk-")


def make_key(path: Path, *, protect: bool) -> None:
    """Make an ed25519 key pair; with ``protect``, ``ssh-keygen`` asks for a passphrase.

    Raises ``BundleError``.
    """
    command = [
        receive.find_ssh_keygen(),
        "-q",
        "-t",
        "ed25519",
        "-C",
        "offline-mirror",
        "-f",
        str(path),
    ]
    done = subprocess.run(command if protect else [*command, "-N", ""], check=False)  # noqa: S603 - fixed words
    if done.returncode:
        raise BundleError(problem=f"ssh-keygen could not make {path}; its message is above")
    if protect and not is_protected(path):
        path.unlink()
        path.with_name(f"{path.name}.pub").unlink(missing_ok=True)
        raise BundleError(
            problem=f"no passphrase was given, so {path} was not kept;"
            " --no-passphrase makes a key without one"
        )


def allowed_signer(key: Path, principal: str, site: str | None = None) -> str:
    """Return the line of ``allowed_signers`` that trusts a key for bundles only, of one site or of
    all.

    Raises ``BundleError``.
    """
    public = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    try:
        words = public.read_text().split()
    except (OSError, UnicodeDecodeError) as exc:
        raise BundleError(problem=f"{public}: can't be read as a public key: {exc}") from exc
    if len(words) < 2:
        raise BundleError(problem=f"{public}: no public key")
    if site is not None:
        principal = f"{principal}@site:{site}"
    return f'{principal} namespaces="{receive.NAMESPACE}" {words[0]} {words[1]}\n'


def _plain() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
