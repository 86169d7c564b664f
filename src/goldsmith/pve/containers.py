"""What a container is made of: the specification a new one is created by, and the configuration an existing one has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_interface

from goldsmith.base.secrets import Secret
from goldsmith.pve.answers import Entry, VmId
from goldsmith.pve.door import Parameter
from goldsmith.pve.properties import (
    Mount,
    Net,
    parse_mount,
    parse_net,
    parse_properties,
    parse_tags,
    render_mount,
    render_net,
    render_properties,
    render_tags,
)


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """A container to be created. None and empty leave a thing to the node. Memory and swap in MiB.

    Without `unprivileged` Proxmox 8 makes a privileged container, so it is on unless switched off.
    """

    vmid: int
    ostemplate: str
    """Volume id of a template, or of a backup with `restore`."""
    rootfs: Mount | None = None
    """`Mount("local:8")` is a new disk of 8 GiB."""
    mounts: tuple[Mount, ...] = ()
    """Become mp0, mp1, ..."""
    nets: tuple[Net, ...] = ()
    """Become net0, net1, ..."""
    hostname: str = ""
    memory: int | None = None
    swap: int | None = None
    cores: int | None = None
    unprivileged: bool = True
    features: Mapping[str, str] = field(default_factory=dict)
    """`{"nesting": "1"}`; all others are for root@pam itself only."""
    ssh_public_keys: tuple[str, ...] = ()
    password: Secret | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    pool: str = ""
    storage: str = ""
    """Where disks go that name no storage."""
    nameserver: str = ""
    searchdomain: str = ""
    cmode: str = ""
    """What its console shows: `tty`, `console`, or `shell`, by which it can be entered (`pve.console`)."""
    onboot: bool | None = None
    protection: bool | None = None
    restore: bool = False
    unique: bool = False
    """With `restore`: new MAC addresses."""

    @property
    def disk_storage(self) -> str:
        """Where its root disk is made; empty where the node decides."""
        return self.rootfs.volume.partition(":")[0] if self.rootfs is not None else self.storage

    def as_parameters(self) -> dict[str, Parameter]:
        """Return the parameters of POST /nodes/N/lxc. It is never started by the same call: that would go unwatched."""
        texts = {
            "hostname": self.hostname,
            "features": render_properties(self.features),
            "ssh-public-keys": "\n".join(key.strip() for key in self.ssh_public_keys),
            "tags": render_tags(self.tags),
            "description": self.description,
            "pool": self.pool,
            "storage": self.storage,
            "nameserver": self.nameserver,
            "cmode": self.cmode,
            "searchdomain": self.searchdomain,
            "rootfs": render_mount(self.rootfs) if self.rootfs else "",
            **{f"mp{n}": render_mount(mount) for n, mount in enumerate(self.mounts)},
            **{f"net{n}": render_net(net) for n, net in enumerate(self.nets)},
        }
        return {
            "vmid": self.vmid,
            "ostemplate": self.ostemplate,
            "unprivileged": self.unprivileged,
            "memory": self.memory,
            "swap": self.swap,
            "cores": self.cores,
            "onboot": self.onboot,
            "protection": self.protection,
            "password": self.password,
            "restore": self.restore or None,
            "unique": self.unique or None,
            **{name: text for name, text in texts.items() if text},
        }


@dataclass(frozen=True, kw_only=True)
class ContainerConfig:
    """An existing container's configuration, pending changes included (as GET config shows it, PVE 8.4)."""

    digest: str
    """Give it back with a change, and the change is refused when somebody else was faster."""
    hostname: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    memory: int = 512
    swap: int = 512
    cores: int | None = None
    unprivileged: bool = False
    template: bool = False
    protection: bool = False
    onboot: bool = False
    lock: str = ""
    """`create`, `backup`, `snapshot`, ... while something has it in hand."""
    features: Mapping[str, str] = field(default_factory=dict)
    rootfs: Mount | None = None
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    """By key: `mp0`."""
    nets: Mapping[str, Net] = field(default_factory=dict)
    """By key: `net0`."""
    unused: Mapping[str, str] = field(default_factory=dict)
    """Volumes that hang on it unused, by key: `unused0`."""
    raw: Mapping[str, object] = field(default_factory=dict)
    """All of the answer."""


def parse_config(answer: object) -> ContainerConfig:
    """Parse the answer of GET /nodes/N/lxc/ID/config. While a container is being created it holds little but `lock`."""
    entry = Entry(answer)

    def keyed(pattern: str) -> dict[str, str]:
        return {key: entry.text(key) for key in sorted(entry) if re.fullmatch(pattern, key)}

    return ContainerConfig(
        digest=entry.text("digest"),
        hostname=entry.text("hostname"),
        description=entry.text("description").rstrip("\n"),  # stored with one more than was given (PVE 8.4)
        tags=parse_tags(entry.text("tags")),
        memory=entry.number("memory", 512),
        swap=entry.number("swap", 512),
        cores=entry.number("cores") or None,
        unprivileged=entry.flag("unprivileged"),
        template=entry.flag("template"),
        protection=entry.flag("protection"),
        onboot=entry.flag("onboot"),
        lock=entry.text("lock"),
        features=parse_properties(entry.text("features")),
        rootfs=parse_mount(entry.text("rootfs")) if "rootfs" in entry else None,
        mounts={key: parse_mount(text) for key, text in keyed(r"mp\d+").items()},
        nets={key: parse_net(text) for key, text in keyed(r"net\d+").items()},
        unused=keyed(r"unused\d+"),
        raw=dict(entry),
    )


@dataclass(frozen=True)
class GuestStatus:
    """A guest at one moment. Bytes and seconds."""

    vmid: VmId
    running: bool
    lock: str = ""
    uptime: int = 0
    memory: int = 0
    disk: int = 0
    template: bool = False
    ha_managed: bool = False
    """Whether the cluster's HA manager decides whether it runs."""


def parse_status(answer: object) -> GuestStatus:
    """Parse the answer of GET .../status/current."""
    entry = Entry(answer)
    return GuestStatus(
        VmId(entry.number("vmid")),
        running=entry.text("status") == "running",
        lock=entry.text("lock"),
        uptime=entry.number("uptime"),
        memory=entry.number("mem"),
        disk=entry.number("disk"),
        template=entry.flag("template"),
        ha_managed=Entry(entry.get("ha") or {}).flag("managed"),
    )


@dataclass(frozen=True)
class Interface:
    """A network interface as it is inside a running container."""

    name: str
    hwaddr: str
    addresses: tuple[str, ...] = ()
    """CIDR form, both families."""

    @property
    def ipv4(self) -> IPv4Address | None:
        """The first IPv4 address that others can reach, if it has one."""
        for text in self.addresses:
            address = ip_interface(text).ip
            if isinstance(address, IPv4Address) and not (address.is_loopback or address.is_link_local):
                return address
        return None


def parse_interface(entry: Entry) -> Interface:
    """Parse one entry of GET .../interfaces; `ip-addresses` has been there since PVE 8.4, `inet` before."""
    listed = entry.get("ip-addresses")
    found = [Entry(item) for item in listed] if isinstance(listed, list) else []
    addresses = [f"{item.text('ip-address')}/{item.text('prefix')}" for item in found]
    older = [entry.text(key) for key in ("inet", "inet6") if entry.text(key)]
    hwaddr = entry.text("hardware-address") or entry.text("hwaddr")
    return Interface(entry.text("name"), hwaddr.lower(), tuple(addresses or older))


@dataclass(frozen=True)
class Snapshot:
    """A snapshot. `parent` is the one it was made on top of; `time` seconds since 1970."""

    name: str
    description: str = ""
    time: int = 0
    parent: str = ""


def parse_snapshot(entry: Entry) -> Snapshot:
    """Parse one entry of GET .../snapshot."""
    return Snapshot(
        entry.text("name"), entry.text("description").rstrip("\n"), entry.number("snaptime"), entry.text("parent")
    )
