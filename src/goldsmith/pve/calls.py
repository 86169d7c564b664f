"""Every call of the API that this room makes, and the privilege it needs: a table for docs/proxmox.md and the tests.

Sources: the API's own schema (PVE 8.4, `permissions`), and where that says `user: all` the code behind it
(pve-container's check_ct_modify_config_perm, pve-storage's Content.pm, pve-manager's VZDump.pm).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ApiCall:
    """A method and path of the API, with what it needs, in words, and what it is for."""

    verb: str
    path: str
    needs: str
    purpose: str

    def matches(self, verb: str, path: str) -> bool:
        """Tell whether a request is this call."""
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(self.path))
        return (
            verb == self.verb
            and re.fullmatch(f"{pattern}(/.*)?" if self.path.endswith("}") else pattern, path) is not None
        )


ALL = "(nothing)"
_GUEST, _STORAGE, _NODE = "/nodes/{node}/lxc/{vmid}", "/nodes/{node}/storage/{storage}", "/nodes/{node}"
_AGENT = "/nodes/{node}/qemu/{vmid}/agent"
_RUN = "VM.Monitor on the guest; since 9.0 VM.GuestAgent.Unrestricted"
_SEE = "Datastore.Audit or Datastore.AllocateSpace on the storage"
_OWN_TASK = "being the one who started it, or Sys.Audit on the node"
_REPLICATE = "Datastore.Allocate on /storage; since 9.0 VM.Replicate on the guest"
CALLS = (
    ApiCall("POST", "/access/ticket", ALL, "logging in with a password"),
    ApiCall("GET", "/access/permissions", ALL, "`doctor`: what we may do"),
    ApiCall("GET", "/access/roles", ALL, "`doctor`: which roles there are"),
    ApiCall("GET", "/version", ALL, "the version that answers"),
    ApiCall("GET", f"{_NODE}/version", ALL, "whether a node pulls container images (`proxmox_pull`)"),
    ApiCall("GET", "/nodes", ALL, "the cluster's nodes; Sys.Audit on a node shows its processors and memory"),
    ApiCall("GET", "/cluster/status", "Sys.Audit on /", "the address of another node; without it, its name is used"),
    ApiCall("GET", "/cluster/resources", "VM.Audit on each guest that is to be seen", "all guests of the cluster"),
    ApiCall("GET", "/cluster/nextid", ALL, "whether a vmid is free"),
    ApiCall(
        "GET", f"{_NODE}/network", "SDN.Audit or SDN.Use on each bridge that is to be seen (since 8.0)", "`doctor`"
    ),
    ApiCall("GET", f"{_NODE}/lxc", "VM.Audit on each guest that is to be seen", "a node's containers as they are now"),
    ApiCall("GET", f"{_NODE}/qemu", "VM.Audit on each guest that is to be seen", "a node's virtual machines"),
    ApiCall("GET", f"{_GUEST}/config", "VM.Audit on the guest", "a guest's configuration, and whose it is"),
    ApiCall("GET", f"{_GUEST}/status/current", "VM.Audit on the guest", "whether it runs"),
    ApiCall("GET", f"{_GUEST}/interfaces", "VM.Audit on the guest", "addresses it got by DHCP"),
    ApiCall("GET", f"{_GUEST}/feature", "VM.Audit on the guest", "whether its storage makes snapshots"),
    ApiCall("GET", f"{_GUEST}/snapshot", "VM.Audit on the guest", "finished layers"),
    ApiCall(
        "POST",
        f"{_NODE}/lxc",
        "VM.Allocate and VM.Config.Disk, .CPU, .Memory, .Network, .Options on the vmid or the pool; "
        "Datastore.AllocateSpace on the disk's storage; Datastore.Audit on the template's; SDN.Use on the bridge "
        "(since 8.0); from a backup also VM.Backup",
        "creating a guest",
    ),
    ApiCall("PUT", f"{_GUEST}/config", "VM.Config.Options (description, tags), .Network (netN, with SDN.Use)", "marks"),
    ApiCall("POST", f"{_GUEST}/status/{{action}}", "VM.PowerMgmt on the guest", "starting and stopping"),
    ApiCall("POST", f"{_GUEST}/termproxy", "VM.Console on the guest", "entering it through its console"),
    ApiCall("GET", f"{_GUEST}/vncwebsocket", "VM.Console on the guest; a token since 9.1", "the same, as a websocket"),
    ApiCall("POST", f"{_AGENT}/exec", _RUN, "entering a virtual machine by its guest agent (`goldsmith enter`)"),
    ApiCall("GET", f"{_AGENT}/exec-status", _RUN, "the same: how a program ended, and what it said"),
    ApiCall("POST", f"{_GUEST}/snapshot", "VM.Snapshot on the guest", "keeping a finished layer"),
    ApiCall("POST", f"{_GUEST}/snapshot/{{name}}/rollback", "VM.Snapshot or VM.Snapshot.Rollback", "using a layer"),
    ApiCall("DELETE", f"{_GUEST}/snapshot/{{name}}", "VM.Snapshot on the guest", "dropping a layer"),
    ApiCall("POST", f"{_GUEST}/clone", "VM.Clone on the guest; VM.Allocate on the new one", "sharing a layer"),
    ApiCall("POST", f"{_GUEST}/template", "VM.Allocate on the guest", "(library only)"),
    ApiCall(
        "POST", f"{_GUEST}/move_volume", "VM.Config.Disk on both guests; Datastore.AllocateSpace", "handing data over"
    ),
    ApiCall("PUT", f"{_GUEST}/resize", "VM.Config.Disk on the guest; Datastore.AllocateSpace", "(library only)"),
    ApiCall("DELETE", _GUEST, "VM.Allocate on the guest", "removing a guest of ours"),
    ApiCall("GET", f"{_GUEST}/firewall/options", "VM.Audit on the guest", "whether a server has firewall rules"),
    ApiCall("GET", f"{_GUEST}/firewall/{{list}}", "VM.Audit on the guest", "its rules, aliases and IP sets"),
    ApiCall("PUT", f"{_GUEST}/firewall/options", "VM.Config.Network on the guest", "giving them to the new guest"),
    ApiCall("POST", f"{_GUEST}/firewall/{{list}}", "VM.Config.Network on the guest", "giving them to the new guest"),
    ApiCall("DELETE", f"{_GUEST}/firewall/{{list}}", "VM.Config.Network on the guest", "instead of what it has"),
    ApiCall("GET", "/cluster/ha/resources", "Sys.Audit on /", "how HA manages a server; asked where it does"),
    ApiCall("POST", "/cluster/ha/resources", "Sys.Console on /", "putting the new guest in"),
    ApiCall("DELETE", "/cluster/ha/resources/{sid}", "Sys.Console on /", "taking the old guest out"),
    ApiCall("GET", "/cluster/ha/rules", "Sys.Audit on /", "which rules name it (since 9.0)"),
    ApiCall("POST", "/cluster/ha/rules", "Sys.Console on /", "a rule that went with its last member"),
    ApiCall("PUT", "/cluster/ha/rules/{rule}", "Sys.Console on /", "putting the new guest in"),
    ApiCall("GET", "/cluster/replication", "VM.Audit on each guest that is to be seen", "how a server is replicated"),
    ApiCall("POST", "/cluster/replication", _REPLICATE, "replicating the new guest"),
    ApiCall("DELETE", "/cluster/replication/{id}", _REPLICATE, "taking the old guest out"),
    ApiCall("GET", "/cluster/backup", "Sys.Audit on /; without it jobs stay as they are", "which jobs name a server"),
    ApiCall(
        "PUT",
        "/cluster/backup/{id}",
        "Sys.Modify on /; Datastore.Allocate on the job's storage; without it what is to be done is told",
        "the new vmid",
    ),
    ApiCall("POST", f"{_NODE}/vzdump", "VM.Backup on the guest; Datastore.AllocateSpace on the storage", "dumping"),
    ApiCall(
        "GET", f"{_NODE}/vzdump/extractconfig", "VM.Backup on the guest; Datastore.AllocateSpace", "reading a dump"
    ),
    ApiCall("GET", f"{_NODE}/storage", f"{_SEE}, for each that is to be seen", "the node's storages"),
    ApiCall("GET", "/storage/{storage}", "Datastore.Allocate on the storage", "where a storage's directory lies"),
    ApiCall(
        "GET",
        f"{_STORAGE}/content",
        f"{_SEE}; of disks Datastore.Audit, VM.Config.Disk on the guest; of backups Datastore.AllocateSpace, VM.Backup "
        "on the guest; Datastore.Allocate shows all",
        "what lies in a storage",
    ),
    ApiCall(
        "GET",
        f"{_STORAGE}/content/{{volume}}",
        "as for a list that shows it",
        "all notes of a backup, and whether a volume is there",
    ),
    ApiCall(
        "PUT",
        f"{_STORAGE}/content/{{volume}}",
        "Datastore.AllocateSpace, VM.Backup on the guest; for a sixth protected one of a guest Datastore.Allocate",
        "notes and protection of dumps",
    ),
    ApiCall(
        "DELETE",
        f"{_STORAGE}/content/{{volume}}",
        "of a dump: Datastore.AllocateSpace, VM.Backup on the guest; of a template: Datastore.Allocate",
        "removing what a run has brought",
    ),
    ApiCall("POST", f"{_STORAGE}/upload", "Datastore.AllocateTemplate on the storage", "uploading a template"),
    ApiCall(
        "POST",
        f"{_STORAGE}/download-url",
        "Datastore.AllocateTemplate on the storage; Sys.AccessNetwork on the node (since 8.2), or Sys.Audit and "
        "Sys.Modify on /",
        "letting the node download a base image from a URL",
    ),
    ApiCall(
        "POST",
        f"{_STORAGE}/oci-registry-pull",
        "Datastore.AllocateTemplate on the storage; Sys.AccessNetwork on the node (since 9.1)",
        "letting the node pull a version from its registry (`proxmox_pull`)",
    ),
    ApiCall(
        "GET",
        f"{_NODE}/query-url-metadata",
        "Sys.AccessNetwork on the node (since 8.2), or Sys.Audit and Sys.Modify on /",
        "`doctor`: whether the node reaches a URL",
    ),
    ApiCall(
        "GET", f"{_NODE}/status", "Sys.Audit on the node; without it, amd64", "its architecture, for a container image"
    ),
    ApiCall("GET", f"{_NODE}/aplinfo", ALL, "the appliance index"),
    ApiCall("POST", f"{_NODE}/aplinfo", "Datastore.AllocateTemplate on the storage", "downloading a base image"),
    ApiCall("GET", f"{_NODE}/tasks", _OWN_TASK, "what still runs on a guest of ours"),
    ApiCall("GET", f"{_NODE}/tasks/{{upid}}/status", _OWN_TASK, "waiting for a task"),
    ApiCall("GET", f"{_NODE}/tasks/{{upid}}/log", _OWN_TASK, "what a task says"),
    ApiCall(
        "DELETE", f"{_NODE}/tasks/{{upid}}", "being the one who started it, or Sys.Modify on the node", "stopping it"
    ),
)


def find_call(verb: str, path: str) -> ApiCall | None:
    """Find a request in the table."""
    return next((call for call in CALLS if call.matches(verb, path)), None)


def render_calls(calls: Iterable[ApiCall] = CALLS) -> str:
    """Render the table as Markdown."""
    rows = [f"| `{call.verb} {call.path}` | {call.needs} | {call.purpose} |" for call in calls]
    return "\n".join(["| call | privilege | for |", "| --- | --- | --- |", *rows]) + "\n"


if __name__ == "__main__":
    print(render_calls(), end="")  # noqa: T201 - for docs/proxmox.md
