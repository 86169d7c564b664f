"""`/nodes/{node}/aplinfo`: the index of templates, and getting one."""

from __future__ import annotations

from typing import Any

from goldsmith.node.appliance import APPLIANCES, get_appliance, get_architecture, run_download
from goldsmith.node.faults import ApiFault
from goldsmith.node.routing import Call, method


@method("GET", "/nodes/{node}/aplinfo")
def list_appliances(call: Call) -> list[dict[str, Any]]:
    """Return the index."""
    del call
    architecture = get_architecture()
    return [appliance.describe(architecture) for appliance in APPLIANCES]


@method("POST", "/nodes/{node}/aplinfo", permission=("/storage/{storage}", "Datastore.AllocateTemplate"))
def download(call: Call) -> str:
    """Get a template onto a storage; returns the task."""
    storage, template = call.node.storage(call.params["storage"]), call.params["template"]
    if "vztmpl" not in storage.content:
        raise ApiFault(f"cannot download to storage '{storage.id}' - no content type 'vztmpl'")
    get_appliance(template, get_architecture())
    return call.spawn("download", template, run_download, storage.id, template)
