"""A snapshot that an object store has, read to learn its files and which renderer wrote it."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.core.model import ProjectPage
from mirror.core.names import ProjectName
from mirror.core.pages import parse_json
from mirror.core.pages.page_depth import deepened, raised
from mirror.core.pages.render_pages import RenderedPage, iter_root_html, iter_root_json
from mirror.errors import BadPage
from mirror.publishing.own_pages import render_again
from mirror.state.renewal import may_offer_in
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.keys import snapshot_keys
from mirror.upkeep.stores.listing import parse_forms


class StoredSnapshot:
    """The pages of one snapshot. Blocking; raises ``TreeError``; pages may be read in threads."""

    def __init__(self, client: ObjectClient, name: str) -> None:
        self._client, self._name = client, name
        self.is_current = True
        """Whether all pages that were read are as this version's renderer writes them."""

    def read_root(self, projects: Sequence[ProjectName]) -> None:
        """Compare the root page; ``projects``: those whose pages lie in the snapshot."""
        html, json = (self._get(key) for key in snapshot_keys(self._name, None))
        if html is None or json is None:
            self.is_current = False
            return
        try:
            page = parse_json.parse_root_page(json, url="file:///")
        except BadPage:
            self.is_current = False
            return
        listed = sorted((name, serial or 0) for name, serial in page.projects.items())
        expected = RenderedPage(
            html=b"".join(iter_root_html(listed, page.serial or 0)),
            json=b"".join(iter_root_json(listed, page.serial or 0)),
        )
        has_all = page.projects.keys() <= set(projects)
        self._judge(has_all and expected == RenderedPage(html=html, json=json))

    def read(self, project: ProjectName) -> ProjectPage | None:
        """Return a project's page, and compare it; None where it is missing or can't be read."""
        html, json = (self._get(key) for key in snapshot_keys(self._name, project))
        page = None
        if html is not None and json is not None:
            page = parse_forms(project, raised(html), raised(json))
        if html is None or json is None or page is None:
            self.is_current = False
            return None
        again = render_again(page, lambda of, filename, *_: may_offer_in(of, filename))
        self._judge(
            again is not None and (deepened(again.html), deepened(again.json)) == (html, json)
        )
        return page

    def _judge(self, is_current: bool) -> None:  # noqa: FBT001
        if not is_current:
            self.is_current = False

    def _get(self, key: str) -> bytes | None:
        got = self._client.get(key)
        return None if got is None else got[0]
