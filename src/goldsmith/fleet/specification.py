"""What the inventory says of a server, as Proxmox takes it: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from goldsmith.base.digest import JsonValue, digest_json
from goldsmith.build.link import Link
from goldsmith.definition.fleet import Server
from goldsmith.definition.mounts import BindMount, DataVolume
from goldsmith.definition.values import GIB, DiskSize
from goldsmith.fleet.marks import Labels, Role, render_labels
from goldsmith.pve.containers import ContainerConfig, ContainerSpec
from goldsmith.pve.door import Parameter
from goldsmith.pve.properties import Mount, Net, render_net, render_tags
from goldsmith.pve.storage import is_backup

DEFAULT_DISK = DiskSize("local", 8 * GIB)


def connect(server: Server, *, up: bool) -> Net:
    """Return a server's network device. Its MAC address follows from its name: a replacement has the same."""
    variables = server.variables
    link = Link(
        bridge=variables.bridge,
        gateway=variables.gateway,
        ip6=str(variables.address6 or ""),
        gateway6=str(variables.gateway6 or ""),
        vlan=variables.vlan,
        mtu=variables.mtu,
        firewall=variables.firewall,
    )
    net = link.plug("manual" if variables.address is None else str(variables.address), f"server {server.name}")
    return replace(net, link_down=None if up else True)


def list_mounts(server: Server) -> dict[str, DataVolume | BindMount]:
    """Return a server's data by mount point key, outer paths first: `mp0`, `mp1`, ..."""
    ordered = sorted(server.variables.data, key=lambda one: (len(one.path.parts), str(one.path)))
    return {f"mp{number}": one for number, one in enumerate(ordered)}


def render_data(one: DataVolume | BindMount) -> Mount:
    """Return a mount point that does not exist yet."""
    if isinstance(one, BindMount):
        return Mount(str(one.source), str(one.path))
    return Mount(f"{one.size.storage}:{one.size.size / GIB:g}", str(one.path), backup=one.backup)


def specify(server: Server, vmid: int, template: str, labels: Labels, description: str) -> ContainerSpec:
    """Return the guest that a server is made as: without its data, its link down, and not started at boot yet."""
    variables = server.variables
    disk = variables.disk or DEFAULT_DISK
    return ContainerSpec(
        vmid=vmid,
        ostemplate=template,
        restore=is_backup(template),
        rootfs=Mount(f"{disk.storage}:{disk.size / GIB:g}"),
        nets=(connect(server, up=False),),
        hostname=server.hostname,
        memory=variables.memory,
        swap=variables.swap if variables.swap is not None else variables.memory,
        cores=variables.cores,
        features=variables.features,
        nameserver=variables.nameserver or "",
        tags=label(server, labels),
        description=description,
        pool=variables.pool or "",
        onboot=False,
    )


def label(server: Server, labels: Labels) -> tuple[str, ...]:
    """Return a server's tags, those of the inventory among them."""
    return render_labels(labels, server.variables.tags)


def make_labels(server: Server, role: Role, image: str, tag: str) -> Labels:
    """Return what the tags of a server's guest say, with digests of what the inventory says now."""
    return Labels(role, image, tag, _short(describe_changeable(server)), _short(describe_fixed(server)))


def _short(value: JsonValue) -> str:
    return digest_json(value).partition(":")[2][:8]


def describe_changeable(server: Server) -> JsonValue:
    """Return what of a server Proxmox changes in place."""
    variables = server.variables
    return {
        "net": render_net(connect(server, up=True)), "memory": variables.memory, "swap": variables.swap,
        "cores": variables.cores, "nameserver": variables.nameserver, "onboot": variables.onboot,
        "order": variables.order, "tags": list(variables.tags),
        "data": [str(one) for one in list_mounts(server).items()],
    }  # fmt: skip


def describe_fixed(server: Server) -> JsonValue:
    """Return what of a server changes only when it is made anew."""
    variables = server.variables
    return {
        "hostname": server.hostname, "features": dict(variables.features), "disk": str(variables.disk or DEFAULT_DISK),
        "pool": variables.pool,
    }  # fmt: skip


def list_settings(server: Server, labels: Labels, description: str, *, up: bool) -> Mapping[str, Parameter]:
    """Return the options of a server's guest that are set in place, for PUT config."""
    variables = server.variables
    order = f"order={variables.order}" if variables.order is not None else ""
    return {
        "net0": render_net(connect(server, up=up)),
        "memory": variables.memory,
        "swap": variables.swap if variables.swap is not None else variables.memory,
        "onboot": variables.onboot,
        "tags": render_tags(label(server, labels)),
        "description": description,
        **({"cores": variables.cores} if variables.cores is not None else {}),
        **({"nameserver": variables.nameserver} if variables.nameserver else {}),
        **({"startup": order} if order else {}),
    }


def list_unset(server: Server, config: ContainerConfig) -> list[str]:
    """Return the options that a guest has and its server does not want (any more), for PUT config to delete.

    A guest that is made from a backup has those of the guest that was backed up.
    """
    variables = server.variables
    wanted = {
        "cores": variables.cores, "nameserver": variables.nameserver or None, "startup": variables.order,
        "searchdomain": None, "cmode": None,
    }  # fmt: skip
    return [name for name, value in wanted.items() if value is None and name in config.raw]


def list_data_paths(server: Server) -> tuple[PurePosixPath, ...]:
    """Return where a server's data is mounted."""
    return tuple(one.path for one in server.variables.data)
