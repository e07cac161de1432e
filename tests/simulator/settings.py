"""What kind of server a simulator is; every field may be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class Settings:
    """The defaults are an open index like PyPI: JSON and HTML, ETags, sha256, no serials, files from its own origin."""

    host: str = "127.0.0.1"
    """Where it listens; another loopback address can play a host of its own. Counts when it is started."""
    username: str | None = None
    password: str | None = None
    """With a username: HTTP Basic is asked for, everywhere."""
    token: str | None = None
    """A bearer token that is asked for (or accepted beside Basic)."""
    open_root: bool = False
    """The root page is let out to all, whatever credential is asked for elsewhere."""
    anonymous: tuple[str, ...] | None = None
    """The projects that strangers see, with a root page of their own; None: strangers are refused."""
    blocked: tuple[str, ...] = ()
    """Projects and file names that a curation policy refuses: 403, with JSON that says so."""
    allow_list: tuple[str, ...] | None = None
    """A repository manager's: pages and files of other projects answer 401, though the root lists them."""
    is_bucket: bool = False
    """What is not there answers 403 with XML, as a bucket does whose keys nobody may list."""
    formats: Literal["json", "html", "both"] = "both"
    """``html`` answers HTML whatever is asked for, as old servers do; ``json`` answers 406 to who wants only HTML."""
    api_minor: int = 4
    validators: Literal["etag", "last-modified", "none"] = "etag"
    serials: bool = False
    hashes: tuple[str, ...] = ("sha256",)
    """The algorithms listed for each file, as ``hashlib`` knows them; () lists none."""
    core_metadata: bool = False
    """Whether ``.metadata`` is advertised for the files that have it; it is answered in any case."""
    links: Literal["absolute", "root-relative", "relative"] = "absolute"
    second_origin: bool = False
    """Files answer 302 to a pre-signed URL on another port."""
    signed_links: int = 0
    """Above 0, pages list pre-signed URLs of the other port, which end when it has answered so many files more."""
    single_use_urls: bool = False
    """A pre-signed URL has expired once it was asked for."""
    exact_signatures: bool = True
    """False: ``~`` is as good as ``%7E`` in a pre-signed URL, as object stores have it; pip's library needs that."""
    ranges: bool = True
    gzip_pages: bool = False
    """Pages are compressed for clients that accept it."""
    gzip_label: bool = False
    """``.tar.gz`` files carry ``Content-Encoding: gzip`` although they are sent as they are."""
    prefix: str = ""
    """A path before ``/simple/`` and the files, such as ``/python``."""
    linked_prefix: str | None = None
    """Another name of ``prefix``, which the root's links have, without a slash at their ends.

    So does GitLab, whose groups answer by their path and link by their number.
    """
    spelled: bool = False
    """Pages are only where their names are spelled as displayed; the root's links have a query."""
    documents: bool = False
    """Pages are only at ``NAME/index.html``, as static generators write them."""
    flat: bool = False
    """The root is a page of files (find-links): it lists those of all projects."""
    forward_to: str | None = None
    """The URL of another index, to which a page that is not here is redirected."""

    @property
    def wants_credential(self) -> bool:
        """Whether a credential is asked for."""
        return self.username is not None or self.token is not None
