"""An index of the corpus: the real names, versions, dependencies and tags, in wheels that hold nothing else."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simulator import build_wheel
from simulator.state import IndexState

_FILE = Path(__file__).with_name("projects.json")
_PYTHONS = {"py3", "cp311", "cp312", "cp313"}
_PLATFORMS = ("any", "manylinux", "win_amd64")


@functools.cache
def load_corpus() -> dict[str, dict[str, dict[str, Any]]]:
    """Return project -> version -> its dependencies, Pythons and wheels' tags."""
    corpus: dict[str, dict[str, dict[str, Any]]] = json.loads(_FILE.read_text())
    return corpus


def publish_corpus(state: IndexState) -> None:
    """Publish all versions, for the Pythons and platforms that tests ask for."""
    for project, versions in load_corpus().items():
        for version, facts in versions.items():
            python = facts.get("requires-python")
            for tag in _asked_tags(facts["wheels"]):
                wheel = build_wheel(project, version, requires=facts["requires"], requires_python=python, tag=tag)
                state.publish(project, *wheel, requires_python=python)


def _asked_tags(tags: Iterable[str]) -> list[str]:
    """Return the tags of wheels that a target of the tests may take."""
    found = []
    for tag in tags:
        interpreter, abi, platform = tag.split("-")[-3:]
        is_asked = interpreter.split(".")[-1] in _PYTHONS or abi == "abi3"
        if is_asked and not abi.endswith("t") and any(part in platform for part in _PLATFORMS):
            found.append(f"{interpreter}-{abi}-{platform}")
    return found
