"""`/nodes/{node}/qemu/{vmid}/status/*`: what a virtual machine does, and making it do it."""

from __future__ import annotations

from typing import Any

from goldsmith.node.api.qemu import check_skiplock
from goldsmith.node.faults import ParameterFault
from goldsmith.node.qemu import power
from goldsmith.node.qemu.config import FILES
from goldsmith.node.qemu.runtime import Runtime
from goldsmith.node.qemu.status import describe_machine
from goldsmith.node.routing import Call, method

_STATUS = "/nodes/{node}/qemu/{vmid}/status"
_POWER = ("/vms/{vmid}", "VM.PowerMgmt")
_MIGRATION = (
    "stateuri", "migratedfrom", "migration_type", "migration_network", "targetstorage", "force-cpu", "machine",
    "nets-host-mtu",
)  # fmt: skip


@method("GET", _STATUS)
def index(call: Call) -> list[dict[str, str]]:
    """Return what can be asked and done."""
    FILES.load(call.node, call.params["vmid"])
    return [{"subdir": name} for name in ("current", "start", "stop", "shutdown", "reboot")]


@method("GET", f"{_STATUS}/current", permission=("/vms/{vmid}", "VM.Audit"))
def current(call: Call) -> dict[str, Any]:
    """Return whether the machine runs and what it uses."""
    vmid = call.params["vmid"]
    agent = {"agent": 1} if FILES.load(call.node, vmid).current.has_agent else {}
    return {**describe_machine(call.node, vmid, full=True), "ha": {"managed": 0}, **agent}


@method("POST", f"{_STATUS}/start", permission=_POWER)
def start(call: Call) -> str:
    """Start the machine; what cannot be fails in the task (PVE)."""
    check_skiplock(call)
    for name in _MIGRATION:
        if name in call.params:
            raise ParameterFault({name: "not supported by the embedded node"})
    vmid = call.params["vmid"]
    return call.spawn("qmstart", str(vmid), power.run_start, vmid)


def _timeout(call: Call) -> int:
    return int(call.params.get("timeout", power.SHUTDOWN_SECONDS))


@method("POST", f"{_STATUS}/stop", permission=_POWER)
def stop(call: Call) -> str:
    """End the machine at once; one that does not run is no failure (PVE)."""
    check_skiplock(call, "keepActive", "migratedfrom")
    vmid = call.params["vmid"]
    return call.spawn("qmstop", str(vmid), power.run_stop, vmid, _timeout(call))


@method("POST", f"{_STATUS}/shutdown", permission=_POWER)
def shutdown(call: Call) -> str:
    """Ask the machine to end."""
    check_skiplock(call, "keepActive")
    vmid = call.params["vmid"]
    force = bool(call.params.get("forceStop"))
    return call.spawn("qmshutdown", str(vmid), power.run_shutdown, vmid, _timeout(call), force)


@method("POST", f"{_STATUS}/reboot", permission=_POWER)
def reboot(call: Call) -> str:
    """Shut the machine down and start it again, pending changes applied."""
    vmid = call.params["vmid"]
    Runtime(call.node, vmid).check_running()
    return call.spawn("qmreboot", str(vmid), power.run_reboot, vmid, _timeout(call))
