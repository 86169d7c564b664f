"""`/nodes/{node}/qemu/{vmid}/config` and `pending`: reading and changing a virtual machine's options."""

from __future__ import annotations

from typing import Any

from goldsmith.node.api.qemu import check_skiplock
from goldsmith.node.api.qemu_rights import MachineRights
from goldsmith.node.faults import ApiFault
from goldsmith.node.formats import split_list
from goldsmith.node.guestconf import list_pending, render_json
from goldsmith.node.qemu.config import FILES
from goldsmith.node.qemu.options import check_deletions, render_params
from goldsmith.node.qemu.update import Quiet, run_update
from goldsmith.node.routing import Call, method

_CONFIG = "/nodes/{node}/qemu/{vmid}/config"
_CHANGERS = ("Disk", "CDROM", "CPU", "Memory", "Network", "HWType", "Options", "Cloudinit")
_CHANGE = ("/vms/{vmid}", *(f"VM.Config.{name}" for name in _CHANGERS))
_AUDIT = ("/vms/{vmid}", "VM.Audit")
Changes = tuple[dict[str, str], list[str], list[str], str]


@method("GET", _CONFIG, permission=_AUDIT)
def get_config(call: Call) -> dict[str, Any]:
    """Return the options, with pending changes applied or as they are now (`current=1`)."""
    config = FILES.load(call.node, call.params["vmid"])
    if name := call.params.get("snapshot"):
        raise ApiFault(f"snapshot '{name}' does not exist")
    return render_json(config, config.current if call.params.get("current") else config.merged())


@method("GET", "/nodes/{node}/qemu/{vmid}/pending", permission=_AUDIT)
def get_pending(call: Call) -> list[dict[str, Any]]:
    """Return the options with what will change at the next start."""
    return list_pending(FILES.load(call.node, call.params["vmid"]))


def _plan_changes(call: Call) -> Changes:
    """Return what to set, to delete and to revert, if the caller may."""
    params = {key: value for key, value in call.params.items() if key not in ("node", "vmid")}
    check_skiplock(call)
    delete, revert = (split_list(params.pop(name, "")) for name in ("delete", "revert"))
    digest = params.pop("digest", "")
    if not params and not delete and not revert:
        raise ApiFault("no options specified")
    check_deletions(params, delete)
    changes = render_params(params)
    config = FILES.load(call.node, call.params["vmid"])
    rights = MachineRights(call.node, call.caller, call.params["vmid"])
    rights.check_changes(config.current, changes)
    rights.check_deletions(config.current, [*delete, *revert])
    return changes, delete, revert, digest


@method("PUT", _CONFIG, permission=_CHANGE, any_of=True)
def put_config(call: Call) -> None:
    """Change options: at once where the machine does not run, at the next start otherwise."""
    run_update(Quiet(), call.node, call.params["vmid"], *_plan_changes(call))


@method("POST", _CONFIG, permission=_CHANGE, any_of=True)
def post_config(call: Call) -> str:
    """Change options in a task, which may take the time that disks need; returns the task."""
    vmid = call.params["vmid"]
    return call.spawn("qmconfig", str(vmid), run_update, vmid, *_plan_changes(call))
