"""`/nodes/{node}/vzdump`: backups, their defaults, the config inside one."""

from __future__ import annotations

from typing import Any

from goldsmith.node.api.lxc_rights import Rights
from goldsmith.node.api.storage import limit_protected
from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.formats import split_list
from goldsmith.node.lxc.archive import read_config
from goldsmith.node.lxc.backup import BackupRequest, find_template_fault, run_backup
from goldsmith.node.lxc.config import list_vmids
from goldsmith.node.lxc.create import find_archive
from goldsmith.node.properties import parse_volume
from goldsmith.node.routing import Call, method

_ROOT_ONLY = ("tmpdir", "dumpdir", "script", "job-id")
_DEFAULTS: dict[str, Any] = {
    "all": 0, "bwlimit": 0, "compress": "0", "fleecing": {"enabled": 0}, "ionice": 7, "lockwait": 180,
    "mailnotification": "always", "mode": "snapshot", "notification-mode": "auto", "notification-policy": "always",
    "performance": {"max-workers": 16, "pbs-entries-max": 1048576}, "pigz": 0, "prune-backups": {"keep-all": 1},
    "quiet": 0, "remove": 1, "stdexcludes": 1, "stop": 0, "stopwait": 10, "zstd": 1,
}  # fmt: skip
"""What PVE 8.4 answers where /etc/vzdump.conf says nothing."""


@method("POST", "/nodes/{node}/vzdump")
def vzdump(call: Call) -> str:
    """Back up containers; returns the task, or `OK` when there is none to back up."""
    params, caller = call.params, call.caller
    vmids = _choose_vmids(call)
    _check_params(call)
    storage = params.get("storage", "local")
    caller.check(f"/storage/{storage}", "Datastore.AllocateSpace")
    if not vmids:
        return "OK"
    prune = params.get("prune-backups", "")
    request = BackupRequest(
        vmids=vmids, storage=storage, mode=params.get("mode", "snapshot"), compress=str(params.get("compress", "0")),
        threads=params.get("zstd"), notes=params.get("notes-template", ""), protected=bool(params.get("protected")),
        prune=prune if params.get("remove", True) else "", excludes=_list_excludes(params.get("exclude-path")),
        standard_excludes=bool(params.get("stdexcludes", True)), lockwait=params.get("lockwait", 180),
        stopwait=params.get("stopwait", 10), command=_render_command(params),
        most_protected=limit_protected(caller, storage),
        allowed=frozenset(vmid for vmid in vmids if caller.may(f"/vms/{vmid}", "VM.Backup")),
    )  # fmt: skip
    return call.spawn("vzdump", str(vmids[0]) if len(vmids) == 1 else "", run_backup, request)


def _choose_vmids(call: Call) -> list[int]:
    """Return the guests to back up: those named; all, or all of a pool, that the caller may back up."""
    params = call.params
    if not any(params.get(name) for name in ("vmid", "all", "pool")):
        raise ParameterFault({"vmid": "property is missing"})
    left_out = {int(vmid) for vmid in split_list(str(params.get("exclude", "")))}
    if params.get("vmid"):
        return [int(vmid) for vmid in split_list(str(params["vmid"])) if int(vmid) not in left_out]
    members = list_vmids(call.node)
    if params.get("pool"):
        members = [vmid for vmid in members if vmid in call.node.pool_members(params["pool"])]
    return [vmid for vmid in members if vmid not in left_out and call.caller.may(f"/vms/{vmid}", "VM.Backup")]


def _check_params(call: Call) -> None:
    params, caller = call.params, call.caller
    if not caller.is_root:
        refused = {name: "Only root may set this option." for name in _ROOT_ONLY if name in params}
        if refused:
            raise ParameterFault(refused)
    if fault := find_template_fault(params.get("notes-template", "")):
        raise ParameterFault({"notes-template": f"{fault}\n"})
    if any(params.get(name) for name in ("bwlimit", "ionice", "performance")):
        caller.check("/", "Sys.Modify")
    if params.get("prune-backups"):
        caller.check(f"/storage/{params.get('storage', 'local')}", "Datastore.Allocate")


def _list_excludes(value: list[str] | str | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _render_command(params: dict[str, Any]) -> str:
    """Return the command line that stands for the call at the top of the log."""
    words = ["vzdump", *split_list(str(params.get("vmid", "")))]
    for key, value in sorted(params.items()):
        if key not in ("node", "vmid"):
            words += [f"--{key}", str(int(value) if isinstance(value, bool) else value)]
    return " ".join(words)


@method("GET", "/nodes/{node}/vzdump/defaults")
def get_defaults(call: Call) -> dict[str, Any]:
    """Return the defaults of a backup job."""
    if storage := call.params.get("storage"):
        call.node.storage(storage)
        call.caller.check(f"/storage/{storage}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)
    return _DEFAULTS


@method("GET", "/nodes/{node}/vzdump/extractconfig")
def extract_config(call: Call) -> str:
    """Return the text of the config that a backup holds."""
    volid = call.params["volume"]
    volume = parse_volume(volid)
    name = volume.name.rpartition("/")[2].split("-")
    if volume.name.partition("/")[0] != "backup" or len(name) < 3 or not name[2].isdigit():
        raise ApiFault(f"unable to use volume {volid} - content type needs to be 'backup'")
    Rights(call.node, call.caller, 0).check_archive(volid, "backup")
    call.caller.check(f"/vms/{name[2]}", "VM.Backup")
    return read_config(find_archive(call.node, volid))
