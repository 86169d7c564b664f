"""The way to a guest: one SSH connection, opened here, that Ansible's own connections then run through; or its console.

The user's ssh configuration holds (a jump host, say); key, host key and user are the target's alone.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.errors import ProgramFailed, ProvisionError
from goldsmith.base.process import Argument, Completed, run
from goldsmith.provision.processes import MARK
from goldsmith.pve.target import ConsoleTarget, Target

CONNECT_TIMEOUT = 15
UNREACHED = 255
"""ssh's own exit code when it, not the program, has failed."""
INSTALL_TIMEOUT = 600.0
PERSIST = 60
"""Seconds that an unused connection stays; the end of a run ends it earlier, unless we are killed."""
USUAL_PYTHON = "/usr/bin/python3"
FIND_PYTHON = f"if [ -x {USUAL_PYTHON} ]; then echo {USUAL_PYTHON}; else command -v python3; fi"
INSTALL_PYTHON = """
if command -v apt-get; then
  export DEBIAN_FRONTEND=noninteractive; apt-get -q update && apt-get -q install -y --no-install-recommends python3
elif command -v dnf; then dnf -q install -y python3
elif command -v apk; then apk add python3
else echo "no package manager that is known here"; exit 1
fi
"""


@dataclass(frozen=True)
class Access:
    """How ssh reaches the target. `control` is the shared connection's socket; its path must be short (107 bytes)."""

    target: Target
    control: Path
    mark: str
    """What our processes carry in their environment; see `processes`."""

    @property
    def is_root(self) -> bool:
        """Whether what is run there is run as root."""
        return self.target.user == "root"

    @property
    def trust(self) -> list[str]:
        """Options of who is trusted: this guest's host key, and our key for it, nothing else."""
        # Quoted, because the option takes several files; a percent sign would be a token (ssh_config(5)).
        known_hosts = str(self.target.known_hosts).replace("%", "%%")
        options = {
            "UserKnownHostsFile": f'"{known_hosts}"',
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_TIMEOUT),
            "ServerAliveInterval": "15",
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    @property
    def sharing(self) -> list[str]:
        """Options that share one connection; a new one is made where it broke, by a task that restarts sshd, say."""
        return ["-o", "ControlMaster=auto", "-o", f"ControlPersist={PERSIST}"]

    def run(self, script: str, *, timeout: float = 30.0) -> Completed:
        """Run a shell script in the guest.

        :raises ProvisionError: the guest cannot be reached.
        """
        target = self.target
        key = str(target.private_key).replace("%", "%%")
        argv: list[Argument] = [
            "ssh", "-T", *self.trust, *self.sharing, "-o", f"ControlPath={self.control}", "-o", f'IdentityFile="{key}"',
            "-p", target.port, "-l", target.user, target.address, script,
        ]  # fmt: skip
        done = run(argv, env={MARK: self.mark}, timeout=timeout, check=False)
        if done.returncode == UNREACHED:
            raise explain_unreachable(target, done.stderr)
        return done


@dataclass(frozen=True)
class ConsoleAccess:
    """How the target is entered through its console, as root; see `pve.console`."""

    target: ConsoleTarget
    mark: str
    """What our processes carry in their environment; see `processes`."""
    is_root: bool = True

    def run(self, script: str, *, timeout: float = 30.0) -> Completed:
        """Run a shell script in the guest.

        :raises ProvisionError: the guest cannot be entered.
        """
        shell, argv = self.target.shell, ["sh", "-c", script]
        done = run(shell.get_way().wrap(argv), env={MARK: self.mark}, timeout=timeout, check=False)
        if done.returncode == UNREACHED:
            failed = shell.explain(argv, ProgramFailed(done.command, done.returncode, done.stderr))
            raise ProvisionError(failed.message, hint="does it run?", detail=done.stderr.strip())
        return done


AnyAccess = Access | ConsoleAccess


def explain_unreachable(target: Target, said: str) -> ProvisionError:
    """Return the error for a guest that cannot be reached; `said` is ssh's own output."""
    lines = [line for line in said.strip().splitlines() if line]
    hint = "does it run, and does sshd listen there?"
    if "Host key verification failed" in said:
        hint = f"another machine may have its address; the known key is in {target.known_hosts}"
    elif "Permission denied" in said:
        hint = f"{target.user} does not accept our key: see authorized_keys in the guest"
    by_hand = shlex.join(
        ["ssh", "-p", str(target.port), "-i", str(target.private_key), f"{target.user}@{target.address}"]
    )
    return ProvisionError(
        f"{target.host} ({target.address} port {target.port}) cannot be reached over SSH: "
        + (lines[-1] if lines else "the connection broke"),
        hint=f"{hint}; by hand: {by_hand}",
        detail=said.strip(),
    )


def find_python(access: AnyAccess) -> str:
    """Return the path of the guest's Python 3; empty where it has none. Leaves the shared connection open.

    :raises ProvisionError: the guest cannot be reached.
    """
    return access.run(FIND_PYTHON).stdout.strip()


def ensure_python(access: AnyAccess) -> str:
    """Return the path of the guest's Python 3; install it where there is none, because Ansible's modules need it.

    :raises ProvisionError: the guest cannot be reached, or Python cannot be installed.
    """
    if found := find_python(access):
        return found
    sudo = "" if access.is_root else "sudo -n "
    done = access.run(f"{sudo}sh -c {shlex.quote(INSTALL_PYTHON)}", timeout=INSTALL_TIMEOUT)
    found = find_python(access)
    if done.returncode or not found:
        raise ProvisionError(
            f"{access.target.host} has no Python 3 and it could not be installed there",
            detail=(done.stdout + done.stderr).strip(),
            hint="Ansible needs it: take a base image that has it, or give the guest a way to its package mirror",
        )
    return found
