"""Running out of file descriptors: a limit of this process, never a fault of an index or a
credential.
"""

from __future__ import annotations

import errno

from mirror.errors import TreeError

_OPEN_FILES = frozenset({errno.EMFILE, errno.ENFILE})


def open_files_error(exc: BaseException) -> TreeError | None:
    """Return an error that names the limit to raise, if ``exc`` means that no further file can be
    opened.
    """
    if not isinstance(exc, OSError) or exc.errno not in _OPEN_FILES:
        return None
    problem = (
        "too many open files: raise ulimit -n (LimitNOFILE in a unit) or lower"
        " limits.max-connections"
    )
    return TreeError(path="(open files)", problem=problem)
