"""The meaning of a failed request to an object store, in words that say what to do.

obstore gives one text for each error. The status, the engine's code and the kind of the failure are
read from their places in it; names of keys, which may hold any word, are never searched.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mirror.core.store_address import StoreAddress
from mirror.errors import StoreFull, TreeError, shown_text
from mirror.logs import redact

_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})</Message>")
_UNREMOVED = re.compile(
    r"^ {4}source: DeleteFailed \{.*^ {8}code: \"([^\"]{1,80})\"", re.MULTILINE | re.DOTALL
)
"""One object of a removal of several, with its own code."""
_ODD_ANSWER = re.compile(
    r"^ {4}source: (?:Invalid\w+Response|Metadata|Header|NoContentRange|ParseContentRange"
    r"|UnexpectedRange)\b",
    re.MULTILINE,
)
"""An answer with a good status that does not fit its request."""
_NO_HTTP = re.compile(r"hyper::error\(\s*parse\(")
_NAMES = re.compile(
    r"[a-z]+://\S+|<(Key|Resource|BucketName|RequestId)>[^<]*<|\bpath: \"[^\"]*\"|for path \S+"
    r"|\bpath [^:\n]*:"
)
"""Parts of a text that have names of keys in them."""

_FULL_CODES: Final = frozenset({"StorageFull", "QuotaExceeded", "InsufficientStorage"})
_FULL = re.compile(r"no (free|writable) volumes|no space left|quota exceeded", re.IGNORECASE)
_DENIED_CODES: Final = frozenset(
    {"AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken"}
)
_SLOW_CODES: Final = frozenset({"SlowDown", "ServiceUnavailable", "TooManyRequests"})
_REDIRECT: Final = "redirect"
_NO_RANGES: Final = "non-partial response"
_CLOCK_CODE: Final = "RequestTimeTooSkewed"
_METADATA_SERVICE = ("/latest/api/token", "/latest/meta-data", "169.254.170.2")


class _Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an error's text."""

    status: int
    code: str
    message: str
    is_about_credentials: bool
    odd: str
    """The unreadable part of an answer; empty where there is none."""
    words: str
    """The text without names of keys, in lower case."""


def store_error(
    address: StoreAddress, key: str, error: Exception, *, is_denied: bool = False
) -> TreeError:
    """Return the error of the tree for one of obstore's; ``is_denied``: obstore says so itself."""
    failure = _read(str(error))
    if is_denied and not failure.status:
        failure = msgspec.structs.replace(failure, status=403)
    if failure.code == "NoSuchBucket":
        return TreeError(
            path=address.shown(""), problem="there is no such bucket; check `tree`, or make it"
        )
    if failure.is_about_credentials:
        problem = (
            "there are no credentials for the store: set AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, or give this machine a role"
        )
        return TreeError(path=address.shown(""), problem=problem)
    is_full = failure.code in _FULL_CODES or failure.status == 507
    if is_full or _FULL.search(failure.message):
        return StoreFull(
            path=address.shown(key),
            problem="the store is full; free some space there or raise its quota",
        )
    return TreeError(path=address.shown(key), problem=_problem(failure))


def foreign_answer(words: str) -> str:
    """Return the problem of an answer that another service gives, or an engine of its own kind."""
    return (
        f"the store sent an answer that does not follow S3 ({shown_text(redact(words), 200)}); see"
        " whether AWS_ENDPOINT_URL is its S3 interface: an engine that answers so can't hold a tree"
    )


def own_words(error: Exception) -> str:
    """Return the engine's own words for an error, on one line."""
    text = str(error)
    found = [m[1] for m in (_CODE.search(text), _MESSAGE.search(text)) if m]
    if found:
        return shown_text(redact(": ".join(found)))
    return shown_text(redact(text.partition("\n")[0]), 300)


def _read(text: str) -> _Failure:
    status, message = _STATUS.search(text), _MESSAGE.search(text)
    code = _CODE.search(text) or _UNREMOVED.search(text)
    first = text.partition("\n")[0].removeprefix("Generic S3 error: ")
    return _Failure(
        status=int(status[1]) if status else 0,
        code=code[1] if code else "",
        message=shown_text(redact(message[1])) if message else "",
        is_about_credentials=any(place in text for place in _METADATA_SERVICE),
        odd=first if _ODD_ANSWER.search(text) else "",
        words=_NAMES.sub(" ", text.replace("retry_timeout", "")).lower(),
    )


def _problem(failure: _Failure) -> str:
    answer = ": ".join(part for part in (failure.code, failure.message) if part)
    answer = answer or f"status {failure.status}"
    if failure.code == _CLOCK_CODE:
        return f"the store denies access ({answer}); set this machine's clock right"
    if failure.status in {401, 403} or failure.code in _DENIED_CODES:
        return f"the store denies access ({answer}); check its credentials and its policy"
    if failure.status in {429, 503} or failure.code in _SLOW_CODES:
        number = failure.status or 503
        return (
            f"the store is overloaded ({number}) and was asked several times; let it recover, and"
            " run it again"
        )
    is_lost = not failure.status and _REDIRECT in failure.words  # without a place, or in a circle
    if 300 <= failure.status < 400 or is_lost:
        return (
            "the store redirects to another address: set AWS_ENDPOINT_URL and AWS_REGION to those"
            " of this bucket"
        )
    if failure.status or failure.code:
        return f"the store answers with an error: {answer}; see its own log, and run it again"
    if failure.odd:
        return foreign_answer(failure.odd)
    return _unanswered(failure.words)


def _unanswered(words: str) -> str:
    """Return what kept a request from an answer."""
    if _NO_RANGES in words:
        return (
            "the store ignores ranges of an object, which readers and the mirror need; see its log"
        )
    if "timed out" in words or "timedout" in words or "timeout" in words:
        return "the store gave no answer in time; see whether it is well, and run it again"
    if "dns error" in words:
        cause = "the name of its endpoint is not known"
    elif "certificate" in words or "invalidcontenttype" in words or "tls" in words:
        cause = "TLS with its endpoint fails (http or https? AWS_CA_BUNDLE?)"
    elif _NO_HTTP.search(words):
        cause = "its endpoint does not speak HTTP"
    elif "refused" in words:
        cause = "its endpoint refuses the connection"
    else:
        return "the connection to the store broke; see whether it is well, and run it again"
    return f"the store can't be reached: {cause}; check AWS_ENDPOINT_URL and the network"
