"""The QEMU guest agent: programs and files inside a guest, through the machine's own serial line.

What Proxmox makes of binary data: JSON strings are decoded and encoded byte by byte, as Perl does with a string that
it does not know to be text. Each byte is the character of that number (Latin-1), in both directions.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.base.files import open_lock
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.qemu.channel import Channel, ChannelFault, open_channel
from goldsmith.node.qemu.config import FILES
from goldsmith.node.qemu.runtime import Runtime

PING_SECONDS = 6.0
SECONDS = 15.0
"""Proxmox waits 3 and 5; without KVM guests are several times slower."""
_PATIENCE = {"guest-fsfreeze-freeze": 3600.0, "guest-fsfreeze-thaw": 180.0, "guest-fstrim": 600.0}
_PATIENCE |= dict.fromkeys(("guest-exec-status", "guest-file-read"), 60.0)  # they may bring 16 MiB
_SILENT = frozenset(("guest-shutdown", "guest-suspend-ram", "guest-suspend-disk", "guest-suspend-hybrid"))
"""Commands that are answered only when they fail."""
_SILENT_SECONDS = 3.0
READ_LIMIT = 16 << 20
_READ_SIZE = 1 << 20


def encode_data(text: str) -> str:
    """Return a JSON string's bytes in base64.

    :raises ApiFault: a character is more than a byte; Perl's words.
    """
    try:
        return base64.b64encode(text.encode("latin-1")).decode()
    except UnicodeEncodeError as error:
        raise ApiFault("Wide character in subroutine entry") from error


def decode_data(text: str) -> str:
    """Return base64's bytes as a JSON string."""
    return base64.b64decode(text).decode("latin-1")


def _exchange(channel: Channel, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    channel.synchronise()
    return channel.ask(command, arguments)


def ask_socket(path: Path, command: str, arguments: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
    """Return an agent's whole answer (`return` or `error`) over its socket.

    :raises ChannelFault: it does not answer.
    """
    with open_channel(path, timeout) as channel:
        return _exchange(channel, command, arguments)


@dataclass(frozen=True)
class Agent:
    """The agent of one machine."""

    node: Node
    vmid: int

    @property
    def _runtime(self) -> Runtime:
        return Runtime(self.node, self.vmid)

    def check(self) -> None:
        """Raise unless there is a machine, it says that it has an agent, it runs and the agent answers; PVE's words."""
        config = FILES.load(self.node, self.vmid)
        if "agent" not in config.current.values:
            raise ApiFault("No QEMU guest agent configured")
        if not self._runtime.is_running():
            raise ApiFault(f"VM {self.vmid} is not running")
        if not self.is_alive():
            raise ApiFault("QEMU guest agent is not running")

    def is_alive(self) -> bool:
        """Tell whether it answers."""
        try:
            self._ask("guest-ping", {}, PING_SECONDS)
        except ChannelFault:
            return False
        return True

    def _ask(self, command: str, arguments: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        # One at a time: who connects to a socket that is in use would wait for it with his own clock running.
        lock = self.node.locks / f"agent-{self.vmid}.lock"
        with open_lock(lock, timeout=_PATIENCE["guest-fstrim"], what=f"guest agent of VM {self.vmid}"):
            return ask_socket(self._runtime.agent, command, arguments, timeout=timeout)

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Return what a command returns, or `{"error": ...}` of the agent (PVE's mon_cmd).

        :raises ApiFault: no answer comes in time; PVE's words.
        """
        is_silent = command in _SILENT
        timeout = _SILENT_SECONDS if is_silent else _PATIENCE.get(command, SECONDS)
        try:
            answer = self._ask(command, arguments or {}, timeout)
        except ChannelFault as fault:
            if is_silent:
                return None
            raise ApiFault(f"VM {self.vmid} qmp command '{command}' failed - {fault.reason}") from fault
        return answer.get("return") if "return" in answer else {"error": answer.get("error")}

    def do(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """Return what a command returns.

        :raises ApiFault: `Agent error: ...`, the agent refuses.
        """
        result = self.ask(command, arguments)
        if isinstance(result, dict) and isinstance(result.get("error"), dict):
            raise ApiFault(f"Agent error: {result['error'].get('desc', '')}")
        return result

    def execute(self, command: Sequence[str], data: str | None) -> dict[str, Any]:
        """Start a program with some input and return its `pid`."""
        arguments: dict[str, Any] = {"capture-output": True}
        if command:
            arguments |= {"path": command[0], "arg": list(command[1:])}
        if data is not None:
            arguments["input-data"] = encode_data(data)
        if len(arguments) == 1:
            raise ApiFault("command or input-data (or both) required")
        result: dict[str, Any] = self.do("guest-exec", arguments)
        return result

    def get_status(self, pid: int) -> dict[str, Any]:
        """Return whether a program has ended, its code and what it has said; flags as 0 and 1."""
        status: dict[str, Any] = self.do("guest-exec-status", {"pid": pid})
        for key in ("out-data", "err-data"):
            if status.get(key):
                status[key] = decode_data(status[key])
        return {key: int(value) if isinstance(value, bool) else value for key, value in status.items()}

    def read_file(self, path: str) -> dict[str, Any]:
        """Return a file's content, at most 16 MiB of it."""
        handle, content, read = self.do("guest-file-open", {"path": path}), [], 0
        is_end = False
        while read < READ_LIMIT and not is_end:
            part = self.do("guest-file-read", {"handle": handle, "count": _READ_SIZE})
            content.append(decode_data(part["buf-b64"]))
            read += part["count"]
            is_end = bool(part.get("eof"))
        self.ask("guest-file-close", {"handle": handle})
        shown: dict[str, Any] = {"content": "".join(content), "bytes-read": read}
        return shown if is_end else {**shown, "truncated": 1}

    def write_file(self, path: str, content: str, *, encode: bool) -> None:
        """Replace a file's content. What is encoded already is passed on as it is."""
        data = encode_data(content) if encode else content
        handle = self.do("guest-file-open", {"path": path, "mode": "wb"})
        self.do("guest-file-write", {"handle": handle, "buf-b64": data})
        self.do("guest-file-close", {"handle": handle})

    def set_password(self, user: str, password: str, *, crypted: bool) -> Any:
        """Set the password of a user inside."""
        encoded = base64.b64encode(password.encode()).decode()
        return self.do("guest-set-user-password", {"username": user, "password": encoded, "crypted": crypted})
