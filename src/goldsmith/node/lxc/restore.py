"""Making a guest from a backup (`restore=1`), with the semantics seen on Proxmox VE 8.4.

Without `rootfs` every volume of the old config is made anew on the given storage; what was not in the backup comes
back empty. With `rootfs`, only the disks that are given are made. Options that are given win over the old ones.
Neither machine id nor keys are renewed: it is the same guest again.
"""

from __future__ import annotations

import re
from contextlib import ExitStack

from goldsmith.base.errors import GoldsmithError
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.guestconf import open_busy
from goldsmith.node.lxc.archive import read_config, unpack
from goldsmith.node.lxc.config import GuestConfig, Options, abandon_guest, open_config, parse_config, save_config
from goldsmith.node.lxc.copies import make_template
from goldsmith.node.lxc.create import CreateRequest, find_archive, place_disk, save_options
from goldsmith.node.lxc.destroy import free_all
from goldsmith.node.lxc.disks import close_sources, open_sources, plan_assembly
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.power import run_start
from goldsmith.node.lxc.properties import MountPoint
from goldsmith.node.properties import UNUSED_KEY
from goldsmith.node.routing import Task

_NOT_RESTORED = frozenset(("lock", "parent", "snaptime", "snapstate", "template"))
GIB = 1 << 30


def run_restore(task: Task, node: Node, request: CreateRequest) -> None:
    """Worker `vzrestore`: the caller has claimed the vmid, or marked the guest to be replaced (`lock: create`)."""
    with open_busy(node, request.vmid), ExitStack() as stack:
        stack.callback(abandon_guest, node, request.vmid)
        try:
            was_template = _restore_guest(task, node, request, stack)
        except (ApiFault, GoldsmithError, OSError) as error:
            raise ApiFault(f"unable to restore CT {request.vmid} - {error}") from error
        stack.pop_all()
    if request.pool:
        node.access.add_to_pool(request.pool, request.vmid)
    if was_template:
        task.log("Convert restored container to template...")
        with open_config(node, request.vmid) as config:
            make_template(node, request.vmid, config)
    elif request.start:
        task.spawn("vzstart", str(request.vmid), run_start, request.vmid)


def _restore_guest(task: Task, node: Node, request: CreateRequest, stack: ExitStack) -> bool:
    """Make disks, unpack, store the config; tell whether the backup was one of a template."""
    vmid = request.vmid
    archive = find_archive(node, request.template)
    task.log(f"recovering backed-up configuration from '{request.template}'")
    backed_up = parse_config(read_config(archive)).current
    _free_old(task, node, vmid)
    options = merge_options(backed_up, request)
    if backed_up.is_unprivileged and not options.is_unprivileged:
        task.log("changing from unprivileged to privileged, skipping features")
    idmap = IdMap.of(unprivileged=options.is_unprivileged)
    for point in plan_restore(backed_up, request):
        options.values[point.key] = place_disk(node, vmid, point, idmap, stack).render()
    stack.callback(close_sources, node, options)
    assembly = plan_assembly(open_sources(node, options), idmap)
    task.log(f"restoring '{request.template}' now..")
    unpack(archive, assembly, idmap, task.log, ignore_errors=request.ignore_errors)
    task.log("merging backed-up and given configuration..")
    save_options(node, vmid, options)
    close_sources(node, options)
    return backed_up.is_template


def _free_old(task: Task, node: Node, vmid: int) -> None:
    """Free the disks of the guest that is replaced. From here on, a failure leaves nothing of it."""
    with open_config(node, vmid, timeout=60) as config:
        free_all(task, node, vmid, config)
        save_config(node, vmid, GuestConfig(Options({"lock": "create"})))


def merge_options(backed_up: Options, request: CreateRequest) -> Options:
    """Return the restored guest's options, without disks: the backup's, then what was given."""
    options = backed_up.copy()
    disks = {point.key for point in backed_up.mount_points()}
    for key in list(options.values):
        if key in _NOT_RESTORED | disks or UNUSED_KEY.fullmatch(key):
            del options.values[key]
    if request.unique:
        options.values.update({net.key: net.with_new_mac().render() for net in options.nets()})
    if backed_up.is_unprivileged and request.options.get("unprivileged") == "0":
        options.values.pop("features", None)
    if not request.is_root:
        options.raw = []
        for key in [key for key in options.values if key == "hookscript" or re.fullmatch(r"dev\d+", key)]:
            del options.values[key]
    options.values.update(request.options)
    if options.values.get("unprivileged") == "0":
        del options.values["unprivileged"]
    return options


def plan_restore(backed_up: Options, request: CreateRequest) -> list[MountPoint]:
    """Return the disks to make: those given when the root disk is among them, else all that the backup knows.

    :raises ApiFault: a disk's size is not known, or the backup names directories of the machine and nobody may.
    """
    if "rootfs" in request.disks:
        return Options(dict(request.disks)).mount_points()
    return [_plan_disk(point, request) for point in backed_up.mount_points()]


def _plan_disk(point: MountPoint, request: CreateRequest) -> MountPoint:
    if point.kind != "volume":
        if not request.is_root:
            raise ApiFault(f"restoring '{point.key}' to {point.kind} mount is only possible for root")
        return point
    if "size" not in point.values:
        raise ApiFault(f"unable to detect disk size - please specify {point.key} (size)")
    asked = f"{request.storage}:{point.size / GIB:.12g}"
    values = {**{key: value for key, value in point.values.items() if key != "size"}, "volume": asked}
    return MountPoint(point.key, values)
