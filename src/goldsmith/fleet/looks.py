"""What the last look for drift has found, on this machine's disk: `goldsmith status` shows it without looking again.

<state>/drift/<digest of inventory and server>.json     server, version, vmid, when, found
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from goldsmith.base.digest import digest_json
from goldsmith.base.files import write_atomic
from goldsmith.fleet.drift import Drift

FOLDER = "drift"
HOUR, DAY = 3600, 86400


@dataclass(frozen=True)
class Look:
    """A look at one server. `when` in seconds since 1970."""

    server: str
    vmid: int
    version: str
    when: float
    found: int
    """How many files, packages and accounts differed."""

    def render(self, now: float) -> str:
        """Say what was found, and how long ago."""
        seconds = max(0.0, now - self.when)
        ago = f"{seconds / DAY:.0f} d" if seconds >= 2 * DAY else f"{seconds / HOUR:.0f} h"
        what = f"{self.found} differ" if self.found else "none"
        return f"{what}, {ago} ago" if seconds >= HOUR else what


def _file(state: Path, inventory: Path, server: str) -> Path:
    return state / FOLDER / f"{digest_json([str(inventory), server]).removeprefix('sha256:')[:24]}.json"


def note_look(state: Path, inventory: Path, vmid: int, drift: Drift) -> None:
    """Write down what a look has found.

    :param inventory: two projects may have a server of the same name.
    """
    found = len(drift.files) + len(drift.packages) + len(drift.accounts)
    look = Look(drift.server, vmid, drift.version, time.time(), found)
    file = _file(state, inventory, drift.server)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(file, json.dumps(asdict(look), indent=2))


def find_look(state: Path, inventory: Path, server: str, vmid: int, version: str) -> Look | None:
    """Find the last look at a server as it is now; None: nobody has looked since it was made."""
    with suppress(OSError, ValueError, TypeError):
        look = Look(**json.loads(_file(state, inventory, server).read_text(encoding="utf-8")))
        if (look.vmid, look.version) == (vmid, version):
            return look
    return None
