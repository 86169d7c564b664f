"""The guests that keep layers: found on the node by their tag, taken for a build by their mark, given back after it.

    tag                 goldsmith-cache
    description         what it is, for people; "goldsmith layers of IMAGE", the key that opens it, what it was made
                        from and when, when a build was last done with it, and the mark of the build that is in it
    snapshots           layer-<32 hex digits of the key>, with the whole key in their description

Somebody else's build may be at the same guest: the mark is set with the configuration's digest, so that only one wins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from goldsmith.base.digest import Digest
from goldsmith.base.errors import ApiFailed
from goldsmith.build.cache.finished import (
    OPENED_BY,
    ORIGIN,
    USED,
    Finished,
    describe_layer,
    find_line,
    find_owner,
    parse_layer,
    parse_time,
    render_owner,
)
from goldsmith.build.facts import CACHE_TAG, Site
from goldsmith.build.journal import MARK, render_mark
from goldsmith.pve.containers import ContainerConfig
from goldsmith.pve.guests import Guest, has_no_guest

TAGS = ("goldsmith", CACHE_TAG)
SNAPSHOT = "layer-"


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Finished):
    """A finished layer that is a snapshot of a guest."""

    vmid: int
    snapshot: str


@dataclass(frozen=True)
class CacheGuest:
    """A stopped guest with the layers of one image, oldest first."""

    vmid: int
    image: str
    checkpoints: tuple[Checkpoint, ...]
    in_use: bool = False
    """Whether a build works in it."""
    opened_by: str = ""
    """Fingerprint of the build key that opens it: whoever has another one cannot go on in it."""
    used: int = 0
    """When a build was last done with it, in seconds since 1970; 0: not known."""
    disk: str = ""
    """Volume id of its root disk."""
    size: int = 0
    """Bytes that it takes, as far as that was asked; see `measure_guests`."""

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"guest {self.vmid}"

    @property
    def last_used(self) -> int:
        """When a build last did something with it, in seconds since 1970; 0: never."""
        return max([self.used, *(checkpoint.made for checkpoint in self.checkpoints)])


def name_snapshot(key: Digest) -> str:
    """Return the name of a layer's snapshot (PVE 8.4: at most 40 characters, a letter first)."""
    return SNAPSHOT + key.removeprefix("sha256:")[:32]


def describe_guest(image: str, opened_by: str, run_id: str = "", used: int = 0, origin: str = "") -> str:
    """Return the description of a guest that keeps an image's layers, in the hands of a build or of nobody.

    Markdown for people, whose lists are read again by their lines.

    :param origin: from what it was made, and when.
    """
    told = f"Finished layers of *{image}*: its snapshots, from which builds go on. `goldsmith cache` lists and removes "
    state = f"**goldsmith** builds *{image}* in here now." if run_id else "Nobody is in it."
    last = [f"- {USED}{used}"] if used else []
    made = [f"- {ORIGIN}{origin}"] if origin else []
    mark = ["", render_mark(run_id)] if run_id else []
    return "\n".join(
        [f"{told}them. {state}", "", f"- {render_owner(image)}", *made, f"- {OPENED_BY}{opened_by}", *last, *mark]
    )


def list_cache(site: Site, guests: Sequence[Guest] | None = None) -> list[CacheGuest]:
    """Return the guests on a node that keep layers.

    :param guests: the cluster's, where they have been listed already.
    """
    listed = site.pve.list_guests() if guests is None else guests
    marked = [guest for guest in listed if TAGS[1] in guest.tags and guest.node == site.node.name]
    found = (_read_guest(site, guest.vmid) for guest in marked if guest.kind == "lxc")
    return [guest for guest in found if guest is not None]


def _read_guest(site: Site, vmid: int) -> CacheGuest | None:
    try:
        config = site.node.guests.get_config(vmid)
        checkpoints = tuple(_list_checkpoints(site, vmid))
    except ApiFailed as error:
        if not has_no_guest(error):  # else it has just gone
            raise
        return None
    told = config.description
    owner = find_owner(told)
    disk = config.rootfs.volume if config.rootfs is not None else ""
    if not owner:
        return None
    return CacheGuest(
        vmid, owner, checkpoints, _is_in_use(config), find_line(told, OPENED_BY), parse_time(told, USED), disk
    )


def measure_guests(site: Site, guests: Sequence[CacheGuest]) -> list[CacheGuest]:
    """Return guests with the bytes that each takes, as the storage lists its disks.

    What a snapshot takes of its own no answer of the API tells (PVE 8.4). So a guest counts with its disks: what is
    used of them where the storage says so (directories, btrfs), else their whole size (ZFS, LVM-thin, Ceph).
    """
    storages = {guest.disk.partition(":")[0] for guest in guests if guest.disk}
    volumes = [volume for storage in storages for volume in site.node.storage.list_content(storage, "rootdir")]
    taken = {
        guest.vmid: sum(volume.used or volume.size for volume in volumes if volume.vmid == guest.vmid)
        for guest in guests
    }
    return [replace(guest, size=taken[guest.vmid]) for guest in guests]


def _is_in_use(config: ContainerConfig) -> bool:
    return bool(config.lock) or bool(find_line(config.description, MARK))


def _list_checkpoints(site: Site, vmid: int) -> Iterator[Checkpoint]:
    for snapshot in site.node.guests.list_snapshots(vmid):
        found = parse_layer(snapshot.description, snapshot.time)
        if snapshot.name.startswith(SNAPSHOT) and found is not None:
            yield Checkpoint(**vars(found), vmid=vmid, snapshot=snapshot.name)


def claim_guest(site: Site, vmid: int, run_id: str) -> bool:
    """Take a guest for a build; tell whether that worked: another build may have been faster."""
    try:
        config = site.node.guests.get_config(vmid)
        owner = find_owner(config.description)
        if not owner or _is_in_use(config):
            return False
        used, origin = parse_time(config.description, USED), find_line(config.description, ORIGIN)
        told = describe_guest(owner, find_line(config.description, OPENED_BY), run_id, used, origin)
        changes = {"description": told}
        site.node.guests.set_config(vmid, changes, digest=config.digest)
    except ApiFailed:
        return False
    return True


def release_guest(site: Site, vmid: int) -> None:
    """Give a guest back: stopped, and in nobody's hands. What was done in it since its last layer does not count."""
    if site.node.guests.get_status(vmid).running:
        site.node.tasks.run(lambda: site.node.guests.stop(vmid))
    config = site.node.guests.get_config(vmid)
    owner, opened_by = find_owner(config.description), find_line(config.description, OPENED_BY)
    origin = find_line(config.description, ORIGIN)
    given_back = describe_guest(owner, opened_by, used=int(time.time()), origin=origin)
    site.node.guests.set_config(vmid, {"description": given_back}, digest=config.digest)


def has_layers(site: Site, vmid: int) -> bool:
    """Tell whether a guest keeps finished layers."""
    guest = _read_guest(site, vmid)
    return guest is not None and bool(guest.checkpoints)


def go_back(site: Site, vmid: int, snapshot: str) -> None:
    """Bring a guest back to what it was when a layer had been finished; layers after it are dropped first.

    (ZFS goes back to the newest snapshot only.)
    """
    names = [found.name for found in site.node.guests.list_snapshots(vmid)]
    for name in reversed(names[names.index(snapshot) + 1 :]):
        _delete_snapshot(site, vmid, name)
    site.node.tasks.run(lambda: site.node.guests.rollback(vmid, snapshot))


def _delete_snapshot(site: Site, vmid: int, name: str) -> None:
    site.node.tasks.run(lambda: site.node.guests.delete_snapshot(vmid, name))


def drop_guest(site: Site, vmid: int) -> None:
    """Remove a guest that was claimed, with its layers."""
    site.node.tasks.run(lambda: site.node.guests.destroy(vmid, force=True, purge=True))


def keep_layer(site: Site, vmid: int, layer: str, key: Digest, since: Sequence[int]) -> None:
    """Make a snapshot of a stopped guest in which a layer has just been finished.

    :param since: when each of the layers in it was built.
    """
    described = describe_layer(layer, key, since)
    site.node.tasks.run(lambda: site.node.guests.create_snapshot(vmid, name_snapshot(key), description=described))
