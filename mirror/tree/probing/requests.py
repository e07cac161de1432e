"""Single requests to a store, anonymous or signed (AWS Signature Version 4), also wrong ones on
purpose: a digest that does not fit its bytes, a key that ends in a slash.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from mirror.core.store_address import StoreAddress
from mirror.errors import TreeError

TIMEOUT_S: Final = 15.0
_MOST_BYTES: Final = 1 << 20


class RawAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one request; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the request was done."""
        return 200 <= self.status < 300

    @property
    def is_refusal(self) -> bool:
        """Whether the request was refused, not missed or failed."""
        return 400 <= self.status < 500 and self.status not in {404, 408, 429}


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Neither follows a redirect nor raises for a status."""

    def http_response(self, _: Any, response: Any) -> Any:
        return response

    https_response = http_response  # type: ignore[assignment]


class RawRequests:
    """Sends requests to one bucket."""

    def __init__(
        self, address: StoreAddress, settings: Mapping[str, str], ca_file: str | None
    ) -> None:
        """``settings``: as the client of the store gets them."""
        self._settings, self._region = settings, settings["region"]
        self._base = _base_url(address, settings)
        self.prefix = f"{address.prefix}/" if address.prefix else ""
        context = ssl.create_default_context(cafile=ca_file)
        https = urllib.request.HTTPSHandler(context=context)
        self._opener = urllib.request.build_opener(_AsItIs, https)

    @property
    def can_sign(self) -> bool:
        """Whether there are credentials that a single request can be signed with."""
        return {"access_key_id", "secret_access_key"} <= self._settings.keys()

    def send(
        self,
        method: str,
        key: str = "",
        *,
        query: str = "",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        signs: bool = False,
        hash_of: bytes | None = None,
    ) -> RawAnswer:
        """Send one request about an object, or about the bucket where there is a ``query`` and no
        ``key``.

        ``hash_of``: sign the digest of these bytes instead of those of ``body``. Raises
        ``TreeError``.
        """
        path = quote(f"{self.prefix}{key}" if key else "", safe="/-_.~")
        url = f"{self._base}/{path}"
        sent = {"Content-Type": "application/octet-stream"} if body is not None else {}
        sent |= headers or {}
        if signs:
            payload = body or b"" if hash_of is None else hash_of
            sent |= self._signature(method, url, query, payload, sent)
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{url}?{query}" if query else url, data=body, headers=sent, method=method
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                found = {name.lower(): value for name, value in answer.headers.items()}
                return RawAnswer(status=answer.status, headers=found, body=answer.read(_MOST_BYTES))
        except (OSError, http.client.HTTPException) as exc:
            problem = f"could not be reached: {getattr(exc, 'reason', exc)}"
            raise TreeError(path=self._base, problem=problem) from exc

    def _signature(
        self, method: str, url: str, query: str, payload: bytes, headers: Mapping[str, str]
    ) -> dict[str, str]:
        now = datetime.now(UTC)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        parts, digest = urlsplit(url), hashlib.sha256(payload).hexdigest()
        added = {"x-amz-date": stamp, "x-amz-content-sha256": digest}
        if token := self._settings.get("session_token"):
            added["x-amz-security-token"] = token
        signed = {name.lower(): value for name, value in {**headers, **added}.items()}
        signed["host"] = parts.netloc
        names = sorted(signed)
        lines = [method, parts.path, _canonical(query)]
        lines += [f"{name}:{signed[name].strip()}" for name in names]
        lines += ["", ";".join(names), digest]
        scope = f"{day}/{self._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n" + _hex("\n".join(lines))
        secret = f"AWS4{self._settings['secret_access_key']}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            secret = hmac.digest(secret, part.encode(), "sha256")
        signature = hmac.digest(secret, text.encode(), "sha256").hex()
        added["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._settings['access_key_id']}/{scope},"
            f" SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return added


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(query: str) -> str:
    """Return a query in the form that is signed: each key with its value, sorted."""
    pairs = (part.partition("=")[::2] for part in query.split("&") if part)
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _base_url(address: StoreAddress, settings: Mapping[str, str]) -> str:
    """Return the address of the bucket, without a slash at its end."""
    endpoint = settings.get("endpoint")
    if endpoint:
        return f"{endpoint}/{address.bucket}"
    host = f"s3.{settings['region']}.amazonaws.com"
    if "." in address.bucket:  # no certificate fits such a host
        return f"https://{host}/{address.bucket}"
    return f"https://{address.bucket}.{host}"
