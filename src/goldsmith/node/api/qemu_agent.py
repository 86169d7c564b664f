"""`/nodes/{node}/qemu/{vmid}/agent/*`: the guest agent. PVE 8 wants VM.Monitor for all of it, 9 has finer rights.

Each method is declared twice: the later declaration holds from 9.0 on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goldsmith.node.faults import ApiFault
from goldsmith.node.qemu.agent import Agent
from goldsmith.node.routing import Call, method

_AGENT = "/nodes/{node}/qemu/{vmid}/agent"
_ANY, _AUDIT, _FILES = "Unrestricted", "Audit", "FileSystemMgmt"
_COMMANDS: dict[str, tuple[str, str]] = {
    "ping": ("POST", _AUDIT), "get-time": ("GET", _AUDIT), "info": ("GET", _AUDIT),
    "fsfreeze-status": ("POST", _AUDIT), "fsfreeze-freeze": ("POST", _FILES), "fsfreeze-thaw": ("POST", _FILES),
    "fstrim": ("POST", _FILES), "network-get-interfaces": ("GET", _AUDIT), "get-vcpus": ("GET", _AUDIT),
    "get-fsinfo": ("GET", _AUDIT), "get-memory-blocks": ("GET", _AUDIT), "get-memory-block-info": ("GET", _AUDIT),
    "get-host-name": ("GET", _AUDIT), "get-osinfo": ("GET", _AUDIT), "get-users": ("GET", _AUDIT),
    "get-timezone": ("GET", _AUDIT),
}  # fmt: skip
"""Commands without arguments, and the part of the guest agent's privileges that Proxmox VE 9 wants for each."""
_POWER = ("shutdown", "suspend-disk", "suspend-hybrid", "suspend-ram")
_OTHERS = ("exec", "exec-status", "file-read", "file-write", "set-user-password")
Code = Callable[[Call], Any]


def _agent_method(verb: str, name: str, *privileges: str) -> Callable[[Code], Code]:
    """Declare a method as Proxmox VE 8 has it and as 9 does."""

    def declare(code: Code) -> Code:
        path = f"{_AGENT}/{name}".rstrip("/")
        method(verb, path, permission=("/vms/{vmid}", "VM.Monitor"))(code)
        return method(verb, path, permission=("/vms/{vmid}", *privileges), any_of=True, since="9.0")(code)

    return declare


def _guest(*names: str) -> tuple[str, ...]:
    return tuple(f"VM.GuestAgent.{name}" for name in names)


def _agent(call: Call) -> Agent:
    return Agent(call.node, call.params["vmid"])


@method("GET", _AGENT)
def index(call: Call) -> list[dict[str, str]]:
    """Return the agent's commands."""
    del call
    return [{"name": name} for name in sorted([*_COMMANDS, *_POWER, *_OTHERS])]


def _ask(call: Call, command: str) -> dict[str, Any]:
    agent = _agent(call)
    agent.check()
    return {"result": agent.ask(f"guest-{command}")}


@_agent_method("POST", "", *_guest(_ANY))
def post_command(call: Call) -> dict[str, Any]:
    """Run a command that is named as a parameter."""
    return _ask(call, call.params["command"])


def _declare_command(verb: str, command: str, *privileges: str) -> None:
    def run_command(call: Call) -> dict[str, Any]:
        return _ask(call, command)

    run_command.__doc__ = f"Run the agent's command guest-{command}."
    _agent_method(verb, command, *privileges)(run_command)


for _name, (_verb, _part) in _COMMANDS.items():
    _declare_command(_verb, _name, *_guest(_part, _ANY))
for _name in _POWER:
    _declare_command("POST", _name, "VM.PowerMgmt", *_guest(_ANY))


@_agent_method("POST", "exec", *_guest(_ANY))
def execute(call: Call) -> dict[str, Any]:
    """Start a program inside; returns its pid."""
    agent = _agent(call)
    command = call.params.get("command", [])
    if not command and "input-data" not in call.params:
        raise ApiFault("command or input-data (or both) required")
    agent.check()
    return agent.execute(command, call.params.get("input-data"))


@_agent_method("GET", "exec-status", *_guest(_ANY))
def get_status(call: Call) -> dict[str, Any]:
    """Return whether a program has ended, and what it has said."""
    agent = _agent(call)
    agent.check()
    return agent.get_status(call.params["pid"])


@_agent_method("GET", "file-read", *_guest("FileRead", _ANY))
def read_file(call: Call) -> dict[str, Any]:
    """Return a file's content, at most 16 MiB."""
    agent = _agent(call)
    agent.check()
    return agent.read_file(call.params["file"])


@_agent_method("POST", "file-write", *_guest("FileWrite", _ANY))
def write_file(call: Call) -> None:
    """Replace a file's content, at most 60 KiB."""
    agent = _agent(call)
    agent.check()
    agent.write_file(call.params["file"], call.params["content"], encode=call.params.get("encode", True))


@_agent_method("POST", "set-user-password", *_guest(_ANY))
def set_password(call: Call) -> dict[str, Any]:
    """Set a user's password inside."""
    agent, params = _agent(call), call.params
    agent.check()
    crypted = bool(params.get("crypted"))
    return {"result": agent.set_password(params["username"], params["password"], crypted=crypted)}
