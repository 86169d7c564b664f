"""Channels: movable names for versions (`candidate`, `stable`, any other), and what a version needs to be promoted.

A channel is a tag of the image beside its versions: `NAME:stable`. Moving it is one change, and every tool that reads
OCI images follows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from goldsmith.artifacts.manifest import MANIFEST_TYPE
from goldsmith.artifacts.proof import check_proven
from goldsmith.artifacts.repository import TAG, Repository, Version
from goldsmith.artifacts.revocation import check_not_revoked
from goldsmith.base.digest import Digest
from goldsmith.base.errors import UsageError, VersionNotFound

CANDIDATE, STABLE = "candidate", "stable"
_CHANNEL = re.compile(r"[a-z][a-z0-9]*(?:[-._][a-z0-9]+)*")
_LONGEST = 64
_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}")
"""Where registries without a referrers API keep those of a manifest (distribution-spec 1.1)."""


@dataclass(frozen=True, order=True)
class Channel:
    """A channel of an image, and the version that it names; `tag` is empty when it names none of ours."""

    image: str
    name: str
    digest: Digest
    tag: str = ""

    def __str__(self) -> str:
        return f"{self.image}:{self.name}"


def is_channel(name: str) -> bool:
    """Tell whether a channel can have this name: lower case, a letter first, and nothing that looks like a version."""
    named = _CHANNEL.fullmatch(name) and not TAG.fullmatch(name) and not _REFERRERS.fullmatch(name)
    return bool(named) and len(name) <= _LONGEST


def check_channel(name: str) -> str:
    """Return a channel's name.

    :raises UsageError: it cannot be one.
    """
    if not is_channel(name):
        hint = f"a small letter, then small letters and digits with single . - _ between them; at most {_LONGEST}"
        raise UsageError(f"'{name}' is no name for a channel", hint=hint)
    return name


def set_channel(repository: Repository, channel: str, version: Version) -> None:
    """Let a channel name a version, whatever it named before. Whether it may is asked by `promote`.

    :raises UsageError: a channel cannot have this name.
    :raises VersionNotFound: the version has gone.
    """
    check_channel(channel)
    with repository.store.open_writer() as writer, writer.open_names() as names:
        repository.check_present(names, version)
        entry = names.find(version.name, version.tag)
        assert entry is not None
        names.set(version.name, channel, entry)


def remove_channel(repository: Repository, image: str, channel: str) -> None:
    """Forget a channel; its version stays.

    :raises VersionNotFound: there is no such channel.
    """
    check_channel(channel)
    with repository.store.open_writer() as writer, writer.open_names() as names:
        if names.find(image, channel) is None:
            raise _missing(repository, image, channel)
        names.remove(image, channel)


def find_channel(repository: Repository, image: str, channel: str) -> Version | None:
    """Return the version that a channel names."""
    return repository.find_version(f"{image}:{check_channel(channel)}")


def get_channel(repository: Repository, image: str, channel: str) -> Version:
    """Return the version that a channel names.

    :raises VersionNotFound: there is no such channel; the hint names those that there are.
    """
    version = find_channel(repository, image, channel)
    if version is None:
        raise _missing(repository, image, channel)
    return version


def _missing(repository: Repository, image: str, channel: str) -> VersionNotFound:
    known = [tag for tag in repository.store.list_tags(image) if is_channel(tag)]
    hint = f"its channels: {', '.join(sorted(known))}" if known else "no version of it has been promoted yet"
    return VersionNotFound(f"{image} has no channel '{channel}' in {repository.location}", hint=hint)


def list_channels(repository: Repository, image: str | None = None) -> list[Channel]:
    """Return the channels of one image or of all."""
    images = repository.list_names() if image is None else [image]
    return sorted(channel for name in images for channel in _list_channels(repository, name))


def _list_channels(repository: Repository, image: str) -> list[Channel]:
    with repository.store.open_reading():
        named = repository.store.read_tags(image, repository.store.list_tags(image))
    tags = {entry.digest: tag for tag, entry in named.items() if TAG.fullmatch(tag)}
    return [
        Channel(image, tag, entry.digest, tags.get(entry.digest, ""))
        for tag, entry in named.items()
        if is_channel(tag) and entry.media_type == MANIFEST_TYPE
    ]


def promote(repository: Repository, channel: str, version: Version) -> None:
    """Let a channel name a version that has shown that it works.

    :raises NotProven: its tests failed or have not been run, and nobody has overridden that.
    :raises VersionRevoked: it, or one that it is built on, was revoked.
    """
    check_channel(channel)
    check_not_revoked(repository, version)
    check_proven(repository, version)
    set_channel(repository, channel, version)
