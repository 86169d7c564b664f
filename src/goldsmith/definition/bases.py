"""What `base_image` may name: a template of the node, a version, a file at a URL or on this machine, an OCI image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from goldsmith.definition.values import REGISTRY

VERSION = "image:"
"""How `base_image` begins where it names a version of the repository."""
TEMPLATE_SUFFIXES = (".tar.zst", ".tar.gz", ".tar.xz", ".tar.bz2")
"""How the names of container templates end (PVE 8.4, PVE::Storage::vztmpl_extension_re)."""
CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")
CHECKSUM_FORM = "sha256: and 64 hex digits, as sha256sum prints them"
BASE_FORM = (
    "a template's name or package, a volume id, image:NAME[:TAG or CHANNEL], https://HOST/FILE.tar.zst with "
    "base_checksum, ./FILE.tar.zst, or oci://HOST/PATH:TAG[@sha256:...]"
)
_REFERENCE = re.compile(
    r"(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?::\d+)?)"
    r"/(?P<path>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
"""How images are named (distribution-spec 1.1, "Pulling manifests")."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OTHER_WORDS = re.compile(r"(docker|oci|oci-archive|docker-archive|http|https):/*(?=\S)(?!vztmpl/)", re.IGNORECASE)
"""How a form of ours is often begun that is none: `docker://`, as skopeo has it, or one slash too few."""
_FILE_STARTS = ("./", "../", "/", "~")


@dataclass(frozen=True)
class NodeTemplate:
    """A template of the node's storage, or of its appliance index: a name, a package, or a volume id."""

    name: str


@dataclass(frozen=True)
class StoredVersion:
    """A version of another image. `reference` is `NAME`, `NAME:TAG` or `NAME:CHANNEL`."""

    reference: str


@dataclass(frozen=True)
class Download:
    """A template file that the node itself downloads."""

    url: str

    @property
    def filename(self) -> str:
        """The last part of its path."""
        return PurePosixPath(urlsplit(self.url).path).name


@dataclass(frozen=True)
class LocalFile:
    """A template file on this machine, as it is written: relative to the image's folder where it is relative."""

    path: str

    @property
    def filename(self) -> str:
        """The file's name."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class OciImage:
    """A container image in a registry; `tag` or `digest` may be empty, not both."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        tag, digest = f":{self.tag}" if self.tag else "", f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.path}{tag}{digest}"


Base = NodeTemplate | StoredVersion | Download | LocalFile | OciImage
Foreign = Download | LocalFile | OciImage
"""What is brought to the node from elsewhere."""


def parse_base(text: str) -> Base:
    """Parse what `base_image` says.

    :raises ValueError: it has none of the forms; says what is wrong with it.
    """
    if text.startswith(VERSION):
        return StoredVersion(text.removeprefix(VERSION))
    if text.startswith(REGISTRY):
        return _parse_image(text)
    if text.startswith(("http://", "https://")):
        return _parse_download(text)
    if text.startswith(_FILE_STARTS):
        _check_suffix(text, PurePosixPath(text).name)
        return LocalFile(text)
    _check_template(text)
    return NodeTemplate(text)


def _parse_download(text: str) -> Download:
    parts = urlsplit(text)
    if "@" in parts.netloc:  # not shown: there is a password before the @
        raise ValueError("is a URL with a login in it, which the node's task log would show; download the file here")
    if not parts.hostname:
        raise ValueError(f"{text!r} names no host")
    _check_suffix(text, PurePosixPath(parts.path).name)
    return Download(text)


def _parse_image(text: str) -> OciImage:
    rest = text.removeprefix(REGISTRY)
    if "@" in rest.partition("/")[0]:  # not shown: there is a password before the @
        raise ValueError("holds a login; registries know you by `podman login`, or by the environment")
    found = _REFERENCE.fullmatch(rest)
    if found is None:
        raise ValueError(f"{text!r} {_find_image_fault(rest)}")
    if not found["tag"] and not found["digest"]:
        raise ValueError(f"{text!r} has neither tag nor digest; write :latest where that is meant")
    return OciImage(found["host"], found["path"], found["tag"] or "", found["digest"] or "")


def _find_image_fault(rest: str) -> str:
    if "/" not in rest.strip("/"):
        return "lacks the registry's host: Docker's own images are oci://docker.io/library/NAME:TAG"
    if "@" in rest and not re.search(r"@sha256:[0-9a-f]{64}\Z", rest):
        return "has a digest that is not sha256: and 64 hex digits in small letters"
    if re.search(r"[A-Z]", rest.partition("/")[2].partition(":")[0]):
        return "has capital letters in the image's path; registries take small ones only"
    return "is not the name of an image in a registry"


def _check_suffix(text: str, name: str) -> None:
    suffix = find_suffix(name)
    if not suffix or name == suffix:
        raise ValueError(f"{text!r} is not a template file: its name must end with {', '.join(TEMPLATE_SUFFIXES)}")


def _check_template(text: str) -> None:
    if near := _OTHER_WORDS.match(text):
        rest, kind = text[near.end() :], "oci" if near[1].lower() not in ("http", "https") else near[1].lower()
        raise ValueError(f"{text!r} is not in a form that is known; is {kind}://{rest} meant?")
    if scheme := _SCHEME.match(text):
        raise ValueError(f"{text!r}: {scheme[1]} is not a way to a base image; http, https and oci are")
    if "/" in text and ":" not in text and not text.startswith("vztmpl/"):
        raise ValueError(f"{text!r} has a / in it; the path of a file begins with ./ or / or ~")


def find_suffix(name: str) -> str:
    """Return how a template's name ends: `.tar.zst`; empty where it is none."""
    return next((suffix for suffix in TEMPLATE_SUFFIXES if name.endswith(suffix)), "")


def parse_checksum(text: str) -> str:
    """Return a checksum, its digits in small letters.

    :raises ValueError: it is none that is taken.
    """
    algorithm, colon, digits = text.strip().partition(":")
    small = f"{algorithm}:{digits}".lower()
    if CHECKSUM.match(small):
        return small
    if not colon and re.fullmatch(r"[0-9A-Fa-f]{64}", text.strip()):
        raise ValueError("lacks its algorithm: write sha256: before the digits")
    if not colon or algorithm.lower() != "sha256":
        raise ValueError(f"{text!r} is no SHA-256; others are not taken, as the digest is part of the layers' keys")
    raise ValueError(f"{text!r} has {len(digits)} characters after sha256:, not 64 hex digits")
