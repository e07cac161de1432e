"""Writing commands beside the cycle in which one call of the storage fails, and what must hold afterwards.

``Commands`` runs them as ``Storage`` runs cycles. Each begins from a copy of the same mirror, medium and far side.
"""

from __future__ import annotations

import errno
import json
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.handmade_bundles import NAMESPACE
from harness.in_process import check_tree, query
from soak.killing import check_disk
from soak.storage import ERRORS, Storage

ROOT, MEDIUM, FAR = "mirror", "medium", "far"
"""The directories in which a call may fail."""

_CODES = frozenset({0, 5, 6, 7})
"""0 where the program can do without the call; 5 and 7 of ``verify``: a damaged file stays so."""

_FIRST, _SECOND = "lab-000001", "lab-000002"


@dataclass(frozen=True)
class Command:
    """A command line, where its calls may fail, and what must hold once it has succeeded."""

    words: tuple[str, ...]
    place: str
    check: Callable[[Commands], None]
    is_receive: bool = False


@dataclass(frozen=True)
class CommandCase:
    """One call of a command that fails."""

    command: str
    call: str
    number: int
    error: int

    def __str__(self) -> str:
        return f"{self.command}: {errno.errorcode[self.error]} of {self.call} {self.number}"


class Commands(Storage):
    """A mirror with snapshots, damage, removed files and a site, from which each command begins."""

    @property
    def medium(self) -> Path:
        """Where bundles are made."""
        return self.work / MEDIUM

    @property
    def far(self) -> Path:
        """The root of the far side."""
        return self.work / FAR

    def prepare(self) -> None:
        """Make the mirror, the medium and the far side that each command begins with."""
        self._make_key()
        self.medium.mkdir()
        super().prepare()
        self._must("sync", "--once", "--allow-shrink")
        self._must("snapshot", "create", "one")
        self._must("snapshot", "create", "two")
        self._must("bundle", "create", *self._bundle_words())
        self._must(str(self.medium / _FIRST), *self.receive_words, is_receive=True)
        self._far_before()
        self.publish("project-0")
        self.change(lambda: self.upstream.state.unlist_project("project-3"))
        for _ in range(2):
            self._must("sync", "--once", "--allow-shrink")
        self._must("bundle", "create", *self._bundle_words())
        for name in (ROOT, MEDIUM, FAR):
            shutil.copytree(self.work / name, self.work / f"{name}.before", symlinks=True)

    def start(self, command: Command) -> None:
        """Bring mirror, medium and far side into the state in which a command begins."""
        for name in (ROOT, MEDIUM, FAR):
            shutil.rmtree(self.work / name, ignore_errors=True)
            shutil.copytree(self.work / f"{name}.before", self.work / name, symlinks=True)
        self.log.unlink(missing_ok=True)
        if command.words[0] == "verify":
            self._damage()

    def calls(self, name: str) -> Counter[str]:
        """Return how often a command without any fault makes each call."""
        command = COMMANDS[name]
        self.start(command)
        trace = self.work / "trace"
        trace.unlink(missing_ok=True)
        code = self.run_command(command, {"tree": str(self.work / command.place), "trace": str(trace)})
        assert code == 0, self.told()
        command.check(self)
        return Counter(line.split(" ", 1)[0] for line in trace.read_text().splitlines())

    def try_case(self, case: CommandCase) -> int:
        """Run a command in which the call fails, and again without a fault; return the first one's exit code."""
        command = COMMANDS[case.command]
        self.start(command)
        fail = {"call": case.call, "number": case.number, "error": case.error}
        code = self.run_command(command, {"tree": str(self.work / command.place), **fail})
        said = self.log.read_text()
        assert code in _CODES, f"{case}: exit code {code}, {self.told()}"
        assert "Traceback" not in said, f"{case}: {self.told()}"
        assert code == 0 or said.strip(), f"{case}: exit code {code} without a word"
        errors = [line for line in said.splitlines() if line.startswith(("error: ", "receive.py: "))]
        assert len(errors) <= 1, f"{case}: {self.told()}"
        if command.words[0] != "verify":  # it begins with a page that is gone
            check_disk(self.root)
        check_disk(self.far)
        if code != 0 or command.words[0] in {"verify", "prune"}:
            self.log.unlink()
            again = self.run_command(command, None)
            assert again == 0, f"{case}: again, exit code {again}, {self.told()}"
        command.check(self)
        return code

    # -- what must hold ---------------------------------------------------------------------------------------------

    def check_verified(self) -> None:
        """Everything is whole."""
        check_tree(self.root)
        assert self.run("verify") == 0, self.told()

    def check_pruned(self) -> None:
        """No file is left that nothing needs, and no directory without a file."""
        assert query(self.root, "SELECT count(*) FROM blob WHERE filename LIKE 'project_2%'") == [(0,)]
        assert not list((self.root / "public/files").rglob("project_2*"))
        empty = [p for p in (self.root / "public/files").rglob("*") if p.is_dir() and not list(p.iterdir())]
        assert not empty, empty

    def check_created(self) -> None:
        """The snapshot is what the pages are, and nothing of another try is left."""
        self._check_snapshots({"one", "three", "two"})
        simple = self.root / "public/simple"
        for page in simple.rglob("index.*"):
            frozen = self.root / "public/snapshots/three/simple" / page.relative_to(simple)
            assert frozen.read_bytes() == page.read_bytes()

    def check_promoted(self) -> None:
        """The channel shows the snapshot."""
        assert str((self.root / "public/channels/main").readlink()) == "../snapshots/two"

    def check_deleted(self) -> None:
        """Nothing is left of the snapshot."""
        self._check_snapshots({"two"})

    def check_bundle(self) -> None:
        """The bundle is whole: the far side takes it, and is whole then."""
        assert [row[0] for row in query(self.root, "SELECT sequence FROM shipment ORDER BY 1")] == [1, 2, 3]
        self._must(str(self.medium), *self.receive_words, is_receive=True)
        self.check_far(3)

    def check_acknowledged(self) -> None:
        """The receipt is in the ledger."""
        rows = query(self.root, "SELECT sequence FROM shipment WHERE acknowledged_at IS NOT NULL")
        assert rows == [(1,)], rows

    def check_received(self) -> None:
        """The far side has the second bundle, and only that."""
        self.check_far(2)

    def check_old_far(self) -> None:
        """The far side has the first bundle still."""
        self.check_far(1)

    def check_far(self, sequence: int) -> None:
        """The far side is whole, with this bundle as its last."""
        self._must("--root", str(self.far), "--check", is_receive=True)
        assert json.loads((self.far / "receipt.json").read_text())["sequence"] == sequence
        assert list((self.far / "staging").iterdir()) == []

    # -- helpers ----------------------------------------------------------------------------------------------------

    @property
    def receive_words(self) -> tuple[str, ...]:
        """What receive.py needs besides the bundles."""
        return ("--root", str(self.far), "--site", "lab", "--trust", str(self.work / "keys/allowed_signers"))

    def run_command(self, command: Command, fail: dict[str, object] | None) -> int:
        """Run a command; ``fail``: as in ``soak.program``."""
        words = [word.format(work=self.work) for word in command.words]
        options = {} if fail is None else {"fail": fail}
        return self.run(*words, is_receive=command.is_receive, **options)

    def _must(self, *words: str, is_receive: bool = False) -> None:
        assert self.run(*words, is_receive=is_receive) == 0, self.told()

    def _bundle_words(self) -> tuple[str, ...]:
        return ("--site", "lab", "--to", str(self.medium), "--local", "--key", str(self.work / "keys/key"))

    def _make_key(self) -> None:
        key = self.work / "keys/key"
        key.parent.mkdir()
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f", str(key)]
        subprocess.run(command, check=True, capture_output=True)
        public = key.with_suffix(".pub").read_text()
        key.with_name("allowed_signers").write_text(f'near@example.org namespaces="{NAMESPACE}" {public}')

    def _far_before(self) -> None:
        shutil.copy(self.far / "receipt.json", self.work / "receipt.json")

    def _damage(self) -> None:
        """Change, cut and remove something of each kind that ``verify --repair`` mends."""
        published = query(self.root, "SELECT sha256, filename FROM entry WHERE valid_to IS NULL ORDER BY filename")
        wheels = [(s, name) for s, name in published if name.endswith(".whl")]
        files = self.root / "public/files"
        changed, bare = (files / s[:2] / s[2:4] / s / name for s, name in wheels[:2])
        data = bytearray(changed.read_bytes())
        data[-1] ^= 0xFF
        changed.unlink()  # pages of snapshots and pins are links, blobs are not
        changed.write_bytes(data)
        bare.with_name(f"{bare.name}.metadata").unlink()
        (self.root / "public/simple/project-1/index.html").unlink()
        (files / "stranger").write_text("x")

    def _check_snapshots(self, names: set[str]) -> None:
        assert {row[0] for row in query(self.root, "SELECT name FROM snapshot WHERE kind = 'snapshot'")} == names
        assert {p.name for p in (self.root / "public/snapshots").iterdir()} == names
        pins = {row[0] for row in query(self.root, "SELECT name FROM snapshot WHERE kind = 'pin'")}
        assert {p.name for p in (self.root / "pins").iterdir()} == pins


_KEY = ("--local", "--key", "{work}/keys/key")
_TRUST = ("--root", "{work}/far", "--site", "lab", "--trust", "{work}/keys/allowed_signers")
_BUNDLE = ("bundle", "create", "--site", "lab", "--to", "{work}/medium", *_KEY)

COMMANDS = {
    "verify": Command(("verify", "--repair"), ROOT, Commands.check_verified),
    "prune": Command(("prune",), ROOT, Commands.check_pruned),
    "create": Command(("snapshot", "create", "three"), ROOT, Commands.check_created),
    "promote": Command(("snapshot", "promote", "two", "--channel", "main"), ROOT, Commands.check_promoted),
    "delete": Command(("snapshot", "delete", "one"), ROOT, Commands.check_deleted),
    "bundle": Command((*_BUNDLE, "--full"), ROOT, Commands.check_bundle),
    "bundle, medium": Command((*_BUNDLE, "--full"), MEDIUM, Commands.check_bundle),
    "acknowledge": Command(("bundle", "acknowledge", "{work}/receipt.json"), ROOT, Commands.check_acknowledged),
    "receive": Command((f"{{work}}/medium/{_SECOND}", *_TRUST), FAR, Commands.check_received, True),
    "check": Command(("--root", "{work}/far", "--check"), FAR, Commands.check_old_far, True),
    "receive, medium": Command((f"{{work}}/medium/{_SECOND}", *_TRUST), MEDIUM, Commands.check_received, True),
}


def all_command_cases(commands: Commands, draw: random.Random) -> list[CommandCase]:
    """Return a case for each call of each command, in random order, with an errno for each."""
    cases = [
        CommandCase(name, call, number, draw.choice(ERRORS))
        for name in COMMANDS
        for call, count in sorted(commands.calls(name).items())
        for number in range(1, count + 1)
    ]
    draw.shuffle(cases)
    return cases
