"""``mirror want review``: a person looks at the wishes, and says which of them become wanted.

Without a name all wishes are shown as the state knows them; no index is asked. The index that owns
a chosen name is asked for its page. ``--json`` prints one object::

    {"format": 1, "wishes": [{"project": "flask", "from": "carried", "state": "listed",
     "reason": null, "indexes": [{"name": "pypi", "lists": true, "owns": true}], "wants": [],
     "page": {"since": "2010-04-16T14:31:00Z", "young": false, "files": 120, "newest": "3.1.0",
     "status": "active"}, "problem": null}], "changes": ["want apps: flask added"]}

``from``: carried, served. ``state``: listed, coming (its index is mirrored without wants), held,
wanted, left-out, unread, not-listed. ``page`` is null for a name that was not chosen or is not
listed; ``young``: the first file is younger than 30 days, null where no upload times are listed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

import typer

from mirror.cli.arguments.want import WantReviewArguments
from mirror.cli.commands.configuration.want import (
    configuration_path,
    listed_indexes,
    read_configuration,
    replace_configuration,
)
from mirror.cli.configuration import load_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import folded, safe, stdout_width
from mirror.cli.words.wishes import describe_chosen, describe_wishes
from mirror.config import Config
from mirror.core.names import ProjectName, normalize_project
from mirror.errors import AccessDenied, ConfigError, MirrorError, Unavailable, UnsafeName
from mirror.exit_codes import ExitCode, exit_code_for, first_of
from mirror.jobs.wishes import (
    PageFacts,
    Wish,
    WishState,
    forget_wishes,
    load_wishes,
    read_wished_pages,
    wish_object,
)
from mirror.selection.editing import add_requirements

Pages = dict[ProjectName, PageFacts | MirrorError]


def review(options: GlobalOptions, given: WantReviewArguments) -> ExitCode:
    """Show wished names; want some of them, or drop them.

    A wish is a name that clients asked for and the mirror does not have.
    """
    if (given.into is not None or given.drop) and not given.names:
        raise ConfigError(where="NAME", problem="name the wishes; nothing is chosen by itself")
    if given.into is not None and given.drop:
        raise ConfigError(where="--into, --drop", problem="expected one of them")
    config = load_config(options)
    wishes = run_async(load_wishes, config)
    chosen = _find(wishes, given.names or ())
    if not chosen and not given.json and options.is_interactive and _has_keyboard():
        return _ask(options, config, wishes)
    if given.drop:
        return _drop(config, chosen, as_json=given.json)
    pages = _read_pages(config, chosen)
    changes = (
        []
        if given.into is None
        else _want(options, config, given.into, chosen, pages, given.accept_young)
    )
    _show(chosen or wishes, pages, changes, is_chosen=bool(chosen), as_json=given.json)
    return _exit_code(page for page in pages.values() if isinstance(page, MirrorError))


def _exit_code(errors: Iterable[MirrorError]) -> ExitCode:
    """Return the exit code for pages that could not be had: 5 where only these pages are
    missing.
    """
    return first_of(_exit_code_of(error) for error in errors)


def _exit_code_of(error: MirrorError) -> ExitCode:
    is_denied = isinstance(error, AccessDenied) and error.ends_index
    if is_denied or isinstance(error, Unavailable):
        return exit_code_for(error)
    return ExitCode.PARTIAL


def _has_keyboard() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _find(wishes: Sequence[Wish], names: Sequence[str]) -> list[Wish]:
    """Return the wishes of these names.

    Raises ``ConfigError`` for a name that is not among them.
    """
    known = {wish.project: wish for wish in wishes}
    found: dict[str, Wish] = {}
    for name in names:
        try:
            project = normalize_project(name)
        except UnsafeName as exc:
            raise ConfigError(where="NAME", problem=str(exc)) from exc
        if project not in known:
            problem = f"{project} is not among the wishes; `mirror want add` needs no wish"
            raise ConfigError(where="NAME", problem=problem)
        found[project] = known[project]
    return list(found.values())


def _read_pages(config: Config, chosen: Sequence[Wish]) -> Pages:

    return run_async(read_wished_pages, config, chosen, dict(os.environ)) if chosen else {}


def _want(
    options: GlobalOptions,
    config: Config,
    want: str,
    chosen: Sequence[Wish],
    pages: Pages,
    accept_young: bool,
) -> Sequence[str]:
    """Add chosen wishes to a want, and remove them from the list; return the changes in words.

    Raises ``ConfigError`` for a wish that no root lists, and for a young one unless it is accepted.
    """
    now, wanted = time.time(), []
    for wish in chosen:
        page = pages.get(wish.project)
        if page is None:
            problem = f"{wish.project} can't be wanted now: `mirror want review` shows why"
            raise ConfigError(where="NAME", problem=problem)
        if isinstance(page, PageFacts):
            if page.is_young(now) and not accept_young:
                problem = f"{wish.project} exists for less than 30 days: --accept-young wants it"
                raise ConfigError(where="NAME", problem=problem)
            wanted.append(wish.project)
    return _approve(options, config, want, wanted) if wanted else ()


def _approve(
    options: GlobalOptions, config: Config, want: str, names: Sequence[ProjectName]
) -> Sequence[str]:

    path = configuration_path(options)
    listed = listed_indexes(config)
    before = read_configuration(path)
    edited = add_requirements(before, want, names, listed=listed)
    replace_configuration(options, path, edited, before=before)
    run_async(forget_wishes, config, names)
    return edited.changes


def _drop(config: Config, chosen: Sequence[Wish], *, as_json: bool) -> ExitCode:

    gone = run_async(forget_wishes, config, [wish.project for wish in chosen])
    changes = [f"{name}: removed from the wishes" for name in gone]
    _show(chosen, {}, changes, is_chosen=True, as_json=as_json)
    return ExitCode.OK


def _show(
    wishes: Sequence[Wish],
    pages: Pages,
    changes: Sequence[str],
    *,
    is_chosen: bool,
    as_json: bool,
) -> None:

    if as_json:
        shown = [wish_object(wish, pages.get(wish.project)) for wish in wishes]
        write_json({"format": 1, "wishes": shown, "changes": list(changes)})
        return
    if changes and not pages:  # removed ones: nothing was looked at
        lines = []
    elif is_chosen:
        lines = describe_chosen(wishes, pages, now=time.time())
    else:
        lines = describe_wishes(wishes)
    lines += [safe(change) for change in changes]
    write_out("\n".join(folded(lines, stdout_width())))


# --- on a terminal ------------------------------------------------------------------------------


def _ask(options: GlobalOptions, config: Config, wishes: Sequence[Wish]) -> ExitCode:
    """Go through the wishes that a root lists, one by one; nothing happens without a yes."""
    write_out("\n".join(folded(describe_wishes(wishes), stdout_width())))
    errors: list[MirrorError] = []
    for wish in wishes:
        if wish.state is not WishState.LISTED:
            continue
        if not typer.confirm(f"Ask {wish.owner} about {wish.project}?", err=True):
            continue
        pages = _read_pages(config, [wish])
        lines = describe_chosen([wish], pages, now=time.time())
        write_out("\n".join(folded(lines, stdout_width())))
        page = pages.get(wish.project)
        if isinstance(page, MirrorError):
            errors.append(page)
        elif isinstance(page, PageFacts):
            _decide(options, config, wish)
            config = load_config(options)
    return _exit_code(errors)


def _decide(options: GlobalOptions, config: Config, wish: Wish) -> None:
    """Ask whether a wish becomes wanted, and by which want; else whether it stays in the list."""
    known = [want.name for want in config.wants]
    names = f" ({', '.join(known)}, or a new one)" if known else ""
    question = f"Name the want to add {wish.project} to{names}; empty: none"
    want = typer.prompt(question, default="", show_default=False, err=True).strip()
    if want:
        changes = _approve(options, config, want, [wish.project])
        write_out("\n".join(safe(change) for change in changes))
    elif typer.confirm(f"Remove {wish.project} from the wishes?", err=True):
        run_async(forget_wishes, config, [wish.project])
