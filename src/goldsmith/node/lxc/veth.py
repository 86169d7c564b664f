"""Network devices of running guests: their outer ends on the machine's bridges, changes while the guest runs."""

from __future__ import annotations

import json
from typing import Any, Protocol

from goldsmith.base.process import Argument, run
from goldsmith.node.lxc.config import Options
from goldsmith.node.lxc.guestfs import GuestRoot
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.interfaces import is_on_link, write_network
from goldsmith.node.lxc.properties import Net
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.lxc.setup import MANAGED
from goldsmith.node.network import DEVICES, get_bridge

_UNSUPPORTED = ("tag", "trunks", "rate", "firewall")
DHCP_SECONDS = 30.0


class Reporter(Protocol):
    """Whoever writes down what happens at a start: a task, or the log of a reboot from inside."""

    def log(self, line: str) -> None:
        """Write a line."""
        ...

    def warn(self, line: str) -> None:
        """Write a warning."""
        ...


def warn_unsupported(task: Reporter, net: Net) -> None:
    """Say which of a device's settings have no effect on this node; `firewall=1` alone is usual and harmless."""
    names = [name for name in _UNSUPPORTED if net.get(name) and name != "firewall"]
    if names:
        task.warn(f"{net.key}: {', '.join(names)} has no effect on the embedded node")


def plug(runtime: Runtime, net: Net, bridge: str) -> None:
    """Connect a device's outer end to a bridge, its link up or down as the options say."""
    device = runtime.veth(net.index)
    if net.link_down:
        run(["ip", "link", "set", device, "down"])
    run(["ip", "link", "set", device, "master", bridge])
    if not net.link_down:
        run(["ip", "link", "set", device, "up"])
        forget_neighbour(net, bridge)


def forget_neighbour(net: Net, bridge: str) -> None:
    """Make the machine ask anew who has the guest's address.

    Another guest may have had it a moment ago; Linux would go on sending to that one's device for up to 40 seconds.
    """
    for address in (net.get("ip"), net.get("ip6")):
        if "/" in address:
            run(["ip", "neighbour", "flush", "dev", bridge, "to", address.partition("/")[0]], check=False)


def _inside(runtime: Runtime, argv: list[Argument], *, check: bool = True) -> str:
    """Run one of the machine's programs in the guest's network."""
    return run(["nsenter", "--target", runtime.find_init() or -1, "--net", "--", *argv], check=check).stdout


def remove(runtime: Runtime, index: int) -> None:
    """Take a device away from a running guest. Idempotent."""
    if (DEVICES / runtime.veth(index)).exists():
        run(["ip", "link", "delete", runtime.veth(index)])


def change(runtime: Runtime, options: Options, old: Net | None, new: Net) -> None:
    """Make a running guest's device what the options now say; a new name or address means another device (PVE).

    :raises ApiFault: the bridge does not exist; an existing device may be gone by then, as on Proxmox.
    """
    bridge = get_bridge(runtime.node.settings, new.bridge) if new.bridge else None
    if old is None or (old.name, old.mac, old.get("mtu")) != (new.name, new.mac, new.get("mtu")):
        if old is not None:
            remove(runtime, old.index)
        _add(runtime, new)
        old = None
    if bridge:
        plug(runtime, new, bridge)
    else:
        run(["ip", "link", "set", runtime.veth(new.index), "nomaster"])
    _write_files(runtime, options)
    _configure(runtime, old, new)


def _add(runtime: Runtime, net: Net) -> None:
    init, outer = runtime.find_init(), runtime.veth(net.index)
    mtu: list[Argument] = ["mtu", net.get("mtu")] if net.get("mtu") else []
    peer: list[Argument] = ["peer", "name", net.name, "address", net.mac, *mtu, "netns", init or -1]
    run(["ip", "link", "add", outer, *mtu, "type", "veth", *peer])
    _inside(runtime, ["ip", "link", "set", net.name, "up"])


def _write_files(runtime: Runtime, options: Options) -> None:
    """Bring the network files inside up to date, so that the guest's own tools agree with what is."""
    ostype = options.get("ostype", "unmanaged")
    if ostype in MANAGED:
        with GuestRoot(f"/proc/{runtime.find_init()}/root", IdMap.of(unprivileged=options.is_unprivileged)) as guest:
            write_network(guest, ostype, options.nets())


def _configure(runtime: Runtime, old: Net | None, new: Net) -> None:
    for family, ip, gw in (("-4", "ip", "gw"), ("-6", "ip6", "gw6")):
        before = (old.get(ip), old.get(gw)) if old else ("", "")
        if before != (new.get(ip), new.get(gw)):
            _configure_family(runtime, new, family, new.get(ip), new.get(gw))


def _configure_family(runtime: Runtime, net: Net, family: str, address: str, gateway: str) -> None:
    device: list[Argument] = ["dev", net.name]
    _inside(runtime, ["ip", family, "address", "flush", *device, "scope", "global"], check=False)
    if address == "dhcp":
        command = runtime.command("lxc-attach", "--clear-env", "--", "ifup", "--force", net.name)
        run(command, timeout=DHCP_SECONDS, check=False)
    elif "/" in address:
        _inside(runtime, ["ip", family, "address", "add", address, *device])
        if gateway and not is_on_link(address, gateway):
            _inside(runtime, ["ip", family, "route", "replace", gateway, *device])
        if gateway:
            _inside(runtime, ["ip", family, "route", "replace", "default", "via", gateway, *device])


def list_interfaces(runtime: Runtime) -> list[dict[str, Any]] | None:
    """Return a running guest's interfaces as `GET interfaces` shows them; None when it does not run."""
    if runtime.find_init() is None:
        return None
    links: list[dict[str, Any]] = json.loads(_inside(runtime, ["ip", "-json", "address", "show"], check=False) or "[]")
    return [_render_interface(link) for link in links if link]


def _render_interface(link: dict[str, Any]) -> dict[str, Any]:
    mac = link.get("address", "")
    shown: dict[str, Any] = {"name": link["ifname"], "hwaddr": mac, "hardware-address": mac, "ip-addresses": []}
    for entry in link.get("addr_info", []):
        family = entry["family"]
        item = {"ip-address": entry["local"], "ip-address-type": family, "prefix": str(entry["prefixlen"])}
        shown["ip-addresses"].append(item)
        shown.setdefault(family, f"{entry['local']}/{entry['prefixlen']}")
    return shown
