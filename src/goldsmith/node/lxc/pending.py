"""Changes of a guest's options: at once where the guest does not run or can take them, at its next start otherwise.

Proxmox writes every change as pending first, then applies what it can: everything on a stopped guest; limits,
network devices and new mount points on a running one; what is only a note (description, tags) always.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from goldsmith.base.errors import ProgramError
from goldsmith.base.process import Argument, run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc import veth
from goldsmith.node.lxc.cgroups import Hierarchy
from goldsmith.node.lxc.config import GuestConfig, save_config
from goldsmith.node.lxc.disks import allocate_disk, find_volume, free_disk, mount_options
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.programs import module_command, module_environment
from goldsmith.node.lxc.properties import MOUNT_KEY, MountPoint, Net
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.newdisks import keep_new_disks
from goldsmith.node.properties import NET_KEY, UNUSED_KEY

FAST = frozenset(
    ("description", "onboot", "startup", "protection", "hostname", "hookscript", "cores", "tags", "lock", "template")
)
"""Options that a running guest takes by being written down (PVE 8.4, LXC_FASTPLUG_OPTIONS)."""
LIMITS = frozenset(("memory", "swap", "cpulimit", "cpuunits", "cores"))
Log = Callable[[str], None]


class NotNow(Exception):
    """A change has to wait for the guest's next start."""


def clean_pending(config: GuestConfig) -> None:
    """Forget pending changes that change nothing."""
    config.pending = {key: value for key, value in config.pending.items() if config.current.values.get(key) != value}
    config.pending_delete = [key for key in config.pending_delete if key in config.current.values]


def apply_pending(log: Log, node: Node, vmid: int, config: GuestConfig) -> None:
    """Apply every pending change to a guest that does not run. The caller saves the config."""
    clean_pending(config)
    for key in sorted(config.pending_delete):
        _delete_stopped(log, node, vmid, config, key)
    config.pending_delete = []
    for key in sorted(config.pending):
        if key == "rootfs" or MOUNT_KEY.fullmatch(key):
            _replace_disk(node, vmid, config, key)
        config.current.values[key] = config.pending.pop(key)


def _delete_stopped(log: Log, node: Node, vmid: int, config: GuestConfig, key: str) -> None:
    values = config.current.values
    if MOUNT_KEY.fullmatch(key):
        _keep_as_unused(config, MountPoint.parse(key, values[key]))
    elif UNUSED_KEY.fullmatch(key):
        _free_unused(log, node, vmid, config, key)
    values.pop(key, None)


def _keep_as_unused(config: GuestConfig, point: MountPoint) -> None:
    if point.kind == "volume":
        config.current.values[config.current.free_key("unused")] = point.volume


def _free_unused(log: Log, node: Node, vmid: int, config: GuestConfig, key: str) -> None:
    point = MountPoint.parse(key, config.current.values[key])
    if not is_volume_in_use(config, point.volume, besides=key) and (line := free_disk(node, vmid, point)):
        log(line)


def is_volume_in_use(config: GuestConfig, volume: str, *, besides: str = "") -> bool:
    """Tell whether another key of the guest, or one of its snapshots, names a volume."""
    points = [point for point in config.current.mount_points(unused=True) if point.key != besides]
    points += [point for options in config.snapshots.values() for point in options.mount_points()]
    return any(point.volume == volume for point in points)


def _replace_disk(node: Node, vmid: int, config: GuestConfig, key: str) -> None:
    """Make a pending mount point real: a new disk is allocated, an old one under the same key becomes unused."""
    point = MountPoint.parse(key, config.pending[key])
    old = config.current.values.get(key)
    if point.request() is not None:
        idmap = IdMap.of(unprivileged=config.current.is_unprivileged)
        with ExitStack() as stack:
            point = allocate_disk(node, vmid, point, idmap, stack)
            stack.pop_all()
            keep_new_disks(node, vmid)
    elif point.kind == "volume" and "size" not in point.values:
        storage, volume = find_volume(node, point)
        point = point.with_size(storage.size(volume))
    if old is not None and (before := MountPoint.parse(key, old)).volume != point.volume:
        _keep_as_unused(config, before)
    _forget_unused(config, point.volume)
    config.pending[key] = point.render()


def _forget_unused(config: GuestConfig, volume: str) -> None:
    for key, value in list(config.current.values.items()):
        if UNUSED_KEY.fullmatch(key) and value == volume:
            del config.current.values[key]


def hotplug_pending(log: Log, node: Node, vmid: int, config: GuestConfig) -> dict[str, str]:
    """Apply to a running guest what it can take; the rest stays pending. The config is saved.

    :returns: a text for each option that could have been applied but was refused.
    """
    clean_pending(config)
    errors: dict[str, str] = {}
    for key in [*sorted(config.pending_delete), *sorted(config.pending)]:
        work = _delete_running if key in config.pending_delete else _set_running
        try:
            work(log, node, vmid, config, key)
        except NotNow:
            continue
        except (ApiFault, ProgramError, OSError) as error:
            errors[key] = f"unable to hotplug {key}: {error}\n"
    clean_pending(config)
    save_config(node, vmid, config)
    return errors


def _delete_running(log: Log, node: Node, vmid: int, config: GuestConfig, key: str) -> None:
    runtime = Runtime(node, vmid)
    if UNUSED_KEY.fullmatch(key):
        _free_unused(log, node, vmid, config, key)
    elif NET_KEY.fullmatch(key):
        veth.remove(runtime, int(key[3:]))
    elif key not in FAST | LIMITS:
        raise NotNow
    config.current.values.pop(key, None)
    config.pending_delete.remove(key)
    if key in LIMITS:
        Hierarchy.detect().apply(runtime.cgroup, config.current, vmid)


def _set_running(log: Log, node: Node, vmid: int, config: GuestConfig, key: str) -> None:
    del log
    runtime, value = Runtime(node, vmid), config.pending[key]
    before = config.current.values.get(key)
    if key in LIMITS:
        changed = config.current.copy()
        changed.values[key] = value
        Hierarchy.detect().apply(runtime.cgroup, changed, vmid)
    elif NET_KEY.fullmatch(key):
        changed = config.current.copy()
        changed.values[key] = value
        veth.change(runtime, changed, Net.parse(key, before) if before else None, Net.parse(key, value))
    elif MOUNT_KEY.fullmatch(key) and before is None:
        _replace_disk(node, vmid, config, key)
        attach_disk(node, vmid, config, MountPoint.parse(key, config.pending[key]))
    elif key not in FAST:
        raise NotNow
    config.current.values[key] = config.pending.pop(key)


def attach_disk(node: Node, vmid: int, config: GuestConfig, point: MountPoint) -> None:
    """Mount a disk or directory inside a running guest; see `hotplug`."""
    runtime, idmap = Runtime(node, vmid), IdMap.of(unprivileged=config.current.is_unprivileged)
    source = point.volume
    if point.kind == "volume":
        storage, volume = find_volume(node, point)
        source = str(storage.mount(volume))
    arguments: list[Argument] = [str(runtime.find_init()), source, point.target, idmap.base]
    arguments.append(",".join(mount_options(point)))
    run(module_command("goldsmith.node.lxc.hotplug", *arguments), env=module_environment())
