"""What is to be run, and on which guest: values only, so that building and testing need no Ansible to talk about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Play:
    """A playbook with its variables. Paths are absolute."""

    playbook: Path
    project: Path
    """The user's project: `ansible.cfg`, `roles/`, `collections/`, `group_vars/` beside or above the playbook count."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Extra variables: plain values, unrendered Jinja, and `Secret`s (nested too), which reach Ansible by a file."""
    strategy: str = "mitogen_linear"
    text: str = ""
    """What is run in the playbook's place, as if it stood in its folder; empty: the playbook as it is."""

    def read_text(self) -> str:
        """Return what is run."""
        return self.text or self.playbook.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class PlaybookOutcome:
    """What a playbook came to on the guest. Counts are tasks."""

    ok: int = 0
    changed: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
