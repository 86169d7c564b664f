"""The guests that keep layers: found on the node by their tag, taken for a build by their mark, given back after it.

    tag                 goldsmith-cache
    description         "goldsmith layers of IMAGE", the key that opens it, and while a build is in it, the build's mark
    snapshots           layer-<32 hex digits of the key>, with the whole key in their description

Somebody else's build may be at the same guest: the mark is set with the configuration's digest, so that only one wins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from goldsmith.base.digest import Digest
from goldsmith.base.errors import ApiFailed
from goldsmith.build.facts import CACHE_TAG, Site
from goldsmith.build.journal import MARK, render_mark
from goldsmith.pve.containers import ContainerConfig

TAGS = ("goldsmith", CACHE_TAG)
OWNER = "goldsmith layers of "
SNAPSHOT = "layer-"
KEY, SINCE = "key ", "since "
OPENED_BY = "opened by "


@dataclass(frozen=True)
class Checkpoint:
    """A finished layer: it, and all before it, as they were when it was done. Times are seconds since 1970."""

    layer: str
    key: Digest
    vmid: int
    snapshot: str
    made: int
    since: int
    """When the oldest of the layers in it was built."""


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


def name_snapshot(key: Digest) -> str:
    """Return the name of a layer's snapshot (PVE 8.4: at most 40 characters, a letter first)."""
    return SNAPSHOT + key.removeprefix("sha256:")[:32]


def describe_snapshot(layer: str, key: Digest, since: int) -> str:
    """Return a snapshot's description.

    :param since: when the oldest layer in it was built.
    """
    return f"{layer}\n{KEY}{key}\n{SINCE}{since}"


def describe_guest(image: str, opened_by: str, run_id: str = "") -> str:
    """Return the description of a guest that keeps an image's layers, in the hands of a build or of nobody."""
    told = "its snapshots are finished layers, from which builds go on; `goldsmith cache` lists and removes them"
    mark = [render_mark(run_id)] if run_id else []
    return "\n".join([f"{OWNER}{image}", told, f"{OPENED_BY}{opened_by}", *mark])


def find_owner(description: str) -> str:
    """Return the image whose layers a guest keeps; empty where it keeps none."""
    lines = description.splitlines()
    return lines[0].removeprefix(OWNER) if lines and lines[0].startswith(OWNER) else ""


def _find_key(description: str) -> str:
    found = [line.removeprefix(OPENED_BY) for line in description.splitlines() if line.startswith(OPENED_BY)]
    return found[0] if found else ""


def list_cache(site: Site) -> list[CacheGuest]:
    """Return the guests on a node that keep layers."""
    marked = [guest for guest in site.pve.list_guests() if TAGS[1] in guest.tags and guest.node == site.node.name]
    found = (_read_guest(site, guest.vmid) for guest in marked if guest.kind == "lxc")
    return [guest for guest in found if guest is not None]


def _read_guest(site: Site, vmid: int) -> CacheGuest | None:
    try:
        config = site.node.guests.get_config(vmid)
        checkpoints = tuple(_list_checkpoints(site, vmid))
    except ApiFailed:  # it has just gone
        return None
    owner = find_owner(config.description)
    opened_by = _find_key(config.description)
    return CacheGuest(vmid, owner, checkpoints, _is_in_use(config), opened_by) if owner else None


def _is_in_use(config: ContainerConfig) -> bool:
    return bool(config.lock) or any(line.startswith(MARK) for line in config.description.splitlines())


def _list_checkpoints(site: Site, vmid: int) -> Iterator[Checkpoint]:
    for snapshot in site.node.guests.list_snapshots(vmid):
        layer, *rest = snapshot.description.splitlines() or [""]
        key = next((line.removeprefix(KEY) for line in rest if line.startswith(KEY)), "")
        since = next((line.removeprefix(SINCE) for line in rest if line.startswith(SINCE)), "")
        if snapshot.name.startswith(SNAPSHOT) and key and since.isdecimal():
            yield Checkpoint(layer, Digest(key), vmid, snapshot.name, snapshot.time, int(since))


def claim_guest(site: Site, vmid: int, run_id: str) -> bool:
    """Take a guest for a build; tell whether that worked: another build may have been faster."""
    try:
        config = site.node.guests.get_config(vmid)
        owner = find_owner(config.description)
        if not owner or _is_in_use(config):
            return False
        changes = {"description": describe_guest(owner, _find_key(config.description), run_id)}
        site.node.guests.set_config(vmid, changes, digest=config.digest)
    except ApiFailed:
        return False
    return True


def release_guest(site: Site, vmid: int) -> None:
    """Give a guest back: stopped, and in nobody's hands. What was done in it since its last layer does not count."""
    if site.node.guests.get_status(vmid).running:
        site.node.tasks.wait(site.node.guests.stop(vmid))
    config = site.node.guests.get_config(vmid)
    given_back = describe_guest(find_owner(config.description), _find_key(config.description))
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
        site.node.tasks.wait(site.node.guests.delete_snapshot(vmid, name))
    site.node.tasks.wait(site.node.guests.rollback(vmid, snapshot))


def drop_guest(site: Site, vmid: int) -> None:
    """Remove a guest that was claimed, with its layers."""
    site.node.tasks.wait(site.node.guests.destroy(vmid, force=True, purge=True))


def keep_layer(site: Site, vmid: int, layer: str, key: Digest, since: int) -> None:
    """Make a snapshot of a stopped guest in which a layer has just been finished."""
    described = describe_snapshot(layer, key, since)
    site.node.tasks.wait(site.node.guests.create_snapshot(vmid, name_snapshot(key), description=described))
