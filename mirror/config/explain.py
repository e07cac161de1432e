"""The meaning of each key of the configuration, in one line; for ``mirror init`` and the JSON
Schema.
"""

from __future__ import annotations

from collections.abc import Mapping

EXPLAINED: Mapping[str, Mapping[str, str]] = {
    "mirror": {
        "root": "staging/ and public/ live here, on one file system",
        "state": "the database; by default state.db in root; keep it on a local disk where root is on a network one",
        "interval": "between the starts of two cycles of the daemon",
        "keep-removed": "how long a file that nothing lists is kept",
        "keep-history": "how long closed entries are kept that no snapshot or shipment needs",
        "max-shrink": "the removal brake: the part of an index's files that may leave the pages within 24 hours",
        "scrub": "the part of the tree that the daemon hashes again each day",
    },
    "limits": {
        "pages": "project pages under way at once, per index, at the start; adapts",
        "downloads": "files under way at once, likewise",
        "max-connections": "per index, however well it goes",
        "requests-per-second": "0: no limit",
        "bytes-per-second": '0: no limit; "MB" is 10 to the 6th, "MiB" is 2 to the 20th',
        "file-size": "the largest file to mirror; 0: no limit",
        "page-size": "of a project page, decompressed",
        "root-page-size": "of a root page, decompressed",
        "files-per-project": "a page with more is refused; so is one whose values need over 800 MiB of memory, a fixed limit",
        "projects": "names in a root page; a root page with more is refused",
        "metadata-size": "of a wheel's METADATA, decompressed",
        "connect-timeout": "until a connection stands",
        "stall-timeout": "no byte for so long",
        "disk-reserve": "free space that is never used up",
    },
    "service": {
        "metrics-listen": "HOST:PORT where the daemon serves /metrics, /live and /ready; for Prometheus and health checks",
        "metrics-file": "metrics for node_exporter's textfile collector, written after each cycle, also of --once",
        "notify-command": "a program to run after a cycle that changed something or failed; it reads the report from stdin",
    },
    "serve": {
        "certificate": "TLS: a PEM file with the certificate and its chain; read again when it changes",
        "key": "TLS: the PEM file of its key, without a password",
        "workers": "processes that answer requests",
        "connections-per-client": "connections that one client may have; 0: no limit; loopback is not counted",
    },
    "index": {
        "name": "lower-case letters, digits and hyphens; the first index that lists a project owns it",
        "url": "its root page; user names and passwords do not belong here",
        "url-env": "instead of url: the variable that holds it, where its path is a secret",
        "url-file": "likewise: the file that holds it",
        "list": '"root", or "config": the names in projects are the list, for an index without a root page',
        "projects": 'shell patterns, normalised like names: "zope.*" means "zope-*"',
        "exclude-projects": "exclude wins",
        "files": "patterns over file names, case matters",
        "exclude-files": "exclude wins here too",
        "skip-url-patterns": "over a file's resolved URL without query",
        "unhashed": '"pin" or "refuse" files that the index lists without a sha256 or stronger',
        "on-replace": '"follow" or "keep": the index lists the same file name with other bytes',
        "overlay": "true: its files join a project that an earlier index owns",
        "max-shrink": "another removal brake than mirror.max-shrink; 1 for an index that lists other files each day",
        "format": '"simple", or "flat": one page lists the files of all projects (find-links); its url is used as written',
        "page-hosts": 'other hosts from which pages (not files) may come, such as ["pages.example", "10.0.0.7:8080"]',
        "interval": "another one than mirror.interval",
        "proxy": "else HTTPS_PROXY, HTTP_PROXY and NO_PROXY count",
        "ca-file": "certificate authorities to trust, PEM; else SSL_CERT_FILE or the system's",
        "client-cert": "TLS client certificate, PEM",
        "client-key": "its key, where it is not in the same file",
        "allow-insecure": "true: credentials may be sent over plain http to another host",
        "allow-private": "true: links and redirects may lead to private addresses",
        "auth": "where the credential comes from",
    },
    "site": {
        "name": "a place beyond the gap, as in `mirror bundle create --site NAME`; one without a table gets everything",
        "projects": "whole projects, shell patterns as in [[index]]",
        "exclude-projects": "exclude wins",
        "key": "the private key that signs its bundles; else --key",
    },
    "auth": {
        "kind": "auto, none, basic, bearer, netrc, keyring or command",
        "username": "as it is; or from one of the three below",
        "username-env": "the variable that holds the user name",
        "username-file": "the file that holds it",
        "username-credential": "the file in $CREDENTIALS_DIRECTORY (systemd LoadCredential=) that holds it",
        "password-env": "the variable that holds the password; the password itself never stands here",
        "password-file": "the file that holds it",
        "password-credential": "the file in $CREDENTIALS_DIRECTORY that holds it",
        "token-env": 'kind = "bearer": the variable that holds the token',
        "token-file": "the file that holds it",
        "token-credential": "the file in $CREDENTIALS_DIRECTORY that holds it",
        "command": 'kind = "command": the first line of its output is the secret',
    },
}
"""By table, then by key, in the order of the declarations in ``settings``."""
