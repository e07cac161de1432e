"""The policies and the lifecycle rule of a bucket that holds a tree, ready to paste. Pure.

Reading by anybody needs ``s3:ListBucket`` too: without it a missing key answers 403, and installers
then ask for credentials where they should say that the project is not there.
"""

from __future__ import annotations

from typing import Any, Final

from mirror.core.store_address import StoreAddress

READ_PARTS: Final = ("simple", "simple-json", "files", "snapshots", "channels")
"""What readers need of a tree; ``.lock`` is not among it."""
_VERSION: Final = "2012-10-17"
_ABANDONED_DAYS: Final = 2
_OLD_VERSION_DAYS: Final = 30


def anonymous_policy(address: StoreAddress) -> dict[str, Any]:
    """Return the bucket's policy that lets anybody read the tree."""
    return {
        "Version": _VERSION,
        "Statement": [
            _statement("MirrorRead", ["s3:GetObject"], _read_resources(address), anybody=True),
            _statement("MirrorNotFound", ["s3:ListBucket"], [_bucket(address)], anybody=True),
        ],
    }


def reader_policy(address: StoreAddress) -> dict[str, Any]:
    """Return the policy of the user as which ``mirror serve --tree`` reads."""
    return {
        "Version": _VERSION,
        "Statement": [
            _statement("MirrorRead", ["s3:GetObject"], _read_resources(address)),
            _statement("MirrorNotFound", ["s3:ListBucket"], [_bucket(address)]),
        ],
    }


def writer_policy(address: StoreAddress) -> dict[str, Any]:
    """Return the policy of the user as which the mirror writes."""
    actions = [
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
    ]
    of_bucket = ["s3:ListBucket", "s3:GetLifecycleConfiguration"]
    return {
        "Version": _VERSION,
        "Statement": [
            _statement("MirrorWrite", actions, [f"{_bucket(address)}/{_below(address)}*"]),
            _statement("MirrorList", of_bucket, [_bucket(address)]),
        ],
    }


def lifecycle_rules(address: StoreAddress, *, is_versioned: bool) -> dict[str, Any]:
    """Return the lifecycle configuration: it ends abandoned uploads and, in a versioned bucket, old
    versions. It never expires an object.
    """
    rules: list[dict[str, Any]] = [
        {
            "ID": "mirror-abandoned-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": _below(address)},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _ABANDONED_DAYS},
        }
    ]
    if is_versioned:
        rules.append(
            {
                "ID": "mirror-old-versions",
                "Status": "Enabled",
                "Filter": {"Prefix": _below(address)},
                "NoncurrentVersionExpiration": {"NoncurrentDays": _OLD_VERSION_DAYS},
                "Expiration": {"ExpiredObjectDeleteMarker": True},
            }
        )
    return {"Rules": rules}


def _statement(
    name: str, actions: list[str], resources: list[str], *, anybody: bool = False
) -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": name, "Effect": "Allow"}
    if anybody:
        statement["Principal"] = "*"
    return statement | {"Action": actions, "Resource": resources}


def _read_resources(address: StoreAddress) -> list[str]:
    return [f"{_bucket(address)}/{_below(address)}{part}/*" for part in READ_PARTS]


def _bucket(address: StoreAddress) -> str:
    return f"arn:aws:s3:::{address.bucket}"


def _below(address: StoreAddress) -> str:
    return f"{address.prefix}/" if address.prefix else ""
