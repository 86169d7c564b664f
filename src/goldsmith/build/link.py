"""How a temporary guest is connected to its network: pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from goldsmith.base.digest import digest_bytes
from goldsmith.base.errors import DefinitionError
from goldsmith.build.facts import GuestFacts
from goldsmith.definition.image import Image
from goldsmith.definition.values import DHCP
from goldsmith.pve.properties import Net


@dataclass(frozen=True, kw_only=True)
class Link:
    """A network that guests are put into. `gateway` is None where the network tells it."""

    bridge: str
    gateway: IPv4Address | None = None
    ip6: str = ""
    """An address with its prefix length, `auto` or `dhcp`; empty for none."""
    gateway6: str = ""
    vlan: int | None = None
    mtu: int | None = None
    firewall: bool = False

    def connect(self, vmid: int, address: IPv4Interface | None) -> Net:
        """Return the network device of a guest. Without an address it asks for one by DHCP.

        Its MAC address follows from its address (from its vmid where it has no fixed one). So whichever guest has an
        address next is reached at once: what routers and other machines remember of the one before is still right.
        """
        name = f"vmid {vmid}" if address is None else f"address {address.ip}"
        return self.plug(DHCP if address is None else str(address), name)

    def plug(self, ip: str, name: str) -> Net:
        """Return a network device with an address, in Proxmox's form, and the MAC address that follows from a name."""
        more = {"ip6": self.ip6, "gw6": self.gateway6}
        return Net(
            bridge=self.bridge,
            ip=ip,
            gateway=str(self.gateway) if self.gateway is not None else None,
            hwaddr=derive_mac(name),
            firewall=self.firewall or None,
            mtu=self.mtu,
            tag=self.vlan,
            more={key: value for key, value in more.items() if value},
        )


def derive_mac(name: str) -> str:
    """Return a MAC address that follows from a name: of one host, and locally administered (IEEE 802, 48 bits)."""
    digits = digest_bytes(f"goldsmith {name}".encode()).partition(":")[2]
    return ":".join(["02", *(digits[start : start + 2] for start in range(0, 10, 2))])


def asks_network(image: Image, facts: GuestFacts) -> bool:
    """Tell whether a guest asks for its address by DHCP: where that is wanted, or where nothing says one.

    The latter only where nobody has to find it: it is entered through its console.
    """
    address = image.variables.temp_ip_address
    is_hidden = image.variables.guest_connection == "console" and facts.network is None
    return address == DHCP or (address is None and is_hidden)


def choose_link(image: Image, facts: GuestFacts) -> Link:
    """Return how an image's temporary guests are connected on a node.

    :raises DefinitionError: nothing says what their gateway is.
    """
    variables = image.variables
    return Link(
        bridge=variables.temp_bridge or facts.bridge,
        gateway=_choose_gateway(image, facts),
        ip6=str(variables.temp_ip6_address or ""),
        gateway6=str(variables.temp_gateway6 or ""),
        vlan=variables.temp_vlan,
        mtu=variables.temp_mtu,
        firewall=variables.temp_firewall,
    )


def _choose_gateway(image: Image, facts: GuestFacts) -> IPv4Address | None:
    """Return the image's own gateway, else that of the embedded node's network; None where the network tells it."""
    if asks_network(image, facts):
        return None
    if image.variables.temp_gateway is not None:
        return image.variables.temp_gateway
    if facts.network is not None:
        return facts.network.gateway.ip
    raise DefinitionError([image.problem("temp_gateway", "temp_gateway is missing", "an IPv4 address")])
