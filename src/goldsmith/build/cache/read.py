"""Reading what is known of an image's layers: its stages, their keys, the versions there are, and the node's guests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.revocation import find_revocation
from goldsmith.base.digest import Digest
from goldsmith.base.errors import VersionNotFound
from goldsmith.build.base import get_base_version, is_foreign, is_version
from goldsmith.build.cache.archives import list_archives
from goldsmith.build.cache.choose import Layering
from goldsmith.build.cache.guests import list_cache
from goldsmith.build.cache.keys import BASE, BEFORE, RECORDED, LayerKey, ensure_secret, make_keys, parse_keys
from goldsmith.build.credentials import BuildKey
from goldsmith.build.facts import Site, find_base_storage
from goldsmith.build.foreign import Found, digest_base, find_brought, find_foreign
from goldsmith.build.kept import find_backup
from goldsmith.build.plan import choose_disk
from goldsmith.build.repositories import open_image_repository
from goldsmith.definition.image import Image
from goldsmith.provision.stages import Stage
from goldsmith.pve.guests import Guest
from goldsmith.pve.storage import Volume, find_newest

NO_BASE = Digest("sha256:" + "0" * 64)
CAN_SNAPSHOT = frozenset({"btrfs", "zfspool", "lvmthin", "rbd"})
"""Types of storages that make snapshots of containers' disks (PVE 8.4, PVE::Storage::volume_has_feature)."""


def read_layering(
    image: Image,
    site: Site,
    stages: tuple[Stage, ...],
    key: BuildKey,
    *,
    state: Path,
    refresh: bool = False,
    guests: Sequence[Guest] | None = None,
) -> Layering:
    """Read what a build of an image can go on from.

    :param state: goldsmith's own directory on this machine.
    :param guests: the cluster's, where they have been listed already.
    """
    found = find_foreign(image, site)
    base = find_base_digest(image, site, state, found)
    keys = make_keys(stages, base, ensure_secret(image)) if base is not None else ()
    before, current = read_newest(image)
    is_same = bool(keys) and bool(before) and before[-1].key == keys[-1].key
    storage = site.node.storage.get_storage(choose_disk(image).storage)
    return Layering(
        stages=stages,
        keys=keys,
        cache=tuple(list_cache(site, guests)),
        archives=tuple(list_archives(site)),
        opened_by=key.fingerprint,
        before=before,
        current=current if is_same else None,
        has_backup=current is not None and bool(current.backup) and is_same and find_backup(current, site) is not None,
        now=time.time(),
        refresh=refresh,
        base=found,
        keeps="snapshots" if storage.type in CAN_SNAPSHOT else "archives",
    )


def find_base_digest(image: Image, site: Site, state: Path, found: Found | None) -> Digest | None:
    """Return the digest of what an image is built upon; None where that must be downloaded first.

    :param found: what it is, where it comes from elsewhere.
    :raises VersionNotFound: it is a version that does not exist.
    """
    if found is not None:
        return found.digest
    if is_version(image.variables.base_image):
        return get_base_version(image.variables.base_image, open_image_repository(image)).digest
    base = find_base(image, site)
    return None if base is None else digest_base(site, base, state)


def find_base(image: Image, site: Site) -> Volume | None:
    """Find the base image on the node, as a build would choose it; None where it must be downloaded or sent."""
    if is_foreign(image.variables.base_image):
        found = find_foreign(image, site)
        return None if found is None else find_brought(found, site, image.variables.proxmox_storage)
    wanted = image.variables.base_image
    storage = find_base_storage(wanted, image.variables.proxmox_storage)
    return find_newest(wanted, site.node.storage.list_content(storage, "vztmpl"))


def is_unchanged(image: Image, stages: tuple[Stage, ...]) -> bool:
    """Tell whether an image's newest version was made of the same, as far as that is known without the node."""
    before, _ = read_newest(image)
    now = make_keys(stages, NO_BASE, ensure_secret(image))
    return bool(before) and [_strip(key) for key in now] == [_strip(key) for key in before]


def _strip(key: LayerKey) -> tuple[str, dict[str, str]]:
    return key.name, {name: text for name, text in key.inputs.items() if name not in (BASE, BEFORE)}


def read_newest(image: Image) -> tuple[tuple[LayerKey, ...], Version | None]:
    """Return the keys that the newest version of an image was made of, and the version unless it was revoked."""
    repository = open_image_repository(image)
    version = repository.find_version(image.name)
    if version is None:
        return (), None
    return read_keys(repository, version), None if find_revocation(repository, version) else version


def read_keys(repository: Repository, version: Version) -> tuple[LayerKey, ...]:
    """Return the keys that a version was made of; none where nobody has recorded them."""
    try:
        return parse_keys(repository.read_record(version).extra.get(RECORDED))
    except VersionNotFound:
        return ()
