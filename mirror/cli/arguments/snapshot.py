"""Arguments of ``mirror snapshot create|list|diff|promote|delete``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments, RequireProof

_JSON = Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")]
_NAME = Annotated[
    str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and hyphens.")
]
_ACCEPT_WITHDRAWN = Annotated[
    bool,
    typer.Option(
        "--accept-withdrawn",
        help="Promote it although files of it are withdrawn (else exit code 7).",
    ),
]


class SnapshotCreateArguments(Arguments):
    """Freeze the published state under a name.

    The snapshot is an index of its own: public/snapshots/NAME/simple/.
    """

    @property
    def work(self) -> str:
        """The command itself, or with the resolver that proves the wants."""
        module = "proving" if self.require_proof else "changes"
        return f"mirror.cli.commands.snapshot.{module}:create"

    name: _NAME
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why it was made.")] = ""
    require_proof: RequireProof = False
    json: _JSON = False


class SnapshotListArguments(Arguments):
    """List the snapshots, and the channels that show them."""

    work = "mirror.cli.commands.snapshot.reading:show"

    json: _JSON = False


class SnapshotDiffArguments(Arguments):
    """Show the changes between two states.

    Lists projects, versions, files, yanks and replaced bytes.
    """

    work = "mirror.cli.commands.snapshot.reading:diff"

    first: Annotated[
        str,
        typer.Argument(
            metavar="FROM", help='A snapshot, "cycle:7", or a date such as 2026-01-31 (UTC).'
        ),
    ]
    second: Annotated[str, typer.Argument(metavar="TO", help='Likewise; by default "now".')] = "now"
    json: _JSON = False


class SnapshotPromoteArguments(Arguments):
    """Let a channel show a snapshot.

    All readers see it at once. To go back, promote the older snapshot again.
    """

    @property
    def work(self) -> str:
        """The command itself, or with the resolver that proves the wants."""
        module = "proving" if self.require_proof else "changes"
        return f"mirror.cli.commands.snapshot.{module}:promote"

    name: _NAME
    channel: Annotated[str, typer.Option("--channel", metavar="CHANNEL", help="Such as stable.")]
    require_proof: RequireProof = False
    accept_withdrawn: _ACCEPT_WITHDRAWN = False
    json: _JSON = False


class SnapshotDeleteArguments(Arguments):
    """Delete a snapshot; `mirror prune` deletes its files."""

    work = "mirror.cli.commands.snapshot.changes:delete"

    name: _NAME
    json: _JSON = False
