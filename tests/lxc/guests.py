"""Helpers of the tests that start real containers: a running embedded node, and guests that are removed at the end."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxmoxer import ProxmoxAPI

from goldsmith.node import daemon
from goldsmith.node.client import NodeAddress
from goldsmith.node.context import Node
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.settings import NodeSettings

TASK_SECONDS = 120.0


def wait_until(check: Callable[[], Any], *, seconds: float = 15.0, what: str = "") -> Any:
    """Wait for something to become true, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or check}"
        time.sleep(0.02)
    return value


def has_answer(address: str, port: int = 22, *, seconds: float = 3.0) -> bool:
    """Tell whether something listens at an address of the guests' network."""
    try:
        with socket.create_connection((address, port), timeout=seconds):
            return True
    except OSError:
        return False


def list_traces(settings: NodeSettings) -> list[str]:
    """Everything on this machine that is a node's: interfaces, rules, mounts, processes, its directory."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    state = str(settings.state)
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if state in line]
    found += [line for line in links.splitlines() if settings.host_bridge in line]
    found += [line for line in rules.splitlines() if settings.host_bridge in line]
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = command.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        found += [text] if state in text else []
    return found + ([state] if settings.state.exists() else [])


def list_node_processes(settings: NodeSettings) -> list[int]:
    """The server of a node, its spawner and workers, and the programs that these run; not the guests."""
    commands, parents = dict[int, str](), dict[int, int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if status[0] != "Z":
            parents[int(folder.name)] = int(status[1])
    mine = f"goldsmith.node.serve --state {settings.state} "
    found = {pid for pid in parents if mine in commands[pid]}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= {pid for pid in more if "[lxc monitor]" not in commands[pid]}
        parents = {pid: parent for pid, parent in parents.items() if "[lxc monitor]" not in commands[pid]}
    return sorted(found)


@dataclass
class RunningNode:
    """An embedded node of the tests' own: settings, and a client with a token of root@pam."""

    settings: NodeSettings
    template: str = ""
    vmids: itertools.count[int] = field(default_factory=lambda: itertools.count(200))
    api: ProxmoxAPI = None

    def start(self) -> None:
        """Start the node, or find it running; the client is made anew, for the port may be another."""
        access = daemon.start(self.settings)
        user, _, token = access.token_id.partition("!")
        self.api = ProxmoxAPI(
            access.address.host, port=access.address.port, user=user, token_name=token,
            token_value=access.token_secret.reveal(), verify_ssl=str(access.address.ca_file), timeout=30,
        )  # fmt: skip

    def restart(self) -> None:
        """Stop the node in good order and start it."""
        daemon.stop(self.settings)
        self.start()

    def kill(self) -> None:
        """Kill the node's server as a crash would."""
        pid = self.address_of_node().pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: daemon.status(self.settings) is None, what="death")

    def crash(self) -> None:
        """Kill the server, all its workers and what they have started at one stroke, as a machine's crash would.

        Guests that run go on: a crash of the machine would have ended those, too.
        """
        for pid in list_node_processes(self.settings):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not list_node_processes(self.settings), what="death of all workers")

    def remove(self) -> None:
        """Stop the node and remove everything of it."""
        daemon.remove(self.settings)

    def address_of_node(self) -> NodeAddress:
        """Where it listens."""
        address = daemon.status(self.settings)
        assert address is not None
        return address

    @property
    def node(self) -> Node:
        return Node(self.settings)

    @property
    def lxc(self) -> Any:
        return self.api.nodes("pve").lxc

    def path(self, volid: str) -> Path:
        """Where a volume's file or folder is on this machine."""
        info = self.api.nodes("pve").storage(volid.partition(":")[0]).content(volid).get()
        return Path(info["path"])

    def wait(self, upid: str, *, seconds: float = TASK_SECONDS) -> str:
        """Wait for a task's end and return its exit status."""
        task = self.api.nodes("pve").tasks(upid)

        def ended() -> Any:
            status = task.status.get()
            return status if status["status"] == "stopped" else None

        return str(wait_until(ended, seconds=seconds, what=upid)["exitstatus"])

    def log(self, upid: str) -> str:
        """Everything that a task logged."""
        return "\n".join(line["t"] for line in self.api.nodes("pve").tasks(upid).log.get(limit=0))

    def do(self, upid: str) -> str:
        """Wait for a task that must go well, and return its log."""
        status, log = self.wait(upid), self.log(upid)
        assert status == "OK", f"{status}\n{log}"
        return log

    def address(self, vmid: int) -> str:
        """A guest's fixed address in the node's network."""
        first, second = self.settings.network.split(".")[:2]
        return f"{first}.{second}.1.{vmid % 250}"


@dataclass
class Guest:
    """A container of a test."""

    on: RunningNode
    vmid: int

    @property
    def api(self) -> Any:
        return self.on.lxc(self.vmid)

    @property
    def runtime(self) -> Runtime:
        return Runtime(self.on.node, self.vmid)

    @property
    def status(self) -> str:
        return str(self.api.status.current.get()["status"])

    @property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.config.get()
        return found

    def start(self) -> Guest:
        self.on.do(self.api.status.start.post())
        return self

    def stop(self) -> None:
        self.on.do(self.api.status.stop.post())

    def shutdown(self) -> None:
        self.on.do(self.api.status.shutdown.post(timeout=30))

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a program inside and return what it said."""
        command = ["lxc-attach", "-P", str(self.runtime.lxcpath), "-n", str(self.vmid), "--clear-env", "--", *argv]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a shell script inside."""
        return self.run("/bin/sh", "-c", f"PATH=/usr/sbin:/usr/bin:/sbin:/bin; {script}", check=check)

    def wait_booted(self) -> Guest:
        wait_until(lambda: self.sh("systemctl is-system-running", check=False) in ("running", "degraded"), what="boot")
        return self

    def rootfs(self) -> Path:
        """Its root disk on this machine."""
        return self.on.path(self.config["rootfs"].partition(",")[0])


@dataclass
class Guests:
    """Makes guests for a test, and takes them away."""

    on: RunningNode
    made: list[int] = field(default_factory=list)

    def claim(self) -> int:
        """A vmid that the test uses on its own; whatever is there at the end is removed."""
        vmid = next(self.on.vmids)
        self.made.append(vmid)
        return vmid

    def request(self, vmid: int, **params: Any) -> str:
        """Ask for a guest and return the task; defaults make it an unprivileged one with a fixed address."""
        gateway = self.on.settings.gateway
        net0 = f"name=eth0,bridge=vmbr0,ip={self.on.address(vmid)}/16,gw={gateway}"
        defaults = {
            "vmid": vmid, "ostemplate": self.on.template, "hostname": f"t{vmid}.test", "unprivileged": 1,
            "features": "nesting=1", "rootfs": "local:2", "net0": net0,
        }  # fmt: skip
        given = {**defaults, **{key.replace("_", "-"): value for key, value in params.items()}}
        return str(self.on.lxc.post(**{key: value for key, value in given.items() if value is not None}))

    def __call__(self, *, start: bool = False, **params: Any) -> Guest:
        guest = Guest(self.on, self.claim())
        self.on.do(self.request(guest.vmid, **params))
        return guest.start() if start else guest

    def remove_all(self) -> None:
        known = {int(guest["vmid"]) for guest in self.on.lxc.get()}
        for vmid in [vmid for vmid in reversed(self.made) if vmid in known]:
            self.on.do(self.on.lxc(vmid).delete(force=1, purge=1))
