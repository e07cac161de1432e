"""Builds the documents into pages for reading without a network: ``make docs``.

The source folder is the repository's root, so that links to CONTRIBUTING.md and the like work as they do on a forge.
"""

project = "offline-mirror"
author = "the offline-mirror contributors"
extensions = ["myst_parser"]
include_patterns = ["docs/index.rst", "docs/*/*.md", "docs/README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
root_doc = "docs/index"
myst_heading_anchors = 3
html_theme = "furo"
html_title = "offline-mirror"
html_show_sphinx = False
html_copy_source = False
templates_path: list[str] = []
suppress_warnings = ["toc.not_included"]  # docs/README.md is the same contents for a forge
