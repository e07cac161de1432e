"""The place of a tree, as the words about a cycle name it."""

from __future__ import annotations

import shlex

from mirror.cli.options import GlobalOptions
from mirror.cli.words.cycle import Place
from mirror.config import Config
from mirror.tree.layout import Layout


def place_of(options: GlobalOptions, config: Config) -> Place:
    """Return the tree and the options that the words about a cycle name."""
    root = config.mirror.root
    if config.source == "--index-url":
        chosen = f"--root {shlex.quote(str(options.root or root))}"
    else:
        chosen = f"--config {shlex.quote(str(options.config))}" if options.config else ""
    simple = str(Layout(root).simple)
    return Place(simple=simple, store=config.mirror.tree or None, options=chosen)
