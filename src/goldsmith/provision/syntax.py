"""A playbook is checked before anything is created: Ansible's own syntax check, its complaints with file and line."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from goldsmith.base.errors import DefinitionError, Problem, ProgramTimedOut, ProvisionError
from goldsmith.base.process import Argument, Completed, run
from goldsmith.provision.mirror import find_original
from goldsmith.provision.play import Play
from goldsmith.provision.strategy import Strategy
from goldsmith.provision.workspace import Workspace, build_ansible_environment, open_workspace, render_inventory

TIMEOUT = 120.0
STAND_IN = "guest"
NO_PLAY = "no play is for the build guest, and there is no other host"
ORIGIN = re.compile(r"^Origin: (?P<file>.+?):(?P<line>\d+)(?::\d+)?$", re.MULTILINE)
"""ansible-core 2.19 and later."""
APPEARS = re.compile(r"The error appears to be in '(?P<file>[^']+)': line (?P<line>\d+)")
"""ansible-core up to 2.18."""
MISSING_FILE = re.compile(r"Could not find or access '(?P<file>[^']+)'")
MESSAGE = re.compile(r"^(?:\[ERROR\]:|ERROR!) *(?P<message>.+?)(?=\n\n|\nOrigin: |\Z)", re.MULTILINE | re.DOTALL)
ADVICE = re.compile(
    r"\n?If you are using a module and expect the file to exist on the remote, see the remote_src option"
)


def check_syntax(play: Play, *, host: str = "") -> None:
    """Let Ansible load the playbook with its roles, static imports and variables, on no host. Takes about a second.

    :param host: name that the guest will have; given, there must be a play for it.
    :raises DefinitionError: Ansible refuses it, or no play is for the guest.
    :raises ProvisionError: Ansible does not come to an end.
    """
    with open_workspace(play) as workspace:
        workspace.write("inventory.yml", render_inventory(host or STAND_IN, {"ansible_connection": "local"}))
        done = _run_ansible(play, workspace, "--list-hosts" if host else "--syntax-check")
        problem = find_problem(play, done.stdout + done.stderr) if done.returncode else None
        if problem is not None:
            raise DefinitionError([replace(problem, file=find_original(problem.file, play, workspace.root))])
    if host and f"\n      {host}\n" not in done.stdout + "\n":
        accepted = "hosts: all"
        raise DefinitionError([Problem(play.playbook, _find_line(play.playbook, "hosts:"), NO_PLAY, accepted)])


def _run_ansible(play: Play, workspace: Workspace, what: str) -> Completed:
    argv: list[Argument] = [
        sys.executable, "-P", "-m", "ansible", "playbook", what,
        "-i", workspace.inventory, "-e", f"@{workspace.variables}", workspace.playbook,
    ]  # fmt: skip
    environment = build_ansible_environment(workspace, play, Strategy("linear"))
    try:
        return run(argv, env=environment, cwd=play.project, timeout=TIMEOUT, check=False)
    except ProgramTimedOut as error:
        raise ProvisionError(f"Ansible did not finish reading {play.playbook}", detail=error.detail) from error


def find_problem(play: Play, output: str) -> Problem:
    """Find what Ansible complains of in its output, and where."""
    found = MESSAGE.search(output)
    message = found["message"] if found else output.strip().rpartition("\n")[2]
    message = " ".join(message.split())
    place = ORIGIN.search(output) or APPEARS.search(output)
    if place:
        return Problem(Path(place["file"]), int(place["line"]), message)
    if missing := MISSING_FILE.search(output):
        line = _find_line(play.playbook, Path(missing["file"]).name)
        return Problem(play.playbook, line, f"the file {missing['file']} does not exist")
    return Problem(play.playbook, 0, message or "Ansible refuses it without a word")


def _find_line(file: Path, text: str) -> int:
    """Return the first line with a text; 0 where there is none (it may stand in an imported file)."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    return next((number for number, line in enumerate(lines, 1) if text in line), 0)
