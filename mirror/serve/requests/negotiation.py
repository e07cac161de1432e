"""Which form of a page a request asks for (PEP 691), and whether it may be compressed. Pure.

``?format=`` wins over ``Accept``. Without either, and for ``*/*``, a page is ``text/html``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

_VENDOR: Final = "application/vnd.pypi.simple."


class Form(Enum):
    """A form of a page; the value is its content type."""

    JSON = f"{_VENDOR}v1+json"
    HTML_V1 = f"{_VENDOR}v1+html"
    HTML = "text/html"

    @property
    def is_html(self) -> bool:
        """Whether a browser would run scripts in it."""
        return self is not Form.JSON


_BY_TYPE: Final[Mapping[str, Form]] = {
    **{form.value: form for form in Form},
    f"{_VENDOR}latest+json": Form.JSON,
    f"{_VENDOR}latest+html": Form.HTML_V1,
}
_WILDCARDS: Final[Mapping[str, tuple[Form, ...]]] = {
    "*/*": (Form.HTML, Form.JSON, Form.HTML_V1),
    "text/*": (Form.HTML,),
    "application/*": (Form.JSON, Form.HTML_V1),
}
_EXACT, _PART, _ANY = 2, 1, 0


def select_form(accept: str | None, asked: str | None = None) -> Form | None:
    """Return the form to answer with, or None where nothing that the client takes is here (406).

    ``asked``: the value of ``?format=``, decoded.
    """
    if asked is not None:
        return _BY_TYPE.get(asked.partition(";")[0].strip().lower())
    ranges = _parse_qualities(accept or "")
    if not ranges:
        return Form.HTML
    # For each form the most specific range counts (RFC 9110, 12.5.1).
    best: dict[Form, tuple[int, float]] = {}
    for name, quality in ranges.items():
        for form, exactness in _forms_of(name):
            if form not in best or best[form][0] < exactness:
                best[form] = (exactness, quality)
            elif best[form][0] == exactness:
                best[form] = (exactness, max(best[form][1], quality))
    taken = [
        (quality, exactness, form) for form, (exactness, quality) in best.items() if quality > 0
    ]
    if not taken:
        return None
    quality, exactness, _ = max(taken, key=lambda one: one[:2])
    equal = {form for q, e, form in taken if (q, e) == (quality, exactness)}
    order = tuple(Form) if exactness else _WILDCARDS["*/*"]
    return next(form for form in order if form in equal)


def takes_gzip(accept_encoding: str | None) -> bool:
    """Return whether a client accepts gzip, with at least the quality of the plain bytes."""
    qualities = _parse_qualities(accept_encoding or "")
    anything = qualities.get("*", 0.0)
    gzip = qualities.get("gzip", qualities.get("x-gzip", anything))
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)


def _forms_of(name: str) -> list[tuple[Form, int]]:
    if (form := _BY_TYPE.get(name)) is not None:
        return [(form, _EXACT)]
    exactness = _ANY if name == "*/*" else _PART
    return [(form, exactness) for form in _WILDCARDS.get(name, ())]


def _parse_qualities(header: str) -> dict[str, float]:
    """Return the values of a header like ``Accept``, in lower case, each with its quality;
    malformed ones are left out.
    """
    found: dict[str, float] = {}
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not name:
            continue
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _quality(value.strip())
        found[name] = max(found.get(name, 0.0), quality)
    return found


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
