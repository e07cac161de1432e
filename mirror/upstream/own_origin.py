"""Where the requests of one index may go: which targets get its credential, and from where its
pages may come.
"""

from __future__ import annotations

from yarl import URL

from mirror.config import IndexConfig
from mirror.core.files.origins import origin_of_url, page_origins
from mirror.errors import RedirectRefused
from mirror.upstream.connections.targets import (
    OwnUrls,
    next_target,
    origin_of,
    parse_target,
    refuse_downgrade,
)
from mirror.upstream.exchange import RequestKind


class OwnOrigin:
    """The origin of one index, and the hosts that its configuration adds."""

    def __init__(self, config: IndexConfig) -> None:
        self._root_url = config.url
        self._root = parse_target(config.url, source=config.url)
        self.origin = origin_of(self._root)
        self._own_urls = OwnUrls(self._root)
        self._page_origins = page_origins(config.url, config.page_hosts)

    def parse(self, url: str, kind: RequestKind) -> tuple[URL, bool]:
        """Return the target of a request, and whether it may carry the credential.

        Raises ``RedirectRefused``.
        """
        own = self._own_urls.parse(url)
        if own is not None:
            return own, True
        target = parse_target(url, source=self._root_url)
        refuse_downgrade(target, before=self._root)
        self._check_origin(target, kind, source=self._root_url)
        return target, self._is_own(target, kind)

    def follow(
        self, before: URL, location: str | None, kind: RequestKind, *, source: str
    ) -> tuple[URL, bool]:
        """Return where a redirect leads, and whether that may get the credential.

        Raises ``RedirectRefused``.
        """
        target = next_target(before, location)
        self._check_origin(target, kind, source=source)
        return target, self._is_own(target, kind)

    def _is_own(self, target: URL, kind: RequestKind) -> bool:
        """Return whether a request may carry the credential."""
        if origin_of(target) == self.origin:
            return True
        return kind is not RequestKind.FILE and _origin_text(target) in self._page_origins.own

    def _check_origin(self, target: URL, kind: RequestKind, *, source: str) -> None:
        """Raise ``RedirectRefused`` where a page's origin would not be an allowed one."""
        if kind is RequestKind.FILE or _origin_text(target) in self._page_origins.allowed:
            return
        host = _origin_text(target).partition("://")[2]
        cause = (
            "pages stay on the index's origin; if they may come from there,"
            f' say page-hosts = ["{host}"]'
            " for this index; a sign-in page there means that the credential is missing"
        )
        raise RedirectRefused(url=source, target=str(target), cause=cause)


def _origin_text(target: URL) -> str:
    try:
        return origin_of_url(str(target))
    except ValueError:  # a host that no link of a page could name
        return f"{target.scheme}://{target.raw_authority}"
