"""Which privileges the configured work needs, and where: pure. `docs/proxmox.md` has the calls that they are for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from goldsmith.pve.client import PveVersion

FIRST_WITH_BRIDGE_RIGHTS = PveVersion(8, 0)
"""Since then a guest's bridge needs SDN.Use (pve-container 5.0; PVE 7 asks for nothing there)."""

FIRST_WITH_NETWORK_RIGHT = PveVersion(8, 2)
"""Since then Sys.AccessNetwork on a node is enough to let it download (pve-manager 8.2)."""


@dataclass(frozen=True)
class Need:
    """Privileges on one ACL path, all of them needed."""

    path: str
    privileges: tuple[str, ...]
    purpose: str
    vital: bool = True
    """Whether the work cannot be done without; otherwise it is done less well."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where the configured work happens."""

    node: str
    vmids: range
    """Of temporary guests; the privileges are looked up at the first of them."""
    disk_storage: str
    template_storage: str
    dump_storage: str
    """Empty where no images are built."""
    bridge: str
    publish: tuple[str, ...] = ()
    """Storages that versions are published to."""
    pool: str = ""
    """The pool that temporary guests are put into."""
    console: bool = False
    """Whether guests are entered through their consoles."""
    downloads: bool = False
    """Whether the node downloads a base image from a URL, or pulls versions from a registry."""


GUEST = (
    "VM.Allocate",
    "VM.Audit",
    "VM.Backup",
    "VM.Clone",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.PowerMgmt",
    "VM.Snapshot",
)
"""What making, running, keeping layers of, dumping and removing a container takes."""
ONLY_BUILDS = frozenset({"VM.Backup", "VM.Clone", "VM.Snapshot"})
"""Those of them that nobody needs who only tests there what was built elsewhere."""


def list_needs(work: Work, version: PveVersion) -> tuple[Need, ...]:
    """Return what the work needs on a Proxmox of a version, one entry for each path."""
    merged: dict[str, Need] = {}
    for need in _list_all(work, version):
        known = merged.get(need.path)
        if known is None:
            merged[need.path] = need
            continue
        privileges = tuple(sorted({*known.privileges, *need.privileges}))
        purpose = f"{known.purpose}, {need.purpose}"
        merged[need.path] = Need(need.path, privileges, purpose, known.vital or need.vital)
    return tuple(merged.values())


def _list_all(work: Work, version: PveVersion) -> Iterator[Need]:
    guests = f"/pool/{work.pool}" if work.pool else f"/vms/{work.vmids.start}"
    builds = bool(work.dump_storage)
    yield Need(guests, GUEST if builds else tuple(p for p in GUEST if p not in ONLY_BUILDS), "temporary guests")
    if work.console:
        yield Need(guests, ("VM.Console",), "entering them through their consoles")
    yield Need(f"/storage/{work.disk_storage}", ("Datastore.AllocateSpace", "Datastore.Audit"), "their disks")
    yield Need(
        f"/storage/{work.template_storage}",
        ("Datastore.Allocate", "Datastore.AllocateTemplate", "Datastore.Audit"),
        "base images and finished templates" if builds else "uploading and removing templates",
    )
    if builds:
        yield Need(f"/storage/{work.dump_storage}", ("Datastore.AllocateSpace", "Datastore.Audit"), "dumps")
    for storage in work.publish:
        privileges = ("Datastore.Allocate", "Datastore.AllocateTemplate", "Datastore.Audit")
        yield Need(f"/storage/{storage}", privileges, "publishing templates, and withdrawing them")
    if version >= FIRST_WITH_BRIDGE_RIGHTS:
        yield Need(f"/sdn/zones/localnetwork/{work.bridge}", ("SDN.Use",), "connecting guests")
    if work.downloads:
        if version >= FIRST_WITH_NETWORK_RIGHT:
            yield Need(f"/nodes/{work.node}", ("Sys.AccessNetwork",), "downloading base images and versions")
        else:
            yield Need("/", ("Sys.Audit", "Sys.Modify"), "downloading base images and versions")
    yield Need(f"/nodes/{work.node}", ("Sys.Audit",), "seeing processors and memory of the node", vital=False)
    yield Need("/", ("Sys.Audit",), "finding the address of another node of the cluster", vital=False)
