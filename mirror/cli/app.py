"""All commands of the program, and where each is; a new group of commands is added here.

A command is a function that takes the ``GlobalOptions`` first and returns an ``ExitCode``; its docstring is its help.
"""

from __future__ import annotations

import typer

from mirror.cli import (
    bundle_commands,
    check_command,
    client_config_command,
    config_commands,
    explain_command,
    install_units_command,
    list_command,
    lock_commands,
    probe_command,
    serve_command,
    snapshot_commands,
    status_command,
    sync_commands,
    target_commands,
    upkeep_commands,
    want_commands,
    web_config_command,
    why_command,
)
from mirror.cli.options import group_callback, with_global_options


def _group(help_text: str, *, add_completion: bool = False) -> typer.Typer:
    """Return an empty group of commands that takes the global options."""
    group = typer.Typer(
        rich_markup_mode=None,  # rich would cost more than all the rest of --help
        pretty_exceptions_enable=False,  # they show local variables, and secrets live there
        pretty_exceptions_show_locals=False,
        add_completion=add_completion,
    )
    group.callback(invoke_without_command=True)(group_callback(help_text))
    return group


app = _group("A verified, servable copy of Python package indexes.", add_completion=True)
app.command("sync")(with_global_options(sync_commands.sync))
app.command("status")(with_global_options(status_command.status))
app.command("list")(with_global_options(list_command.show))
app.command("explain")(with_global_options(explain_command.explain))
app.command("check")(with_global_options(check_command.check))
app.command("why")(with_global_options(why_command.why))
app.command("verify")(with_global_options(upkeep_commands.verify))
app.command("prune")(with_global_options(upkeep_commands.prune))
app.command("probe")(with_global_options(probe_command.probe))
app.command("serve")(with_global_options(serve_command.serve))
app.command("init")(with_global_options(config_commands.init))
app.command("client-config")(with_global_options(client_config_command.client_config))
app.command("web-config")(with_global_options(web_config_command.web_config))
app.command("install-units")(with_global_options(install_units_command.install_units))

_config = _group("Check, show and describe the configuration.")
_config.command("check")(with_global_options(config_commands.check))
_config.command("show")(with_global_options(config_commands.show))
_config.command("schema")(with_global_options(config_commands.schema))
app.add_typer(_config, name="config")

_target = _group("Environments in which packages must install.")
_target.command("list")(with_global_options(target_commands.show_all))
_target.command("show")(with_global_options(target_commands.show))
_target.command("here")(with_global_options(target_commands.here))
app.add_typer(_target, name="target")

_want = _group("What must be installable.")
_want.command("add")(with_global_options(want_commands.add))
_want.command("remove")(with_global_options(want_commands.remove))
_want.command("list")(with_global_options(want_commands.show))
app.add_typer(_want, name="want")

_lock = _group("Lock files that were made outside.")
_lock.command("check")(with_global_options(lock_commands.check))
_lock.command("rewrite")(with_global_options(lock_commands.rewrite))
app.add_typer(_lock, name="lock")

_snapshot = _group("Named states of the tree, and channels that show one of them.")
_snapshot.command("create")(with_global_options(snapshot_commands.create))
_snapshot.command("list")(with_global_options(snapshot_commands.show))
_snapshot.command("diff")(with_global_options(snapshot_commands.diff))
_snapshot.command("promote")(with_global_options(snapshot_commands.promote))
_snapshot.command("delete")(with_global_options(snapshot_commands.delete))
app.add_typer(_snapshot, name="snapshot")

_bundle = _group("Carry changes across an air gap.")
_bundle.command("key")(with_global_options(bundle_commands.key))
_bundle.command("create")(with_global_options(bundle_commands.create))
_bundle.command("list")(with_global_options(bundle_commands.show))
_bundle.command("inspect")(with_global_options(bundle_commands.inspect))
_bundle.command("verify")(with_global_options(bundle_commands.verify))
# Unknown options are passed on: they are those of receive.py.
_bundle.command("receive", context_settings={"ignore_unknown_options": True})(
    with_global_options(bundle_commands.receive)
)
_bundle.command("acknowledge")(with_global_options(bundle_commands.acknowledge))
_bundle.command("forget")(with_global_options(bundle_commands.forget))
_bundle.command("abandon")(with_global_options(bundle_commands.abandon))
app.add_typer(_bundle, name="bundle")
