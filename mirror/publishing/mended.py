"""Clear the damage of pages once they are written again."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from mirror.core.names import ProjectName
from mirror.errors import shown_text
from mirror.state.notes import forget_damage, load_notes
from mirror.state.store import Store
from mirror.tree.layout import Layout
from mirror.tree.pages import PAGE_NAMES

if TYPE_CHECKING:
    from mirror.tree.objects.client import ObjectClient


class MendedPages:
    """Clears the damage of pages that are written again; reads the state once."""

    def __init__(self, store: Store, layout: Layout, client: ObjectClient | None = None) -> None:
        """``client``: of the object store that has the tree; None: it lies on the disk."""
        self._store, self._layout, self._client = store, layout, client
        self._damaged: set[str] | None = None

    async def written(self, names: Collection[ProjectName], *, root: bool = False) -> None:
        """Record that the pages of some projects, or the root, are whole."""
        if self._damaged is None:
            self._damaged = {note.path for note in (await load_notes(self._store)).damage}
        if not self._damaged:
            return
        paths = {_shown(self._place(name)) for name in names}
        paths |= {f"{path}/{page}" for path in paths for page in PAGE_NAMES}
        if root:
            paths.add(_shown(self._place(None)))
        if mended := paths & self._damaged:
            await forget_damage(self._store, mended)
            self._damaged -= mended

    def _place(self, name: ProjectName | None) -> str:
        """Return the place of a project's pages, or of the root's, as a verification names it."""
        if self._client is not None:
            return self._client.address.shown("simple" if name is None else f"simple/{name}")
        return str(self._layout.simple) if name is None else self._layout.project_dir(name)


def _shown(path: str) -> str:
    """Return a path as the notes have it."""
    return shown_text(path, limit=4096)
