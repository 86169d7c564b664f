"""`goldsmith node`: the embedded node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface

import click

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import UsageError
from goldsmith.base.findings import is_well
from goldsmith.base.units import render_bytes
from goldsmith.cli.consent import check_consent
from goldsmith.cli.findings import describe_finding, render_finding
from goldsmith.cli.node_users import keep_node, remove_node, stop_node
from goldsmith.cli.options import Group, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.project import state_directory
from goldsmith.cli.signals import catch_signals
from goldsmith.cli.site import check_host, connect_embedded, load_node_settings
from goldsmith.cli.table import render_pairs, render_table
from goldsmith.node.client import NodeAddress, find_access, find_node
from goldsmith.node.host import judge_host, look_at_host
from goldsmith.node.settings import NodeSettings
from goldsmith.pve.client import open_pve
from goldsmith.pve.guests import Guest
from goldsmith.pve.storage import Storage

NOT_RUNNING = 1


@click.group(cls=Group)
def node() -> None:
    """Run the embedded node, for machines without a Proxmox.

    It speaks Proxmox VE's API on this machine, over real containers. A build starts it where it does not run, and stops
    it again; `start` keeps it running. GOLDSMITH_NODE_STATE in the environment names the directory of another one.
    """


@node.command()
@click.option(
    "--network",
    metavar="CIDR",
    help="Address of the guests' bridge, like 10.86.0.1/16. It counts at the first start and cannot be changed later.",
)
@pass_settings
def start(settings: Settings, network: str | None) -> None:
    """Start the node, and keep it running when builds have ended."""
    chosen = choose_settings(load_node_settings(), network)
    with catch_signals():
        if find_node(chosen.state) is None:
            check_host(chosen)
        address = keep_node(chosen, state_directory()).address
    if settings.json:
        say_document(_describe_address(address))
    else:
        say(f"the embedded node runs: {render_url(address)}")


def choose_settings(known: NodeSettings, network: str | None) -> NodeSettings:
    """Return the settings to start with.

    :raises UsageError: the network is none, or another one than that of a node that is there already.
    """
    if network is None or network == known.network:
        return known
    if (known.state / "settings.json").exists():
        raise UsageError(
            f"the node on {known.state} has network {known.network} already; its guests rely on it",
            hint="GOLDSMITH_NODE_STATE names the directory of another node",
        )
    try:
        prefix = IPv4Interface(network).network.prefixlen
    except ValueError as error:
        raise UsageError(f"{error}", hint="write it like 10.86.0.1/16") from error
    if not 8 <= prefix <= 24:
        raise UsageError(f"{network} has no room for guests", hint="a prefix length from 8 to 24, like 10.86.0.1/16")
    return replace(known, network=network)


@node.command()
@click.option("--force", is_flag=True, help="Also when a build uses it; that build fails.")
@pass_settings
def stop(settings: Settings, force: bool) -> None:
    """Stop the node. Its guests and tasks go on."""
    chosen = load_node_settings()
    with catch_signals():
        found = look_at_node(chosen)
        has_run = stop_node(chosen, force=force)
    running = [guest for guest in found.guests if guest.running] if found else []
    if settings.json:
        say_document({"stopped": has_run, "running_guests": [guest.vmid for guest in running]})
    elif not has_run:
        say("the embedded node does not run")
    else:
        say("the embedded node has stopped" + (f"; {_count(len(running))} on: {_name(running)}" if running else ""))


@node.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also when a build uses it; that build fails.")
@pass_settings
def remove(settings: Settings, yes: bool, force: bool) -> None:
    """Remove the node with all its guests, their data, and its templates."""
    chosen = load_node_settings()
    if not (chosen.state / "settings.json").exists():
        raise UsageError(f"there is no embedded node on {chosen.state}")
    if not yes:
        check_consent(f"Remove the embedded node on {chosen.state}, its guests, their data and its templates?")
    with catch_signals():
        remove_node(chosen, force=force)
    if settings.json:
        say_document({"removed": str(chosen.state)})
    else:
        say(f"the embedded node on {chosen.state} is removed")


def _count(number: int) -> str:
    return f"{number} guest{'s go' if number != 1 else ' goes'}"


def _name(guests: Sequence[Guest]) -> str:
    return ", ".join(f"{guest.vmid} {guest.name}".rstrip() for guest in guests)


@dataclass(frozen=True)
class Found:
    """A running node. Without a token of our own only its address is known."""

    address: NodeAddress
    has_access: bool = False
    version: str = ""
    guests: tuple[Guest, ...] = ()
    storages: tuple[Storage, ...] = ()


@node.command()
@pass_settings
def status(settings: Settings) -> int:
    """Show whether the node runs, its guests and its storages. The exit code is 1 when it does not run."""
    chosen = load_node_settings()
    found = look_at_node(chosen)
    if settings.json:
        say_document({"state": str(chosen.state), **(_describe(found) if found else {"running": False})})
    elif found:
        say(render_status(found, chosen))
    else:
        say(f"the embedded node on {chosen.state} does not run")
    return 0 if found else NOT_RUNNING


def look_at_node(settings: NodeSettings) -> Found | None:
    """Ask the running node about itself; None where none runs."""
    address, access = find_node(settings.state), find_access(settings.state)
    if address is None or access is None:
        return None if address is None else Found(address)
    with open_pve(connect_embedded(access)) as pve:
        api = pve.node(address.node)
        guests, storages = api.guests.list_guests(), api.storage.list_storages()
        return Found(address, True, str(pve.version()), tuple(guests), tuple(storages))


def render_url(address: NodeAddress) -> str:
    """Return where the API is."""
    return f"https://{address.host}:{address.port}"


def render_status(found: Found, settings: NodeSettings) -> str:
    """Render a running node for a person."""
    about = {
        "address": render_url(found.address),
        "node": found.address.node + (f", Proxmox VE {found.version}" if found.version else ""),
        "process": str(found.address.pid),
        "state": str(settings.state),
        "network": f"{settings.network} on {settings.host_bridge}",
        "fingerprint": found.address.fingerprint,
    }
    if not found.has_access:
        return f"{render_pairs(about)}\nyou have no token of it yet: goldsmith node start gives you one"
    storages = [(s.name, s.type, render_bytes(s.used), render_bytes(s.available)) for s in found.storages]
    tables = [render_table(("STORAGE", "TYPE", "USED", "FREE"), storages)]
    guests = [(str(g.vmid), g.kind, "running" if g.running else "stopped", g.name) for g in found.guests]
    tables.append(render_table(("VMID", "KIND", "STATUS", "NAME"), guests) if guests else "no guests")
    return "\n\n".join([render_pairs(about), *tables])


def _describe(found: Found) -> dict[str, JsonValue]:
    guests: list[JsonValue] = [
        {"vmid": guest.vmid, "kind": guest.kind, "name": guest.name, "running": guest.running} for guest in found.guests
    ]
    storages: list[JsonValue] = [
        {"storage": s.name, "type": s.type, "used": s.used, "available": s.available, "total": s.total}
        for s in found.storages
    ]
    about = _describe_address(found.address)
    return {"running": True, **about, "version": found.version, "guests": guests, "storages": storages}


def _describe_address(address: NodeAddress) -> dict[str, JsonValue]:
    return {
        "address": render_url(address),
        "node": address.node,
        "pid": address.pid,
        "fingerprint": address.fingerprint,
        "ca_file": str(address.ca_file),
    }


@node.command()
@pass_settings
def doctor(settings: Settings) -> int:
    """Say what this machine lacks for the node. The exit code is 1 when something essential does."""
    chosen = load_node_settings()
    findings = judge_host(look_at_host(chosen), chosen)
    well = is_well(findings)
    if settings.json:
        say_document({"ready": well, "findings": [describe_finding(finding) for finding in findings]})
    else:
        say("\n".join(render_finding(finding) for finding in findings))
        tell("the embedded node can run here" if well else "the embedded node cannot run here yet")
    return 0 if well else 1
