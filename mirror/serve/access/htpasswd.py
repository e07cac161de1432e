"""An htpasswd file: user names with bcrypt hashes. Pure.

Invariant: an error names the line, never its text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import bcrypt
import msgspec

MAX_COST: Final = 14
"""A check at this cost takes about a second; a higher one would let a few logins use up a CPU."""

MAX_BYTES: Final = 16 << 20
_LONGEST_PASSWORD: Final = 72
"""bcrypt reads at most this many bytes; Apache ignores the rest too."""

_ENTRY: Final = re.compile(rb"([^:]+):(\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53})")
_MIN_COST: Final = 4


class HtpasswdError(ValueError):
    """A file that can't be used; the text says why, without a user's name or hash."""


class Users(msgspec.Struct, frozen=True, kw_only=True):
    """The users of one file."""

    hashes: Mapping[bytes, bytes]
    cost: int
    """The highest of all: a check of an unknown user takes as long."""

    def __repr__(self) -> str:
        return f"Users({len(self.hashes)})"

    def verify(self, user: bytes, password: bytes) -> bool:
        """Return whether a password is the user's; each refusal takes the same time. Blocking."""
        password = password[:_LONGEST_PASSWORD]
        known = self.hashes.get(user)
        if known is None:
            bcrypt.checkpw(password, _dummy(self.cost))
            return False
        if bcrypt.checkpw(password, known):
            return True
        # Each step doubles the time: 2^n + 2^n + 2^(n+1) + ... is that of the highest cost.
        for cost in range(_cost_of(known), self.cost):
            bcrypt.checkpw(password, _dummy(cost))
        return False


def parse_htpasswd(data: bytes) -> Users:
    """Return the users of a file. Raises ``HtpasswdError``."""
    hashes: dict[bytes, bytes] = {}
    for number, raw in enumerate(data.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        found = _ENTRY.fullmatch(line)
        if found is None:
            advice = "write it with `htpasswd -B`"
            raise HtpasswdError(f"line {number} is no user name with a bcrypt hash: {advice}")
        if not _MIN_COST <= int(found[3]) <= MAX_COST:
            problem = f"its cost is {int(found[3])}, expected {_MIN_COST} to {MAX_COST}"
            raise HtpasswdError(f"line {number}: {problem}; write it with `htpasswd -B -C 10`")
        if found[1] in hashes:
            raise HtpasswdError(
                f"line {number} names a user of an earlier line: remove one of them"
            )
        hashes[found[1]] = found[2]
    if not hashes:
        raise HtpasswdError("it names no user: add one with `htpasswd -B`")
    return Users(hashes=hashes, cost=max(map(_cost_of, hashes.values())))


def _cost_of(known: bytes) -> int:
    return int(known[4:6])


def _dummy(cost: int) -> bytes:
    return b"$2b$%02d$" % cost + b"." * 53
