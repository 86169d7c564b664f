"""What may be kept of downloads, for how long, and which machines are asked for any: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

PORT = 80
PACKAGE = re.compile(r"[^?]*/pool/[^?]+\.u?deb\Z")
"""Files that are never replaced by others of their name: a new version has a new name (Debian Policy, 3.2.1)."""
INDEX = re.compile(r"[^?]*/by-hash/SHA256/([0-9a-f]{64})\Z")
"""Indexes that are named by their own digest (wiki.debian.org/DebianRepository/Format, Acquire-By-Hash)."""
OF_APT = re.compile(
    r"[^?]*/(InRelease|Release(\.gpg)?|(Packages|Sources|Contents|Translation|Components|Commands|Index)[\w.-]*"
    r"|by-hash/\w+/[0-9a-f]+|\w+\.diff/[\w.-]+|[^/?]+\.(u?deb|ddeb|dsc|diff\.gz|tar\.\w+|asc))\Z"
)
"""What apt asks a repository for."""
MAGIC = b"!<arch>\ndebian-binary"
"""How a package begins (deb(5)); a page on which somebody is to log in does not."""
USUAL_AGE = 3600
"""Seconds for which a file is current whose server says nothing about it."""
PERSONAL = ("authorization", "cookie", "proxy-authorization")
PARTIAL = ("range", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since")


@dataclass(frozen=True)
class Url:
    """What is asked for: `http`, and port 80."""

    host: str
    path: str
    """With the query, if there is one."""

    def __str__(self) -> str:
        return f"http://{self.host}{self.path}"

    @property
    def digest(self) -> str:
        """The SHA-256 digest that the file must have; empty where its name does not say."""
        found = INDEX.match(self.path)
        return found[1] if found else ""

    @property
    def is_package(self) -> bool:
        """Tell whether it names a package."""
        return PACKAGE.match(self.path) is not None

    @property
    def is_keepable(self) -> bool:
        """Tell whether it names something that stays the same."""
        return self.is_package or bool(self.digest)


def parse_url(text: str) -> Url | None:
    """Return the URL that a proxy was asked for; None where it is none that we ask for: not http, or with a password.

    Letters of the host are made small, as their case says nothing.
    """
    try:
        parts = urlsplit(text)
        port = parts.port or PORT
    except ValueError:
        return None
    if parts.scheme != "http" or not parts.hostname or port != PORT or "@" in parts.netloc or parts.fragment:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Url(host, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def is_allowed(address: IPv4Address | IPv6Address, path: str) -> bool:
    """Tell whether a machine is asked for something: who is root in a guest must not reach what this machine can.

    Never this machine itself or its link (where clouds have their metadata). Private networks hold mirrors, and much
    else: there, only what apt asks for.
    """
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return not address.is_private or OF_APT.match(path) is not None


def wants_shared(headers: Mapping[str, str]) -> bool:
    """Tell whether a request may be answered with what others have downloaded, and its answer kept for them."""
    return not any(name in headers for name in (*PERSONAL, *PARTIAL)) and "no-store" not in _control(headers)


def wants_anew(url: Url, headers: Mapping[str, str]) -> bool:
    """Tell whether whoever asks wants what the server has now.

    apt says `max-age=0` with each index; what is named by its digest is current for ever.
    """
    control = _control(headers)
    return "no-cache" in control or (not url.digest and control.get("max-age") == "0")


def read_age(headers: Mapping[str, str]) -> int | None:
    """Return for how many seconds an answer is current; None where it must not be kept (RFC 9111, 5.2.2)."""
    control = _control(headers)
    if {"no-store", "private"} & control.keys() or headers.get("vary", "").strip() == "*":
        return None
    if "no-cache" in control:
        return 0
    given = control.get("max-age", "")
    return int(given) if given.isdecimal() else USUAL_AGE


def _control(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the directives of Cache-Control, in small letters."""
    words = (word.strip().lower().partition("=") for word in headers.get("cache-control", "").split(","))
    return {name.strip(): value.strip(' "') for name, _, value in words if name}
