"""`/nodes/{node}/qemu`: the list of virtual machines, making and destroying them."""

from __future__ import annotations

from typing import Any

from goldsmith.node.api.qemu_rights import MachineRights
from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.qemu.config import FILES, Options
from goldsmith.node.qemu.create import CreateRequest, run_create
from goldsmith.node.qemu.destroy import check_destroy, run_destroy
from goldsmith.node.qemu.options import render_params
from goldsmith.node.qemu.status import describe_machine, list_machines
from goldsmith.node.routing import Call, method

_SUBDIRS = ("config", "pending", "status", "agent")


@method("GET", "/nodes/{node}/qemu")
def list_virtual_machines(call: Call) -> list[dict[str, Any]]:
    """Return the virtual machines that the caller may see."""
    seen = [machine for machine in list_machines(call.node) if call.caller.may(f"/vms/{machine['vmid']}", "VM.Audit")]
    if call.params.get("full"):
        return [describe_machine(call.node, machine["vmid"], full=True) for machine in seen]
    return seen


@method("GET", "/nodes/{node}/qemu/{vmid}")
def index(call: Call) -> list[dict[str, str]]:
    """Return what there is below a virtual machine."""
    FILES.load(call.node, call.params["vmid"])
    return [{"subdir": name} for name in _SUBDIRS]


@method("POST", "/nodes/{node}/qemu")
def create(call: Call) -> str:
    """Make a virtual machine; returns the task."""
    params, node, vmid = call.params, call.node, call.params["vmid"]
    storage, pool = params.get("storage", ""), params.get("pool", "")
    rights = MachineRights(node, call.caller, vmid, pool)
    rights.check_pool()
    if storage:
        rights.check_storage(storage)
    rights.check_allocate()
    request = CreateRequest(vmid, render_params(params), storage, pool, bool(params.get("start")))
    rights.check_changes(Options(), request.options, storage=storage)
    try:
        FILES.create(node, vmid)
    except ApiFault as fault:
        raise ApiFault(f"unable to create VM {vmid} - {fault.reason}") from fault
    try:
        return call.spawn("qmcreate", str(vmid), run_create, request)
    except BaseException:
        FILES.abandon(node, vmid)
        raise


@method("DELETE", "/nodes/{node}/qemu/{vmid}", permission=("/vms/{vmid}", "VM.Allocate"))
def destroy(call: Call) -> str:
    """Destroy a virtual machine that does not run; returns the task."""
    params, vmid = call.params, call.params["vmid"]
    check_skiplock(call)
    check_destroy(call.node, vmid, FILES.load(call.node, vmid))
    flags = (bool(params.get("purge")), bool(params.get("destroy-unreferenced-disks")))
    return call.spawn("qmdestroy", str(vmid), run_destroy, vmid, *flags)


def check_skiplock(call: Call, *names: str) -> None:
    """Raise when somebody but root@pam uses what is root's alone."""
    for name in ("skiplock", *names):
        if call.params.get(name) and call.caller.id != "root@pam":
            raise ParameterFault({name: "Only root may use this option."})
