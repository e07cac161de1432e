"""Changes of the configuration's wants that must never be silent: the first want, and the last
one.
"""

from __future__ import annotations

from mirror.config import Config
from mirror.errors import ConfigError
from mirror.state.store import Store
from mirror.state.wants.needs import has_wants, load_published_count


async def check_change_of_wants(config: Config, store: Store) -> bool:
    """Raise ``ConfigError`` unless ``select`` is written where wants begin or end to decide;
    return whether the last cycle had wants.

    A deleted table must not start to mirror a whole index, and a first want must not make the
    published files of an index unwanted.
    """
    had_wants = await has_wants(store)
    undecided = [index for index in config.indexes if index.select is None]
    if had_wants and not config.wants and undecided:
        name = undecided[0].name
        problem = (
            "the configuration has no [[want]] any more, and the last cycle had some:"
            f' write `select = "listed"` for {name} to mirror all that its patterns allow,'
            " or put the wants back"
        )
        raise ConfigError(where=f"index {name!r}", problem=problem)
    if had_wants or not config.wants:
        return had_wants
    for index in undecided:
        count = await load_published_count(store, index.name)
        if count:
            problem = (
                f"{count:,} published files of {index.name} are needed by no want: write"
                ' `select = "listed"` to keep them, or `"needed"` to let them leave after'
                " keep-unwanted"
            )
            raise ConfigError(where=f"index {index.name!r}", problem=problem)
    return had_wants
