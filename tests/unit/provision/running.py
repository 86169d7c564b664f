"""Ansible itself, as a user would start it: on this machine, instead of a guest."""

from __future__ import annotations

import sys
from pathlib import Path

from goldsmith.base.process import Argument, Completed, build_environment, run


def run_ansible(playbook: Path, *options: str, home: Path, cwd: Path | None = None, **given: str) -> Completed:
    """Run a playbook for a host called guest, which is this machine."""
    argv: list[Argument] = [sys.executable, "-P", "-m", "ansible", "playbook", "-c", "local", "-i", "guest,"]
    argv += ["-e", f"ansible_python_interpreter={sys.executable}", *options, playbook]
    environment = build_environment({"ANSIBLE_HOME": str(home), "ANSIBLE_NOCOLOR": "1", **given})
    return run(argv, env=environment, cwd=cwd, timeout=120)
