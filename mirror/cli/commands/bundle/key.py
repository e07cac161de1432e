"""``mirror bundle key``: make a key to sign bundles with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_json, write_out
from mirror.errors import BundleError, ConfigError
from mirror.exit_codes import ExitCode

_JSON = Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")]


def key(
    options: GlobalOptions,  # noqa: ARG001 - every command takes them
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The private key; made unless it is there.")
    ],
    principal: Annotated[
        str,
        typer.Option("--principal", metavar="NAME", help="Name of the key on the far side."),
    ] = "mirror",
    site: Annotated[
        str | None,
        typer.Option(
            "--site", metavar="NAME", help="The key signs for this site only; else for all."
        ),
    ] = None,
    no_passphrase: Annotated[
        bool,
        typer.Option(
            "--no-passphrase", help="Do not ask for one: for a key that only a service reads."
        ),
    ] = False,
    json: _JSON = False,
) -> ExitCode:
    """Make a key for bundles, and the file that trusts it.

    The allowed_signers file belongs on the far side: receive.py trusts the keys that it lists.
    """
    # 304 ms
    from mirror.bundle import signing
    from mirror.upkeep.snapshot import check_name

    signing.check_tool()
    if (
        not principal.isascii()
        or not principal.isprintable()
        or any(c in principal for c in ' ",*?!')
    ):
        raise ConfigError(where="--principal", problem="expected a plain word")
    if site is not None:
        check_name(site, "site")
    public = path.with_name(f"{path.name}.pub")
    is_new = not path.exists() and not public.exists()
    if is_new:
        signing.make_key(path, protect=not no_passphrase)
    line = signing.allowed_signer(path, principal, site)
    trust = path.with_name("allowed_signers")
    try:
        known = trust.read_text() if trust.exists() else ""
        if line not in known.splitlines(keepends=True):
            trust.write_text(known + line)
    except OSError as exc:
        raise BundleError(problem=f"{trust}: {exc.strerror}") from exc
    if json:
        report = {
            "format": 1,
            "key": str(path),
            "made": is_new,
            "allowed_signers": str(trust),
            "line": line.strip(),
        }
        write_json(report)
    else:
        write_out(
            f"{'made' if is_new else 'found'} {path}; sign with `mirror bundle create --key {path}`"
        )
        write_out(
            f"carry {trust} to the far side, not on the media of the bundles:"
            " it decides which signers are trusted there"
        )
    return ExitCode.OK
