"""`/nodes/{node}/lxc/{vmid}/termproxy` and `vncwebsocket`: a container's console for xterm.js, and for our client."""

from __future__ import annotations

from typing import Any

from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.config import load_config
from goldsmith.node.lxc.console import await_port, choose_port, run_console
from goldsmith.node.routing import Call, method

_CONSOLE = ("/vms/{vmid}", "VM.Console")


@method("POST", "/nodes/{node}/lxc/{vmid}/termproxy", permission=_CONSOLE)
def termproxy(call: Call) -> dict[str, Any]:
    """Start a worker that waits for one client of the console, and return where, with the ticket for it."""
    vmid, who = call.params["vmid"], call.caller.id
    load_config(call.node, vmid)
    assert call.tickets is not None
    port = choose_port()
    ticket = call.tickets.make_console_ticket(who, f"/vms/{vmid}", port)
    upid = call.spawn("vncproxy", str(vmid), run_console, vmid, port, who)
    await_port(port)
    return {"user": who, "ticket": ticket, "port": port, "upid": upid}


@method("GET", "/nodes/{node}/lxc/{vmid}/vncwebsocket", permission=_CONSOLE)
def vncwebsocket(call: Call) -> dict[str, Any]:
    """Check the ticket for a port; `server` then makes a websocket of the connection, and leads it to that port.

    :raises ApiFault: 401, the ticket is another, or too old; PVE's words.
    """
    vmid, port = call.params["vmid"], call.params["port"]
    assert call.tickets is not None
    if not call.tickets.has_console_ticket(call.params["vncticket"], call.caller.id, f"/vms/{vmid}", port):
        raise ApiFault("permission denied - invalid PVEVNC ticket", status=401)
    return {"port": port}
