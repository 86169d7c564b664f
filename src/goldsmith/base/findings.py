"""What an examination finds: of a machine that the embedded node is to run on, or of a Proxmox that is to be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing found. With an error the work cannot be done; `hint` says what to do about it."""

    subject: str
    level: Level
    message: str
    hint: str = ""


def is_well(findings: list[Finding]) -> bool:
    """Tell whether nothing found stands in the way."""
    return all(finding.level != "error" for finding in findings)
