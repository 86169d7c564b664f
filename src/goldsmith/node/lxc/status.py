"""What guests are doing: `GET status/current` and the list of guests. Read from files and the kernel, no programs."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.cgroups import MIB, Hierarchy
from goldsmith.node.lxc.config import GuestConfig, Options, list_vmids, load_config
from goldsmith.node.lxc.disks import find_volume
from goldsmith.node.lxc.properties import MountPoint
from goldsmith.node.lxc.runtime import Runtime

_TICKS = os.sysconf("SC_CLK_TCK")


def describe_guest(node: Node, vmid: int, config: GuestConfig | None = None) -> dict[str, Any]:
    """Return a guest's state as `GET status/current` shows it, without `ha`."""
    config = config or load_config(node, vmid)
    options, runtime = config.current, Runtime(node, vmid)
    shown: dict[str, Any] = {
        "vmid": vmid,
        "name": options.get("hostname", f"CT{vmid}"),
        "type": "lxc",
        "cpus": float_or_int(options.get("cpulimit")) or options.number("cores") or os.cpu_count() or 1,
        "maxmem": options.number("memory", 512) * MIB,
        "maxswap": options.number("swap", 512) * MIB,
        "maxdisk": _root_size(options),
        **dict.fromkeys(("cpu", "mem", "swap", "disk", "netin", "netout", "diskread", "diskwrite", "uptime"), 0),
    }
    shown.update({key: options.get(key) for key in ("tags", "lock") if options.get(key)})
    if options.is_template:
        shown["template"] = 1
    init = runtime.find_init()
    shown["status"] = "stopped" if init is None else "running"
    if init is not None:
        shown["pid"] = init
        with suppress(OSError):  # it may be ending at this very moment
            shown.update(_measure(node, runtime, init, options))
    return shown


def float_or_int(text: str) -> float | int:
    """Parse a number that JSON shows without a point where it has no fraction."""
    value = float(text or 0)
    return int(value) if value == int(value) else value


def list_guests(node: Node) -> list[dict[str, Any]]:
    """Return all guests as `GET lxc` shows them; one that is removed meanwhile is left out."""
    guests = []
    for vmid in list_vmids(node):
        with suppress(ApiFault):
            guests.append(describe_guest(node, vmid))
    return guests


def _root_size(options: Options) -> int:
    return MountPoint.parse("rootfs", options.get("rootfs")).size if options.get("rootfs") else 0


def _measure(node: Node, runtime: Runtime, init: int, options: Options) -> dict[str, Any]:
    hierarchy, group = Hierarchy.detect(), runtime.cgroup
    memory = hierarchy.read("memory", group, "memory.usage_in_bytes", "memory.current")
    cache = _find_number(
        hierarchy.read("memory", group, "memory.stat", "memory.stat"), "total_inactive_file|inactive_file"
    )
    uptime = _uptime(init)
    network = _count_traffic(runtime, options)
    return {
        "mem": max(0, int(memory or 0) - cache),
        "swap": _swap(hierarchy, group, int(memory or 0)),
        "cpu": round(_cpu_seconds(hierarchy, group) / max(uptime, 1) / (os.cpu_count() or 1), 6),
        "uptime": uptime,
        **_disk_usage(node, options),
        **network,
    }


def _find_number(text: str, names: str) -> int:
    match = re.search(rf"^(?:{names}) (\d+)$", text, re.MULTILINE)
    return int(match[1]) if match else 0


def _swap(hierarchy: Hierarchy, group: str, memory: int) -> int:
    text = hierarchy.read("memory", group, "memory.memsw.usage_in_bytes", "memory.swap.current").strip()
    if not text:
        return 0
    return int(text) if hierarchy.unified else max(0, int(text) - memory)


def _cpu_seconds(hierarchy: Hierarchy, group: str) -> float:
    if hierarchy.unified:
        return _find_number(hierarchy.read("cpu", group, "", "cpu.stat"), "usage_usec") / 1e6
    return int(hierarchy.read("cpuacct", group, "cpuacct.usage", "") or 0) / 1e9


def _uptime(init: int) -> int:
    ticks = int(Path(f"/proc/{init}/stat").read_text().rpartition(")")[2].split()[19])
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _TICKS)


def _disk_usage(node: Node, options: Options) -> dict[str, int]:
    """Return use and size of the root disk, as its file system has it."""
    point = MountPoint.parse("rootfs", options.get("rootfs"))
    storage, volume = find_volume(node, point)
    size = storage.size(volume)
    return {"disk": storage.used(volume), "maxdisk": size or storage.space().total}


def _count_traffic(runtime: Runtime, options: Options) -> dict[str, int]:
    """Return bytes received and sent by the guest: what its veths' outer ends sent and received."""
    counts = {"netin": 0, "netout": 0}
    for net in options.nets():
        statistics = Path("/sys/class/net", runtime.veth(net.index), "statistics")
        with suppress(OSError):
            counts["netin"] += int((statistics / "tx_bytes").read_text())
            counts["netout"] += int((statistics / "rx_bytes").read_text())
    return counts
