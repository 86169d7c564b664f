"""What one run of pytest is given: a private directory with the way to the guest, variables, and a report to write.

DIR/                    mode 0700, in TMPDIR; removed whatever happens
  ssh_config            how the guest is reached; the user's own configuration counts for the rest
  settings.json         for our plugin, see `connection`: also the way into a guest that is entered directly
  pytest.ini            empty; used where the tests have no configuration, so that none from above them counts
  secrets/              one file for each secret variable
  report.jsonl          what our plugin tells while the tests run
  s                     ssh's socket (elsewhere where DIR's path is too long for one)
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.base.private import open_private_directory, write_private
from goldsmith.base.process import run
from goldsmith.base.secrets import Secret
from goldsmith.definition.source import UnsafeText, VaultText
from goldsmith.pve.target import ConsoleTarget, DirectTarget, Enterable, Target
from goldsmith.verify.protocol import DIRECT, FILE_KEY
from goldsmith.verify.tests import UserTests

PREFIX = "goldsmith-test-"
SOCKET_ROOM = 80
"""Longest path of a socket: it has at most 107 bytes (unix(7)), and ssh adds 17 in making one."""
NOBODY = "guest.invalid"
"""The host of a run that only collects, and of a guest without an address; RFC 2606 promises that there is none."""
CONFIGURED = {
    "pytest.toml": "",
    ".pytest.toml": "",
    "pytest.ini": "",
    ".pytest.ini": "",
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
"""Files in which pytest finds its configuration, and what must be in them (pytest's reference, "Configuration")."""


@dataclass(frozen=True)
class Workspace:
    """The directory of one run."""

    root: Path
    control: Path
    tests: UserTests
    subject: Enterable | None
    """None in a run that only collects."""

    @property
    def address(self) -> str:
        """The guest's address."""
        return (self.subject.address if self.subject is not None else "") or NOBODY

    @property
    def host(self) -> str:
        """The guest as testinfra's host specification."""
        scheme = DIRECT if isinstance(self.subject, DirectTarget | ConsoleTarget) else "ssh"
        return f"{scheme}://{self.address}"

    @property
    def ssh_config(self) -> Path:
        """How the guest is reached."""
        return self.root / "ssh_config"

    @property
    def settings(self) -> Path:
        """For our plugin."""
        return self.root / "settings.json"

    @property
    def report(self) -> Path:
        """Written by our plugin."""
        return self.root / "report.jsonl"

    @property
    def configuration(self) -> Path:
        """Pytest's configuration: that beside the tests, or an empty one."""
        return find_configuration(self.tests.directory) or self.root / "pytest.ini"

    def write(self, name: str, text: str) -> Path:
        """Write a file that only we can read."""
        return write_private(self.root / name, text)


@contextmanager
def open_workspace(tests: UserTests, subject: Enterable | None, group: str | None) -> Iterator[Workspace]:
    """Make the private directory; it is gone after the block, and so is ssh's connection.

    Directories of runs that were killed go too: they hold secrets.

    :param subject: None for a run that only collects.
    :param group: the tests to run; None for all.
    """
    with ExitStack() as stack:
        root = stack.enter_context(open_private_directory(PREFIX))
        control = root / "s"
        if len(os.fsencode(control)) > SOCKET_ROOM:
            control = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gs-", dir="/tmp"))) / "s"
        workspace = Workspace(root, control, tests, subject)
        workspace.write("ssh_config", render_ssh_config(subject, control) if isinstance(subject, Target) else "")
        workspace.write("pytest.ini", "[pytest]\n")
        workspace.write("report.jsonl", "")
        workspace.write("settings.json", json.dumps(_describe(workspace, group)))
        stack.callback(_close_connection, workspace)
        yield workspace


def _describe(workspace: Workspace, group: str | None) -> dict[str, Any]:
    variables = {name: _to_plain(value, name, workspace) for name, value in workspace.tests.variables.items()}
    return {
        "report": str(workspace.report),
        "ssh_config": str(workspace.ssh_config),
        "address": workspace.address,
        "host": workspace.host,
        "way": _describe_way(workspace),
        "group": group,
        "test_timeout": workspace.tests.test_timeout,
        "variables": variables,
    }


def _describe_way(workspace: Workspace) -> dict[str, Any] | None:
    """Return how programs are started in a guest that is entered directly; None for one that is reached over SSH."""
    if not isinstance(workspace.subject, DirectTarget | ConsoleTarget):
        return None
    way = workspace.subject.shell.get_way()
    password = _to_plain(way.first_input, "", workspace)
    return {"outer": way.outer, "inner": way.inner, "first_input": password}


def _to_plain(value: Any, name: str, workspace: Workspace) -> Any:
    """Return a value as JSON has it; a secret becomes the path of a file that holds it.

    What is still encrypted has no value here: it is Ansible that decrypts it.
    """
    match value:
        case Secret():
            number = len(list((workspace.root / "secrets").glob("*")))
            return {FILE_KEY: str(workspace.write(f"secrets/{number}", value.reveal()))}
        case UnsafeText():
            return value.text
        case VaultText():
            return None
        case Mapping():
            return {str(key): _to_plain(item, name, workspace) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_to_plain(item, name, workspace) for item in value]
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def find_configuration(directory: Path) -> Path | None:
    """Return the file in which the tests' own folder configures pytest."""
    for name, wanted in CONFIGURED.items():
        file = directory / name
        if file.is_file() and wanted in file.read_text(encoding="utf-8", errors="replace"):
            return file
    return None


def render_ssh_config(subject: Target, control: Path) -> str:
    """Render what ssh needs to reach the guest (ssh_config(5): the first value of each option counts)."""
    options = {
        "HostName": subject.address,
        "Port": subject.port,
        "User": subject.user,
        "IdentityFile": _quote(subject.private_key),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": _quote(subject.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ControlPath": _quote(control),
        "ServerAliveInterval": 15,
        "LogLevel": "ERROR",
    }
    lines = [f"Host {subject.address}", *(f"  {name} {value}" for name, value in options.items())]
    return "\n".join([*lines, "Host *", "  Include ~/.ssh/config", "  Include /etc/ssh/ssh_config", ""])


def _quote(path: Path) -> str:
    """Quote a path; a percent sign would be a token."""
    return '"' + str(path).replace("%", "%%") + '"'


def _close_connection(workspace: Workspace) -> None:
    """End the connection that ssh has put into the background."""
    if workspace.control.exists():
        run(["ssh", "-S", workspace.control, "-O", "exit", workspace.address], check=False, timeout=10)
