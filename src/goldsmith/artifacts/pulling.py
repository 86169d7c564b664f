"""Versions as a node pulls them itself: by a tag that never moves, as it takes no digest (Proxmox VE 9.1).

20261123.1-0c71b6a5bd3b0d1c       a version's own tag, and the beginning of its manifest's digest

What it makes of one is an OCI archive: a tar with `oci-layout`, `index.json`, and the manifest, the config and the
layers as `blobs/sha256/DIGEST`, byte for byte as they are in the registry. The rest of it differs with the node's
skopeo, so that neither its digest nor its exact size is known before it is there.
"""

from __future__ import annotations

import re

from goldsmith.artifacts.manifest import MANIFEST_TYPE, Descriptor
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.digest import Digest
from goldsmith.base.errors import RepositoryDamaged, UsageError

PULL_TAG = re.compile(r"\d{8}\.[1-9]\d*-[0-9a-f]{16}")
ARCHIVE_SUFFIX = ".tar"
"""Of the file that a node makes of what it pulls (PVE 9.1)."""
_DIGITS = 16
_PER_BLOB, _REST = 4 << 10, 64 << 10
"""Bytes that an archive may have around each blob (tar's header, perhaps extended, and what fills its last block) and
besides them all: manifest, index, and end marker."""


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


def list_blobs(version: Version) -> frozenset[Digest]:
    """Return the digests of all that is in the archive of a version: its manifest, its config and its layers."""
    return frozenset([version.digest, version.config.digest, *(layer.digest for layer in version.layers)])


def measure_archive(version: Version) -> range:
    """Return how many bytes the archive of a version may have: what is in it, and little more."""
    blobs = {blob.digest: blob.size for blob in (version.config, *version.layers)}
    least = sum(blobs.values())
    return range(least, least + len(blobs) * _PER_BLOB + _REST + 1)
