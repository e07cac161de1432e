"""The mirror's own secrets in an index's texts: removed, so that no page, state or bundle contains
them.

An index knows the credential that it was sent, and may repeat it, by mistake or on purpose, in any
text of a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from mirror.core.files.labels import TEXT_LABELS
from mirror.core.model import Labels, ListedFile, ProjectMeta, ProjectPage, RefusedFile
from mirror.core.pages.unknown_keys import canonical_json
from mirror.logs import has_secret


def without_own_secrets(page: ProjectPage) -> ProjectPage:
    """Return a page without the texts that contain a registered secret; nearly always the same
    object.
    """
    meta = page.meta
    extras = (meta.extra, meta.extra_meta)
    texts = [*map(_unescaped, extras), meta.status_reason or "", *(meta.versions or ())]
    for file in page.files:
        texts += _texts_of(file.labels)
    for refused in page.refused:
        texts += _texts_of(refused.labels or Labels())
    if not has_secret("\n".join(texts)):
        return page
    return msgspec.structs.replace(
        page,
        meta=_clean_meta(meta),
        files=tuple(map(_clean_file, page.files)),
        refused=tuple(map(_clean_refused, page.refused)),
    )


def _texts_of(labels: Labels) -> tuple[str, ...]:
    texts = [getattr(labels, name) or "" for name in TEXT_LABELS]
    return (*texts, labels.yanked or "", _unescaped(labels.extra))


def _unescaped(encoded: str) -> str:
    """Return the texts of a JSON object as they are read, where escapes could hide something in
    them.
    """
    if "\\" not in encoded:
        return encoded
    return "\n".join(_iter_texts(msgspec.json.decode(encoded, type=dict[str, Any])))


def _iter_texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for inner in value:
                yield from _iter_texts(inner)
        case dict():
            for key, inner in value.items():
                yield key
                yield from _iter_texts(inner)
        case _:
            yield str(value)


def _clean_file(file: ListedFile) -> ListedFile:
    cleaned = _clean_labels(file.labels)
    return file if cleaned is file.labels else msgspec.structs.replace(file, labels=cleaned)


def _clean_refused(file: RefusedFile) -> RefusedFile:
    return (
        file
        if file.labels is None
        else msgspec.structs.replace(file, labels=_clean_labels(file.labels))
    )


def _clean_labels(labels: Labels) -> Labels:
    if not has_secret("\n".join(_texts_of(labels))):
        return labels
    return Labels(
        **{name: _clean(getattr(labels, name)) for name in TEXT_LABELS},
        # The mark itself must stay, its reason may go.
        yanked=None if labels.yanked is None else _clean(labels.yanked) or "",
        extra=_clean_object(labels.extra),
    )


def _clean_meta(meta: ProjectMeta) -> ProjectMeta:
    versions = (
        None if meta.versions is None else tuple(v for v in meta.versions if not has_secret(v))
    )
    return msgspec.structs.replace(
        meta,
        status_reason=_clean(meta.status_reason),
        versions=versions,
        extra=_clean_object(meta.extra),
        extra_meta=_clean_object(meta.extra_meta),
    )


def _clean(text: str | None) -> str | None:
    return None if text is not None and has_secret(text) else text


def _clean_object(encoded: str) -> str:
    """Return a JSON object without the keys whose name or value contains a secret."""
    unknown = msgspec.json.decode(encoded, type=dict[str, Any])
    kept = {
        key: value
        for key, value in unknown.items()
        if not any(map(has_secret, _iter_texts({key: value})))
    }
    return canonical_json(kept)
