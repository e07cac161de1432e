"""A mirror of wants: the mirror under test with targets and wants in its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from anyio import to_thread

from harness.in_process import Mirror
from mirror.config import Config, TargetConfig, WantConfig
from mirror.holdings.opening import opened_holdings_for_reading
from mirror.jobs.prove import prove_after_cycle
from mirror.selection.proof.checking import prove, questions
from mirror.selection.proof.published import DiskPages
from mirror.sync.cycle import run_cycle
from mirror.sync.report import Report
from mirror.tree.objects.opening import DiskOpener
from simulator import Simulator
from simulator.wheels import build_wheel

LINUX = TargetConfig(name="linux", python=("3.12.4",), platforms=("linux-x86_64",))


class WantingMirror(Mirror):
    """Change ``wants`` and ``targets`` between its cycles."""

    def __init__(self, root: Path, simulators: dict[str, Simulator], **options: Any) -> None:
        super().__init__(root, simulators, **options)
        self.targets: tuple[TargetConfig, ...] = (LINUX,)
        self.wants: tuple[WantConfig, ...] = ()

    def want(self, *requirements: str, name: str = "apps", **options: Any) -> None:
        """Replace the wants by one list of requirements."""
        self.wants = self.wanted(*requirements, name=name, **options)

    def wanted(self, *requirements: str, name: str, **options: Any) -> tuple[WantConfig, ...]:
        """Return a want to add."""
        return (WantConfig(name=name, requirements=requirements, **options),)

    @property
    def config(self) -> Config:
        return msgspec.structs.replace(super().config, targets=self.targets, wants=self.wants)

    async def proved_cycle(self) -> Report:
        """Run one cycle with the proofs that follow it, as ``--once`` and the daemon do."""
        self.clock.advance(60.0)
        async with self.opened() as cycle:
            report = await run_cycle(cycle)
            await prove_after_cycle(cycle, self.config, self.env)
        self.exit_code = int(report.exit_code())
        return report

    def names(self) -> set[str]:
        """Return the names of all published files."""
        return {name for files in self.files().values() for name in files}


def add(simulator: Simulator, project: str, version: str, *requires: str, **options: Any) -> str:
    """Add a wheel with dependencies; return its file name."""
    labels = {key: options.pop(key) for key in ("requires_python", "yanked") if key in options}
    filename, data = build_wheel(project, version, requires=requires, **options)
    simulator.state.publish(project, filename, data, **labels)
    return filename


def wheel(project: str, version: str, tag: str = "py3-none-any") -> str:
    """Return the name of a wheel as ``add`` publishes it."""
    return f"{project}-{version}-{tag}.whl"


async def proofs(mirror: WantingMirror) -> list[dict[str, Any]]:
    """Return the results of ``mirror check`` as it prints them."""
    config = mirror.config
    async with opened_holdings_for_reading(config.mirror, config.limits) as tree:
        asked = await to_thread.run_sync(questions, config, [], None)
        found = await prove(
            asked,
            DiskOpener(tree.layout),
            DiskPages(tree.layout.simple),
            tree.store,
            env=mirror.env,
            metadata_limit_bytes=1 << 20,
        )
    return [one.as_json() for one in found]
