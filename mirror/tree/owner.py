"""Who may write to a mirror: the owner of its state.

Files that another user leaves in the tree (root, most often) lock the service out of it later, so a command that writes
ends before it has written anything. Reading commands don't ask.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mirror.errors import WrongUser


def check_owner(root: Path, state: Path) -> None:
    """Raise ``WrongUser`` where the state belongs to another user than the one who runs this.

    Where there is no state yet, the owner of the root counts, unless the root's group lets us write; what can't be looked
    at, and a root that is not there yet, is left to those who open it. Blocking.
    """
    user = os.geteuid()
    if (found := _stat(state)) is not None:
        if found.st_uid != user:
            raise _wrong_user(state, found, user)
        return
    found = _stat(root)
    if found is not None and found.st_uid != user and not _is_in_writing_group(found):
        raise _wrong_user(root, found, user)


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
        run_as = ["setpriv", f"--reuid={found.st_uid}", f"--regid={found.st_gid}", "--clear-groups", "--"]
    if user != 0:
        run_as.insert(0, "sudo")
    return WrongUser(
        path=str(path),
        owner=owner or f"user {found.st_uid}",
        user=_name(user) or f"user {user}",
        run_as=tuple(run_as),
    )


def _name(uid: int) -> str | None:
    import pwd  # needed for the message alone

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
