"""QEMU's monitor: commands to the machine itself (QMP)."""

from __future__ import annotations

from typing import Any

from goldsmith.node.faults import ApiFault
from goldsmith.node.qemu.channel import ChannelFault, open_channel
from goldsmith.node.qemu.runtime import Runtime

_SECONDS = 5.0


def ask_monitor(runtime: Runtime, command: str, *, timeout: float = _SECONDS, **arguments: Any) -> Any:
    """Return what a QMP command returns.

    :raises ApiFault: QEMU refuses or does not answer; PVE's words.
    """
    failed = f"VM {runtime.vmid} qmp command '{command}' failed - "
    try:
        with open_channel(runtime.monitor, timeout) as channel:
            channel.read()  # the greeting
            channel.ask("qmp_capabilities", {})
            answer = channel.ask(command, arguments)
    except ChannelFault as fault:
        raise ApiFault(failed + fault.reason) from fault
    if "error" in answer:
        raise ApiFault(failed + answer["error"].get("desc", ""))
    return answer.get("return")
