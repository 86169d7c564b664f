"""`/nodes/{node}/lxc/{vmid}/status/*`, `interfaces` and `feature`: what a container does, and making it do it."""

from __future__ import annotations

from typing import Any

from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.lxc import power
from goldsmith.node.lxc.config import load_config
from goldsmith.node.lxc.disks import find_volume
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.lxc.snapshots import get_snapshot, has_snapshot_feature
from goldsmith.node.lxc.status import describe_guest
from goldsmith.node.lxc.veth import list_interfaces
from goldsmith.node.routing import Call, method

_POWER = ("/vms/{vmid}", "VM.PowerMgmt")
_AUDIT = ("/vms/{vmid}", "VM.Audit")


@method("GET", "/nodes/{node}/lxc/{vmid}/status")
def index(call: Call) -> list[dict[str, str]]:
    """Return what can be asked and done."""
    load_config(call.node, call.params["vmid"])
    return [{"subdir": name} for name in ("current", "start", "stop", "shutdown", "migrate")]


@method("GET", "/nodes/{node}/lxc/{vmid}/status/current", permission=_AUDIT)
def current(call: Call) -> dict[str, Any]:
    """Return whether the container runs and what it uses."""
    return {**describe_guest(call.node, call.params["vmid"]), "ha": {"managed": 0}}


@method("GET", "/nodes/{node}/lxc/{vmid}/interfaces", permission=_AUDIT)
def interfaces(call: Call) -> list[dict[str, Any]] | None:
    """Return the container's interfaces and addresses; nothing when it does not run."""
    load_config(call.node, call.params["vmid"])
    return list_interfaces(Runtime(call.node, call.params["vmid"]))


def _check_skiplock(call: Call) -> None:
    if call.params.get("skiplock") and call.caller.id != "root@pam":
        raise ParameterFault({"skiplock": "Only root may use this option."})


@method("POST", "/nodes/{node}/lxc/{vmid}/status/start", permission=_POWER)
def start(call: Call) -> str:
    """Start the container; a missing or locked one fails in the task, a running one at once (PVE)."""
    _check_skiplock(call)
    vmid = call.params["vmid"]
    if Runtime(call.node, vmid).is_running():
        raise ApiFault(f"CT {vmid} already running")
    return call.spawn("vzstart", str(vmid), power.run_start, vmid)


@method("POST", "/nodes/{node}/lxc/{vmid}/status/stop", permission=_POWER)
def stop(call: Call) -> str:
    """Stop the container at once."""
    _check_skiplock(call)
    vmid = call.params["vmid"]
    power.check_running(Runtime(call.node, vmid))
    return call.spawn("vzstop", str(vmid), power.run_stop, vmid)


@method("POST", "/nodes/{node}/lxc/{vmid}/status/shutdown", permission=_POWER)
def shutdown(call: Call) -> str:
    """Ask the container to end."""
    vmid = call.params["vmid"]
    power.check_running(Runtime(call.node, vmid))
    timeout = call.params.get("timeout", power.SHUTDOWN_SECONDS)
    return call.spawn("vzshutdown", str(vmid), power.run_shutdown, vmid, timeout, bool(call.params.get("forceStop")))


@method("POST", "/nodes/{node}/lxc/{vmid}/status/reboot", permission=_POWER)
def reboot(call: Call) -> str:
    """Shut the container down and start it again, pending changes applied."""
    vmid = call.params["vmid"]
    if not Runtime(call.node, vmid).is_running():
        raise ApiFault(f"VM {vmid} not running")  # sic: PVE says VM here
    return call.spawn("vzreboot", str(vmid), power.run_reboot, vmid, call.params.get("timeout", power.SHUTDOWN_SECONDS))


@method("POST", "/nodes/{node}/lxc/{vmid}/status/suspend", permission=_POWER)
def suspend(call: Call) -> str:
    """Hold all processes of the container still."""
    vmid = call.params["vmid"]
    power.check_running(Runtime(call.node, vmid))
    return call.spawn("vzsuspend", str(vmid), power.run_suspend, vmid)


@method("POST", "/nodes/{node}/lxc/{vmid}/status/resume", permission=_POWER)
def resume(call: Call) -> str:
    """Let the container's processes go on."""
    vmid = call.params["vmid"]
    power.check_running(Runtime(call.node, vmid))
    return call.spawn("vzresume", str(vmid), power.run_resume, vmid)


@method("GET", "/nodes/{node}/lxc/{vmid}/feature", permission=_AUDIT)
def feature(call: Call) -> dict[str, int]:
    """Tell whether the container can be snapshotted, cloned (linked) or copied."""
    config = load_config(call.node, call.params["vmid"])
    name = call.params.get("snapname")
    options = get_snapshot(config, name) if name else config.current
    match call.params["feature"]:
        case "copy":
            has = all(point.kind == "volume" for point in options.mount_points())
        case "clone":
            has = options.is_template and all(
                find_volume(call.node, point)[0].has_snapshots() for point in options.mount_points()
            )
        case _:
            has = has_snapshot_feature(call.node, options)
    return {"hasFeature": int(has)}
