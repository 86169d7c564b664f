"""What a person can do about Proxmox's own errors, and which of them pass by themselves (wordings of PVE 8.4)."""

from __future__ import annotations

import re

HELD = re.compile(r"\b(?:CT|VM) is locked \((backup|snapshot|snapshot-delete)\)")
"""A guest that something else works on, which ends by itself; nothing was done to it."""
BUSY = re.compile(r"can't lock file '[^']*' - got timeout")
"""A file that many want at once, such as a storage's lock; nothing was done."""
ADVICE = (
    (HELD, "something else works on this guest (its last tasks tell what); `pct unlock` where that was broken off"),
    (BUSY, "something else works on this guest or storage: run the command again when that is over"),
    (re.compile("no quorum"), "the cluster can change nothing until most of its nodes run again: pvecm status"),
    (
        re.compile("No space left on device|not enough space|out of space", re.IGNORECASE),
        "make room in that storage (pvesm status); `goldsmith cache prune` removes finished layers",
    ),
    (re.compile("No route to host"), "that node of the cluster is off, or out of reach: pvecm status"),
    (re.compile("Permission check failed"), "`goldsmith doctor` tells which rights are missing, and how to grant them"),
)


def is_passing(text: str) -> bool:
    """Tell whether an error says that something else has the lock: nothing was done, and later it may go well."""
    return HELD.search(text) is not None or text.startswith("can't lock file")


def find_advice(*texts: str) -> str:
    """Return what a person can do about an error; empty where nothing is known."""
    return next((advice for pattern, advice in ADVICE if any(pattern.search(text) for text in texts)), "")
