"""What an image is built upon: a template of the node, or a version of another image (`image:NAME:CHANNEL`)."""

from __future__ import annotations

from goldsmith.artifacts.repository import Repository, Version
from goldsmith.definition.bases import VERSION, NodeTemplate, StoredVersion, parse_base


def is_version(base: str) -> bool:
    """Tell whether a base image is a version of the repository."""
    return base.startswith(VERSION)


def is_foreign(base: str) -> bool:
    """Tell whether a base image comes from elsewhere: a URL, a file, a container image."""
    return not isinstance(parse_base(base), NodeTemplate | StoredVersion)


def get_base_version(base: str, repository: Repository) -> Version:
    """Return the version that a base image names: `image:NAME` is the newest, `image:NAME:TAG` one or a channel's.

    :raises VersionNotFound: there is none.
    """
    return repository.get_version(base.removeprefix(VERSION))


def find_ancestor(base: str) -> str:
    """Return the name of the image whose version a base image is; empty where it is none."""
    return base.removeprefix(VERSION).partition(":")[0] if is_version(base) else ""
