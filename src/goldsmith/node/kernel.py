"""Limits of the kernel that a few containers with systemd reach: raised as a Proxmox VE raises them, never lowered.

All unprivileged guests share their user ids, and with them what the kernel grants to one user. With the kernel's own
128 inotify instances systemd comes up in about 15 guests (Debian's lxc says so in its 30-lxc-inotify.conf), and then
every further one stays "initializing".
"""

from __future__ import annotations

import logging
from pathlib import Path

_LOG = logging.getLogger("goldsmith.node")
SYSCTLS = Path("/proc/sys")
LEAST = {
    "fs/inotify/max_queued_events": 1 << 23,
    "fs/inotify/max_user_instances": 1 << 16,
    "fs/inotify/max_user_watches": 1 << 22,
    "kernel/keys/maxkeys": 2000,
}
"""What pve-container (8.4, `10-pve-ct-inotify-limits.conf`) sets at boot. The memory is counted to each guest's own."""


def ensure_limits(root: Path = SYSCTLS) -> None:
    """Raise what is lower. Where the kernel refuses (in a container), the log says which line the machine wants."""
    for name, least in LEAST.items():
        path = root / name
        try:
            if int(path.read_text()) < least:
                path.write_text(f"{least}\n")
        except (OSError, ValueError) as error:
            line = f"{name.replace('/', '.')}={least}"
            _LOG.warning("many guests need `sysctl %s` on the machine, which cannot be set from here: %s", line, error)
