"""The configuration of a command, from its global options, the environment and the files."""

from __future__ import annotations

import os

from mirror import config as sources
from mirror.cli.options import GlobalOptions
from mirror.config import Config
from mirror.errors import ConfigError
from mirror.logs import get_logger


def load_config(options: GlobalOptions, *, index_url: str | None = None) -> Config:
    """Return the configuration that the options, the environment and the files give."""
    return sources.load_config(
        options.config, env=os.environ, root=options.root, index_url=index_url
    )


def has_configuration(options: GlobalOptions) -> bool:
    """Return whether a configuration file is named, or exists in a usual place."""
    return sources.find_config(options.config, os.environ) is not None


def load_tree_config(options: GlobalOptions, *, needs_settings: bool = False) -> Config:
    """Return the configuration for a command that needs no more than the tree.

    With ``--root`` and no ``--config``, a configuration found in a usual place counts only if it is
    this tree's; else everything is as by default, and there are no indexes. One that is broken
    counts as not there, unless the command ``needs_settings``, such as a retention, that it may
    have for this root.
    """
    try:
        return sources.config_for_tree(options.config, env=os.environ, root=options.root)
    except ConfigError as exc:
        if options.root is None or options.config is not None or needs_settings:
            raise
        found = sources.config_of_root(env=os.environ, root=options.root)
        get_logger(__name__).warning(
            "config.ignored", problem=str(exc), root=str(found.mirror.root)
        )
        return found
