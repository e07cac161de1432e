"""All commands of the program, and where the arguments of each are; a new command is added here.

``groups`` describes them to typer; a class of arguments names the function that does the work.
"""

from __future__ import annotations

from typing import Final

from mirror.cli.groups import Group

_TREE: Final = Group(
    help="Move a tree between disks and object stores.",
    commands={
        "copy": "mirror.cli.arguments.tree:TreeCopyArguments",
        "adopt": "mirror.cli.arguments.tree:TreeAdoptArguments",
    },
)
_CONFIG: Final = Group(
    help="Check, show and describe the configuration.",
    commands={
        "check": "mirror.cli.arguments.configuration:ConfigCheckArguments",
        "show": "mirror.cli.arguments.configuration:ConfigShowArguments",
        "schema": "mirror.cli.arguments.configuration:ConfigSchemaArguments",
    },
)
_TARGET: Final = Group(
    help="Environments in which packages must install.",
    commands={
        "list": "mirror.cli.arguments.target:TargetListArguments",
        "show": "mirror.cli.arguments.target:TargetShowArguments",
        "here": "mirror.cli.arguments.target:TargetHereArguments",
    },
)
_WANT: Final = Group(
    help="Requirements that must be installable.",
    commands={
        "add": "mirror.cli.arguments.want:WantAddArguments",
        "remove": "mirror.cli.arguments.want:WantRemoveArguments",
        "list": "mirror.cli.arguments.want:WantListArguments",
        "review": "mirror.cli.arguments.want:WantReviewArguments",
    },
)
_LOCK: Final = Group(
    help="Check and rewrite lock files from outside.",
    commands={
        "check": "mirror.cli.arguments.lock:LockCheckArguments",
        "rewrite": "mirror.cli.arguments.lock:LockRewriteArguments",
    },
)
_SNAPSHOT: Final = Group(
    help="Named states of the tree, and channels that show them.",
    commands={
        "create": "mirror.cli.arguments.snapshot:SnapshotCreateArguments",
        "list": "mirror.cli.arguments.snapshot:SnapshotListArguments",
        "diff": "mirror.cli.arguments.snapshot:SnapshotDiffArguments",
        "promote": "mirror.cli.arguments.snapshot:SnapshotPromoteArguments",
        "delete": "mirror.cli.arguments.snapshot:SnapshotDeleteArguments",
    },
)
_BUNDLE: Final = Group(
    help="Carry changes across an air gap.",
    commands={
        "key": "mirror.cli.arguments.bundle:BundleKeyArguments",
        "create": "mirror.cli.arguments.bundle:BundleCreateArguments",
        "list": "mirror.cli.arguments.bundle:BundleListArguments",
        "inspect": "mirror.cli.arguments.bundle:BundleInspectArguments",
        "verify": "mirror.cli.arguments.bundle:BundleVerifyArguments",
        "receive": "mirror.cli.arguments.bundle:BundleReceiveArguments",
        "acknowledge": "mirror.cli.arguments.bundle:BundleAcknowledgeArguments",
        "forget": "mirror.cli.arguments.bundle:BundleForgetArguments",
        "abandon": "mirror.cli.arguments.bundle:BundleAbandonArguments",
    },
)
PROGRAM: Final = Group(
    help="A verified, servable copy of Python package indexes.",
    commands={
        "sync": "mirror.cli.arguments.sync:SyncArguments",
        "status": "mirror.cli.arguments.lookup:StatusArguments",
        "list": "mirror.cli.arguments.lookup:ListArguments",
        "explain": "mirror.cli.arguments.lookup:ExplainArguments",
        "check": "mirror.cli.arguments.check:CheckArguments",
        "why": "mirror.cli.arguments.lookup:WhyArguments",
        "verify": "mirror.cli.arguments.upkeep:VerifyArguments",
        "prune": "mirror.cli.arguments.upkeep:PruneArguments",
        "probe": "mirror.cli.arguments.probe:ProbeArguments",
        "serve": "mirror.cli.arguments.serve:ServeArguments",
        "init": "mirror.cli.arguments.configuration:InitArguments",
        "client-config": "mirror.cli.arguments.configuration:ClientConfigArguments",
        "web-config": "mirror.cli.arguments.configuration:WebConfigArguments",
        "install-units": "mirror.cli.arguments.configuration:InstallUnitsArguments",
        "tree": _TREE,
        "config": _CONFIG,
        "target": _TARGET,
        "want": _WANT,
        "lock": _LOCK,
        "snapshot": _SNAPSHOT,
        "bundle": _BUNDLE,
    },
    has_completion=True,
)
