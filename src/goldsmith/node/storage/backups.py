"""Backups as files: their names, notes and protection, and which of them a retention keeps.

Retention is Proxmox's own (PVE::Storage::prune_mark_backup_group, documented in vzdump(1)): each `keep-*` option
keeps the newest backup of each of that many periods; a period that an earlier option covers is not counted again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(
    r"vzdump-(?P<kind>lxc|qemu)-(?P<vmid>[1-9]\d{2,8})-"
    r"(?P<stamp>\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)\.(?P<format>(?:tar|vma)(?:\.(?:gz|lzo|zst))?)"
)
MOST_PROTECTED = 5
"""Protected backups of one guest in a storage, for who has not Datastore.Allocate there (PVE::Storage)."""
_PERIODS: list[tuple[str, Callable[[time.struct_time], str]]] = [
    ("keep-hourly", lambda when: time.strftime("%H/%d/%m/%Y", when)),
    ("keep-daily", lambda when: time.strftime("%d/%m/%Y", when)),
    ("keep-weekly", lambda when: time.strftime("%V/%G", when)),
    ("keep-monthly", lambda when: time.strftime("%m/%Y", when)),
    ("keep-yearly", lambda when: time.strftime("%Y", when)),
]


@dataclass(frozen=True)
class Backup:
    """One backup archive. `ctime` is the time in its name, in seconds since 1970."""

    path: Path
    kind: str
    vmid: int
    ctime: int
    format: str

    @property
    def is_protected(self) -> bool:
        """Whether it may not be removed."""
        return self.path.with_name(self.path.name + ".protected").exists()

    @property
    def notes(self) -> str:
        """What somebody noted about it."""
        path = self.path.with_name(self.path.name + ".notes")
        return path.read_text(errors="replace") if path.exists() else ""


def parse_backup(path: Path) -> Backup | None:
    """Return what a file's name says of a backup; None when it is none of vzdump's."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    ctime = int(time.mktime(time.strptime(match["stamp"], "%Y_%m_%d-%H_%M_%S")))
    return Backup(path, match["kind"], int(match["vmid"]), ctime, match["format"])


def list_backups(folder: Path, vmid: int | None = None) -> list[Backup]:
    """Return the backups in a folder, the newest first."""
    found = [backup for path in folder.iterdir() if (backup := parse_backup(path))] if folder.is_dir() else []
    chosen = [backup for backup in found if vmid is None or backup.vmid == vmid]
    return sorted(chosen, key=lambda backup: (backup.ctime, backup.path.name), reverse=True)


def parse_retention(text: str) -> dict[str, int]:
    """Parse `keep-last=3,keep-daily=7`."""
    return {key: int(value) for key, _, value in (part.partition("=") for part in text.split(",") if part)}


def plan_prune(backups: list[Backup], retention: str) -> dict[Path, str]:
    """Return `keep`, `remove` or `protected` for each of one guest's backups, given newest first."""
    keep = parse_retention(retention)
    marks = {backup.path: "protected" for backup in backups if backup.is_protected}
    free = [backup for backup in backups if backup.path not in marks]
    if keep.get("keep-all") or not any(keep.values()):
        return {**marks, **{backup.path: "keep" for backup in free}}
    marks.update({backup.path: "keep" for backup in free[: keep.get("keep-last", 0)]})
    for option, period in _PERIODS:
        _mark_periods(free, marks, keep.get(option, 0), period)
    return {**{backup.path: "remove" for backup in free}, **marks}


def _mark_periods(
    backups: list[Backup], marks: dict[Path, str], count: int, period: Callable[[time.struct_time], str]
) -> None:
    """Keep the newest backup of `count` periods in which nothing is kept yet."""
    covered = {period(time.localtime(backup.ctime)) for backup in backups if backup.path in marks}
    for backup in backups:
        name = period(time.localtime(backup.ctime))
        if count > 0 and backup.path not in marks and name not in covered:
            marks[backup.path] = "keep"
            covered.add(name)
            count -= 1


def select_prunable(folder: Path, vmid: int, retention: str) -> list[Path]:
    """Return a guest's backups that a retention does not keep."""
    marks = plan_prune(list_backups(folder, vmid), retention)
    return [path for path, mark in marks.items() if mark == "remove"]
