"""What may be kept, for how long, and which machines are asked."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from goldsmith.provision.downloads.rules import (
    USUAL_AGE,
    Url,
    is_allowed,
    parse_url,
    read_age,
    wants_anew,
    wants_shared,
)

DIGEST = "ab" * 32
DEB = "/debian/pool/main/j/jq/jq_1.6-2.1_amd64.deb"
BY_HASH = f"/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/{DIGEST}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"http://Mirror.example.org{DEB}", Url("mirror.example.org", DEB)),
        (f"http://mirror.example.org:80{DEB}", Url("mirror.example.org", DEB)),
        ("http://mirror.example.org", Url("mirror.example.org", "/")),
        ("http://mirror.example.org/x?a=b", Url("mirror.example.org", "/x?a=b")),
        ("http://[2001:db8::1]/x", Url("[2001:db8::1]", "/x")),
        ("http://mirror.example.org:3142/x", None),
        ("http://mirror.example.org:http/x", None),
        ("https://mirror.example.org/x", None),
        ("http://user:word@mirror.example.org/x", None),
        ("http:///x", None),
        ("ftp://mirror.example.org/x", None),
        ("/x", None),
        ("mirror.example.org:443", None),
        ("http://[::1/x", None),
        ("http://mirror.example.org/x#y", None),
    ],
)
def test_a_url_is_read(text: str, expected: Url | None) -> None:
    assert parse_url(text) == expected


@pytest.mark.parametrize(
    ("path", "is_keepable"),
    [
        (DEB, True),
        ("/debian/pool/main/d/d-i/x_1_amd64.udeb", True),
        (BY_HASH, True),
        (f"{DEB}?token=1", False),
        (f"/x?y={DEB}", False),
        (f"/x?y={BY_HASH}", False),
        (BY_HASH[:-1], False),
        (BY_HASH.replace("SHA256", "MD5Sum"), False),
        ("/flat/jq_1.6_amd64.deb", False),
        ("/debian/pool/main/j/jq/jq_1.6.orig.tar.gz", False),
        ("/debian/dists/bookworm/InRelease", False),
        ("/debian/dists/bookworm/main/binary-amd64/Packages.xz", False),
    ],
)
def test_only_what_stays_the_same_is_kept(path: str, is_keepable: bool) -> None:
    url = Url("mirror.example.org", path)
    assert url.is_keepable is is_keepable
    assert url.digest == (DIGEST if path == BY_HASH else "")


PUBLIC, PRIVATE = ("8.8.8.8", "2600::1"), ("10.0.0.5", "192.168.1.1", "172.16.0.9", "fd00::5", "::ffff:10.0.0.5")
NEVER = (
    "127.0.0.1",
    "127.8.8.8",
    "::1",
    "169.254.169.254",
    "fe80::1",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "::ffff:127.0.0.1",
)


@pytest.mark.parametrize("address", [*PUBLIC, *PRIVATE, *NEVER])
@pytest.mark.parametrize(
    ("path", "is_of_apt"),
    [
        (DEB, True),
        (BY_HASH, True),
        ("/debian/dists/bookworm/InRelease", True),
        ("/flat/Release.gpg", True),
        ("/debian/dists/bookworm/main/i18n/Translation-en.bz2", True),
        ("/debian/dists/bookworm/main/binary-amd64/Packages.gz", True),
        ("/debian/dists/sid/main/binary-amd64/Packages.diff/T-2026-11-20-0201.17-F-2026-11-19.gz", True),
        ("/", False),
        ("/latest/meta-data/iam", False),
        ("/reboot?file=x.deb", False),
        ("/reboot?file=/InRelease", False),
    ],
)
def test_a_guest_reaches_no_service_of_ours_through_us(address: str, path: str, is_of_apt: bool) -> None:
    expected = address in PUBLIC or (address in PRIVATE and is_of_apt)
    assert is_allowed(ip_address(address), path) is expected


@pytest.mark.parametrize(
    ("control", "age"),
    [
        ("", USUAL_AGE),
        ("public, max-age=2592000", 2592000),
        ('Max-Age="60"', 60),
        ("max-age=60, no-cache", 0),
        ("max-age=soon", USUAL_AGE),
        ("no-store", None),
        ("private, max-age=60", None),
    ],
)
def test_servers_say_how_long_an_answer_is_current(control: str, age: int | None) -> None:
    assert read_age({"cache-control": control}) == age


def test_an_answer_that_is_different_each_time_is_not_kept() -> None:
    assert read_age({"vary": "*"}) is None
    assert read_age({"vary": "Accept-Encoding"}) == USUAL_AGE


@pytest.mark.parametrize(
    "name",
    ["authorization", "cookie", "proxy-authorization", "range", "if-none-match", "if-modified-since", "if-range"],
)
def test_requests_for_one_alone_or_for_a_part_are_not_shared(name: str) -> None:
    assert wants_shared({"user-agent": "Debian APT", "cache-control": "max-age=0"})
    assert not wants_shared({name: "x"})
    assert not wants_shared({"cache-control": "no-store"})


def test_apt_may_want_a_file_anew() -> None:
    package, index = Url("mirror.example.org", DEB), Url("mirror.example.org", BY_HASH)
    assert not wants_anew(package, {})
    assert wants_anew(package, {"cache-control": "max-age=0"})
    assert wants_anew(package, {"cache-control": "no-cache"})
    assert not wants_anew(index, {"cache-control": "max-age=0"})  # apt says so with each index
    assert wants_anew(index, {"cache-control": "no-cache"})
