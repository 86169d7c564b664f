"""A real sshd on loopback, for tests that need one."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from goldsmith.pve.ssh import SshAccess

SSHD = shutil.which("sshd", path=f"/usr/sbin:/usr/local/sbin:{os.environ.get('PATH', '')}")


class Sshd:
    """A real sshd on a loopback port, with its own host key, that takes one client key."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = folder
        for name in ("host", "client", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "authorized").write_text((folder / "client.pub").read_text())
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}")
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
            f"StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\n"
        )

    def access(self, key: str = "client", known_hosts: Path | None = None) -> SshAccess:
        return SshAccess(
            "127.0.0.1", getpass.getuser(), self.port, self.folder / key, known_hosts or self.known_hosts
        )  # fmt: skip


def listens(port: int) -> bool:
    """Tell whether something listens at a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def open_sshd(folder: Path) -> Iterator[Sshd]:
    """Have a server while the block runs; skips the test where that cannot be."""
    if SSHD is None or "sshd" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("sshd is not installed")
    if os.geteuid() != 0:
        pytest.skip("an ordinary user would need sudo behind this sshd")
    made = Sshd(folder)
    separation = Path("/run/sshd")
    missing = not separation.exists()
    separation.mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", made.folder / "config"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not listens(made.port):
            assert process.poll() is None, "sshd has ended"
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.02)
        yield made
    finally:
        process.kill()
        process.wait()
        if missing:
            separation.rmdir()
