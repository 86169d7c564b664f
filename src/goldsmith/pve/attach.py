"""A container's shell, reached through its node by LXC's own way in: it needs neither a network nor sshd there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from goldsmith.base.errors import ProgramFailed, ShellFailed
from goldsmith.base.process import Argument
from goldsmith.pve.shell import CommandShell, Shell
from goldsmith.pve.way import Way

ENVIRONMENT = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "LANG": "C.UTF-8"}
"""What a login would set, besides PATH, which lxc-attach gives when it clears the environment."""
NO_PROGRAM = "Failed to exec"
"""What lxc-attach says when it has come in, and the program is not there (lxc/attach.c, lxc_attach_run_command)."""
AS_LOGIN = """
while IFS=: read -r name _ _ _ _ _ shell; do [ "$name" = root ] && break; done < /etc/passwd
case $shell in ""|*/nologin|*/false) shell=/bin/sh ;; esac
export SHELL="$shell"
cd 2>/dev/null || cd /
exec "$shell" "$@"
"""
"""Becomes root's own shell in its home, as sshd does it; an account that lets nobody log in has plain sh here."""


def render_login_shell(words: Sequence[str] = ()) -> list[str]:
    """Return what starts root's own shell, or has it run a command (given as words, as to ssh)."""
    given = ["-c", shlex.join(words)] if words else ["-l"]
    return ["sh", "-c", AS_LOGIN, "sh", *given]


class AttachShell(CommandShell):
    """Root's shell in a container that runs on a node.

    :param machine: the container's name, for messages.
    :param node: root's shell on the node.
    :param lxc_path: LXC's own directory of running containers there (`lxc-attach -P`).
    """

    def __init__(self, machine: str, node: Shell, lxc_path: str, vmid: int) -> None:
        self.machine = machine
        self._node, self._lxc_path, self._vmid = node, lxc_path, vmid

    def get_way(self, *, terminal: bool = False) -> Way:
        """Return the way through the node. lxc-attach passes bytes and exit codes on as they are."""
        variables = [word for name, value in ENVIRONMENT.items() for word in ("--set-var", f"{name}={value}")]
        kept = ["--keep-var", "TERM"] if terminal else []
        attach = ["lxc-attach", "-P", self._lxc_path, "-n", str(self._vmid), "--clear-env", *variables, *kept, "--"]
        return self._node.get_way(terminal=terminal).lead(*attach)

    def explain(self, argv: Sequence[Argument], error: ProgramFailed) -> ShellFailed:
        """Return our error for a program that failed in the container, or that was never reached there."""
        said = [line for line in error.output.splitlines() if line.startswith("lxc-attach:")]
        if not said:
            return super().explain(argv, error)
        if any(NO_PROGRAM in line for line in said):
            return ShellFailed(f"{self.machine} has no program {argv[0]}", detail=error.detail)
        reason = said[-1].rpartition(" - ")[2]
        return ShellFailed(f"{self.machine} cannot be entered: {reason}", hint="does it run?", detail=error.detail)
