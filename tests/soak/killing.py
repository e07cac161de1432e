"""Real cycles in processes of their own, killed, and what must hold afterwards.

After each kill ``check_disk`` looks at the disk alone; ``Killing.heal`` then runs cycles to their end and requires that
the mirror equals its upstream, that nothing stays marked or staged, and that ``prune`` leaves no byte that nothing lists.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urldefrag

from harness.in_process import check_tree, offered, published, query
from harness.logged import log_kept
from mirror.cli import main
from simulator import Drip, ThreadedSimulator, build_sdist, build_wheel
from soak.forker import forker
from soak.program import STEPS

PAGES = ("index.html", "index.v1_html", "index.v1_json")
LARGE_BYTES = 3 << 20
"""More than stays in memory: such a file is staged."""

_CONFIG = """\
[mirror]
root = "{root}"
keep-removed = "0"
keep-history = "0"
[limits]
pages = 4
downloads = 4
disk-reserve = "0"
[[index]]
name = "main"
url = "{url}"
[index.auth]
kind = "none"
"""


class Killing:
    """One mirror of one simulated index, run by ``soak.program``; used as ``with``."""

    def __init__(self, work: Path, seed: int, *, preload: Path | None = None) -> None:
        """``seed``: of all that is random; printed, so that a failure can be told apart from the next.

        ``preload``: a library that the program is loaded with.
        """
        self.preload = preload
        self.work, self.seed, self.random = work, seed, random.Random(seed)
        self.root = work / "mirror"
        self.log = work / "program.log"
        self.beside = False
        """Whether files are fetched by other processes beside the one that runs the cycle, from the first on."""
        self.kills: Counter[str] = Counter()
        self.ended = 0
        """How many runs were over before they could be killed."""
        self.cycle_s = 0.3
        """How long a cycle takes, from the fork on; measured anew by each cycle that ends by itself."""
        self.upstream = ThreadedSimulator()
        self._versions = 0
        self._variables: dict[str, str] = {}
        """The environment of the program."""
        print(f"kill test: seed {seed}")

    def __enter__(self) -> Self:
        self.work.mkdir(parents=True, exist_ok=True)
        self.upstream.__enter__()
        (self.work / "mirror.toml").write_text(_CONFIG.format(root=self.root, url=self.upstream.url))
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "TMPDIR"}}
        self._variables = {**kept, "HOME": str(self.work)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.upstream.__exit__(kind, error, trace)

    # -- running ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self, *arguments: str, **kill: Any) -> Iterator[tuple[int, Callable[[], int]]]:
        """Run ``mirror`` with the configuration; yield its pid and a function that waits and returns its exit code."""
        program = forker(self.preload)
        command = {
            "arguments": [*([] if kill.get("is_receive") else ["--config", "mirror.toml"]), *arguments],
            "log": str(self.log),
            "cwd": str(self.work),
            "beside": self.beside,
            **kill,
        }
        pid = program.run(command)
        answers: list[int] = []

        def wait() -> int:
            if not answers:
                answers.append(program.wait())
            return answers[0]

        try:
            yield pid, wait
        finally:
            wait()

    def run(self, *arguments: str, **kill: Any) -> int:
        """Run ``mirror`` to its end and return its exit code, or the signal that ended it as a negative number."""
        with self.running(*arguments, **kill) as (_, wait):
            return wait()

    def cycle(self, **kill: Any) -> int:
        """Run one cycle; the brake is lifted, since small indexes shrink by much."""
        return self.run("sync", "--once", "--allow-shrink", **kill)

    def cycle_here(self) -> None:
        """Run one cycle that must be complete in this process, in half of the CPU: where none was killed just before."""
        command = ["--config", str(self.work / "mirror.toml"), "sync", "--once", "--allow-shrink"]
        with (
            self.log.open("a") as log,
            redirect_stdout(log),
            redirect_stderr(log),
            log_kept(),
            _environment(self._variables),
        ):
            code = main(command)
        assert code == 0, self.told()

    def cycle_to_its_end(self) -> None:
        """Run one cycle that must be complete."""
        started = time.monotonic()
        code = self.cycle()
        self.cycle_s = time.monotonic() - started
        assert code == 0, self.told()

    def told(self) -> str:
        """Return the end of what the program has said, for the message of a failure."""
        return f"seed {self.seed}\n{self.log.read_text()[-4000:]}"

    # -- killing ----------------------------------------------------------------------------------------------------

    def kill_at_random(self) -> bool:
        """Run a cycle and kill it at a random moment; tell whether it was still running. The disk is checked."""
        code = self.cycle(after_s=self.random.uniform(0.0, self.cycle_s * 1.05))
        return self._count("a random moment", code)

    def kill_at(self, step: str, *, count: int = 1, command: tuple[str, ...] = ()) -> bool:
        """Run a cycle, or another command, and kill it after a step; tell whether it came so far."""
        kill = {"step": step, "count": count}
        return self._count(step, self.run(*command, **kill) if command else self.cycle(**kill))

    def _count(self, where: str, code: int) -> bool:
        check_disk(self.root)
        if code == -9:
            self.kills[where] += 1
            return True
        # 5: a file that a random change took away while the cycle was under way is no fault of the program.
        assert code in {0, 5}, f"{where}: exit code {code}, {self.told()}"
        self.ended += 1
        return False

    def heal(self) -> None:
        """Run cycles to their end and require that all is as if nothing had happened."""
        for number in range(4):  # two looks, and one more for what the last kill left
            if number:
                self.cycle_here()
            else:
                self.cycle_to_its_end()
            check_tree(self.root)
            if self.files() == offered(self.upstream):
                break
        assert self.files() == offered(self.upstream), self.told()
        assert list((self.root / "staging").iterdir()) == [], self.told()
        assert query(self.root, "SELECT * FROM failure") == []

    def check_prune(self) -> None:
        """Require that ``prune`` leaves exactly the bytes that pages list, with their metadata."""
        assert self.run("prune") == 0, self.told()
        check_tree(self.root)
        listed = {
            f"{labels['hashes']['sha256']}/{name}": bool(labels.get("core-metadata"))
            for files in published(self.root).values()
            for name, labels in files.items()
        }
        wanted = {*listed, *(f"{path}.metadata" for path, has_metadata in listed.items() if has_metadata)}
        files = self.root / "public/files"
        assert {f"{p.parent.name}/{p.name}" for p in files.rglob("*") if p.is_file()} == wanted, self.told()

    def files(self) -> dict[str, dict[str, str]]:
        """Return what the pages list; projects without files are left out."""
        found = published(self.root)
        return {
            project: {name: labels["hashes"]["sha256"] for name, labels in files.items()}
            for project, files in found.items()
            if files
        }

    # -- the upstream -----------------------------------------------------------------------------------------------

    def change(self, function: Callable[[], Any]) -> None:
        """Change the upstream between two of its answers, in its own thread."""
        done = threading.Event()
        errors: list[BaseException] = []

        def call() -> None:
            try:
                function()
            except BaseException as exc:  # noqa: BLE001 - raised where it can be seen
                errors.append(exc)
            done.set()

        assert self.upstream._loop is not None
        self.upstream._loop.call_soon_threadsafe(call)
        done.wait()
        if errors:
            raise errors[0]

    def publish(self, project: str, *, sdist: bool = False, size_pad: int = 0) -> str:
        """Publish a new version of a project; return its filename."""
        self._versions += 1
        build = build_sdist if sdist else build_wheel
        name, data = build(project, f"{self._versions}.0", size_pad=size_pad)
        self.change(lambda: self.upstream.state.publish(project, name, data))
        return name

    def publish_large(self, project: str) -> str:
        """Publish a version whose download takes as long as a cycle of small ones, so that kills hit it."""
        name = self.publish(project, size_pad=LARGE_BYTES)
        self.change(lambda: self.upstream.inject(Drip(piece=1 << 18, pause_s=0.01), kind="file", filename=name))
        return name

    def fill(self, projects: int = 6) -> None:
        """Publish some projects, among them a large file and a source distribution."""
        for number in range(projects):
            self.publish(f"project-{number}", sdist=number % 3 == 0)
            self.publish(f"project-{number}")
        self.publish_large("project-1")

    def change_at_random(self) -> str:
        """Do to the upstream what may happen to one; return what it was."""
        state, draw = self.upstream.state, self.random
        project = f"project-{draw.randrange(8)}"
        known = state.projects.get(project)
        files = sorted(known.files) if known else []
        kinds = ["publish", "publish", "large", "yank", "replace", "remove", "unlist", "relist"]
        match draw.choice(kinds) if files else "publish":
            case "yank":
                name = draw.choice(files)
                self.change(lambda: state.yank(project, name, f"reason {draw.random()}"))
                return f"yank {name}"
            case "replace":
                name = draw.choice([n for n in files if n.endswith(".whl")] or files)
                version = name.split("-")[1].removesuffix(".tar.gz")
                _, data = build_wheel(project, version, size_pad=draw.randrange(1, 2000))
                self.change(lambda: state.replace(project, name, data))
                return f"replace {name}"
            case "remove":
                name = draw.choice(files)
                self.change(lambda: state.remove_file(project, name))
                return f"remove {name}"
            case "unlist" if sum(p.listed for p in state.projects.values()) > 1:
                self.change(lambda: state.unlist_project(project))
                return f"unlist {project}"
            case "relist":
                self.change(lambda: state.relist(project))
                return f"relist {project}"
            case "large":
                return f"publish {self.publish_large(project)}"
        return f"publish {self.publish(project, sdist=draw.random() < 0.3)}"


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Let this process have these variables only."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def kill_many(killing: Killing, kills: int) -> None:
    """Change the upstream and kill cycles at random moments and random steps, healing now and then."""
    killing.fill()
    steps = [s for s in STEPS if "pruned" not in s]
    total = killing.kills.total() + kills
    while killing.kills.total() < total:
        for _ in range(killing.random.randrange(1, 5)):
            killing.change_at_random()
            killing.beside = killing.random.random() < 0.5
            if killing.random.random() < 0.6:
                killing.kill_at_random()
            else:
                killing.kill_at(killing.random.choice(steps), count=killing.random.randrange(1, 3))
        killing.heal()
        if killing.random.random() < 0.4:
            pruned = [s for s in STEPS if "pruned" in s]
            killing.kill_at(killing.random.choice(pruned), count=killing.random.randrange(1, 4), command=("prune",))
            killing.check_prune()


# -- the disk alone -------------------------------------------------------------------------------------------------


def check_disk(root: Path) -> None:
    """Fail unless each page file on its own lists only what is there, whole and verified, at any moment of a cycle.

    Only pages of one revision must agree with each other: a kill may fall between the renames of two of them.
    """
    simple = root / "public/simple"
    if not simple.exists():
        return
    digests: dict[Path, str] = {}
    roots = [read_root(simple / page) for page in PAGES if (simple / page).exists()]
    for serial, names in roots:
        assert all(names == other for revision, other in roots if revision == serial), "the root's pages disagree"
        for name in names:
            assert (simple / name / "index.html").exists(), f"the root lists {name}, which has no page"
    for directory in (p for p in simple.iterdir() if p.is_dir()):
        pages = [read_page(directory / page) for page in PAGES if (directory / page).exists()]
        for serial, files in pages:
            assert all(files == other for revision, other in pages if revision == serial), f"{directory} disagrees"
            for url, (sha256, metadata) in files.items():
                blob = directory / unquote(url)
                assert _digest(blob, digests) == sha256, f"{blob} is not what {directory.name} lists"
                if metadata is not None:
                    assert _digest(Path(f"{blob}.metadata"), digests) == metadata


def read_root(path: Path) -> tuple[int, list[str]]:
    """Return revision and projects of a root page."""
    text = path.read_text()
    if path.name.endswith("json"):
        page = json.loads(text)
        return page["meta"]["_last-serial"], [p["name"] for p in page["projects"]]
    links = _Links(text)
    return links.serial, [url.strip("/") for url, _ in links.found]


def read_page(path: Path) -> tuple[int, Mapping[str, tuple[str, str | None]]]:
    """Return revision and files of a project's page: URL -> (sha256, sha256 of the metadata)."""
    text = path.read_text()
    if path.name.endswith("json"):
        page = json.loads(text)
        found = {f["url"]: (f["hashes"]["sha256"], (f.get("core-metadata") or {}).get("sha256")) for f in page["files"]}
        return page["meta"]["_last-serial"], found
    links = _Links(text)
    files = {}
    for url, attributes in links.found:
        address, fragment = urldefrag(url)
        metadata = attributes.get("data-core-metadata")
        files[address] = (fragment.removeprefix("sha256="), metadata.removeprefix("sha256=") if metadata else None)
    return links.serial, files


def _digest(path: Path, known: dict[Path, str]) -> str:
    if path not in known:
        known[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return known[path]


class _Links(HTMLParser):
    """The links of a page and its revision; a page that was cut has no end, and fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.serial = -1
        self.found: list[tuple[str, dict[str, str | None]]] = []
        assert text.rstrip().endswith(("</html>", "-->")), "a page is cut"
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "a":
            self.found.append((attributes["href"] or "", attributes))

    def handle_comment(self, data: str) -> None:
        if data.startswith("SERIAL "):
            self.serial = int(data.removeprefix("SERIAL "))
