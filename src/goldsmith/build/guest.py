"""The build guest as seen over SSH: waiting until it lets us in, and running our scripts in it."""

from __future__ import annotations

import shlex
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from goldsmith.artifacts.record import Package
from goldsmith.base.errors import GuestError, GuestUnready
from goldsmith.base.process import Argument, Completed, run
from goldsmith.build.scripts import read_script

SSH = 22
POLL = 0.03
"""Seconds between two looks at the port."""
SCRIPT_TIMEOUT = 300.0


@dataclass(frozen=True)
class BuildGuest:
    """The build guest, and the files that open it."""

    vmid: int
    hostname: str
    address: IPv4Interface
    private_key: Path
    known_hosts: Path

    @property
    def ip(self) -> str:
        """Its address without the prefix length."""
        return str(self.address.ip)

    def ssh_command(self, *words: Argument, strict: bool = True) -> list[Argument]:
        """Return the ssh command line that runs something in the guest as root.

        Nobody can know the guest's host key before its first boot; the first connection writes it down and all later
        ones insist on it. That it is the right guest shows in its letting our key in, which is made for it alone.
        """
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": 5,
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "IdentityFile": self.private_key,
            "LogLevel": "ERROR",
            "StrictHostKeyChecking": "yes" if strict else "accept-new",
            "UserKnownHostsFile": self.known_hosts,
        }
        given = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", "-T", *given, f"root@{self.ip}", *words]


def await_ssh(guest: BuildGuest, timeout: float) -> None:
    """Wait until the guest lets the build key in.

    :param timeout: seconds.
    :raises GuestUnready: it does not in time; says how far it came.
    """
    deadline = time.monotonic() + timeout
    said = f"port {SSH} of {guest.ip} did not answer"
    while time.monotonic() < deadline:
        if not _answers(guest.ip):
            time.sleep(POLL)
            continue
        done = run(guest.ssh_command("true", strict=False), check=False, timeout=30)
        if done.returncode == 0:
            return
        said = done.stderr.strip() or f"ssh ended with code {done.returncode}"
        time.sleep(POLL)
    raise GuestUnready(
        f"guest {guest.vmid} did not let the build key in within {timeout:g} s: {said}",
        hint="does the base image run sshd, and does this machine reach the guest's network?",
    )


def _answers(ip: str) -> bool:
    try:
        with socket.create_connection((ip, SSH), timeout=1.0):
            return True
    except OSError:
        return False


def run_script(guest: BuildGuest, name: str, *arguments: str) -> Completed:
    """Run one of our scripts in the guest.

    :raises GuestError: it failed; what it said is in `detail`.
    """
    words = shlex.join(arguments)
    command = guest.ssh_command(f"env LC_ALL=C sh -s -- {words}")
    done = run(command, input=read_script(name), check=False, timeout=SCRIPT_TIMEOUT)
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()
        last = said.splitlines()[-1] if said else f"code {done.returncode}"
        raise GuestError(f"{name} failed in guest {guest.vmid}: {last}", detail=said)
    return done


def read_packages(guest: BuildGuest) -> tuple[Package, ...]:
    """Return what dpkg says is installed; nothing for a guest without dpkg."""
    query = "dpkg-query -W -f '${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\n' 2>/dev/null || true"
    lines = run(guest.ssh_command(query)).stdout.splitlines()
    fields = [line.split("\t") for line in lines if line.startswith("installed\t")]
    return tuple(Package(*field[1:4]) for field in fields if len(field) == 4)
