"""The credential itself: an ``Authorization`` header whose value is never shown.

Invariant: the code that makes a ``Credential`` has registered its secret with ``logs``, so that no
event can contain it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

import msgspec

from mirror.logs import register_secret


class MalformedSecretError(Exception):
    """A user name or secret that can't be part of a header; the message gives the reason and never
    quotes it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The proof of identity for one index. Made by ``basic`` and ``bearer``."""

    header: str = field(repr=False)
    """The value of ``Authorization``."""
    expires_at: float | None
    """Seconds since 1970, from the ``exp`` of a JWT; None where the secret has none."""
    source: str
    """Its origin (a variable, a file, a command), for messages."""

    def __repr__(self) -> str:
        return "Credential(***)"

    def fingerprint(self) -> str:
        """Return a digest by which two credentials are compared; it does not give the secret
        away.
        """
        return hashlib.sha256(self.header.encode()).hexdigest()


def basic(username: str, password: str, *, source: str) -> Credential:
    """Return an HTTP Basic credential (RFC 7617); the user name is used unchanged.

    Raises ``MalformedSecretError``.
    """
    if ":" in username:
        raise MalformedSecretError("a user name of HTTP Basic can't contain a colon")
    _check(username, "the user name")
    _check(password, "the password")
    encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
    # Where one half is empty, the other one is the secret.
    register_secret(password or username)
    register_secret(encoded)
    return Credential(
        header=f"Basic {encoded}", expires_at=jwt_expiry(password or username), source=source
    )


def bearer(token: str, *, source: str) -> Credential:
    """Return a Bearer credential (RFC 6750). Raises ``MalformedSecretError``."""
    _check(token, "the token")
    if not token.isascii() or " " in token:
        raise MalformedSecretError("the token contains characters that no Bearer token has")
    register_secret(token)
    return Credential(header=f"Bearer {token}", expires_at=jwt_expiry(token), source=source)


def jwt_expiry(secret: str) -> float | None:
    """Return the ``exp`` of a JWT (RFC 7519) without verifying anything, or None for any other
    text.
    """
    parts = secret.split(".")
    if len(parts) != 3 or len(parts[1]) > 65536:
        return None
    try:
        claims = msgspec.json.decode(
            base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        )
    except (ValueError, binascii.Error, RecursionError):
        return None
    expiry = claims.get("exp") if isinstance(claims, dict) else None
    return float(expiry) if isinstance(expiry, int | float) and 0 <= expiry < 2**53 else None


def _check(text: str, what: str) -> None:
    if any(c < " " or c == "\x7f" for c in text):
        raise MalformedSecretError(f"{what} contains a line break or another control character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedSecretError(f"{what} is not valid UTF-8") from None
