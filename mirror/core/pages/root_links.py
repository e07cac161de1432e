"""The projects that the links of an HTML root page name, and the addresses of their pages.

Directly below the root, the last segment of a link's path is the project's name, regardless of the
text. Elsewhere the text must be the same name, and the folder above must have the name of the
root's own folder (``…/simple/NAME``): a menu or a status page is not a project. An address is kept
only where it is not the usual one, ``NAME/`` below the index's URL, since a root may list 730,000
projects.

An address is relative to the index's URL: ``name/index.html`` below it, ``/path/name`` on its
origin, ``https://host/path/name/`` on another one.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from mirror.core.files.links import Base, parse_base, resolve_link
from mirror.core.files.origins import PageOrigins, origin_of_url
from mirror.core.names import ProjectName, normalize_project
from mirror.core.pages.page_cost import NAME_BYTES
from mirror.errors import BadPage, UnsafeName, shown_text

_ENDING = r"\.(?:whl|egg|zip|tar|tgz|tbz|txz|tar\.(?:gz|bz2|xz|z|zst)|exe|msi|rpm|deb|dmg)"
DISTRIBUTION = re.compile(rf".{_ENDING}\Z", re.IGNORECASE | re.DOTALL)
"""Pattern for the end of a distribution's file name."""

FILE = re.compile(
    rf".(?:{_ENDING}(?:\.(?:asc|sig|sigstore|provenance|attestation))?|-variants\.json)\Z",
    re.IGNORECASE | re.DOTALL,
)
"""Names that are files even without a digest and ``download``: distributions, and files that
accompany one.
"""

FLAT_CAUSE = (
    "it is a page of files (find-links), not of projects; to mirror the files that it lists, say"
    ' format = "flat" for this index'
)
"""The error for a root page that lists files."""

_INDEX_PAGE = "/index.html"
_DOCUMENT = re.compile(r"\.html?\Z", re.IGNORECASE)
_DIGEST = re.compile(r"#(?:sha\d|blake2|md5)[a-z0-9_]*=", re.IGNORECASE)


def resolve_address(index_url: str, name: ProjectName, address: str | None) -> str:
    """Return the URL of a project's page. ``address``: None for the usual one."""
    if address is None:
        return f"{index_url[: index_url.rindex('/') + 1]}{name}/"
    return resolve_link(parse_base(index_url), address)


class RootLinks:
    """Gathers the projects of one root page, link by link, in the page's order.

    The texts of anchors cost more than all else and are needed by few roots: a first pass without
    them finds out whether a second one is needed (``needs_text``).
    """

    def __init__(self, *, url: str, base: Base, index_url: str, origins: PageOrigins) -> None:
        """``url`` is the page's final one, ``index_url`` the configured one."""
        page, index = parse_base(url), parse_base(index_url)
        self._base, self._origins = base, origins
        self._page_origin, self._root = page.origin, _folder_of(page)
        self._root_url = page.origin + self._root
        self._index_path = _folder_of(index)
        self._is_usual_root = page.origin in origins.own and self._root == self._index_path
        self._folders = {_last_of(self._root), _last_of(_folder_of(index))} - {""}
        self.projects: dict[ProjectName, int | None] = {}
        self.addresses: dict[ProjectName, str] = {}
        self.refused = 0
        self.kept_bytes = 0
        """Memory of the names and addresses."""
        self.files = 0
        """Links to files of distributions."""
        self._may_need_text = False
        self._foreign: str | None = None
        """The first link to a foreign origin that may be a project's."""
        self._unreachable: set[ProjectName] = set()
        """Projects whose address is on an origin that is not allowed for pages."""
        self._twice: list[str] = []
        self._twice_more = 0

    @property
    def lists_something(self) -> bool:
        """Whether the page can't be taken for any web page."""
        return bool(self.projects or self.files or self._foreign)

    @property
    def needs_text(self) -> bool:
        """Whether the text of an anchor may show that its link, left out so far, is a project's."""
        return self._may_need_text or (not self.projects and self._foreign is not None)

    def add(self, href: str, text: str | None = None) -> None:
        """Add one link. ``text``: of its anchor; None in the first pass."""
        try:
            link = resolve_link(self._base, href).partition("?")[0]
        except ValueError:
            return
        if _is_file(link, href):
            self.files += 1
            return
        below = link[len(self._root_url) :] if link.startswith(self._root_url) else "/"
        name = _without_end(below)
        if "/" in name or below.startswith("/"):
            self._add_elsewhere(link, text)
        elif name and not (_DOCUMENT.search(name) and below == name):
            self._add_direct(unquote(name), below, link)

    def _add_direct(self, name: str, below: str, link: str) -> None:
        try:
            project = normalize_project(name)
        except UnsafeName:
            self.refused += 1
            return
        is_usual = self._is_usual_root and below == f"{project}/"
        self._put(project, None if is_usual else self._address_of(project, link))

    def _add_elsewhere(self, link: str, text: str | None) -> None:
        origin = origin_of_url(link)
        path = link[len(origin) :]
        if origin == self._page_origin and self._root.startswith(path.rstrip("/") + "/"):
            return  # the root itself, or a folder above it
        above, _, segment = _without_end(path).rpartition("/")
        try:
            project = normalize_project(unquote(segment))
        except UnsafeName:
            return
        is_foreign = origin not in self._origins.allowed
        is_in_folder = _last_of(above) in self._folders
        if text is None:
            self._may_need_text = self._may_need_text or is_in_folder
            if is_foreign and self._foreign is None:
                self._foreign = link
            return
        is_named = _is_name(text, project)
        if is_foreign and self._foreign is None and (is_named or is_in_folder):
            self._foreign = link
        if is_named and is_in_folder:
            self._put(project, self._address_of(project, link), is_foreign=is_foreign)

    def _address_of(self, project: ProjectName, link: str) -> str | None:
        origin = origin_of_url(link)
        if origin not in self._origins.own:
            return link
        path = link[len(origin) :]
        below = path[len(self._index_path) :]
        if not path.startswith(self._index_path) or below.startswith("/"):
            return path
        return None if below == f"{project}/" else below

    def _put(self, project: ProjectName, address: str | None, *, is_foreign: bool = False) -> None:
        """Keep an address; of two for one project the usual one, else the first that may be
        asked.
        """
        if project not in self.projects or (project in self._unreachable and not is_foreign):
            self.projects[project] = None
            self.kept_bytes += (
                NAME_BYTES + len(project) + (0 if address is None else NAME_BYTES + len(address))
            )
            self._unreachable.discard(project)
            self._keep(project, address)
            if is_foreign:
                self._unreachable.add(project)
            return
        known = self.addresses.get(project)
        if known == address or is_foreign:
            return
        if address is None:
            self._keep(project, None)
            known, address = None, known
        if self._twice:
            self._twice_more += 1
        else:
            self._twice = [project, known or f"{project}/", address or ""]

    def _keep(self, project: ProjectName, address: str | None) -> None:
        if address is None:
            self.addresses.pop(project, None)
        else:
            self.addresses[project] = address

    def check(self, url: str) -> None:
        """Raise ``BadPage`` for a page of files, and where all links lead to foreign origins."""
        if self.files and self.files >= len(self.projects):
            raise BadPage(url=url, cause=FLAT_CAUSE)
        if self._foreign is not None and len(self._unreachable) == len(self.projects):
            raise BadPage(url=url, cause=_foreign_cause(self._foreign, self._origins))

    def warnings(self) -> list[str]:
        """Return the sentences for the log."""
        sentences = []
        if self._twice:
            project, kept, other = map(shown_text, self._twice)
            more = f"; so for {self._twice_more} more links" if self._twice_more else ""
            sentences.append(f"{project} has two addresses: {kept} is asked, {other} is not{more}")
        if self.files:
            sentences.append(f"{self.files} links to files were left out: a root lists projects")
        return sentences


def _foreign_cause(link: str, origins: PageOrigins) -> str:
    origin = origin_of_url(link)
    scheme, _, host = origin.partition("://")
    by_name = 'name the projects with list = "config"'
    if scheme == "http" and origins.index.startswith("https:"):
        way = f"pages of an https index never come from there, nor from page-hosts; {by_name}"
    else:
        way = f'if pages may come from there, set page-hosts = ["{host}"], else {by_name}'
    return f"its links lead to another origin, such as {shown_text(link, 150)}; {way}"


def _folder_of(page: Base) -> str:
    """Return the path, with a slash at its end, whose children are projects."""
    is_document = "." in page.path.rpartition("/")[2]
    return page.folder if is_document else page.path.removesuffix("/") + "/"


def _last_of(path: str) -> str:
    """Return the last name in a path, decoded."""
    return unquote(path.removesuffix("/").rpartition("/")[2])


def _without_end(path: str) -> str:
    """Return a path without ``index.html`` or the slash at its end."""
    return path.removesuffix(_INDEX_PAGE) if path.endswith(_INDEX_PAGE) else path.removesuffix("/")


def _is_file(link: str, href: str) -> bool:
    """Return whether a link leads to a distribution's file, or to a file that accompanies one."""
    if "#" in href and _DIGEST.search(href):
        return True
    name = link.rpartition("/")[2]
    return "." in name and FILE.search(unquote(name)) is not None


def _is_name(text: str, project: ProjectName) -> bool:
    """Return whether the text of an anchor is a spelling of the project's name."""
    try:
        return normalize_project(text.strip().removesuffix("/")) == project
    except UnsafeName:
        return False
