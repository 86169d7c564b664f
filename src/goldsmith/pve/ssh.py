"""A shell on a node that is another machine, through the ssh program: its config, agent and known hosts hold."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.errors import NodeUnreachable, ProgramFailed, ShellFailed
from goldsmith.base.process import Argument, Completed, open_process, run
from goldsmith.base.secrets import Secret
from goldsmith.pve.shell import CommandShell
from goldsmith.pve.way import Way

CONNECT_TIMEOUT = 15
AskPassword = Callable[[], Secret | None]
UNREACHED = 255
"""ssh's own exit code when it, not the program, has failed."""


@dataclass(frozen=True)
class SshAccess:
    """How to reach a node's shell. A user other than root works through sudo, with `sudo_password` if it asks for one.

    The host key must be known already, to the user or in `known_hosts`. No password is ever typed into ssh: a key, from
    the agent or `key_file`, opens the door.
    """

    host: str
    user: str = "root"
    port: int = 22
    key_file: Path | None = None
    known_hosts: Path | None = None
    sudo_password: Secret | None = None


class SshShell(CommandShell):
    """Programs over one ssh connection that stands as long as the shell is open; see `open_ssh_shell`."""

    def __init__(self, access: SshAccess, control: Path) -> None:
        self.machine = access.host
        self._access, self._control = access, control
        self._sudo: list[str] = []
        self._password: Secret | None = None

    def choose_sudo(self, ask: AskPassword) -> None:
        """Find out how this user becomes root there. The password is asked for only where sudo wants one.

        :raises ShellFailed: not at all.
        """
        if self._access.user == "root":
            return
        if self.run(["sudo", "-n", "true"], check=False).returncode == 0:
            self._sudo = ["sudo", "-n", "--"]
            return
        self._password = self._access.sudo_password or ask()
        if self._password is None:
            raise ShellFailed(
                f"{self._access.user} may not become root on {self.machine}",
                hint="give the sudo password (PROXMOX_SUDO_PASSWORD), or let that user use sudo without one",
            )
        self._sudo = ["sudo", "-k", "-S", "-p", "", "--"]  # -k: it always reads the password, never takes data for it
        self.run(["true"])

    def get_way(self, *, terminal: bool = False) -> Way:
        """Return the way over this connection; before a terminal, sudo asks the person for a password."""
        ssh = _ssh(self._access, self._control, terminal=terminal)
        if terminal:
            sudo = ["sudo", "--"] if self._sudo else []
            return Way((*ssh, self._access.host), tuple(sudo))
        password = self._password if "-S" in self._sudo else None
        return Way((*ssh, self._access.host), (*self._sudo, "env", "LC_ALL=C"), password)

    @property
    def directory(self) -> Path:
        """A directory of ours alone on this machine, with a path short enough for sockets; it goes with the shell."""
        return self._control.parent

    @contextmanager
    def open_forward(self, path: Path) -> Iterator[int]:
        """Let a port of the other machine's loopback address lead to a socket of this one while the block runs.

        :param path: of the socket.
        :raises ShellFailed: its sshd does not allow that (sshd_config(5), AllowTcpForwarding).
        """
        done = self._order("forward", path)
        if done.returncode or not done.stdout.strip().isdecimal():
            raise ShellFailed(f"sshd of {self.machine} forwards no port", detail=done.stderr.strip())
        try:
            yield int(done.stdout)
        finally:
            self._order("cancel", path)

    def _order(self, order: str, path: Path) -> Completed:
        """Order the connection to begin or end a forward; port 0 is one that the other machine chooses."""
        way = f"127.0.0.1:0:{path}"
        return run(["ssh", "-S", self._control, "-O", order, "-R", way, self._access.host], check=False)

    def explain(self, argv: Sequence[Argument], error: ProgramFailed) -> ShellFailed:
        """Return our error for a program that failed there, or for a connection that did not stand."""
        return _explain_ssh(self._access, error) if error.returncode == UNREACHED else super().explain(argv, error)


def _ssh(access: SshAccess, control: Path, *, terminal: bool = False) -> list[str]:
    options = {**_choose_options(access), "ControlPath": control}
    if terminal:
        options["LogLevel"] = "ERROR"
    return ["ssh", "-t" if terminal else "-T", *_render_options(options)]


def _choose_options(access: SshAccess) -> dict[str, Argument]:
    options: dict[str, Argument] = {
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_TIMEOUT,
        "Port": access.port,
        "ServerAliveInterval": 15,
        "StrictHostKeyChecking": "yes",
        "User": access.user,
    }
    if access.key_file is not None:
        options |= {"IdentityFile": access.key_file, "IdentitiesOnly": "yes"}
    if access.known_hosts is not None:
        options |= {"UserKnownHostsFile": access.known_hosts, "GlobalKnownHostsFile": "/dev/null"}
    return options


def _render_options(options: Mapping[str, Argument]) -> list[str]:
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def render_login(access: SshAccess, words: Sequence[str] = (), *, terminal: bool) -> list[Argument]:
    """Return the command line by which a person gets in, or runs a program there.

    :param terminal: whether there is one for what runs there.
    """
    options = {**_choose_options(access), "ControlPath": "none", "LogLevel": "ERROR"}
    command = ["--", shlex.join(words)] if words else []
    return ["ssh", "-t" if terminal else "-T", *_render_options(options), access.host, *command]


def _explain_ssh(access: SshAccess, error: ProgramFailed) -> ShellFailed:
    said = error.output.strip()
    hint = "try it by hand: " + shlex.join(["ssh", "-p", str(access.port), f"{access.user}@{access.host}"])
    if "Host key verification failed" in said:
        hint = f"compare the key with the node's own and make it known: ssh-keyscan -p {access.port} {access.host}"
    elif "Permission denied" in said:
        hint = f"put your public key into ~{access.user}/.ssh/authorized_keys on {access.host}"
    last = said.splitlines()[-1] if said else "the connection broke"
    return ShellFailed(f"no shell on {access.host}: {last}", hint=hint, detail=said)


@contextmanager
def open_ssh_shell(access: SshAccess, ask: AskPassword = lambda: None) -> Iterator[SshShell]:
    """Connect once and run any number of programs over that connection while the block runs.

    :param ask: asks for the password of sudo where it wants one and none is given; None: there is none.
    :raises NodeUnreachable: nobody answers there.
    :raises ShellFailed: the host key is unknown, the user is refused, or may not become root.
    """
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="goldsmith-ssh-", dir=_choose_directory())
        folder = Path(stack.enter_context(made))
        control = folder / "control"
        _open_master(access, control, stack)
        shell = SshShell(access, control)
        shell.choose_sudo(ask)
        yield shell


def _choose_directory(longest: int = 60) -> str:
    """Return where the connection's socket may lie: a path has 107 bytes at most (unix(7)), and ssh adds 17 to ours."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= longest else "/tmp"  # noqa: S108 - a folder of our own is made in it


def _open_master(access: SshAccess, control: Path, stack: ExitStack) -> None:
    """Start the ssh that holds the connection; it is our child and ends with us."""
    argv = [*_ssh(access, control), "-M", "-N", access.host]
    master = stack.enter_context(open_process(argv))
    deadline = time.monotonic() + CONNECT_TIMEOUT + 5
    while run(["ssh", "-S", control, "-O", "check", access.host], check=False).returncode != 0:
        if master.poll() is not None:
            assert master.stderr is not None
            failed = ProgramFailed("ssh", UNREACHED, master.stderr.read().decode(errors="replace"))
            raise _judge_master(access, failed) from None
        if time.monotonic() > deadline:
            raise NodeUnreachable(f"{access.host} does not answer on port {access.port}")
        time.sleep(0.02)


def _judge_master(access: SshAccess, failed: ProgramFailed) -> ShellFailed | NodeUnreachable:
    signs = ("Connection refused", "timed out", "No route to host", "Could not resolve", "Connection reset")
    if any(sign in failed.output for sign in signs):
        return NodeUnreachable(failed.output.strip().removeprefix("ssh: "))
    return _explain_ssh(access, failed)
