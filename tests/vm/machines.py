"""Helpers of the tests with virtual machines: a running node, clients, waiting for a guest agent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI, ResourceException

from goldsmith.base.secrets import Secret
from goldsmith.node import daemon
from goldsmith.node.client import ClientAccess
from tests.lxc.guests import RunningNode, wait_until

PASSWORD = "tests-only"
BOOT_SECONDS = 180.0
"""An emulated machine on a busy one is slow; alone it takes about 15."""


@dataclass
class VmNode(RunningNode):
    """An embedded node with emulated machines. `api` has a token of root@pam, `root` is root@pam itself."""

    root: ProxmoxAPI = None

    @property
    def access(self) -> ClientAccess:
        """How a client of ours gets in."""
        return daemon.start(self.settings)

    @property
    def qemu(self) -> Any:
        """`/nodes/pve/qemu` with the token."""
        return self.api.nodes("pve").qemu

    @property
    def root_qemu(self) -> Any:
        """`/nodes/pve/qemu` as root@pam itself."""
        return self.root.nodes("pve").qemu

    def start(self) -> None:
        super().start()
        self.root = self.login("root@pam")

    def login(self, user: str) -> ProxmoxAPI:
        """Log in with a password, which is set before."""
        self.node.access.set_password(user, Secret(PASSWORD))
        address = self.address_of_node()
        return ProxmoxAPI(
            address.host, port=address.port, user=user, password=PASSWORD, verify_ssl=str(address.ca_file), timeout=60
        )

    def wait_for_agent(self, vmid: int) -> None:
        """Wait until the agent answers."""
        wait_until(lambda: self.has_agent(vmid), seconds=BOOT_SECONDS, what=f"guest agent of VM {vmid}")

    def has_agent(self, vmid: int) -> bool:
        """Tell whether the agent answers."""
        try:
            self.qemu(vmid).agent.ping.post()
        except ResourceException:
            return False
        return True

    def run(self, vmid: int, *command: str, data: str | None = None, seconds: float = 60.0) -> dict[str, Any]:
        """Run a program inside by the agent and return its status once it has ended."""
        given = {"input-data": data} if data is not None else {}
        pid = self.qemu(vmid).agent.exec.post(command=list(command), **given)["pid"]
        deadline = time.monotonic() + seconds
        while not (status := self.qemu(vmid).agent("exec-status").get(pid=pid))["exited"]:
            assert time.monotonic() < deadline, f"{command} takes longer than {seconds} s"
            time.sleep(0.1)
        found: dict[str, Any] = status
        return found

    def refusal(self, call: Any, *arguments: Any, **named: Any) -> ResourceException:
        """Make a call that must be refused, and return the refusal."""
        with pytest.raises(ResourceException) as caught:
            call(*arguments, **named)
        return caught.value
