"""Arguments of ``mirror bundle …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirror.cli.arguments import Arguments, RequireProof

_JSON = Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")]
_SITE = Annotated[
    str, typer.Option("--site", metavar="NAME", help="The place beyond the gap that it is for.")
]
_TO = Annotated[
    Path, typer.Option("--to", metavar="DIR", help="The medium: a folder is made below it.")
]
_KEY = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="The key that signs it. Default: the site's key in the configuration.",
    ),
]
_UNSIGNED = Annotated[
    bool, typer.Option("--unsigned", help="Do not sign it: the far side refuses that.")
]
_VOLUME_SIZE = Annotated[
    str,
    typer.Option(
        "--volume-size", metavar="SIZE", help="The largest file; the default suits FAT media."
    ),
]
_SNAPSHOT = Annotated[
    str | None,
    typer.Option("--snapshot", metavar="NAME", help="Send this state instead of the newest."),
]
_SINCE = Annotated[
    int | None,
    typer.Option("--since", metavar="SEQUENCE", help="Build on an older bundle: media got lost."),
]
_FULL = Annotated[bool, typer.Option("--full", help="Everything, for a new site or a new start.")]
_REPAIR = Annotated[
    Path | None,
    typer.Option(
        "--repair", metavar="LIST", help="Send the files that the far side's list or receipt names."
    ),
]
_VALID_FOR = Annotated[
    str | None,
    typer.Option(
        "--valid-for",
        metavar="DURATION",
        help="How long it may be applied; needs a receive.py of 0.2.",
    ),
]
_LOCAL = Annotated[
    bool,
    typer.Option("--local", help="Make it on the file system of /, where no medium is mounted."),
]
_ACCEPT_WITHDRAWN = Annotated[
    bool,
    typer.Option(
        "--accept-withdrawn",
        help="Send a snapshot although files of it are withdrawn (else exit code 7).",
    ),
]
_MEDIA = Annotated[
    list[Path],
    typer.Argument(metavar="DIR", help="The bundle; several when it is spread over media."),
]


class BundleKeyArguments(Arguments):
    """Make a key for bundles, and the file that trusts it.

    The allowed_signers file belongs on the far side: receive.py trusts the keys that it lists.
    """

    work = "mirror.cli.commands.bundle.key:key"

    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The private key; made unless it is there.")
    ]
    principal: Annotated[
        str,
        typer.Option("--principal", metavar="NAME", help="Name of the key on the far side."),
    ] = "mirror"
    site: Annotated[
        str | None,
        typer.Option(
            "--site", metavar="NAME", help="The key signs for this site only; else for all."
        ),
    ] = None
    no_passphrase: Annotated[
        bool,
        typer.Option(
            "--no-passphrase", help="Do not ask for one: for a key that only a service reads."
        ),
    ] = False
    json: _JSON = False


class BundleCreateArguments(Arguments):
    """Create a bundle with the changes since a site's last one."""

    work = "mirror.cli.commands.bundle.create:create"

    site: _SITE
    to: _TO
    key: _KEY = None
    unsigned: _UNSIGNED = False
    volume_size: _VOLUME_SIZE = "4GB"
    snapshot: _SNAPSHOT = None
    since: _SINCE = None
    full: _FULL = False
    repair: _REPAIR = None
    valid_for: _VALID_FOR = None
    local: _LOCAL = False
    require_proof: RequireProof = False
    accept_withdrawn: _ACCEPT_WITHDRAWN = False
    json: _JSON = False


class BundleListArguments(Arguments):
    """List the bundles of each site, and the unfinished ones."""

    work = "mirror.cli.commands.bundle.sites:show"

    site: Annotated[str | None, typer.Option("--site", metavar="NAME", help="Only this one.")] = (
        None
    )
    json: _JSON = False


class BundleAcknowledgeArguments(Arguments):
    """Record a receipt of the far side, and take over wishes."""

    work = "mirror.cli.commands.bundle.sites:acknowledge"

    receipt: Annotated[
        Path | None, typer.Argument(metavar="[RECEIPT]", help="receipt.json from the far side.")
    ] = None
    wishes: Annotated[
        Path | None,
        typer.Option(
            "--wishes",
            metavar="FILE",
            help="Names that were asked for there: `mirror want review` shows them.",
        ),
    ] = None
    json: _JSON = False


class BundleForgetArguments(Arguments):
    """Remove a site and its records: chain and bundles."""

    work = "mirror.cli.commands.bundle.sites:forget"

    site: Annotated[str, typer.Argument(metavar="SITE", help="The place beyond the gap.")]
    json: _JSON = False


class BundleAbandonArguments(Arguments):
    """Drop an unfinished bundle of a site."""

    work = "mirror.cli.commands.bundle.sites:abandon"

    site: Annotated[
        str, typer.Argument(metavar="SITE", help="The place beyond the gap that it is for.")
    ]
    json: _JSON = False


class BundleInspectArguments(Arguments):
    """Show a bundle's content, site and signer.

    Does not read the volumes. Exit code 7 for a bad signature.
    """

    work = "mirror.cli.commands.bundle.contents:inspect"

    directories: _MEDIA
    json: _JSON = False


class BundleVerifyArguments(Arguments):
    """Hash everything in a bundle and check its signature.

    Exit code 7 for damage, 5 for missing volumes.
    """

    work = "mirror.cli.commands.bundle.contents:verify"

    directories: _MEDIA
    trust: Annotated[
        Path | None,
        typer.Option("--trust", metavar="ALLOWED_SIGNERS", help="The keys that are trusted."),
    ] = None
    json: _JSON = False


class BundleReceiveArguments(Arguments):
    """Apply a bundle on the far side, as receive.py does.

    For hosts where this program is installed.
    """

    ignores_unknown_options = True  # they are those of receive.py
    work = "mirror.cli.commands.bundle.receive:receive"

    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR… [OPTIONS]",
            help="As of receive.py: see `mirror bundle receive -- --help`.",
        ),
    ]
