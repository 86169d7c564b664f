"""A temporary guest, over SSH or through its console: waiting until it lets us in, and running our scripts in it."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface
from pathlib import Path

from goldsmith.artifacts.record import Package
from goldsmith.base.errors import ApiFailed, GuestError, GuestUnready, NodeUnreachable, ShellFailed
from goldsmith.base.files import write_atomic
from goldsmith.base.process import run
from goldsmith.build.scripts import read_script
from goldsmith.pve.client import NodeApi
from goldsmith.pve.console.shell import ConsoleShell
from goldsmith.pve.shell import Shell
from goldsmith.pve.ssh import SshShell, open_ssh_shell
from goldsmith.pve.target import ConsoleTarget, Target
from goldsmith.verify.settle import find_unreadiness

SSH = 22
CONSOLE_HINT = (
    "guest_connection or test_connection is console: the guest's init has to start, and nobody else may use it"
)
POLL = 0.03
"""Seconds between two looks at the port."""
SCRIPT_TIMEOUT = 300.0
OS_RELEASE = "/usr/lib/os-release"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True)
class TempGuest:
    """A guest of ours that is about to go again, and the files that open it."""

    vmid: int
    hostname: str
    address: IPv4Interface | None
    """None: the network gives one, and it is not known yet; see `learn_address`."""
    private_key: Path
    known_hosts: Path
    by_dhcp: bool = False
    """Whether its address may be another one after each start."""
    console: ConsoleShell | None = None
    """Its shell, where it is entered through its console in the API; nothing of ours connects to its address then."""

    @property
    def ip(self) -> str:
        """Its address without the prefix length; empty where it has none yet."""
        return "" if self.address is None else str(self.address.ip)

    @property
    def ssh(self) -> Target:
        """The guest over SSH: reached as root, with our key and the host key that was noted."""
        return Target(self.hostname, self.ip, self.private_key, self.known_hosts)

    @property
    def target(self) -> Target | ConsoleTarget:
        """The guest as playbooks and tests see it."""
        return self.ssh if self.console is None else ConsoleTarget(self.hostname, self.ip, self.console)


def learn_address(
    guest: TempGuest, node: NodeApi, timeout: float, pulse: Callable[[], None] = lambda: None
) -> TempGuest:
    """Return a guest that was just started with its address: as given, or what the network gave and its node tells.

    :param timeout: seconds.
    :raises GuestUnready: it gets none in time, or the node does not tell (before PVE 8.1).
    """
    if guest.address is not None and not guest.by_dhcp:
        forget_neighbour(guest.ip)
        return guest
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        pulse()
        if (found := _find_address(guest, node)) is not None:
            return replace(guest, address=found, by_dhcp=True)
        time.sleep(POLL)
    raise GuestUnready(
        f"guest {guest.vmid} got no address by DHCP within {timeout:g} s",
        hint="is there a DHCP server on its bridge? temp_ip_address gives it a fixed one",
    )


def _find_address(guest: TempGuest, node: NodeApi) -> IPv4Interface | None:
    try:
        interfaces = node.guests.list_interfaces(guest.vmid)
    except ApiFailed as error:
        if error.status != 501:  # "not implemented"
            raise
        raise GuestUnready(
            f"{node.name} does not tell addresses that guests got by DHCP",
            hint="Proxmox VE does since 8.1; set temp_ip_address to a fixed one",
        ) from error
    found = next((interface.ipv4 for interface in interfaces if interface.ipv4 is not None), None)
    return None if found is None else IPv4Interface(found)


def forget_neighbour(ip: str) -> None:
    """Forget which MAC address this machine knows for an address: the guest that had it before may have had another.

    For root only; for others the kernel finds out by itself within some seconds (arp(7), delay_first_probe_time).
    """
    if os.geteuid() == 0 and shutil.which("ip") is not None:
        run(["ip", "neigh", "flush", "to", ip], check=False)


@contextmanager
def open_guest(guest: TempGuest, timeout: float, pulse: Callable[[], None] = lambda: None) -> Iterator[SshShell]:
    """Wait until the guest lets our key in, and use its shell while the block runs.

    Nobody can know the guest's host key before its first boot: it is noted when its sshd first answers, and insisted on
    from then on. That it is the right guest shows in its letting our key in, which is made for it alone.

    :param timeout: seconds.
    :param pulse: called again and again; it may raise what should end the waiting.
    :raises GuestUnready: it does not in time; says how far it came.
    """
    with ExitStack() as stack:
        yield _enter_shell(stack, guest, timeout, pulse)


def _enter_shell(stack: ExitStack, guest: TempGuest, timeout: float, pulse: Callable[[], None]) -> SshShell:
    deadline = time.monotonic() + timeout
    said = f"port {SSH} of {guest.ip} did not answer"
    while time.monotonic() < deadline:
        pulse()
        if _knock(guest.ip, timeout=1.0) is None and note_host_key(guest):
            try:
                return stack.enter_context(open_ssh_shell(guest.ssh.access))
            except (NodeUnreachable, ShellFailed) as error:
                said = error.detail or error.message
        time.sleep(POLL)
    raise GuestUnready(
        f"guest {guest.vmid} did not let our key in within {timeout:g} s: {said}",
        hint="does its image run sshd, and does this machine reach the guest's network?",
    )


def await_readiness(
    shell: Shell, vmid: int, timeout: float, hint: str, pulse: Callable[[], None] = lambda: None
) -> None:
    """Wait until a guest that is entered without ssh is ready: until its systemd answers, or another init runs.

    :param timeout: seconds.
    :raises GuestUnready: it does not in time; says how far it came.
    """
    deadline = time.monotonic() + timeout
    while (lacking := find_unreadiness(shell)) is not None:
        pulse()
        if time.monotonic() > deadline:
            raise GuestUnready(f"guest {vmid} could not be entered within {timeout:g} s: {lacking}", hint=hint)
        time.sleep(POLL)


def note_host_key(guest: TempGuest) -> bool:
    """Write down the guest's host keys unless that was done before; tell whether they are known now."""
    if not guest.known_hosts.exists():
        keys = run(["ssh-keyscan", "-T", "5", "-t", "ed25519,ecdsa,rsa", guest.ip], check=False).stdout
        if not keys.strip():
            return False
        write_atomic(guest.known_hosts, keys, mode=0o600)
    return True


def has_answer(ip: str) -> bool:
    """Tell whether some machine is at an address: one that refuses a connection is there, too."""
    fault = _knock(ip, timeout=0.5)
    return fault is None or isinstance(fault, ConnectionRefusedError)


def _knock(ip: str, *, timeout: float) -> OSError | None:
    """Connect to the ssh port of an address; return why that cannot be done."""
    try:
        socket.create_connection((ip, SSH), timeout).close()
    except OSError as error:
        return error
    return None


def read_architecture(shell: Shell) -> str:
    """Return the guest's architecture as OCI names it (image-spec, config: the values of GOARCH)."""
    machine = shell.run(["uname", "-m"]).stdout.strip()
    return ARCHITECTURES.get(machine, machine)


def read_os_release(shell: Shell) -> bytes:
    """Return the guest's os-release(5); nothing for a guest without one."""
    return shell.run(["cat", OS_RELEASE], check=False).stdout.encode()


def run_script(shell: Shell, name: str, *arguments: str) -> None:
    """Run one of our scripts in the guest.

    :raises GuestError: it failed; what it said is in `detail`.
    """
    done = shell.run(["sh", "-s", "--", *arguments], text=read_script(name), check=False, timeout=SCRIPT_TIMEOUT)
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()
        last = said.splitlines()[-1] if said else f"code {done.returncode}"
        raise GuestError(f"{name} failed in guest {shell.machine}: {last}", detail=said)


def read_packages(shell: Shell) -> tuple[Package, ...]:
    """Return what dpkg says is installed; nothing for a guest without dpkg."""
    fields = "${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\n"
    lines = shell.run(["dpkg-query", "-W", "-f", fields], check=False).stdout.splitlines()
    found = [line.split("\t") for line in lines if line.startswith("installed\t")]
    return tuple(Package(*words[1:4]) for words in found if len(words) == 4)
