"""The proofs that are not run again: the published rows that they were shown are unchanged."""

from __future__ import annotations

import msgspec

from mirror.selection.proof.answers import ProofAnswer
from mirror.selection.resolving.inputs import Asked, Inputs, Listings, digest_of_listings, inputs_of
from mirror.selection.wants import LockedSet
from mirror.state.wants.needs import Key
from mirror.state.wants.proofs import StoredProof


class Reused(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded answer that still holds, and the inputs by which it is known now."""

    answer: ProofAnswer
    inputs: str


async def reusable(stored: StoredProof | None, asked: Asked, listings: Listings) -> Reused | None:
    """Return the recorded answer where it still holds, else None. Raises ``TreeError``."""
    if stored is None or asked.want is None:
        return None
    try:
        before = msgspec.json.decode(stored.inputs, type=Inputs)
        answer = msgspec.json.decode(stored.answer, type=ProofAnswer)
    except msgspec.MsgspecError:  # of another version
        return None
    if before.listings == await digest_of_listings(asked, answer.names, listings):
        return Reused(answer=answer, inputs=stored.inputs)
    now = await inputs_of(asked, _releases(answer, asked), answer.names, listings)
    if before.rows != now.rows:
        return None
    return Reused(answer=answer, inputs=msgspec.json.encode(now).decode())


async def stored_proof(
    key: Key, answer: ProofAnswer, asked: Asked, listings: Listings, reused: Reused | None
) -> StoredProof:
    """Return an answer in the form in which the state keeps it. Raises ``TreeError``."""
    if reused is not None:
        inputs = reused.inputs
    else:
        now = await inputs_of(asked, _releases(answer, asked), answer.names, listings)
        inputs = msgspec.json.encode(now).decode()
    return StoredProof(key=key, inputs=inputs, answer=msgspec.json.encode(answer))


def _releases(answer: ProofAnswer, asked: Asked) -> tuple[str, ...]:
    """Return the releases whose rows count: for a lock all files of its projects do."""
    return () if isinstance(asked.source, LockedSet) else answer.releases
