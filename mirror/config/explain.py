"""The meaning of each key of the configuration, in one line; for ``mirror init`` and the JSON
Schema.
"""

from __future__ import annotations

from collections.abc import Mapping

from mirror.config.wants import DEFAULT_GLIBC, DEFAULT_MACOS, MAX_NEWEST, PLATFORMS

EXPLAINED: Mapping[str, Mapping[str, str]] = {
    "mirror": {
        "root": "staging/ and public/ live here, on one file system",
        "state": "the database; by default state.db in root;"
        " keep it on a local disk where root is on a network one",
        "interval": "between the starts of two cycles of the daemon",
        "keep-removed": "how long a file that nothing lists is kept",
        "keep-history": "how long closed entries are kept that no snapshot or shipment needs",
        "keep-unwanted": (
            "how long files stay published that no want needs: old locks go on working"
        ),
        "max-shrink": "the removal brake: the part of an index's files that may leave the pages"
        " within 24 hours",
        "scrub": "the part of the tree that the daemon hashes again each day;"
        ' on a store the default is "0"',
        "tree": "an object store for what public/ holds, instead of the disk (extra store)",
        "staging-size": "the most that staging takes of the local disk with such a tree",
        "single-writer": "true: you guarantee one writer, where the store ignores conditions",
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
        "files-per-project": (
            "a page with more is refused; so is one whose values need over 800 MiB of memory,"
            " a fixed limit"
        ),
        "projects": "names in a root page; a root page with more is refused",
        "metadata-size": "of a wheel's METADATA, decompressed",
        "connect-timeout": "time allowed to connect",
        "stall-timeout": "longest time without receiving a byte",
        "disk-reserve": "free space that is never used up",
    },
    "service": {
        "metrics-listen": (
            "HOST:PORT where the daemon serves /metrics, /live and /ready;"
            " for Prometheus and health checks"
        ),
        "metrics-file": (
            "metrics for node_exporter's textfile collector, written after each cycle,"
            " also of --once"
        ),
        "notify-command": (
            "a program to run after a cycle that changed something or failed;"
            " it reads the report from stdin"
        ),
    },
    "serve": {
        "listen": (
            "HOST:PORT where the daemon serves the mirror too; empty: only `mirror serve` does"
        ),
        "certificate": (
            "TLS: a PEM file with the certificate and its chain; read again when it changes"
        ),
        "key": "TLS: the PEM file of its key, without a password",
        "htpasswd": (
            "Basic authentication: user names with bcrypt hashes (`htpasswd -B`);"
            " read again when it changes"
        ),
        "trusted-proxies": (
            "addresses and networks of proxies whose X-Forwarded-For, -Proto,"
            " -Host and -Prefix count"
        ),
        "url": (
            "how clients reach the server: its base address, for pages and `mirror client-config`"
        ),
        "wishes": (
            "true: keep the names that were asked for and are not here,"
            " in wishes.txt below root, without clients"
        ),
        "store-url": (
            "how clients reach the object store of the tree: files are redirected there;"
            " else they are streamed"
        ),
        "workers": "processes that answer requests",
        "connections-per-client": (
            "connections of a client, behind a proxy its requests; 0: no limit;"
            " loopback is not counted"
        ),
    },
    "index": {
        "name": (
            "lower-case letters, digits and hyphens; the first index that lists a project owns it"
        ),
        "url": "its root page; user names and passwords do not belong here",
        "url-env": "instead of url: the variable that holds it, where its path is a secret",
        "url-file": "likewise: the file that holds it",
        "list": (
            '"root", or "config": the names in projects are the list,'
            " for an index without a root page"
        ),
        "projects": 'shell patterns, normalised like names: "zope.*" means "zope-*"',
        "exclude-projects": "exclude wins",
        "select": (
            '"needed" by a want, or "listed": all that patterns allow; "listed" without wants'
        ),
        "files": "patterns over file names, case matters",
        "exclude-files": "exclude wins here too",
        "skip-url-patterns": "over a file's resolved URL without query",
        "unhashed": '"pin" or "refuse" files that the index lists without a sha256 or stronger',
        "on-replace": '"follow" or "keep": the index lists the same file name with other bytes',
        "overlay": "true: its files join a project that an earlier index owns",
        "overlay-targets": "names of targets: its files join a project for these only",
        "max-shrink": (
            "another removal brake than mirror.max-shrink;"
            " 1 for an index that lists other files each day"
        ),
        "format": (
            '"simple", or "flat": one page lists the files of all projects (find-links);'
            " its url is used as written"
        ),
        "page-hosts": (
            'other hosts from which pages (not files) may come, such as ["pages.example",'
            ' "10.0.0.7:8080"]'
        ),
        "interval": "another one than mirror.interval",
        "proxy": "else HTTPS_PROXY, HTTP_PROXY and NO_PROXY count",
        "ca-file": "certificate authorities to trust, PEM; else SSL_CERT_FILE or the system's",
        "client-cert": "TLS client certificate, PEM",
        "client-key": "its key, where it is not in the same file",
        "allow-insecure": "true: credentials may be sent over plain http to another host",
        "allow-private": "true: links and redirects may lead to private addresses",
        "auth": "where the credential comes from",
        "rules": "keys of [rules] with values for this index alone",
    },
    "site": {
        "name": (
            "a place beyond the gap, as in `mirror bundle create --site NAME`;"
            " one without a table gets everything"
        ),
        "projects": "whole projects, shell patterns as in [[index]]",
        "exclude-projects": "exclude wins",
        "key": "the private key that signs its bundles; else --key",
    },
    "rules": {
        "min-age": "cooldown: how old a file must be, by upload time, else by first sight",
        "urgent": "patterns of projects that are exempt from min-age",
        "not-after": "nothing that was uploaded after this day, UTC",
        "pre-releases": '"never", "where-needed", "always"; without it wants: "where-needed"',
        "yanked": '"never", "where-pinned", "always"; without it wants: "where-pinned"',
        "newest": "patterns: how many versions of each project, after all other rules; 0: all",
        "versions": "specifiers of projects; two of one project both apply",
        "platforms": '"targets": patterns leave out wheels that fit no target',
        "exclude-vulnerable": '"none", "malicious", "critical", "high", "all": it and worse',
        "advisories": "an OSV database: a folder or a zip of JSON",
        "ignore-advisories": "identifiers of advisories that do not count",
    },
    "target": {
        "name": "an environment in which wants must install; `mirror target here` prints one",
        "python": '"3.11": every patch release; "3.11.2": that one; "3.13t": free-threaded',
        "platforms": f"of {', '.join(PLATFORMS)}",
        "glibc": f"the oldest glibc of the Linux platforms; {DEFAULT_GLIBC} without musl",
        "musl": "instead of glibc: the oldest musl",
        "macos": f"the oldest macOS; else {DEFAULT_MACOS}",
    },
    "want": {
        "name": "a set of packages that must be installable from the mirror",
        "requirements": "as in a requirement file, without addresses",
        "files": "patterns: requirement files, pyproject.toml, scripts, pylock.toml, other locks",
        "targets": "names of targets; none: all",
        "versions": f'"resolved", or "newest N" (at most {MAX_NEWEST}) of the projects named here',
        "wheels": '"best" or "all" of each version for each target',
        "sdists": '"never", "where-no-wheel" or "always"',
        "lock-platforms": '"targets" or "all": which files of a lock',
        "on-rebuilt": '"follow" or "refuse": the index has other bytes than a lock or --hash names',
        "extras": "of pyproject.toml files",
        "groups": "likewise: dependency groups",
        "accept-unproved": (
            "projects to accept although only their own code knows their dependencies"
        ),
    },
    "auth": {
        "kind": "auto, none, basic, bearer, netrc, keyring or command",
        "username": "as it is; or from one of the three below",
        "username-env": "the variable that holds the user name",
        "username-file": "the file that holds it",
        "username-credential": (
            "the file in $CREDENTIALS_DIRECTORY (systemd LoadCredential=) that holds it"
        ),
        "password-env": (
            "the variable that holds the password; the password itself never stands here"
        ),
        "password-file": "the file that holds it",
        "password-credential": "the file in $CREDENTIALS_DIRECTORY that holds it",
        "token-env": 'kind = "bearer": the variable that holds the token',
        "token-file": "the file that holds it",
        "token-credential": "the file in $CREDENTIALS_DIRECTORY that holds it",
        "command": 'kind = "command": the first line of its output is the secret',
    },
}
"""By table, then by key, in the order of the declarations in ``settings``."""
