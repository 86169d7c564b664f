"""Which privileges changes of a container need, and what only root@pam may do (PVE 8.4, check_ct_modify_config_perm).

A token of root@pam is not root@pam here, whatever its privileges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from goldsmith.node.api.guest_rights import GuestRights
from goldsmith.node.faults import ApiFault, PermissionFault
from goldsmith.node.lxc.config import Options
from goldsmith.node.lxc.options import is_disk
from goldsmith.node.lxc.properties import MountPoint, Net
from goldsmith.node.properties import NET_KEY, parse_bool, parse_properties, parse_volume
from goldsmith.node.storage.listing import find_owner

_PRIVILEGES = {
    "cores": "VM.Config.CPU", "cpuunits": "VM.Config.CPU", "cpulimit": "VM.Config.CPU",
    "memory": "VM.Config.Memory", "swap": "VM.Config.Memory",
    "nameserver": "VM.Config.Network", "searchdomain": "VM.Config.Network", "hostname": "VM.Config.Network",
}  # fmt: skip


@dataclass(frozen=True)
class Rights(GuestRights):
    """Checks a caller's changes to one container."""

    def check_changes(self, before: Options, changes: Mapping[str, str], *, unprivileged: bool) -> None:
        """Raise unless the caller may set these options."""
        if self.caller.is_root:
            return
        # Network first: with neither right, it is the bridge that PVE reports.
        for key in sorted(changes, key=lambda key: (not NET_KEY.fullmatch(key), key)):
            if NET_KEY.fullmatch(key):
                self._check_net(before, key, changes[key])
            elif is_disk(key):
                self._check_disk(key, changes[key])
            elif key == "features":
                self._check_features(before.get("features"), changes[key], unprivileged=unprivileged)
            else:
                self._check_option(key)

    def check_deletions(self, before: Options, keys: Iterable[str]) -> None:
        """Raise unless the caller may delete these options."""
        for key in [] if self.caller.is_root else keys:
            if NET_KEY.fullmatch(key):
                self._check_net(before, key, "")
            elif is_disk(key) or key.startswith("unused"):
                self.check_guest("VM.Config.Disk")
            elif key == "features":
                self._check_features(before.get("features"), "", unprivileged=before.is_unprivileged)
            else:
                self._check_option(key)

    def _check_option(self, key: str) -> None:
        if key == "hookscript":
            raise PermissionFault("changing the hookscript is only allowed for root@pam")
        if key.startswith("dev"):
            raise PermissionFault("device passthrough is only allowed for root@pam")
        self.check_guest(_PRIVILEGES.get(key, "VM.Config.Options"))

    def _check_net(self, before: Options, key: str, value: str) -> None:
        self.check_guest("VM.Config.Network")
        for text in (before.get(key), value):
            if text:
                self.check_bridge(Net.parse(key, text).bridge)

    def _check_disk(self, key: str, value: str) -> None:
        self.check_guest("VM.Config.Disk")
        point = MountPoint.parse(key, value)
        if point.kind != "volume":
            raise PermissionFault(f"mount point type {point.kind} is only allowed for root@pam")
        self.check_storage(parse_volume(point.volume).storage)

    def _check_features(self, before: str, after: str, *, unprivileged: bool) -> None:
        if not unprivileged:
            raise PermissionFault("changing feature flags for privileged container is only allowed for root@pam")
        old, new = parse_properties(before), parse_properties(after)
        changed = {key for key in {*old, *new} if _feature(old, key) != _feature(new, key)}
        if changed - {"nesting"}:
            raise PermissionFault("changing feature flags (except nesting) is only allowed for root@pam")
        if changed:
            self.check_guest("VM.Allocate")

    def check_archive(self, volid: str, content: str) -> None:
        """Raise unless the caller may read a template or backup, and it is one; PVE's words."""
        volume = parse_volume(volid)
        self.node.storage(volume.storage)
        if volume.name.partition("/")[0] != content:
            raise ApiFault(f"unable to use volume {volid} - content type needs to be '{content}'")
        path = f"/storage/{volume.storage}"
        if self.caller.may(path, "Datastore.Allocate"):
            return
        if content == "backup":
            owner = find_owner(self.node.storage(volume.storage), volume)
            if owner == self.vmid:
                return  # a guest may be made from its own backup by whoever may make it
            self.caller.check(path, "Datastore.AllocateSpace")
            self.caller.check(f"/vms/{owner}", "VM.Backup")
        else:
            self.caller.check(path, "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)


def _feature(features: Mapping[str, str], key: str) -> str | bool:
    return features.get(key, "") if key == "mount" else parse_bool(features.get(key))
