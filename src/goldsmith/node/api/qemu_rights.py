"""Which privileges changes of a virtual machine need, and what only root@pam may do (PVE 8.4, API2/Qemu.pm)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from goldsmith.node.api.guest_rights import GuestRights
from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.properties import NET_KEY, UNUSED_KEY, get_owner, parse_volume
from goldsmith.node.qemu.config import Options
from goldsmith.node.qemu.options import is_drive
from goldsmith.node.qemu.properties import SERIAL_KEY, Drive, Net
from goldsmith.node.storage.driver import VolumeId
from goldsmith.node.storage.listing import find_owner

_PRIVILEGES = {
    **dict.fromkeys(("cores", "cpu", "numa", "sockets"), "VM.Config.CPU"),
    **dict.fromkeys(("memory", "balloon"), "VM.Config.Memory"),
    **dict.fromkeys(("acpi", "kvm", "scsihw", "tablet", "vga"), "VM.Config.HWType"),
    **dict.fromkeys(
        ("agent", "bios", "description", "name", "onboot", "ostype", "protection", "startup", "template", "tags"),
        "VM.Config.Options",
    ),
    "boot": "VM.Config.Disk",
}


@dataclass(frozen=True)
class MachineRights(GuestRights):
    """Checks a caller's changes to one virtual machine."""

    def check_changes(self, before: Options, changes: Mapping[str, str], *, storage: str = "") -> None:
        """Raise unless the caller may set these options.

        :param storage: where disks are made that name none.
        """
        for key in filter(is_drive, changes):
            self._check_drive(Drive.parse(key, changes[key]), storage)
        self._check_keys(changes)
        for key in filter(NET_KEY.fullmatch, changes):
            for text in (before.get(key), changes[key]):
                self._check_net(text and Net.parse(key, text).bridge)

    def check_deletions(self, before: Options, keys: Iterable[str]) -> None:
        """Raise unless the caller may delete these options."""
        kept = list(keys)
        self._check_keys(kept)
        for key in kept:
            if NET_KEY.fullmatch(key) and before.get(key):
                self._check_net(Net.parse(key, before.get(key)).bridge)

    def _check_net(self, bridge: str) -> None:
        if not self.caller.is_root:
            self.check_bridge(bridge)

    def _check_keys(self, keys: Iterable[str]) -> None:
        for key in [] if self.caller.is_root else keys:
            if is_drive(key) or UNUSED_KEY.fullmatch(key):
                self.check_guest("VM.Config.Disk")
            elif NET_KEY.fullmatch(key):
                self.check_guest("VM.Config.Network")
            elif SERIAL_KEY.fullmatch(key):
                self.check_guest("VM.Config.HWType")
            elif key in _PRIVILEGES:
                self.check_guest(_PRIVILEGES[key])
            else:
                raise ApiFault(f"only root can set '{key}' config")
        if "startup" in keys:
            self.caller.check("/", "Sys.Modify")

    def _check_drive(self, drive: Drive, storage: str) -> None:
        """Raise unless the caller may use what a drive names; PVE's words."""
        if drive.file == "none":
            return
        wanted = drive.request(storage)
        if wanted is None:
            self._check_volume(drive)
            return
        if not wanted[0]:
            raise ApiFault("no storage ID specified (and no default storage)")
        self.check_storage(wanted[0])
        if "images" not in self.node.storage(wanted[0]).content:
            raise ParameterFault({"storage": f"storage '{wanted[0]}' does not support vm images"})
        if "import-from" in drive.values:
            self._check_import(drive)

    def _check_volume(self, drive: Drive) -> None:
        if drive.file.startswith("/"):
            raise ParameterFault({drive.key: "disks outside of storages are not supported by the embedded node"})
        volume = parse_volume(drive.file)
        kind = volume.name.partition("/")[0]
        if kind == "iso":
            self._check_file(volume)
            if not drive.is_cdrom:
                raise ParameterFault({drive.key: "explicit 'media=cdrom' is required for iso images"})
        elif kind.isdigit():
            self._check_disk(volume, get_owner(volume))
        else:
            raise ParameterFault({drive.key: "content type needs to be 'images' or 'iso'"})

    def _check_disk(self, volume: VolumeId, owner: int) -> None:
        place = f"/storage/{volume.storage}"
        if owner != self.vmid:
            self.caller.check(place, "Datastore.Allocate")
        self.node.storage(volume.storage).path(volume)

    def _check_file(self, volume: VolumeId) -> None:
        self.node.storage(volume.storage)
        self.caller.check(f"/storage/{volume.storage}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)

    def _check_import(self, drive: Drive) -> None:
        source = drive.get("import-from")
        if source.startswith("/"):
            if not self.caller.is_root:
                raise ApiFault("Only root can pass arbitrary filesystem paths.")
            return
        volume = parse_volume(source)
        kind = volume.name.partition("/")[0]
        if kind == "import":
            self._check_file(volume)
        elif kind.isdigit():
            owner = find_owner(self.node.storage(volume.storage), volume)
            self.caller.check(f"/vms/{owner}", "VM.Clone")
        else:
            text = f"{source} has wrong type '{kind}' - needs to be 'images' or 'import'"
            raise ParameterFault({drive.key: text})
