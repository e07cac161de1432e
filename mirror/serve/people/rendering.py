"""Templates to bytes: everything that a template prints is escaped, and shown as it is.

Control characters and marks that turn text around are made visible, so that no name or reason reads
as something that it is not, and no text of an index can look like a mark of the mirror
(``address``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mirror import __version__
from mirror.core.times import utc_text
from mirror.core.words.amounts import counted, duration, size
from mirror.core.words.direction_marks import escape_marks
from mirror.serve.people.static_files import STATIC_FILES

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
_REPLACED: Final = "\ufffd"


def shown_text(value: Any) -> Any:
    """Return a value as it may stand in a page: no control characters, no hidden marks."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    if value.isascii() and value.isprintable():
        return value
    text = escape_marks(_CONTROLS.sub(_REPLACED, value))
    return text.encode("utf-8", "replace").decode()


def _time(seconds: float | None) -> Markup:
    """Return a time as an element that machines read too."""
    if seconds is None:
        return Markup("<span>never</span>")
    exact = utc_text(seconds)
    words = f"{exact[:10]} {exact[11:16]} UTC"
    return Markup('<time datetime="{}">{}</time>').format(exact, words)


def _uploaded(text: str | None) -> Markup:
    """Return the upload time that an index lists; an odd one as it is."""
    if not text:
        return Markup("")
    try:
        moment = datetime.fromisoformat(text)
        at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _time(at.timestamp())
    except (ValueError, OverflowError):
        return Markup("<span>{}</span>").format(shown_text(text))


def _number(value: int) -> str:
    return f"{value:,}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mirror.serve.people"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "time": _time,
        "uploaded": _uploaded,
        "size": size,
        "counted": counted,
        "duration": duration,
        "number": _number,
        "exact": utc_text,
    }
    environment.globals |= {"version": __version__, "static": STATIC_FILES}
    return environment


_ENVIRONMENT: Final = _environment()


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """Return a page."""
    text = _ENVIRONMENT.get_template(template).render(values)
    return text.encode()
