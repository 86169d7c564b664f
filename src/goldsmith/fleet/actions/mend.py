"""Volumes that a node lost sight of when it crashed in the middle of a move: found, and attached again.

A move to another guest renames the volume, takes it out of one configuration, and puts it into the other (PVE 8.4,
pve-container's move_volume). A crash in between leaves a volume that bears the other guest's number and is in no
configuration; the old configuration may still name what is not there any more.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from goldsmith.base.errors import ApiFailed, DataMissing
from goldsmith.base.events import Notice
from goldsmith.definition.mounts import DataVolume
from goldsmith.fleet.specification import list_mounts, render_data
from goldsmith.fleet.work import Work
from goldsmith.pve.containers import ContainerConfig
from goldsmith.pve.properties import Mount, render_mount
from goldsmith.pve.storage import Volume


@dataclass(frozen=True)
class Seen:
    """What there is on the node: the replacement's guests, and the volumes that bear their numbers."""

    configs: dict[int, ContainerConfig]
    volumes: tuple[Volume, ...]

    @property
    def strays(self) -> list[Volume]:
        """Volumes that no guest of the replacement names."""
        named = {volume for config in self.configs.values() for volume in list_named(config)}
        return [volume for volume in self.volumes if volume.volid not in named]

    def has(self, volid: str) -> bool:
        """Tell whether a volume is there."""
        return any(volume.volid == volid for volume in self.volumes)


def list_named(config: ContainerConfig) -> set[str]:
    """Return the volumes that a guest's configuration names."""
    mounts = [*config.mounts.values(), *([config.rootfs] if config.rootfs is not None else [])]
    return {*(mount.volume for mount in mounts), *config.unused.values()}


def look(work: Work) -> Seen:
    """Read the replacement's guests, and the volumes of theirs in the storages of its data."""
    vmids = [vmid for vmid in (work.record.old, work.record.new, work.record.holder) if vmid]
    found = {vmid: work.find(vmid) for vmid in vmids}
    configs = {vmid: config for vmid, config in found.items() if config is not None}
    storages = {volid.partition(":")[0] for _, volid in work.record.data}
    listed = [volume for name in sorted(storages) for volume in work.site.node.storage.list_content(name)]
    return Seen(configs, tuple(volume for volume in listed if volume.vmid in vmids and volume.content != "backup"))


def mend_moves(work: Work) -> None:
    """Attach again what a broken-off move has left between two guests; nothing is done where all is well.

    :raises DataMissing: a volume is gone, and what there is does not tell which one it is now.
    """
    if not work.record.data:
        return
    seen = look(work)
    for path, _ in work.record.data:
        places = [(vmid, key, mount) for vmid, config in seen.configs.items()
                  for key, mount in config.mounts.items() if mount.path == path]  # fmt: skip
        if not any(seen.has(mount.volume) for _, _, mount in places) and seen.strays:
            _attach(work, path, places, choose_stray(work, path, seen))
            seen = look(work)


def choose_stray(work: Work, path: str, seen: Seen) -> Volume:
    """Return what a lost volume is now. Volumes are moved one after another, so no more than one can be lost.

    :raises DataMissing: there are several.
    """
    if len(seen.strays) > 1:
        listed = ", ".join(volume.volid for volume in seen.strays)
        raise DataMissing(
            f"{work.server.name}: the volume of {path} is one of {listed}, and nothing tells which",
            hint="attach the right one by hand (pct set VMID -mpN VOLUME,mp=PATH), then the command again",
        )
    return seen.strays[0]


def _attach(work: Work, path: str, places: list[tuple[int, str, Mount]], stray: Volume) -> None:
    """Give a volume to the guest whose number it bears, and take dead references away."""
    vmid = int(stray.vmid or 0)
    known = places[0][2] if places else _declare(work, path)
    for holder, key, mount in places:
        _forget(work, holder, key, mount.volume)
    key = next(free for number in range(256) if (free := f"mp{number}") not in work.get(vmid).mounts)
    work.set(vmid, {key: render_mount(replace(known, volume=stray.volid))})
    told = (
        f"{work.server.name}: {stray.volid} was left between two guests by a crash; it is {path} of guest {vmid} again"
    )
    work.events.emit(Notice(message=told, level="warning"))


def _forget(work: Work, vmid: int, key: str, volid: str) -> None:
    """Take a volume that is not there any more out of a guest: first it becomes an unused one, as on Proxmox."""
    guests = work.site.node.guests
    guests.set_config(vmid, {}, delete=[key])
    unused = [name for name, volume in work.get(vmid).unused.items() if volume == volid]
    with suppress(ApiFailed):  # a storage may refuse to free what it does not have; nobody takes it for data
        if unused:
            guests.set_config(vmid, {}, delete=unused)


def _declare(work: Work, path: str) -> Mount:
    """Return the mount point of a path as the inventory has it."""
    declared = (one for one in list_mounts(work.server).values() if isinstance(one, DataVolume))
    found = next((render_data(one) for one in declared if str(one.path) == path), None)
    return found if found is not None else Mount("", path, backup=True)
