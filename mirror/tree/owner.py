"""Checks which user may write to a mirror: the owner of its state only, and no other user by a link
or an open directory in the root.

Files that another user leaves in the tree (root, most often) lock the service out of it later, so a
command that writes ends before it has written anything. Reading commands skip the check. A link of
another user would redirect writes to a place of that user's choice, and so would a directory that
everybody may write.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from mirror.errors import TreeError, WrongUser
from mirror.tree.disk.failures import tree_errors
from mirror.tree.layout import Layout

_MOST_LINKS = 40
"""As many as Linux follows."""


def check_owner(root: Path, state: Path) -> None:
    """Raise ``WrongUser`` where the state belongs to another user than the current one.

    Before the state exists, the owner of the root counts, unless the root's group lets this user
    write; a path that can't be inspected, and a missing root, are left to the code that opens them.
    Blocking.
    """
    user = os.geteuid()
    if (found := _stat(state)) is not None:
        if found.st_uid != user:
            raise _wrong_user(state, found, user)
        return
    found = _stat(root)
    if found is not None and found.st_uid != user and not _is_in_writing_group(found):
        raise _wrong_user(root, found, user)


def check_places(layout: Layout) -> None:
    """Raise ``TreeError`` for a link of another user, or a directory that others may write, at a
    place of the tree.

    A link made by this user or by root is followed. A missing path is accepted. Blocking.
    """
    with tree_errors(layout.root):
        for place in (layout.root, layout.staging, layout.public, layout.simple, layout.files):
            _check_directory(_follow(place))
        _follow(layout.state)


def _follow(place: Path) -> Path:
    """Return the target of a chain of links.

    Raises ``TreeError`` where one of them is another user's.
    """
    path = place
    for _ in range(_MOST_LINKS):
        try:
            found = path.lstat()
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(found.st_mode):
            return path
        if found.st_uid not in {os.geteuid(), 0}:
            owner = _name(found.st_uid) or f"user {found.st_uid}"
            us = _name(os.geteuid()) or str(os.geteuid())
            mend = f"chown -h {us} {shlex.quote(str(path))}"
            problem = (
                f"a link that {owner} has made; remove it, or if it leads to the right place,"
                f" run `{mend}`"
            )
            raise TreeError(path=str(path), problem=problem)
        path = path.parent / path.readlink()
    return path  # opening it fails with an error about too many links


def _check_directory(path: Path) -> None:
    found = _stat(path)
    if found is not None and stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_IWOTH:
        problem = (
            "every user may write to this directory of the tree;"
            f" run `chmod o-w {shlex.quote(str(path))}`"
        )
        raise TreeError(path=str(path), problem=problem)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _is_in_writing_group(found: os.stat_result) -> bool:
    return bool(found.st_mode & stat.S_IWGRP) and found.st_gid in {os.getegid(), *os.getgroups()}


def _wrong_user(path: Path, found: os.stat_result, user: int) -> WrongUser:
    owner = _name(found.st_uid)
    if owner is not None:
        run_as = ["runuser", "-u", owner, "--"]
    else:  # runuser knows names only
        run_as = [
            "setpriv",
            f"--reuid={found.st_uid}",
            f"--regid={found.st_gid}",
            "--clear-groups",
            "--",
        ]
    if user != 0:
        run_as.insert(0, "sudo")
    return WrongUser(
        path=str(path),
        owner=owner or f"user {found.st_uid}",
        user=_name(user) or f"user {user}",
        run_as=tuple(run_as),
    )


def _name(uid: int) -> str | None:
    import pwd  # 0.6 ms: the message alone needs it

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
