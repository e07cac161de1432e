"""The address of a tree in an object store, and the policies that go with it."""

import json

import pytest

from mirror.core.store_address import is_store_address, parse_store_address
from mirror.core.store_policies import (
    READ_PARTS,
    anonymous_policy,
    lifecycle_rules,
    reader_policy,
    writer_policy,
)


@pytest.mark.parametrize(
    ("text", "bucket", "prefix", "shown"),
    [
        ("s3://packages", "packages", "", "s3://packages"),
        ("s3://packages/", "packages", "", "s3://packages"),
        ("s3://packages/mirror", "packages", "mirror", "s3://packages/mirror"),
        ("s3://packages/mirror/", "packages", "mirror", "s3://packages/mirror"),
        ("s3://my.bucket-1/a/b_c/(d)'e!", "my.bucket-1", "a/b_c/(d)'e!", "s3://my.bucket-1/a/b_c/(d)'e!"),
    ],
)
def test_address(text, bucket, prefix, shown):
    """An address has a bucket and a prefix without slashes at its ends."""
    address = parse_store_address(text)
    assert (address.bucket, address.prefix, str(address)) == (bucket, prefix, shown)
    assert address.shown("simple/index.html") == f"{shown}/simple/index.html"
    assert address.shown("") == shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gs://packages/mirror", "an address such as"),
        ("/srv/mirror", "an address such as"),
        ("s3://", "the name of a bucket"),
        ("s3://ab", "the name of a bucket"),
        ("s3://Packages", "the name of a bucket"),
        ("s3://user:secret@packages/mirror", "the name of a bucket"),
        ("s3://packages:9000/mirror", "the name of a bucket"),
        ("s3://pack..ages", "the name of a bucket"),
        ("s3://packages?region=x", "the name of a bucket"),
        ("s3://packages//mirror", "a prefix of letters"),
        ("s3://packages/mirror//", "a prefix of letters"),
        ("s3://packages/../other", "a prefix of letters"),
        ("s3://packages/./mirror", "a prefix of letters"),
        ("s3://packages/mirror?versions", "a prefix of letters"),
        ("s3://packages/a b", "a prefix of letters"),
        ("s3://packages/" + "a" * 201, "a prefix of letters"),
        ("s3://packages/" + "/".join(["a" * 100] * 4), "a prefix of letters"),
    ],
)
def test_what_is_no_address(text, expected):
    """Anything else is refused, and the error says what was expected without the text itself."""
    with pytest.raises(ValueError, match=expected) as caught:
        parse_store_address(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_address"), [("s3://packages", True), ("gs://x", True), ("/srv/a", False), ("s3:x", False)]
)
def test_form(text, is_address):
    """What has a scheme is an address, and never a path."""
    assert is_store_address(text) is is_address


@pytest.mark.parametrize(("address", "below"), [("s3://packages", ""), ("s3://packages/mirror", "mirror/")])
def test_policies(address, below):
    """Readers get what clients need and nothing of the lock; only the writer may write."""
    place = parse_store_address(address)
    objects = [f"arn:aws:s3:::packages/{below}{part}/*" for part in READ_PARTS]
    for policy, is_open in ((anonymous_policy(place), True), (reader_policy(place), False)):
        reads, lists = policy["Statement"]
        assert (reads["Action"], reads["Resource"]) == (["s3:GetObject"], objects)
        assert (lists["Action"], lists["Resource"]) == (["s3:ListBucket"], ["arn:aws:s3:::packages"])
        assert [s.get("Principal") for s in policy["Statement"]] == (["*", "*"] if is_open else [None, None])
        assert "Put" not in json.dumps(policy)
    writes = writer_policy(place)["Statement"][0]
    assert {"s3:PutObject", "s3:DeleteObject"} <= set(writes["Action"])
    assert writes["Resource"] == [f"arn:aws:s3:::packages/{below}*"]


@pytest.mark.parametrize("is_versioned", [False, True])
def test_lifecycle(is_versioned):
    """No rule expires an object; a versioned bucket loses old versions."""
    rules = lifecycle_rules(parse_store_address("s3://packages/mirror"), is_versioned=is_versioned)["Rules"]
    assert [rule["Filter"]["Prefix"] for rule in rules] == ["mirror/"] * (2 if is_versioned else 1)
    assert all("Days" not in rule.get("Expiration", {}) for rule in rules)
    assert any("NoncurrentVersionExpiration" in rule for rule in rules) is is_versioned
