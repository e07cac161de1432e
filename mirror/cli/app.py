"""All commands of the program, and where each is; a new group of commands is added here.

A command is a function that takes the ``GlobalOptions`` first and returns an ``ExitCode``; its
docstring is its help.
"""

from __future__ import annotations

from mirror.cli.commands import (
    check,
    explain,
    list_,
    lock,
    probe,
    serve,
    snapshot,
    status,
    sync,
    tree,
    upkeep,
    why,
)
from mirror.cli.commands.bundle import contents, create, key, receive, sites
from mirror.cli.commands.configuration import (
    client_config,
    config,
    install_units,
    review,
    target,
    want,
    web_config,
)
from mirror.cli.groups import PROGRAM_HELP, group
from mirror.cli.options import with_global_options

app = group(PROGRAM_HELP, add_completion=True)
app.command("sync")(with_global_options(sync.sync))
app.command("status")(with_global_options(status.status))
app.command("list")(with_global_options(list_.show))
app.command("explain")(with_global_options(explain.explain))
app.command("check")(with_global_options(check.check))
app.command("why")(with_global_options(why.why))
app.command("verify")(with_global_options(upkeep.verify))
app.command("prune")(with_global_options(upkeep.prune))
app.command("probe")(with_global_options(probe.probe))
app.command("serve")(with_global_options(serve.serve))
app.command("init")(with_global_options(config.init))
app.command("client-config")(with_global_options(client_config.client_config))
app.command("web-config")(with_global_options(web_config.web_config))
app.command("install-units")(with_global_options(install_units.install_units))

_tree = group("Move a tree between disks and object stores.")
_tree.command("copy")(with_global_options(tree.copy))
_tree.command("adopt")(with_global_options(tree.adopt))
app.add_typer(_tree, name="tree")

_config = group("Check, show and describe the configuration.")
_config.command("check")(with_global_options(config.check))
_config.command("show")(with_global_options(config.show))
_config.command("schema")(with_global_options(config.schema))
app.add_typer(_config, name="config")

_target = group("Environments in which packages must install.")
_target.command("list")(with_global_options(target.show_all))
_target.command("show")(with_global_options(target.show))
_target.command("here")(with_global_options(target.here))
app.add_typer(_target, name="target")

_want = group("Requirements that must be installable.")
_want.command("add")(with_global_options(want.add))
_want.command("remove")(with_global_options(want.remove))
_want.command("list")(with_global_options(want.show))
_want.command("review")(with_global_options(review.review))
app.add_typer(_want, name="want")

_lock = group("Check and rewrite lock files from outside.")
_lock.command("check")(with_global_options(lock.check))
_lock.command("rewrite")(with_global_options(lock.rewrite))
app.add_typer(_lock, name="lock")

_snapshot = group("Named states of the tree, and channels that show them.")
_snapshot.command("create")(with_global_options(snapshot.create))
_snapshot.command("list")(with_global_options(snapshot.show))
_snapshot.command("diff")(with_global_options(snapshot.diff))
_snapshot.command("promote")(with_global_options(snapshot.promote))
_snapshot.command("delete")(with_global_options(snapshot.delete))
app.add_typer(_snapshot, name="snapshot")

_bundle = group("Carry changes across an air gap.")
_bundle.command("key")(with_global_options(key.key))
_bundle.command("create")(with_global_options(create.create))
_bundle.command("list")(with_global_options(sites.show))
_bundle.command("inspect")(with_global_options(contents.inspect))
_bundle.command("verify")(with_global_options(contents.verify))
# Unknown options are passed on: they are those of receive.py.
_bundle.command("receive", context_settings={"ignore_unknown_options": True})(
    with_global_options(receive.receive)
)
_bundle.command("acknowledge")(with_global_options(sites.acknowledge))
_bundle.command("forget")(with_global_options(sites.forget))
_bundle.command("abandon")(with_global_options(sites.abandon))
app.add_typer(_bundle, name="bundle")
