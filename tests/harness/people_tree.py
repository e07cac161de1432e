"""A tree with something of everything for the pages for people, and planted markup in every text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness.program import Mirror
from harness.server import Tree
from simulator import ThreadedSimulator, build_sdist, build_wheel

SCRIPT = "<script>planted()</script><img src=x onerror=planted()>"
QUOTES = "\"'><svg onload=planted()>"

METADATA = f"""\
Metadata-Version: 2.1
Name: planted
Version: 2.0
Summary: Summary {SCRIPT}{QUOTES}
License: Licence {SCRIPT}
Author: Author {QUOTES}
Keywords: {SCRIPT}
Classifier: Classifier :: {SCRIPT}
Project-URL: Home {SCRIPT}, https://example.org/"onmouseover="planted()
Project-URL: Bad, javascript:planted()
Requires-Python: >=3.8
Requires-Dist: demo-lib>=0.9
Requires-Dist: not-mirrored>1; extra == "x"
Requires-Dist: {SCRIPT}

Description {SCRIPT}
{QUOTES}
"""


@contextlib.contextmanager
def people_tree(work: Path) -> Iterator[Tree]:
    """Mirror an index in two cycles, with a snapshot of the first."""
    with ThreadedSimulator() as index:
        state = index.state
        app = build_wheel("demo-app", "1.0", requires=["demo-lib"], requires_python=">=3.8")
        state.publish("demo-app", *app, requires_python=">=3.8")
        state.publish("Demo.Lib", *build_wheel("demo-lib", "0.9"))
        state.publish("Demo.Lib", *build_sdist("demo-lib", "1.0a1"))
        state.publish("planted", *build_wheel("planted", "2.0", metadata=METADATA))
        state.publish("planted", *build_wheel("planted", "1.0"))
        state.publish("leaving", *build_wheel("leaving", "1.0"))
        for number in range(7):
            state.publish(f"other-{number}", *build_wheel(f"other-{number}", "1.0"))
        tag = "cp312-cp312-manylinux_2_28_x86_64"
        state.publish("demo-app", *build_wheel("demo-app", "1.10", tag=tag, requires=["demo-lib"]))
        mirror = Mirror(work)
        mirror.configure(f'url = "{index.url}"')
        state.publish("broken", *build_sdist("broken", "1.0"), hashes={"sha256": "0" * 64})
        assert mirror.sync().returncode == 5
        own = ("--config", mirror.config)
        assert mirror.run("snapshot", "create", "first", "--note", f"Note {SCRIPT}", *own).returncode == 0
        assert mirror.run("snapshot", "promote", "first", "--channel", "stable", *own).returncode == 0
        state.yank("planted", "planted-1.0-py3-none-any.whl", f"Reason {SCRIPT}")
        state.publish("demo-app", *build_wheel("demo-app", "1.9", requires=["demo-lib"]))
        state.publish("Demo.Lib", *build_wheel("demo-lib", "1.1"))
        state.replace("other-1", "other_1-1.0-py3-none-any.whl", build_wheel("other-1", "1.0", size_pad=99)[1])
        state.remove_file("other-2", "other_2-1.0-py3-none-any.whl")
        for _ in range(2):
            assert mirror.sync().returncode == 5
        tree = Tree(mirror, index)
        tree.learn()
        yield tree
