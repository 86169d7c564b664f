"""What virtual machines are doing: `GET status/current` and the list of machines."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.network import DEVICES
from goldsmith.node.qemu.config import FILES, Options
from goldsmith.node.qemu.monitor import ask_monitor
from goldsmith.node.qemu.runtime import Runtime

_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 1 << 20


def describe_machine(node: Node, vmid: int, *, full: bool = False) -> dict[str, Any]:
    """Return a machine's state as lists show it; `full` asks QEMU too, as `GET status/current` does."""
    options, runtime = FILES.load(node, vmid).current, Runtime(node, vmid)
    pid = runtime.find_pid()
    shown: dict[str, Any] = {
        "vmid": vmid,
        "name": options.get("name", f"VM {vmid}"),
        "status": "stopped" if pid is None else "running",
        "cpus": min(options.number("sockets", 1) * options.number("cores", 1), os.cpu_count() or 1),
        "maxmem": options.memory * _MIB,
        "maxdisk": _boot_disk_size(options),
        **dict.fromkeys(("cpu", "mem", "disk", "netin", "netout", "diskread", "diskwrite", "uptime"), 0),
    }
    shown |= {key: options.get(key) for key in ("tags", "lock") if options.get(key)}
    shown |= {"template": 1} if options.is_template else {}
    shown |= {"serial": 1} if options.serials() else {}
    if pid is not None:
        shown["pid"] = pid
        with suppress(OSError):  # it may be ending at this very moment
            shown |= {**_measure(pid), **_count_traffic(runtime, options)}
    return {**shown, "qmpstatus": _ask_state(runtime, shown["status"])} if full else shown


def _boot_disk_size(options: Options) -> int:
    return next((drive.size for key in options.boot_order() for drive in options.disks() if drive.key == key), 0)


def _ask_state(runtime: Runtime, status: str) -> str:
    if status == "running":
        with suppress(ApiFault):
            return str(ask_monitor(runtime, "query-status", timeout=2.0)["status"])
    return status


def _measure(pid: int) -> dict[str, Any]:
    """Return age, processor time (as a share since the start) and memory of the machine's process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / _TICKS
    used = (int(fields[11]) + int(fields[12])) / _TICKS
    share = used / max(uptime, 1.0) / (os.cpu_count() or 1)
    return {"uptime": int(uptime), "cpu": round(share, 6), "mem": int(fields[21]) * os.sysconf("SC_PAGE_SIZE")}


def _count_traffic(runtime: Runtime, options: Options) -> dict[str, int]:
    """Return bytes received and sent by the guest: what its taps sent and received."""
    counts = {"netin": 0, "netout": 0}
    for net in options.nets():
        statistics = DEVICES / runtime.tap(net.index) / "statistics"
        with suppress(OSError):
            counts["netin"] += int((statistics / "tx_bytes").read_text())
            counts["netout"] += int((statistics / "rx_bytes").read_text())
    return counts


def list_machines(node: Node) -> list[dict[str, Any]]:
    """Return all machines as `GET qemu` shows them; one that is removed meanwhile is left out."""
    machines = []
    for vmid in FILES.list_vmids(node):
        with suppress(ApiFault):
            machines.append(describe_machine(node, vmid))
    return machines
