"""Write a tree without files whose state knows many published projects with summaries: what a search goes through.

``python -m bench.searched ROOT PROJECTS`` prints the names. The rows are those that a cycle writes; names and summaries are
made of words that are as common as in a public index.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from mirror.state.shown.search import fold_text
from mirror.state.store import open_store
from mirror.tree.layout import Layout, create_tree

_SYLLABLES = [
    "ab",
    "ac",
    "ad",
    "al",
    "an",
    "ar",
    "ba",
    "be",
    "ca",
    "ce",
    "co",
    "da",
    "de",
    "di",
    "do",
    "el",
    "en",
    "er",
    "fa",
    "fi",
    "ga",
    "gi",
    "ha",
    "hi",
    "in",
    "ka",
    "la",
    "li",
    "lo",
    "ma",
    "me",
    "mo",
    "na",
    "no",
    "or",
    "pa",
]
_BATCH = 20_000


async def _write(root: Path, names: list[str], summaries: list[str]) -> None:
    async with open_store(root / "state.db") as store:
        async with store.transaction() as tx:
            await tx.execute(
                "INSERT INTO cycle (id, started_at, finished_at, outcome, exit_code) VALUES (1, 1, 2, 'complete', 0)"
            )
            await tx.execute("INSERT INTO revision (id, cycle, at) VALUES (1, 1, 1)")
        for start in range(0, len(names), _BATCH):
            part = slice(start, start + _BATCH)
            async with store.transaction() as tx:
                # Not shown at first, so that each row enters the index of the search once.
                await tx.executemany(
                    "INSERT INTO about (name, shown, summary, version, words) VALUES (?, 0, ?, '1.0', ?)",
                    [
                        (name, text, f"{name}\n{fold_text(text)}")
                        for name, text in zip(names[part], summaries[part], strict=True)
                    ],
                )
                await tx.executemany(
                    "INSERT INTO page (name, revision, marked, published) VALUES (?, 1, 0, 1)",
                    [(name,) for name in names[part]],
                )


def main() -> None:
    """Write the state and print the names."""
    from bench.load import COMMON_WORDS

    root, count = Path(sys.argv[1]), int(sys.argv[2])
    create_tree(Layout(root))
    rng = random.Random(4)
    weights = [1 / (place + 1) for place in range(len(COMMON_WORDS))]

    def word() -> str:
        if rng.random() < 0.45:
            return rng.choices(COMMON_WORDS, weights)[0]
        return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4)))

    names = sorted({"-".join(word() for _ in range(rng.randint(1, 3))) + f"-{n % 97}" for n in range(2 * count)})
    rng.shuffle(names)
    names = sorted(names[:count])
    summaries = [" ".join(word() for _ in range(rng.randint(3, 12))) for _ in names]
    asyncio.run(_write(root, names, summaries))
    print("\n".join(names))


if __name__ == "__main__":
    main()
