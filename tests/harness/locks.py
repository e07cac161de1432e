"""Lock files in tests: environments, and what they need of a lock."""

from mirror.config import TargetConfig
from mirror.selection.targets import environments

LINUX, MAC = (
    environments(TargetConfig(name="t", python=("3.11.2",), platforms=(platform,)))[0]
    for platform in ("linux-x86_64", "macos-arm64")
)


def packages_of(lock, environment=LINUX):
    """Return the chosen file of each package of a lock, by project and version."""
    found = {}
    for package in lock.packages_for(environment):
        choice = package.choice(environment)
        found[f"{package.project} {package.version}"] = choice.filename if choice else None
    return found
