"""Versions as a node pulls them itself: by a tag that never moves, as it takes no digest (Proxmox VE 9.1).

20261123.1-0c71b6a5bd3b0d1c       a version's own tag, and the beginning of its manifest's digest
"""

from __future__ import annotations

import re

from goldsmith.artifacts.manifest import MANIFEST_TYPE, Descriptor
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.errors import RepositoryDamaged, UsageError

PULL_TAG = re.compile(r"\d{8}\.[1-9]\d*-[0-9a-f]{16}")
_DIGITS = 16


def name_pull_tag(version: Version) -> str:
    """Return the tag by which a version is pulled."""
    return f"{version.tag}-{version.digest.removeprefix('sha256:')[:_DIGITS]}"


def ensure_reference(repository: Repository, version: Version) -> str:
    """Have the tag by which a version is pulled, and return the whole name: `host/path/NAME:TAG`.

    :raises UsageError: the repository is a directory, which no node can pull from.
    :raises RepositoryDamaged: the tag names something else.
    :raises RegistryError: the tag is not there, and may not be set by us.
    """
    from goldsmith.artifacts.remote import RegistryStore  # HTTP takes a while to import

    store = repository.store
    if not isinstance(store, RegistryStore):
        hint = "a node pulls from a registry only: repository: oci://..."
        raise UsageError(f"{repository.location} is a directory", hint=hint)
    tag, path = name_pull_tag(version), store.get_path(version.name)
    found = store.find_tag(version.name, tag)
    if found is None:
        content = store.read_blob(Descriptor(MANIFEST_TYPE, version.digest, 0, home=version.name))
        store.registry.put_manifest(path, tag, MANIFEST_TYPE, content)
    elif found.digest != version.digest:
        raise RepositoryDamaged(f"{version.name}:{tag} in {repository.location} is not {version}, but {found.digest}")
    return f"{store.registry.host}/{path}:{tag}"
