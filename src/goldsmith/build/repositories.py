"""Repositories as images and people name them, with what the environment says of how registries are talked to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from goldsmith.artifacts.repository import Repository, open_repository
from goldsmith.artifacts.store import SCHEME
from goldsmith.base.errors import UsageError
from goldsmith.definition.image import Image

if TYPE_CHECKING:
    from goldsmith.artifacts.http import RegistryOptions

CA_FILE, PLAIN_HTTP = "GOLDSMITH_REGISTRY_CA_FILE", "GOLDSMITH_REGISTRY_PLAIN_HTTP"
"""A PEM file of authorities; `1` when registries are to be talked to without TLS."""
_YES, _NO = ("1", "true", "yes"), ("", "0", "false", "no")


def open_location(location: str) -> Repository:
    """Return the repository in a directory or at `oci://host[:port]/path`.

    :raises UsageError: it is no place in a registry, or the environment says nonsense about registries.
    """
    if not location.startswith(SCHEME):
        return open_repository(Path(location))
    if "@" in location:  # not shown: there is a password before the @
        hint = "log in with `podman login`, or by GOLDSMITH_REGISTRY_USER and GOLDSMITH_REGISTRY_PASSWORD"
        raise UsageError("the place of a registry holds no login", hint=hint)
    return open_repository(location, read_options(os.environ))


def open_image_repository(image: Image) -> Repository:
    """Return the repository in which an image's versions are stored."""
    return open_location(image.repository)


def read_options(environment: Mapping[str, str]) -> RegistryOptions:
    """Return how registries are talked to.

    :raises UsageError: there is no such file of authorities, or a word is neither yes nor no.
    """
    from goldsmith.artifacts.http import RegistryOptions  # HTTP takes a while to import

    named, plain = environment.get(CA_FILE, ""), environment.get(PLAIN_HTTP, "").lower()
    if named and not Path(named).is_file():
        raise UsageError(f"{CA_FILE}: there is no file {named}", hint="a PEM file with the registry's authority")
    if plain not in _YES + _NO:
        raise UsageError(f"{PLAIN_HTTP} is neither 1 nor 0", hint="1 talks to registries without TLS")
    return RegistryOptions(ca_file=Path(named).absolute() if named else None, plain_http=plain in _YES)
