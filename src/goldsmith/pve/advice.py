"""What a person can do about Proxmox's own errors, and which of them pass by themselves (wordings of PVE 8.4)."""

from __future__ import annotations

import re

from goldsmith.base.errors import TaskFailed

HELD = re.compile(r"\b(?:CT|VM) is locked \((backup|disk|fstrim|rollback|snapshot|snapshot-delete)\)")
"""A guest that something else works on, which ends by itself; nothing was done to it. `disk`: it is being copied."""
BUSY = re.compile(
    r"can't lock file '[^']*' - got timeout"
    r"|can't aquire lock '[^']*' - got timeout"  # sic (PVE::Tools::lock_file)
    r"|cfs-lock '[^']*' error: got lock request timeout"
)
"""A lock that many want at once, such as a storage's, within a node or a cluster; nothing was done under it."""
UNDONE = re.compile(r"unable to (?:create|restore) CT \d+ - ")
"""How a create says that it has failed, having removed again what it had made (PVE 8.4, PVE::API2::LXC)."""
DUMP_FAILED = re.compile(r"ERROR: Backup of VM \d+ failed - (.*)")
ADVICE = (
    (HELD, "something else works on this guest (its last tasks tell what); `pct unlock` where that was broken off"),
    (BUSY, "something else works on this guest or storage: run the command again when that is over"),
    (
        re.compile("number of protected backups per guest is limited"),
        "raise that (pvesm set STORAGE --max-protected-backups -1), grant Datastore.Allocate on the storage, for whom "
        "there is no limit, or keep fewer backups",
    ),
    (re.compile("no quorum"), "the cluster can change nothing until most of its nodes run again: pvecm status"),
    (
        re.compile("No space left on device|not enough space|out of space", re.IGNORECASE),
        "make room in that storage (pvesm status); `goldsmith cache prune` removes finished layers",
    ),
    (re.compile("No route to host"), "that node of the cluster is off, or out of reach: pvecm status"),
    (re.compile("Permission check failed"), "`goldsmith doctor` tells which rights are missing, and how to grant them"),
)


def is_passing(text: str) -> bool:
    """Tell whether an error says that something else has the lock: nothing was done, and later it may go well.

    A lock that was missed in the middle of something else says nothing of that.
    """
    return HELD.search(text) is not None or BUSY.match(UNDONE.sub("", text, count=1)) is not None


def find_cause(error: TaskFailed) -> str:
    """Return why a task failed: vzdump says so in its log alone, and ends with `job errors` (PVE 8.4)."""
    found = DUMP_FAILED.search(error.detail) if error.exitstatus == "job errors" else None
    return found[1] if found else error.exitstatus


def find_advice(*texts: str) -> str:
    """Return what a person can do about an error; empty where nothing is known."""
    return next((advice for pattern, advice in ADVICE if any(pattern.search(text) for text in texts)), "")
