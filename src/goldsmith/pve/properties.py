"""Proxmox's property strings, both ways: `name=eth0,bridge=vmbr0,ip=dhcp` and `local:8,mp=/data,backup=1`.

What we have no field for is kept in `more` and written back, so that changing one thing never loses another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface

from goldsmith.base.errors import UsageError

Pairs = dict[str, str]


def parse_properties(text: str, default_key: str = "") -> Pairs:
    """Parse `a=1,b=2`; a first item without `=` belongs to `default_key`.

    :raises UsageError: an item has no key, or a key comes twice.
    """
    pairs: Pairs = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            key, value = default_key, item
        if not key or key in pairs:
            raise UsageError(f"'{item}' in '{text}' is no property")
        pairs[key] = value
    return pairs


def render_properties(pairs: Mapping[str, object], default_key: str = "") -> str:
    """Render pairs in their order; absent (None) ones are left out, booleans are 1 and 0."""
    items: list[str] = []
    for key, value in pairs.items():
        if value is None:
            continue
        text = str(int(value)) if isinstance(value, bool) else str(value)
        if "," in text:
            raise UsageError(f"'{text}' cannot be written as the property '{key}': it holds a comma")
        items.append(text if key == default_key else f"{key}={text}")
    return ",".join(items)


def _take_flag(pairs: Pairs, key: str) -> bool | None:
    value = pairs.pop(key, None)
    return None if value is None else value in ("1", "yes", "on", "true")


@dataclass(frozen=True)
class Net:
    """A container's network device. `ip` is an IPv4 CIDR, `dhcp` or `manual`; None leaves a property to the node."""

    name: str = "eth0"
    bridge: str | None = None
    ip: str | None = None
    gateway: str | None = None
    hwaddr: str | None = None
    firewall: bool | None = None
    link_down: bool | None = None
    mtu: int | None = None
    tag: int | None = None
    """VLAN."""
    more: Mapping[str, str] = field(default_factory=dict)
    """`ip6`, `gw6`, `rate`, `trunks`, `type`, ... as they stand."""

    @property
    def address(self) -> IPv4Interface | None:
        """The fixed IPv4 address, if it has one."""
        return None if self.ip in (None, "dhcp", "manual") else IPv4Interface(self.ip)


def parse_net(text: str) -> Net:
    """Parse a `netN` value of a container."""
    pairs = parse_properties(text)
    mtu, tag = pairs.pop("mtu", None), pairs.pop("tag", None)
    return Net(
        name=pairs.pop("name", "eth0"),
        bridge=pairs.pop("bridge", None),
        ip=pairs.pop("ip", None),
        gateway=pairs.pop("gw", None),
        hwaddr=pairs.pop("hwaddr", None),
        firewall=_take_flag(pairs, "firewall"),
        link_down=_take_flag(pairs, "link_down"),
        mtu=None if mtu is None else int(mtu),
        tag=None if tag is None else int(tag),
        more=pairs,
    )


def render_net(net: Net) -> str:
    """Render a `netN` value in Proxmox's own order: name, bridge, then by key."""
    known = {
        "firewall": net.firewall, "gw": net.gateway, "hwaddr": net.hwaddr, "ip": net.ip,
        "link_down": net.link_down, "mtu": net.mtu, "tag": net.tag,
    }  # fmt: skip
    rest = dict(sorted({**known, **net.more}.items()))
    return render_properties({"name": net.name, "bridge": net.bridge, **rest})


@dataclass(frozen=True)
class Mount:
    """A root or mount point: a volume, `STORAGE:GiB` for a new one, or a directory of the node (bind mount).

    `path` is where it is mounted inside; empty for the root.
    """

    volume: str
    path: str = ""
    size: str | None = None
    backup: bool | None = None
    """Whether vzdump includes it. Off unless it says so (PVE 8.4)."""
    read_only: bool | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    """`acl`, `mountoptions`, `quota`, `replicate`, `shared` as they stand."""

    @property
    def is_bind(self) -> bool:
        """Whether it is a directory of the node, not a volume of a storage."""
        return self.volume.startswith("/")


def parse_mount(text: str) -> Mount:
    """Parse a `rootfs` or `mpN` value."""
    pairs = parse_properties(text, "volume")
    return Mount(
        volume=pairs.pop("volume", ""),
        path=pairs.pop("mp", ""),
        size=pairs.pop("size", None),
        backup=_take_flag(pairs, "backup"),
        read_only=_take_flag(pairs, "ro"),
        more=pairs,
    )


def render_mount(mount: Mount) -> str:
    """Render a `rootfs` or `mpN` value."""
    known = {"backup": mount.backup, "ro": mount.read_only, "size": mount.size}
    rest = dict(sorted({**known, **mount.more}.items()))
    return render_properties({"volume": mount.volume, "mp": mount.path or None, **rest}, "volume")


def parse_tags(text: str) -> tuple[str, ...]:
    """Parse tags; Proxmox accepts `;`, `,` and spaces and stores them sorted with `;`."""
    return tuple(sorted({tag for tag in text.replace(",", ";").replace(" ", ";").split(";") if tag}))


def render_tags(tags: tuple[str, ...]) -> str:
    """Render tags."""
    return ";".join(tags)
