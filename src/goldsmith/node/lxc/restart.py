"""Started by a guest's post-stop hook when the guest reboots from inside: `python -m ... STATE VMID`."""

from __future__ import annotations

import sys
from pathlib import Path

from goldsmith.node.lxc.power import restart_guest

if __name__ == "__main__":
    restart_guest(Path(sys.argv[1]), int(sys.argv[2]))
