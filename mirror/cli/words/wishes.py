"""Wishes in words: a table of all names, and the facts of the chosen ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mirror.cli.text import ago, counted, safe, table
from mirror.core.times import utc_text
from mirror.errors import MirrorError
from mirror.jobs.wishes import PageFacts, WishState

if TYPE_CHECKING:
    from mirror.core.names import ProjectName
    from mirror.jobs.wishes import Wish

_HEAD = ("NAME", "FROM", "STATE")


def describe_wishes(wishes: Sequence[Wish]) -> list[str]:
    """Return the table of all wishes, and what to do with them."""
    if not wishes:
        return [
            (
                "There are no wishes. `[serve] wishes = true` records them here;"
                " `mirror bundle acknowledge --wishes FILE` takes over a list from beyond a gap."
            )
        ]
    rows = [(one.project, _origin(one), _state(one)) for one in wishes]
    lines = table([_HEAD, *rows])
    if any(one.state is WishState.LISTED for one in wishes):
        lines += [
            "",
            (
                "Choose names to ask their index for their pages: `mirror want review NAME…`;"
                " with `--into WANT` they are wanted."
            ),
        ]
    if any(one.state in {WishState.HELD, WishState.WANTED} for one in wishes):
        lines.append("`mirror want review NAME… --drop` removes names from the list.")
    return [safe(line) for line in lines]


def _origin(wish: Wish) -> str:
    return "beyond a gap" if wish.is_carried else "this server"


def _state(wish: Wish) -> str:
    match wish.state:
        case WishState.LISTED:
            return f"listed by {wish.owner}"
        case WishState.COMING:
            return f"listed by {wish.owner}, which is mirrored without wants: see `mirror explain`"
        case WishState.HELD:
            return "here by now"
        case WishState.WANTED:
            return f"wanted by {', '.join(wish.wants)}, not held yet: see `mirror check`"
        case WishState.LEFT_OUT:
            return f"left out by {wish.reason}"
        case WishState.UNREAD:
            return f"not known: the root of {wish.reason} was not read yet"
        case WishState.NOT_LISTED:
            return "no index lists it"


def describe_chosen(
    wishes: Sequence[Wish],
    pages: Mapping[ProjectName, PageFacts | MirrorError],
    *,
    now: float,
) -> list[str]:
    """Return one line or two for each chosen name."""
    return [safe(line) for one in wishes for line in _chosen(one, pages.get(one.project), now=now)]


def _chosen(wish: Wish, page: PageFacts | MirrorError | None, *, now: float) -> list[str]:
    if page is None:
        return [f"{wish.project}: {_state(wish)}; it was not asked for"]
    if isinstance(page, MirrorError):
        return [f"{wish.project}: its page could not be had: {page}"]
    newest = f", the newest {page.newest}" if page.newest else ""
    files = f"{counted(page.files, 'file')}{newest}"
    status = "" if page.status == "active" else f"; {page.status} according to its index"
    if page.since is None:
        since = f"since when it exists is not known: {wish.owner} lists no upload times"
    else:
        since = f"exists since {utc_text(page.since)[:10]} ({ago(page.since, now)})"
    lines = [f"{wish.project}: listed by {wish.owner}, {since}; {files}{status}"]
    if page.is_young(now):
        warning = "a name that somebody mistyped may have been registered by a stranger"
        lines.append(f"  YOUNG: {warning}: compare it with the project that was meant")
    return lines
