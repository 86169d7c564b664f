"""`/nodes/{node}/lxc`: the list of containers, making them from templates and backups, destroying them."""

from __future__ import annotations

from typing import Any

from passlib.hash import sha512_crypt

from goldsmith.node.api.lxc_rights import Rights
from goldsmith.node.faults import ApiFault, PermissionFault
from goldsmith.node.guestconf import check_free
from goldsmith.node.lxc.config import (
    Options,
    abandon_guest,
    create_config,
    has_config,
    load_config,
    open_config,
    save_config,
)
from goldsmith.node.lxc.create import CreateRequest, run_create
from goldsmith.node.lxc.destroy import check_destroy, run_destroy
from goldsmith.node.lxc.disks import check_rootdir
from goldsmith.node.lxc.options import render_params, split_disks
from goldsmith.node.lxc.properties import MountPoint
from goldsmith.node.lxc.restore import run_restore
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.lxc.setup import has_valid_keys
from goldsmith.node.lxc.status import list_guests
from goldsmith.node.routing import Call, method

_SUBDIRS = (
    "config", "pending", "status", "vncproxy", "termproxy", "vncwebsocket", "spiceproxy", "migrate", "clone",
    "initlog", "rrd", "rrddata", "firewall", "snapshot", "resize", "interfaces",
)  # fmt: skip
CRYPT_ROUNDS = 5000
"""Of sha512-crypt: crypt(3)'s default, which needs no `rounds=` in the hash."""


@method("GET", "/nodes/{node}/lxc")
def list_containers(call: Call) -> list[dict[str, Any]]:
    """Return the containers that the caller may see."""
    return [guest for guest in list_guests(call.node) if call.caller.may(f"/vms/{guest['vmid']}", "VM.Audit")]


@method("GET", "/nodes/{node}/lxc/{vmid}")
def index(call: Call) -> list[dict[str, str]]:
    """Return what there is below a container."""
    load_config(call.node, call.params["vmid"])
    return [{"subdir": name} for name in _SUBDIRS]


@method("POST", "/nodes/{node}/lxc")
def create(call: Call) -> str:
    """Make a container from a template, or with `restore=1` from a backup; returns the task."""
    params, node, vmid = call.params, call.node, call.params["vmid"]
    is_restore, is_replacing = bool(params.get("restore")), False
    if is_restore and params.get("force") and has_config(node, vmid):
        is_replacing = True
        _check_replaceable(call)
    else:
        check_free(node, vmid)
    if not has_valid_keys(params.get("ssh-public-keys", "")):
        raise ApiFault("SSH public key validation error")
    rights = Rights(node, call.caller, vmid, params.get("pool", ""))
    rights.check_pool()
    _check_allowed(rights, is_replacing=is_replacing)
    request = _plan_request(call, is_restore=is_restore)
    _check_request(call, rights, request)
    if is_replacing:
        _claim_existing(call)
    else:
        create_config(node, vmid)
    try:
        work = run_restore if is_restore else run_create
        return call.spawn("vzrestore" if is_restore else "vzcreate", str(vmid), work, request)
    except BaseException:
        abandon_guest(node, vmid)
        raise


def _check_replaceable(call: Call) -> None:
    vmid = call.params["vmid"]
    if Runtime(call.node, vmid).is_running():
        raise ApiFault("can't overwrite running container")
    load_config(call.node, vmid).check_protection(f"unable to restore CT {vmid}")


def _claim_existing(call: Call) -> None:
    with open_config(call.node, call.params["vmid"]) as config:
        config.check_lock()
        config.current.values["lock"] = "create"
        save_config(call.node, call.params["vmid"], config)


def _check_allowed(rights: Rights, *, is_replacing: bool) -> None:
    """Raise unless the caller may make a guest of that id or in that pool, or replace the one that he may back up."""
    if rights.may_allocate():
        return
    if not (is_replacing and rights.caller.may(f"/vms/{rights.vmid}", "VM.Backup")):
        raise PermissionFault


def _plan_request(call: Call, *, is_restore: bool) -> CreateRequest:
    """Return what the worker is told. A password becomes a hash here: workers' arguments leave this process."""
    params, vmid = call.params, call.params["vmid"]
    storage = params.get("storage", "local")
    options, disks = split_disks(render_params(params), storage)
    if disks and "rootfs" not in disks:
        raise ApiFault("mount points configured, but 'rootfs' not set - aborting")
    if options.get("unprivileged") == "0" and not is_restore:
        del options["unprivileged"]
    if not is_restore:
        options = {"hostname": f"CT{vmid}", "memory": "512", "swap": "512", **options}
    password = params.get("password")
    hashed = sha512_crypt.using(rounds=CRYPT_ROUNDS).hash(str(password)) if password else "*"
    return CreateRequest(
        vmid=vmid, template=params["ostemplate"], storage=storage, options=options, disks=disks,
        password_hash=hashed, ssh_keys=params.get("ssh-public-keys", ""), start=bool(params.get("start")),
        ignore_errors=bool(params.get("ignore-unpack-errors")), unique=bool(params.get("unique")),
        is_root=call.caller.is_root, pool=params.get("pool", ""),
    )  # fmt: skip


def _check_request(call: Call, rights: Rights, request: CreateRequest) -> None:
    """Raise unless the caller may set what he gives, read the template, and make disks where they are wanted."""
    given = {key: value for key, value in {**request.options, **request.disks}.items() if key in call.params}
    rights.check_changes(Options(), given, unprivileged=request.options.get("unprivileged") == "1")
    rights.check_archive(request.template, "backup" if call.params.get("restore") else "vztmpl")
    for text in request.disks.values() or [f"{request.storage}:1"]:
        point = MountPoint.parse("mp0", text)
        if point.kind == "volume":
            name = point.volume.partition(":")[0]
            rights.check_storage(name)
            check_rootdir(rights.node.storage(name))


@method("DELETE", "/nodes/{node}/lxc/{vmid}", permission=("/vms/{vmid}", "VM.Allocate"))
def destroy(call: Call) -> str:
    """Destroy a container; returns the task."""
    params, vmid = call.params, call.params["vmid"]
    force = bool(params.get("force"))
    check_destroy(call.node, vmid, load_config(call.node, vmid), force=force)
    flags = (force, bool(params.get("purge")), bool(params.get("destroy-unreferenced-disks")))
    return call.spawn("vzdestroy", str(vmid), run_destroy, vmid, *flags)
