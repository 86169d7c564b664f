"""vzdump: a guest becomes one archive. Which one is only said in the task's log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from goldsmith.base.errors import PveError
from goldsmith.pve.answers import Upid, read_upid
from goldsmith.pve.door import Door, Parameter
from goldsmith.pve.slots import limit_dump
from goldsmith.pve.storage import Storages
from goldsmith.pve.tasks import OnLine, Tasks

DUMP_TIMEOUT = 4 * 3600.0
"""Seconds. A node dumps one guest at a time and lets others wait up to three hours for their turn (PVE 8.4)."""
ARCHIVE = re.compile(r"creating \S.* archive '(?P<archive>[^']+)'")
"""How vzdump names an archive: `vzdump`, `Proxmox Backup Server`, or what provides a backup since PVE 9 before it."""
LONGEST_TEMPLATE = 1024
"""Characters of `notes-template` (PVE 7.2 to 9, PVE::VZDump::Common)."""


@dataclass(frozen=True)
class Backup:
    """An archive. `path` is where it lies on the node (empty on a Proxmox Backup Server); `size` in bytes."""

    volid: str
    path: str
    size: int
    log: tuple[str, ...] = ()
    """What vzdump said: which mount points it has included, and which not."""


def find_archive(lines: Iterable[str]) -> str | None:
    """Find the archive's path (or name, on a Proxmox Backup Server) in the log of a vzdump task."""
    for line in lines:
        if found := ARCHIVE.search(line):
            return found["archive"]
    return None


def escape_notes(notes: str) -> str:
    """Return notes as a template is written, in one line."""
    return notes.replace("\\", "\\\\").replace("\n", "\\n")


def render_template(notes: str) -> str:
    """Return the template for as much of some notes as vzdump takes: whole lines, and nothing that is a variable."""
    lines = notes.split("\n")
    while lines and (len(escape_notes("\n".join(lines))) > LONGEST_TEMPLATE or any("{{" in line for line in lines)):
        lines.pop()
    return escape_notes("\n".join(lines))


class Backups:
    """vzdump on one node."""

    def __init__(self, door: Door, node: str, tasks: Tasks, storages: Storages) -> None:
        self._door = door
        self._node = node
        self._tasks = tasks
        self._storages = storages

    def create(
        self, vmid: int, *, storage: str, mode: str = "stop", compress: str = "zstd", notes: str = "",
        protected: bool = False, on_line: OnLine | None = None, timeout: float = DUMP_TIMEOUT,
    ) -> Backup:  # fmt: skip
        """Dump a guest and wait for it; left early, the dump is stopped, which removes the half archive (PVE 8.4).

        A node dumps one guest at a time: another dump of ours is waited for first.

        Of mount points only those with `backup=1` are in it; bind mounts never are.

        :param compress: `zstd`, `gzip`, `lzo`, or `0` for none.
        :raises TaskFailed: see its detail.
        """
        template = render_template(notes)
        parameters: dict[str, Parameter] = {
            "vmid": vmid,
            "storage": storage,
            "mode": mode,
            "compress": compress,
            "notes-template": template or None,
            "protected": protected or None,
            "remove": False if protected else None,  # else the storage's retention removes others, of somebody else
        }
        lines: list[str] = []

        def begin() -> Upid:
            lines.clear()
            path = f"/nodes/{self._node}/vzdump"
            return self._tasks.begin(
                limit_dump(self._node), lambda: read_upid(self._door.post(path, parameters)), tell_wait
            )

        def tell_wait(_before: int) -> None:
            if on_line is not None:
                on_line(f"{self._node} dumps one guest at a time: another dump of ours is waited for")

        def hear(line: str) -> None:
            lines.append(line)
            if on_line is not None:
                on_line(line)

        self._tasks.run(begin, hear, timeout=timeout, stop_if_left=True)
        backup = self._find(storage, vmid, lines)
        if template != escape_notes(notes):
            self._storages.set_volume(backup.volid, {"notes": notes})
        return backup

    def _find(self, storage: str, vmid: int, lines: list[str]) -> Backup:
        """Return the archive that the log names as the storage lists it: a dump that is not listed is none."""
        archive = find_archive(lines)
        if archive is None:
            raise PveError(f"vzdump of {vmid} ended well, but its log names no archive", detail="\n".join(lines))
        name = archive.rpartition("/")[2]
        for volume in self._storages.list_content(storage, "backup", vmid):
            if volume.name == name:
                path = archive if archive.startswith("/") else ""
                return Backup(volume.volid, path, volume.size, tuple(lines))
        raise PveError(f"{storage} does not list the archive {name} that vzdump has written")

    def read_config(self, volid: str) -> str:
        """Return the guest's configuration as the archive holds it, in Proxmox's own format."""
        answer = self._door.get(f"/nodes/{self._node}/vzdump/extractconfig", volume=volid)
        return str(answer)

    def list_backups(self, storage: str, vmid: int | None = None) -> list[str]:
        """Return the volume ids of a storage's backups, oldest first."""
        volumes = self._storages.list_content(storage, "backup", vmid)
        return [volume.volid for volume in sorted(volumes, key=lambda volume: (volume.created, volume.volid))]
