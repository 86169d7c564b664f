"""Guests of tests as subjects: made with a key, running, reached over SSH."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from goldsmith.pve.target import Target
from tests.lxc.guests import Guest, Guests, wait_until


@dataclass(frozen=True)
class Opened:
    """A running guest, and how it is reached."""

    guest: Guest
    subject: Target


def make_key(folder: Path) -> str:
    """Make a key pair, once in a folder, and return its public line."""
    private = folder / "id_ed25519"
    if not private.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "goldsmith-trial", "-f", private], check=True
        )
    return private.with_name("id_ed25519.pub").read_text().strip()


def open_guest(make_guest: Guests, folder: Path, *, template: str | None = None) -> Opened:
    """Make a guest that lets a key in, start it, and wait until its sshd answers."""
    given = {} if template is None else {"ostemplate": template}
    guest = make_guest(ssh_public_keys=make_key(folder), memory=512, **given)
    guest.start()
    return Opened(guest, await_subject(guest, folder))


def await_subject(guest: Guest, folder: Path) -> Target:
    """Wait until a guest's sshd answers, and note its host key."""
    address = guest.on.address(guest.vmid)

    def scan() -> str:
        return subprocess.run(["ssh-keyscan", "-T", "2", address], capture_output=True, text=True, check=False).stdout

    known_hosts = folder / f"known_hosts.{guest.vmid}"
    known_hosts.write_text(wait_until(scan, what="sshd"))
    return Target(f"guest {guest.vmid}", address, folder / "id_ed25519", known_hosts)
