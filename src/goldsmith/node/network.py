"""The guests' network: a bridge of our own with NAT, forwarding, DHCP and name resolution. Nothing outlives a reboot.

    guests -- veth -- bridge (gateway address) -- nftables NAT -- the machine's own network
                        |- dnsmasq: DHCP for `ip=dhcp`, DNS passed on to the machine's resolvers

Everything is named after `settings.host_bridge`, so that several nodes live side by side, and nothing in /etc is
touched. The lower half of the network is for fixed addresses, DHCP gives out the upper half.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from shutil import which
from typing import Any

from goldsmith.base.errors import NodeServiceError, ProgramFailed
from goldsmith.base.files import open_lock
from goldsmith.base.process import SAFE_PATH, Argument, run
from goldsmith.node.faults import ApiFault
from goldsmith.node.settings import NodeSettings

COMMENT = "goldsmith"
DEVICES = Path("/sys/class/net")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_HANDSHAKE_PORTS = (("udp", "53"), ("tcp", "53"), ("udp", "67"))


def ensure_network(settings: NodeSettings) -> None:
    """Bring up bridge, forwarding, NAT, DHCP and DNS, whatever of it is missing. Idempotent.

    :raises NodeServiceError: another interface has an address in the network, or a program refuses.
    """
    with open_lock(settings.state / "lock" / "network.lock", timeout=30):
        try:
            _ensure_bridge(settings)
            _ensure_forwarding()
            run(["nft", "-f", "-"], input=render_rules(settings))
            _ensure_accepted(settings)
            _ensure_dnsmasq(settings)
        except ProgramFailed as error:
            raise NodeServiceError(
                f"the guests' network {settings.network} on {settings.host_bridge} cannot be set up: {error.message}",
                detail=error.detail,
                hint="`goldsmith node doctor` says what the machine lacks",
            ) from error


def remove_network(settings: NodeSettings) -> None:
    """Take down what `ensure_network` made; forwarding stays on. Idempotent."""
    with open_lock(settings.state / "lock" / "network.lock", timeout=30):
        if (pid := _find_dnsmasq(settings)) is not None:
            os.kill(pid, signal.SIGTERM)
        for path in (_pid_file(settings), _lease_file(settings)):
            path.unlink(missing_ok=True)
        for rule in render_accept_rules(settings) if which("iptables", path=SAFE_PATH) else []:
            run(["iptables", "-w", "-D", *rule], check=False)
        run(["nft", "delete", "table", "ip", table_name(settings)], check=False)
        run(["ip", "link", "delete", settings.host_bridge], check=False)


def table_name(settings: NodeSettings) -> str:
    """Return the name of the node's own nftables table."""
    return f"goldsmith_{settings.host_bridge.replace('-', '_').replace('.', '_')}"


def _show(what: str, *arguments: Argument) -> list[dict[str, Any]]:
    completed = run(["ip", "-json", what, "show", *arguments], check=False)
    found: list[dict[str, Any]] = json.loads(completed.stdout or "[]")
    return [entry for entry in found if entry]


def _ensure_bridge(settings: NodeSettings) -> None:
    check_network(settings, _show("address"))
    bridge, own = settings.host_bridge, IPv4Interface(settings.network)
    if not (DEVICES / bridge / "bridge").exists():
        # A fixed address of its own: a bridge without one takes the lowest of its ports and changes it under guests.
        mac = "fe:86:" + ":".join(f"{byte:02x}" for byte in settings.gateway.packed)
        run(["ip", "link", "add", "name", bridge, "address", mac, "type", "bridge", "forward_delay", 0])
    run(["ip", "address", "replace", str(own), "dev", bridge])
    run(["ip", "link", "set", bridge, "up"])
    # Who waits for a guest asks for its hardware address before it can answer; the default is to ask again after 1 s.
    Path("/proc/sys/net/ipv4/neigh", bridge, "retrans_time_ms").write_text("100\n")


def check_network(settings: NodeSettings, interfaces: list[dict[str, Any]]) -> None:
    """Raise when another interface of the machine already has an address in the guests' network.

    :param interfaces: what `ip -json address show` answers.
    """
    network = IPv4Interface(settings.network).network
    for interface in interfaces:
        for address in interface.get("addr_info", []):
            other = ipaddress.ip_interface(f"{address['local']}/{address['prefixlen']}")
            if interface["ifname"] != settings.host_bridge and isinstance(other, IPv4Interface):
                _check_apart(network, interface["ifname"], other)


def _check_apart(network: ipaddress.IPv4Network, name: str, other: IPv4Interface) -> None:
    if network.overlaps(other.network):
        raise NodeServiceError(
            f"the guests' network {network} overlaps with {other} of {name}",
            hint="choose another network for the node, e.g. 10.123.0.1/16",
        )


def get_bridge(settings: NodeSettings, name: str) -> str:
    """Return the machine's bridge of a guest's device: the node's own, or an existing bridge of that very name.

    :raises ApiFault: there is none; PVE's words.
    """
    if name == settings.bridge:
        return settings.host_bridge
    if not (DEVICES / name / "bridge").exists():
        raise ApiFault(f"bridge '{name}' does not exist")
    return name


def _ensure_forwarding() -> None:
    if _FORWARDING.read_text().strip() != "1":
        _FORWARDING.write_text("1\n")


def render_rules(settings: NodeSettings) -> str:
    """Render the node's nftables table: guests leave under the machine's own address."""
    name, network = table_name(settings), IPv4Interface(settings.network).network
    return f"""table ip {name} {{}}
delete table ip {name}
table ip {name} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network} ip daddr != {network} masquerade
  }}
}}
"""


def render_accept_rules(settings: NodeSettings) -> list[list[str]]:
    """Return iptables rules that let guests through a firewall: traffic of the bridge, and DHCP and DNS to us."""
    bridge = settings.host_bridge
    note = ["-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"]
    passing = [["FORWARD", direction, bridge, *note] for direction in ("-i", "-o")]
    ports = [["INPUT", "-i", bridge, "-p", kind, "--dport", port, *note] for kind, port in _HANDSHAKE_PORTS]
    return [*passing, *ports]


def _ensure_accepted(settings: NodeSettings) -> None:
    """Insert accept rules where Docker, ufw or the like drop by default.

    They must stand in that firewall's own chains: an accept in a table of ours would not spare a packet the others.
    """
    if which("iptables", path=SAFE_PATH) is None:
        return
    for chain in ("FORWARD", "INPUT"):
        listing = run(["iptables", "-w", "-S", chain], check=False).stdout
        if f"-P {chain} DROP" not in listing and "-j REJECT" not in listing and "-j DROP" not in listing:
            continue
        for rule in [rule for rule in render_accept_rules(settings) if rule[0] == chain]:
            if run(["iptables", "-w", "-C", *rule], check=False).returncode != 0:
                run(["iptables", "-w", "-I", *rule])


def dhcp_range(network: str) -> tuple[IPv4Address, IPv4Address] | None:
    """Return the first and last address that DHCP gives out: the upper half; None where there is no room for it."""
    net = IPv4Interface(network).network
    if net.prefixlen > 29:
        return None
    return net[net.num_addresses // 2], net[-2]


def _pid_file(settings: NodeSettings) -> Path:
    return settings.state / "run" / "dnsmasq.pid"


def _lease_file(settings: NodeSettings) -> Path:
    return settings.state / "run" / "dnsmasq.leases"


def render_dnsmasq(settings: NodeSettings) -> list[Argument]:
    """Return the command line of the node's dnsmasq: our bridge only, no file of /etc/dnsmasq*."""
    arguments: list[Argument] = [
        "dnsmasq", "--conf-file=", f"--pid-file={_pid_file(settings)}",
        f"--interface={settings.host_bridge}", "--except-interface=lo", "--bind-interfaces", "--no-hosts",
        f"--listen-address={settings.gateway}", f"--dhcp-leasefile={_lease_file(settings)}",
        "--dhcp-authoritative", "--dhcp-no-override", "--no-ping", "--quiet-dhcp", "--quiet-dhcp6",
    ]  # fmt: skip
    if span := dhcp_range(settings.network):
        netmask = IPv4Interface(settings.network).netmask
        arguments.append(f"--dhcp-range={span[0]},{span[1]},{netmask},1h")
    return arguments


def _find_dnsmasq(settings: NodeSettings) -> int | None:
    """Return the process id of the node's own dnsmasq, judged by its command line, not by a file alone."""
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int(_pid_file(settings).read_text())
        if f"--pid-file={_pid_file(settings)}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    return None


def _ensure_dnsmasq(settings: NodeSettings) -> None:
    if _find_dnsmasq(settings) is None:
        _pid_file(settings).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(render_dnsmasq(settings))
