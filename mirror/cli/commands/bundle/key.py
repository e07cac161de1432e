"""``mirror bundle key``: make a key to sign bundles with."""

from __future__ import annotations

from mirror.bundle import signing
from mirror.cli.arguments.bundle import BundleKeyArguments
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.errors import BundleError, ConfigError
from mirror.exit_codes import ExitCode
from mirror.upkeep.snapshot import check_name


def key(_options: GlobalOptions, given: BundleKeyArguments) -> ExitCode:
    """Make a key for bundles, and the file that trusts it.

    The allowed_signers file belongs on the far side: receive.py trusts the keys that it lists.
    """
    signing.check_tool()
    if (
        not given.principal.isascii()
        or not given.principal.isprintable()
        or any(c in given.principal for c in ' ",*?!')
    ):
        raise ConfigError(where="--principal", problem="expected a plain word")
    if given.site is not None:
        check_name(given.site, "site")
    public = given.path.with_name(f"{given.path.name}.pub")
    is_new = not given.path.exists() and not public.exists()
    if is_new:
        signing.make_key(given.path, protect=not given.no_passphrase)
    line = signing.allowed_signer(given.path, given.principal, given.site)
    trust = given.path.with_name("allowed_signers")
    try:
        known = trust.read_text() if trust.exists() else ""
        if line not in known.splitlines(keepends=True):
            trust.write_text(known + line)
    except OSError as exc:
        raise BundleError(problem=f"{trust}: {exc.strerror}") from exc
    if given.json:
        report = {
            "format": 1,
            "key": str(given.path),
            "made": is_new,
            "allowed_signers": str(trust),
            "line": line.strip(),
        }
        write_json(report)
    else:
        write_out(
            f"{'made' if is_new else 'found'} {given.path};"
            f" sign with `mirror bundle create --key {given.path}`"
        )
        write_out(
            f"carry {trust} to the far side, not on the media of the bundles:"
            " it decides which signers are trusted there"
        )
    return ExitCode.OK
