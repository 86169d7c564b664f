"""`/nodes`: the node itself, its load and memory, its bridge."""

from __future__ import annotations

import os
import platform
import time
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from goldsmith.node.api.storage import check_network
from goldsmith.node.download import query_metadata
from goldsmith.node.routing import Call, method
from goldsmith.node.version import REPOID, get_release

_SUBDIRS = (
    "aplinfo",
    "lxc",
    "network",
    "qemu",
    "query-url-metadata",
    "status",
    "storage",
    "tasks",
    "time",
    "version",
    "vzdump",
)


@method("GET", "/nodes")
def list_nodes(call: Call) -> list[dict[str, Any]]:
    """Return the only node; without Sys.Audit, without its numbers."""
    return [describe_node(call)]


@method("GET", "/nodes/{node}")
def index(call: Call) -> list[dict[str, str]]:
    """Return what there is below."""
    del call
    return [{"name": name} for name in _SUBDIRS]


def describe_node(call: Call) -> dict[str, Any]:
    """Return the node's entry in lists."""
    name = call.node.name
    entry: dict[str, Any] = {"id": f"node/{name}", "node": name, "type": "node", "status": "online", "level": ""}
    if not call.caller.may(f"/nodes/{name}", "Sys.Audit"):
        return entry
    memory, space = _read_memory(), _root_space()
    used = memory["MemTotal"] - memory["MemAvailable"]
    return {
        **entry, "cpu": _load_share(), "maxcpu": os.cpu_count() or 1, "mem": used, "maxmem": memory["MemTotal"],
        "disk": space["used"], "maxdisk": space["total"], "uptime": _uptime(),
    }  # fmt: skip


def _read_memory() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words}


def _root_space() -> dict[str, int]:
    status = os.statvfs("/")
    total, free = status.f_blocks * status.f_frsize, status.f_bfree * status.f_frsize
    return {"total": total, "used": total - free, "free": free, "avail": status.f_bavail * status.f_frsize}


def _uptime() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def _load_share() -> float:
    """Return the load of the last minute per processor, at most 1. There is no daemon here that measures."""
    return round(min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), 4)


def _describe_processor() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    count = os.cpu_count() or 1
    return {"cpus": count, "cores": count, "sockets": 1, "model": model}


@method("GET", "/nodes/{node}/status", permission=("/nodes/{node}", "Sys.Audit"))
def get_status(call: Call) -> dict[str, Any]:
    """Return load, memory, disk and kernel of the machine."""
    memory, kernel = _read_memory(), os.uname()
    used = memory["MemTotal"] - memory["MemAvailable"]
    swap = memory.get("SwapTotal", 0)
    return {
        "uptime": _uptime(),
        "loadavg": [f"{load:.2f}" for load in os.getloadavg()],
        "cpu": _load_share(),
        "wait": 0,
        "idle": 0,
        "memory": {"total": memory["MemTotal"], "used": used, "free": memory["MemTotal"] - used},
        "swap": {"total": swap, "used": swap - memory.get("SwapFree", 0), "free": memory.get("SwapFree", 0)},
        "rootfs": _root_space(),
        "cpuinfo": _describe_processor(),
        "kversion": f"{kernel.sysname} {kernel.release} {kernel.version}",
        "current-kernel": {
            "sysname": kernel.sysname, "release": kernel.release, "version": kernel.version, "machine": kernel.machine,
        },
        "pveversion": f"pve-manager/{call.node.settings.pve_version}/{REPOID}",
    }  # fmt: skip


@method("GET", "/nodes/{node}/version")
def get_version(call: Call) -> dict[str, str]:
    """Return which Proxmox VE we speak like."""
    version = call.node.settings.pve_version
    return {"version": version, "release": get_release(version), "repoid": REPOID}


@method("GET", "/nodes/{node}/time", permission=("/nodes/{node}", "Sys.Audit"))
def get_time(call: Call) -> dict[str, Any]:
    """Return the clock and its time zone."""
    del call
    now = int(time.time())
    zone = Path("/etc/timezone").read_text().strip() if Path("/etc/timezone").exists() else time.tzname[0]
    return {"time": now, "localtime": now + time.localtime(now).tm_gmtoff, "timezone": zone}


@method("GET", "/nodes/{node}/network")
def list_networks(call: Call) -> list[dict[str, Any]]:
    """Return the guests' bridge."""
    settings, network = call.node.settings, IPv4Interface(call.node.settings.network)
    if call.params.get("type") not in (None, "bridge", "any_bridge", "any_local_bridge", "include_sdn"):
        return []
    return [{
        "iface": settings.bridge, "type": "bridge", "method": "static", "method6": "manual", "families": ["inet"],
        "address": str(network.ip), "netmask": str(network.network.prefixlen), "cidr": settings.network,
        "active": 1, "autostart": 1, "bridge_ports": "", "bridge_stp": "off", "bridge_fd": "0", "priority": 1,
    }]  # fmt: skip


@method("GET", "/nodes/{node}/query-url-metadata")
def query_url_metadata(call: Call) -> dict[str, Any]:
    """Return what a server says of a file behind a URL."""
    check_network(call)
    return query_metadata(call.params["url"], verify=call.params.get("verify-certificates", True))
