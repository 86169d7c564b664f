"""The network files inside a guest: ifupdown's (Debian, Devuan, Alpine) and systemd-networkd's (Ubuntu)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network

from goldsmith.node.lxc.guestfs import GuestRoot
from goldsmith.node.lxc.properties import Net

INTERFACES = "/etc/network/interfaces"
_LOOPBACK = ["auto lo", "iface lo inet loopback", "iface lo inet6 loopback"]
_STANZA = re.compile(r"\s*(auto|allow-\S+|iface|mapping|source|source-directory|no-auto-down|no-scripts)\s")


def write_network(root: GuestRoot, ostype: str, nets: Sequence[Net]) -> None:
    """Write the network files that the guest's distribution reads."""
    if ostype == "ubuntu" and not root.has(INTERFACES):
        for net in nets:
            root.write(f"/etc/systemd/network/{net.name}.network", render_networkd(net))
    else:
        root.write(INTERFACES, update_interfaces(root.read(INTERFACES), nets))


def _split_stanzas(text: str) -> list[list[str]]:
    """Split interfaces(5) into stanzas with the comments and lines that belong to each."""
    stanzas: list[list[str]] = [[]]
    for line in text.splitlines():
        if _STANZA.match(line + " "):
            stanzas.append(_take_comments(stanzas[-1]))
        stanzas[-1].append(line.rstrip())
    return [stanza for stanza in stanzas if any(stanza)]


def _take_comments(stanza: list[str]) -> list[str]:
    """Take the comments at a stanza's end: they belong to what follows."""
    taken: list[str] = []
    while stanza and stanza[-1].startswith("#"):
        taken.insert(0, stanza.pop())
    return taken


def _names(stanza: list[str]) -> set[str]:
    words = next((line for line in stanza if not line.startswith("#")), "").split()
    if not words or not (words[0] in ("auto", "iface") or words[0].startswith("allow-")):
        return set()
    return set(words[1:2]) if words[0] == "iface" else set(words[1:])


def update_interfaces(text: str, nets: Sequence[Net]) -> str:
    """Return interfaces(5) with our devices' stanzas made anew; what belongs to other interfaces stays."""
    ours = {"lo", *(net.name for net in nets)}
    kept = [stanza for stanza in _split_stanzas(text) if not (_names(stanza) and _names(stanza) <= ours)]
    blocks = [_LOOPBACK, *(_render_interface(net) for net in nets)]
    blocks += [[line for line in stanza if line] for stanza in kept]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _render_interface(net: Net) -> list[str]:
    lines = [f"auto {net.name}", *_render_family(net, 4)]
    return lines + (["", *_render_family(net, 6)] if net.get("ip6") else [])


def _render_family(net: Net, family: int) -> list[str]:
    kind, address, gateway = ("inet", net.get("ip"), net.get("gw"))
    if family == 6:
        kind, address, gateway = ("inet6", net.get("ip6"), net.get("gw6"))
    if address in ("", "manual", "dhcp", "auto"):
        return [f"iface {net.name} {kind} {address or 'manual'}"]
    lines = [f"iface {net.name} {kind} static", f"\taddress {address}"]
    return lines + _render_gateway(net.name, address, gateway)


def _render_gateway(name: str, address: str, gateway: str) -> list[str]:
    if not gateway:
        return []
    if is_on_link(address, gateway):
        return [f"\tgateway {gateway}"]
    ip = "ip -6" if ":" in gateway else "ip"
    return [
        f"\tpost-up {ip} route add {gateway} dev {name}",
        f"\tpost-up {ip} route add default via {gateway} dev {name}",
        f"\tpre-down {ip} route del default via {gateway} dev {name}",
        f"\tpre-down {ip} route del {gateway} dev {name}",
    ]


def is_on_link(address: str, gateway: str) -> bool:
    """Tell whether the gateway lies in the address's own network, or is link-local."""
    other = ip_address(gateway)
    return other in ip_network(ip_interface(address).network) or other.is_link_local


def render_networkd(net: Net) -> str:
    """Render systemd.network(5), as Proxmox writes it for Ubuntu."""
    ip, ip6 = net.get("ip"), net.get("ip6")
    dhcp = {(True, True): "yes", (True, False): "ipv4", (False, True): "ipv6"}.get((ip == "dhcp", ip6 == "dhcp"), "no")
    lines = ["[Match]", f"Name = {net.name}", "", "[Network]"]
    lines += [f"Description = Interface {net.name} autoconfigured by PVE", f"DHCP = {dhcp}"]
    lines += [f"IPv6AcceptRA = {'true' if ip6 == 'auto' else 'false'}"]
    routes = []
    for address, gateway in ((ip, net.get("gw")), (ip6, net.get("gw6"))):
        if "/" in address:
            lines.append(f"Address = {address}")
            if gateway:
                lines.append(f"Gateway = {gateway}")
                routes += (
                    [] if is_on_link(address, gateway) else ["", "[Route]", f"Destination = {gateway}", "Scope = link"]
                )
    return "\n".join(lines + routes) + "\n"
