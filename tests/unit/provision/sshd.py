"""A guest for tests without root: an sshd of our own on the loopback address, for the user who runs the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goldsmith.pve.target import Target

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
HOST = "build-guest"


def make_key(path: Path) -> str:
    """Make a key pair and return its public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip()


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def open_sshd(folder: Path) -> Iterator[Target]:
    """Run an sshd that lets in one key, and return how it is reached."""
    assert SSHD is not None
    port = find_port()
    host_key, key = make_key(folder / "host_key"), make_key(folder / "key")
    (folder / "authorized_keys").write_text(key + "\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    options = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host_key", "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized_keys", "StrictModes": "no", "UsePAM": "no",
        "PermitRootLogin": "yes", "MaxStartups": "100", "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where root's sshd goes to live without rights
    with (
        (folder / "sshd.log").open("w") as log,
        subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=log) as process,
    ):
        try:
            wait_for(port, process)
            yield Target(HOST, "127.0.0.1", folder / "key", folder / "known_hosts", port=port, user=getpass.getuser())
        finally:
            process.terminate()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("sshd does not listen")
