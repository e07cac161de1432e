"""What to do about each kind of failure; pure."""

from __future__ import annotations

from mirror.errors import Reason

ADVICE = {
    Reason.DIGEST_MISMATCH: "if it stays so, tell the index's operator: bytes and listing differ",
    Reason.SIZE_MISMATCH: "if it stays so, tell the index's operator: bytes and listing differ",
    Reason.NOT_FOUND: (
        "if it stays so, tell the index's operator, or leave it out: exclude-projects,"
        " exclude-files"
    ),
    Reason.NOT_OFFERED: "check the name, or take it out of projects or files",
    Reason.NOT_SERVED: (
        "look at the rule that leaves its files out (`mirror explain NAME`),"
        " or have a later index add to it with overlay = true"
    ),
    Reason.WITHHELD: "it comes by itself once it is released, there is nothing to do",
    Reason.DENIED: "ask the index's operator why, or leave it out: exclude-projects, exclude-files",
    Reason.UNREACHABLE: "if it persists, check network, proxy and the index's status",
    Reason.REDIRECT_REFUSED: (
        "if that host is right, see page-hosts (for pages) and allow-private;"
        " else report it to the index's operator"
    ),
    Reason.BAD_PAGE: "check the index's url (it often ends in /simple/), or tell its operator",
    Reason.BAD_FILE: (
        "if it stays so, tell the index's operator, or leave it out with exclude-files"
    ),
    Reason.UNSAFE_NAME: "it is never mirrored; exclude-files leaves it out of this list",
    Reason.TOO_LARGE: "raise the limit that is named, or leave it out with exclude-files",
    Reason.REFUSED_UNHASHED: 'to take it anyway, set unhashed = "pin" for this index',
    Reason.UNRESOLVED: (
        "`mirror check` names each gap: change the want,"
        " or add an index that offers the missing files"
    ),
    Reason.SHRINK: (
        "if so much is right to leave, run `mirror sync --once --allow-shrink`;"
        " else look at the index"
    ),
    Reason.STORAGE: "free some space, or make it writable",
    Reason.NO_SPACE: "free some space, or use a larger disk; the next cycle tries it again",
    Reason.INTERNAL: "this is a bug of this program: please report it with the log",
}
"""Advice for each kind of failure."""

INDEX_DENIED = "check that the credential is set, has not expired and is entitled to this index"
"""The same where an index as a whole is denied."""


def advice_for(reason: Reason, *, is_index: bool) -> str:
    """Return the advice for the failure of an item, or of an index as a whole."""
    return INDEX_DENIED if reason is Reason.DENIED and is_index else ADVICE[reason]
