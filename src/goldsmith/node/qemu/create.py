"""Making a virtual machine. Half-made ones leave nothing: every disk and the config are undone on failure."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field

from goldsmith.base.errors import GoldsmithError
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.guestconf import open_busy
from goldsmith.node.newdisks import keep_new_disks
from goldsmith.node.qemu.config import FILES, Options
from goldsmith.node.qemu.disks import make_drive
from goldsmith.node.qemu.options import is_drive, render_default_boot
from goldsmith.node.qemu.power import run_start
from goldsmith.node.qemu.properties import Drive
from goldsmith.node.routing import Task


@dataclass(frozen=True)
class CreateRequest:
    """What `POST qemu` asked for. Options are as they will be stored, drives may still ask to be made."""

    vmid: int
    options: dict[str, str] = field(default_factory=dict)
    storage: str = ""
    pool: str = ""
    start: bool = False


def run_create(task: Task, node: Node, request: CreateRequest) -> None:
    """Worker `qmcreate`: make a machine whose vmid the caller has claimed."""
    vmid = request.vmid
    with open_busy(node, vmid), ExitStack() as stack:
        stack.callback(FILES.abandon, node, vmid)
        try:
            options = _make_options(task, node, request, stack)
        except (ApiFault, GoldsmithError, OSError) as error:
            raise ApiFault(f"unable to create VM {vmid} - {error}") from error
        with FILES.open(node, vmid, timeout=60) as config:
            config.current = options
            FILES.save(node, vmid, config)
        keep_new_disks(node, vmid)
        stack.pop_all()
    if request.pool:
        node.access.add_to_pool(request.pool, vmid)
    if request.start:
        task.spawn("qmstart", str(vmid), run_start, vmid)


def _make_options(task: Task, node: Node, request: CreateRequest, stack: ExitStack) -> Options:
    """Return the options as they are stored: disks made, and what Proxmox gives every new machine."""
    options = Options(dict(request.options))
    for key, value in request.options.items():
        if is_drive(key):
            drive = make_drive(task, node, request.vmid, Drive.parse(key, value), stack, storage=request.storage)
            options.values[key] = drive.render()
    generated = {
        "smbios1": f"uuid={uuid.uuid4()}", "vmgenid": str(uuid.uuid4()), "meta": f"ctime={int(time.time())}",
        "boot": render_default_boot(options),
    }  # fmt: skip
    options.values = {**{key: value for key, value in generated.items() if value}, **options.values}
    return options
