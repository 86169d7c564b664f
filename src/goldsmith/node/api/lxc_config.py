"""`/nodes/{node}/lxc/{vmid}/config` and `pending`: reading and changing a container's options."""

from __future__ import annotations

from typing import Any

from goldsmith.node.api.lxc_rights import Rights
from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.formats import split_list
from goldsmith.node.guestconf import list_pending, render_json
from goldsmith.node.lxc.config import load_config, open_config, save_config
from goldsmith.node.lxc.options import check_lists, render_params, stage_changes
from goldsmith.node.lxc.pending import apply_pending, hotplug_pending
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.lxc.snapshots import get_snapshot
from goldsmith.node.routing import Call, method

_CHANGERS = ("VM.Config.Disk", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options")


@method("GET", "/nodes/{node}/lxc/{vmid}/config", permission=("/vms/{vmid}", "VM.Audit"))
def get_config(call: Call) -> dict[str, Any]:
    """Return the options: with pending changes applied, or as they are now (`current=1`), or a snapshot's."""
    config = load_config(call.node, call.params["vmid"])
    if name := call.params.get("snapshot"):
        return render_json(config, get_snapshot(config, name))
    return render_json(config, config.current if call.params.get("current") else config.merged())


@method("GET", "/nodes/{node}/lxc/{vmid}/pending", permission=("/vms/{vmid}", "VM.Audit"))
def get_pending(call: Call) -> list[dict[str, Any]]:
    """Return the options with what will change at the next start."""
    return list_pending(load_config(call.node, call.params["vmid"]))


@method("PUT", "/nodes/{node}/lxc/{vmid}/config", permission=("/vms/{vmid}", *_CHANGERS), any_of=True)
def put_config(call: Call) -> None:
    """Change options: at once where possible, at the next start otherwise."""
    node, vmid = call.node, call.params["vmid"]
    params = {key: value for key, value in call.params.items() if key not in ("node", "vmid", "digest")}
    if not params:
        raise ApiFault("no options specified")
    delete, revert = (split_list(params.pop(name, "")) for name in ("delete", "revert"))
    check_lists(params, delete, revert)
    changes = render_params(params)
    before = load_config(node, vmid)
    rights = Rights(node, call.caller, vmid)
    rights.check_deletions(before.current, delete)
    rights.check_changes(before.current, changes, unprivileged=before.current.is_unprivileged)
    with open_config(node, vmid) as config:
        config.check_lock()
        config.check_digest(call.params.get("digest"))
        stage_changes(config, changes, delete, revert)
        save_config(node, vmid, config)
        errors: dict[str, str] = {}
        if Runtime(node, vmid).is_running():
            errors = hotplug_pending(_ignore, node, vmid, config)
        else:
            apply_pending(_ignore, node, vmid, config)
            save_config(node, vmid, config)
    if errors:
        raise ParameterFault(errors)


def _ignore(_line: str) -> None:
    """Drop a line: a change of options has no task and so no log."""
