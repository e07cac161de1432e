"""The files of one index as a resolver sees them: offered, hidden, or held."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from mirror.core.diff import HeldFile
from mirror.core.model import ListedFile
from mirror.core.offers import HIDING, Hidden, Offer
from mirror.core.policy import Selected
from mirror.core.rules.judge import words_of_rule
from mirror.core.rules.model import EXCLUDE_VULNERABLE, Admitted
from mirror.errors import MirrorError, Reason, Withheld
from mirror.state.missing.deferred import DeferredName
from mirror.state.missing.ledger import FailureRow
from mirror.sync.work import IndexRun


def offer_of(
    run: IndexRun, file: ListedFile, failed: FailureRow | None, held: dict[str, HeldFile]
) -> Offer:
    """Return the offer of a listed file; hidden where it can't be had."""
    known = held.get(file.filename)
    hidden = None
    if known is None and failed is not None and failed.reason in HIDING:
        hidden = Hidden(reason=failed.reason, detail=failed.detail)
    elif known is None and run.selection.too_large(file):
        limit = run.selection.policy.file_size_limit
        detail = (
            f"{file.filename} has {file.size} bytes, more than limits.file-size allows ({limit})"
        )
        hidden = Hidden(reason=Reason.TOO_LARGE, detail=detail)
    if run.selection.policy.rules.yanked is Admitted.ALWAYS:
        labels = msgspec.structs.replace(file.labels, yanked=None)
        file = msgspec.structs.replace(file, labels=labels)
    return Offer(
        index=run.name,
        file=file,
        hidden=hidden,
        targets=targets_of(run),
        held=known.sha256 if known else None,
    )


def refused_offers(run: IndexRun, selected: Selected) -> list[Offer]:
    """Return the offers of files that can't be taken, found without a request."""
    return [
        Offer(
            index=run.name,
            file=refusal.file or ListedFile(filename=refusal.filename, url=""),
            hidden=Hidden(reason=refusal.reason, detail=refusal.detail),
        )
        for refusal in selected.refusals
        if refusal.filename
    ]


def still_waits(one: DeferredName, advised: Collection[str], now: float) -> bool:
    """Return whether a rule still keeps a file out. ``advised``: names with an advisory."""
    if one.rule == EXCLUDE_VULNERABLE:
        return one.filename in advised
    return one.next_at is None or one.next_at > now


def waiting_offers(run: IndexRun, selected: Selected, held: dict[str, HeldFile]) -> list[Offer]:
    """Return the offers of files that the cooldown or an advisory keeps out: hidden for now.

    Where the pages publish other bytes under the name, these are offered as before.
    """
    offers = []
    for name, one in selected.deferred.items():
        if name in selected.kept and name in held:
            known = msgspec.structs.replace(held[name], labels=selected.kept[name])
            offers.append(published_offer(run, known))
            continue
        rule = one.verdict.rule
        words = words_of_rule(name, run.name, rule, one.verdict.until)
        hidden = Hidden(rule=rule, detail=words)
        offers.append(Offer(index=run.name, file=one.file, hidden=hidden, targets=targets_of(run)))
    return offers


def published_offer(run: IndexRun, held: HeldFile) -> Offer:
    """Return the offer of a file as the pages publish it."""
    file = ListedFile(
        filename=held.filename,
        url=held.url,
        digests=held.digests,
        size=held.size,
        labels=held.labels,
    )
    return Offer(index=run.name, file=file, targets=targets_of(run), held=held.sha256)


def is_withdrawal(error: MirrorError) -> bool:
    """Return whether the index withdraws the project."""
    return isinstance(error, Withheld) and error.is_withdrawal


def targets_of(run: IndexRun) -> tuple[str, ...]:
    """Return the targets of an overlay's files; of any other index all."""
    is_overlay = run.selection.policy.overlay and run.source.position > 0
    return run.selection.policy.overlay_targets if is_overlay else ()
