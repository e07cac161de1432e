"""The proofs that are not run again: the published rows that they were shown are unchanged."""

from __future__ import annotations

import msgspec

from mirror.selection.proof.answers import ProofAnswer
from mirror.selection.resolving.inputs import Asked, Inputs, Listings, digest_of_listings, inputs_of
from mirror.selection.wants import LockedSet
from mirror.state.wants.needs import Key
from mirror.state.wants.proofs import StoredProof


async def reusable(
    stored: StoredProof | None, asked: Asked, listings: Listings
) -> ProofAnswer | None:
    """Return the recorded answer where it still holds, else None. Raises ``TreeError``."""
    if stored is None or asked.want is None:
        return None
    try:
        before = msgspec.json.decode(stored.inputs, type=Inputs)
        answer = msgspec.json.decode(stored.answer, type=ProofAnswer)
    except msgspec.MsgspecError:  # of another version
        return None
    if before.listings == await digest_of_listings(asked, answer.names, listings):
        return answer
    now = await inputs_of(asked, _releases(answer, asked), answer.names, listings)
    return answer if before.rows == now.rows else None


async def stored_proof(
    key: Key, answer: ProofAnswer, asked: Asked, listings: Listings
) -> StoredProof:
    """Return an answer in the form in which the state keeps it. Raises ``TreeError``."""
    inputs = await inputs_of(asked, _releases(answer, asked), answer.names, listings)
    return StoredProof(
        key=key,
        inputs=msgspec.json.encode(inputs).decode(),
        answer=msgspec.json.encode(answer),
    )


def _releases(answer: ProofAnswer, asked: Asked) -> tuple[str, ...]:
    """Return the releases whose rows count: for a lock all files of its projects do."""
    return () if isinstance(asked.source, LockedSet) else answer.releases
