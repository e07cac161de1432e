"""Decides when a request is retried: temporary failures only, a few times, within a budget.

Invariants: only ``Unavailable`` is retried, unless it is final; a refusal, an invalid page or a
wrong byte does not improve by an immediate retry. All retries of a cycle together are bounded by
its successes (``Allowance``).
"""

from __future__ import annotations

import random

import anyio
import msgspec

from mirror.core.backoff import delay_s
from mirror.errors import RefusedElsewhere, Unavailable, shown_url
from mirror.logs import get_logger

_log = get_logger(__name__)


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Number of tries and pauses between them.

    A pause that would go past ``budget_s`` ends the tries immediately.
    """

    tries: int = 5
    budget_s: float = 60.0
    base_s: float = 0.5
    cap_s: float = 20.0
    spare: int = 200
    """Number of retries for one index in one cycle, in addition to one for each success."""


class Allowance:
    """The remaining retries of one index in one cycle: where less than half of all requests
    succeed, nothing is retried.

    Later failures are in the ledger without a retry, and the circuit opens the sooner.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self.left = policy.spare

    def earn(self) -> None:
        """Count a success: a whole answer, or good progress of a large one."""
        self.left += 1

    def take(self) -> bool:
        """Return whether one more retry is allowed, and count it."""
        if self.left <= 0:
            return False
        self.left -= 1
        return True


async def pause_before_next(
    error: Unavailable,
    *,
    tries_made: int,
    remaining_s: float,
    policy: RetryPolicy,
    allowance: Allowance,
) -> None:
    """Wait by the policy and ``Retry-After``, or raise ``error`` with the number of tries after the
    last one.
    """
    jittered_s = delay_s(tries_made, base_s=policy.base_s, cap_s=policy.cap_s, random=random.random)
    pause_s = max(jittered_s, error.retry_after_s or 0.0)
    if isinstance(error, RefusedElsewhere):
        raise error
    if (
        error.is_final
        or tries_made >= policy.tries
        or pause_s >= remaining_s
        or not allowance.take()
    ):
        raise Unavailable(
            url=error.url, cause=error.cause, attempts=tries_made, retry_after_s=error.retry_after_s
        ) from None
    _log.info(
        "request.retried",
        url=shown_url(error.url),
        cause=error.cause,
        tries=tries_made,
        pause_s=round(pause_s, 1),
    )
    await anyio.sleep(pause_s)
