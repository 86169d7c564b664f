"""A server of the fleet: the variables that a host of the inventory has, each written once, here.

A host with `image` is a server; all others are none of goldsmith's business. Names are Proxmox's where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from goldsmith.definition.declare import declare
from goldsmith.definition.fields import (
    Address,
    Address6,
    Disk,
    Interface6,
    InterfaceOrDhcp,
    Matching,
    Mtu,
    Truth,
    Vlan,
    one_of,
    read_number,
    whole,
)
from goldsmith.definition.layers import PERIOD_FORM
from goldsmith.definition.mounts import Backup, BindMount, Checks, DataList, DataVolume, KeptFor
from goldsmith.definition.values import (
    BRIDGE,
    CHANNEL,
    DISK_FORM,
    GUEST_TAG,
    HOSTNAME,
    NAME,
    NAMESERVERS,
    POOL_ID,
    STORAGE,
    VERSION_TAG,
    VmIdRange,
    parse_range,
)

DAY = 86400
STABLE = "stable"


def read_vmids(value: Any) -> tuple[int, ...]:
    """Return the vmids that a server may have: one, a list that is gone through in turn, or a range.

    :raises ValueError: it is none of these.
    """
    if isinstance(value, str) and "-" in value:
        return tuple(parse_range(value).vmids)
    if isinstance(value, VmIdRange):
        return tuple(value.vmids)
    listed = value if isinstance(value, list | tuple) else [value]
    vmids = tuple(read_number(one, 100, 999_999_999) for one in listed)
    if not vmids or len(set(vmids)) < len(vmids):
        raise ValueError("is a list that is empty, or in which something stands twice")
    return vmids


def _read_names(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list | tuple) else [value]
    check = Matching(HOSTNAME, "is not the name of a node")
    return tuple(check.check(one) for one in listed)


def _read_tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("is not a list of tags")
    wrong = [one for one in value if not isinstance(one, str) or not GUEST_TAG.match(one)]
    if wrong:
        raise ValueError(f"{', '.join(map(repr, wrong))} cannot be a tag of a guest")
    return tuple(value)


def _read_features(value: Any) -> dict[str, str]:
    known = ("nesting", "keyctl", "fuse", "mknod", "mount", "force_rw_sys")
    if not isinstance(value, Mapping) or not all(key in known for key in value):
        raise ValueError(f"is not a mapping with {', '.join(known)}")
    return {str(key): str(int(one)) if isinstance(one, bool | int) else str(one) for key, one in value.items()}


_NUMBERS = {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "array", "items": {"type": "integer"}}]}
_WORDS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
VmIdChoice = Annotated[tuple[int, ...], BeforeValidator(read_vmids), WithJsonSchema(_NUMBERS)]
Names = Annotated[tuple[str, ...], BeforeValidator(_read_names), WithJsonSchema(_WORDS)]
Tags = Annotated[tuple[str, ...], BeforeValidator(_read_tags), WithJsonSchema({"type": "array"})]
Features = Annotated[Mapping[str, str], BeforeValidator(_read_features), WithJsonSchema({"type": "object"})]
_KIND, _STRATEGY = one_of("lxc"), one_of("swap", "recreate")
Kind = Annotated[Literal["lxc"], _KIND[0], _KIND[1]]
Strategy = Annotated[Literal["swap", "recreate"], _STRATEGY[0], _STRATEGY[1]]
_CORES, _MEMORY, _ORDER = whole(1, 8192), whole(16, 1 << 24), whole(0, 100_000)
Cores = Annotated[int, _CORES[0], _CORES[1]]
Memory = Annotated[int, _MEMORY[0], _MEMORY[1]]
Order = Annotated[int, _ORDER[0], _ORDER[1]]


class ServerVariables(BaseModel):
    """What the inventory says of one server: where a value is missing, its default or None."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    image: Annotated[str, Matching(NAME, "is not the name of an image")] = declare(
        "The image that the server is made from. A host with it is a server of the fleet.",
        "the template_name of an image",
        "debian-12-docker",
        default="",
    )
    channel: Annotated[str, Matching(CHANNEL, "is not the name of a channel")] | None = declare(
        "The channel whose version the server runs.", "a channel's name", "stable", otherwise="stable"
    )
    version: Annotated[str, Matching(VERSION_TAG, "is not a version's tag")] | None = declare(
        "The version that the server runs, instead of that of a channel.",
        "a version's tag, as `goldsmith images` lists it (in quotes: it looks like a number)",
        "20261123.1",
        otherwise="that of the channel",
    )
    kind: Kind = declare("What kind of guest it is.", "lxc", "lxc", default="lxc")
    node: Names = declare(
        "The node that the server runs on, or several: it stays on that on which it is, and is made on the first.",
        "a node's name, or a list of them",
        "pve1",
        ["pve1", "pve2"],
        default=(),
        otherwise="the node of the connection",
    )
    vmid: VmIdChoice = declare(
        "The vmids that the server may have: a replacement gets another one than the guest that it replaces (strategy "
        "swap), so one alone is not enough for that.",
        "a whole number from 100 to 999999999, a list of them, or a range like 300-309",
        [111, 211],
        "300-309",
        default=(),
        otherwise="the lowest that is free",
    )
    address: InterfaceOrDhcp | None = declare(
        "The server's address.", "an IPv4 address with its prefix length, or dhcp", "10.10.10.11/24", otherwise="none"
    )
    gateway: Address | None = declare("Its gateway.", "an IPv4 address", "10.10.10.1", otherwise="none")
    address6: Interface6 | None = declare(
        "Its IPv6 address.",
        "an IPv6 address with its prefix length, auto or dhcp",
        "2001:db8::11/64",
        otherwise="none",
    )
    gateway6: Address6 | None = declare("Its IPv6 gateway.", "an IPv6 address", "2001:db8::1", otherwise="none")
    bridge: Annotated[str, Matching(BRIDGE, "is not the name of a bridge")] = declare(
        "The bridge or vnet that it is connected to.", "the name of a bridge or vnet", "vmbr1", default="vmbr0"
    )
    vlan: Vlan | None = declare("Its VLAN.", "a whole number from 1 to 4094", 42, otherwise="none")
    mtu: Mtu | None = declare(
        "Largest packet of its network device, in bytes.", "a whole number from 64 to 65535", 1450,
        otherwise="the bridge's own",
    )  # fmt: skip
    firewall: Truth = declare("Whether the node's firewall filters its packets.", "true or false", True, default=False)
    hostname: Annotated[str, Matching(HOSTNAME, "is not a host name", longest=253)] | None = declare(
        "Its host name.", "a host name", "web1.example.com", otherwise="the host's name in the inventory"
    )
    nameserver: Annotated[str, Matching(NAMESERVERS, "is no address")] | None = declare(
        "Its name servers.", "addresses with spaces between them", "10.10.10.1", otherwise="those of the node"
    )
    cores: Cores | None = declare("Its processors.", "a whole number from 1", 2, otherwise="all of the node's")
    memory: Memory = declare("Its memory in MiB.", "a whole number from 16", 1024, default=512)
    swap: Memory | None = declare("Its swap in MiB.", "a whole number from 16", 512, otherwise="as much as memory")
    disk: Disk | None = declare(
        "Its root disk: it belongs to the image, and is made anew with each replacement.",
        DISK_FORM,
        "local-lvm:8",
        otherwise="8 GiB on `local`",
    )
    template_storage: Annotated[str, Matching(STORAGE, "is not a storage id")] = declare(
        "The storage in which the version is looked for as a template, and put where it is not there.",
        "the name of a storage for container templates",
        "local",
        default="local",
    )
    features: Features = declare(
        "Its features. All but nesting are for root@pam itself (not its tokens).",
        "a mapping like {nesting: true}",
        {"nesting": True},
        default={"nesting": "1"},
    )
    tags: Tags = declare(
        "Tags that the guest has in Proxmox, besides goldsmith's own.", "a list of tags", ["web"], default=()
    )
    pool: Annotated[str, Matching(POOL_ID, "is not the name of a pool")] | None = declare(
        "The pool that it belongs to.", "a pool's name", "golden", otherwise="none"
    )
    onboot: Truth = declare("Whether it starts with its node.", "true or false", True, default=True)
    order: Order | None = declare(
        "Its place when a node starts its guests, and when several servers are replaced.",
        "a whole number; lower ones come first",
        10,
        otherwise="after all that have one",
    )
    data: DataList = declare(
        "What the server keeps while its image is replaced: volumes of a storage, and directories of the node.",
        "a list of mappings: path with volume (STORAGE:GIB), or path with bind and backup (restic, borg or none), its "
        "repository, and a password_file on the node where that has a password",
        [{"path": "/var/lib/postgresql", "volume": "local-lvm:8"}],
        default=(),
        otherwise="nothing: all of it comes from the image",
    )
    backup: Backup | None = declare(
        "Where the server's backups go before it is replaced, and how many are kept. A server with data needs it.",
        "the name of a storage, or a mapping with storage, keep, mode, before and after",
        {"storage": "pbs", "keep": {"last": 3, "weekly": 4}, "before": "pg_dumpall -f /var/lib/postgresql/all.sql"},
        otherwise="no backup is made of a server without data",
    )
    checks: Checks = declare(
        "What must hold after a replacement; otherwise the server before it comes back.",
        "a list of mappings with one of port, url, command and testinfra, and where wanted timeout in seconds",
        [{"port": 5432}, {"url": "http://10.10.10.11/health", "timeout": 60}],
        default=(),
        otherwise="that it has booted and its network is up",
    )
    strategy: Strategy = declare(
        "How it is replaced. swap: the new guest is made beside the old one, which is kept stopped for keep_old. "
        "recreate: the old one is destroyed, the new one has its vmid.",
        "swap or recreate",
        "recreate",
        default="swap",
    )
    keep_old: KeptFor = declare(
        "How long the guest that was replaced is kept, stopped, for a rollback.", PERIOD_FORM, "7d", default=7 * DAY
    )

    keep_host_keys: Truth = declare(
        "Whether the SSH host keys of the server stay the same when it is replaced, so that nobody's known_hosts is "
        "wrong afterwards. They are handed over on the node, and are in no image, backup of ours or log.",
        "true or false",
        True,
        default=False,
    )

    @property
    def fixed_address(self) -> IPv4Interface | None:
        """`address` where it is one."""
        return self.address if isinstance(self.address, IPv4Interface) else None

    @property
    def volumes(self) -> tuple[DataVolume, ...]:
        """The data that lies in volumes of a storage."""
        return tuple(one for one in self.data if isinstance(one, DataVolume))

    @property
    def volume_paths(self) -> frozenset[str]:
        """Where those volumes are mounted."""
        return frozenset(str(volume.path) for volume in self.volumes)

    @property
    def backup_paths(self) -> frozenset[str]:
        """Where the volumes are mounted that are to be in backups."""
        return frozenset(str(volume.path) for volume in self.volumes if volume.backup)

    @property
    def binds(self) -> tuple[BindMount, ...]:
        """The data that lies in directories of the node."""
        return tuple(one for one in self.data if isinstance(one, BindMount))


SERVER_NAMES = tuple(ServerVariables.model_fields)
