"""Finished layers where the storage makes no snapshots: archives that vzdump has made of the stopped build guest.

An archive is one of ours by its notes alone, which are written when it is whole; until then they carry the mark of the
build that makes it, and it goes with that build:

    goldsmith layers of IMAGE
    <name of the layer>
    key sha256:...
    since 1764000000 1764000100
    opened by SHA256:...            the build key that opens a guest made of it
    size 123456                     of the archive, in bytes: one of another size is not the one that was meant
    last used 1764000200            when a build last went on from it
    in use by 0123456789ab since 1764000200

It is protected, so that neither a retention of the storage nor the next dump of the same vmid removes it. Notes have no
digest that a change could be based on, as a guest's configuration has: two builds may use an archive at a time, and
whose use is lost, as both wrote at once, may find the archive gone and is told to try again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from goldsmith.base.errors import ApiFailed
from goldsmith.build.cache.finished import (
    OPENED_BY,
    USED,
    Finished,
    describe_layer,
    find_line,
    find_owner,
    parse_layer,
    parse_time,
    render_owner,
)
from goldsmith.build.facts import Site, list_dump_storages
from goldsmith.pve.backup import Backup
from goldsmith.pve.storage import Volume

SIZE = "size "
IN_USE = "in use by "
LONGEST_USE = 3600
"""Seconds after which a use no longer counts: the build was killed. A restore takes minutes at most."""


@dataclass(frozen=True, kw_only=True)
class CacheArchive(Finished):
    """A finished layer that is a backup in a storage."""

    volid: str
    image: str
    size: int
    """Bytes."""
    opened_by: str
    """Fingerprint of the build key that opens a guest made of it."""
    used: int = 0
    """When a build last went on from it, in seconds since 1970; 0: none ever did."""
    users: tuple[tuple[str, int], ...] = ()
    """The builds that make a guest of it now: id, and since when."""

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"archive {self.volid}"

    @property
    def in_use(self) -> bool:
        """Whether a build makes a guest of it now."""
        return bool(self.users)

    @property
    def last_used(self) -> int:
        """When a build last did something with it, in seconds since 1970."""
        return max(self.made, self.used)


def describe_archive(archive: CacheArchive) -> str:
    """Return an archive's notes."""
    last = [f"{USED}{archive.used}"] if archive.used else []
    users = [f"{IN_USE}{run_id} since {begun}" for run_id, begun in archive.users]
    layer = describe_layer(archive.layer, archive.key, archive.since)
    about = [f"{OPENED_BY}{archive.opened_by}", f"{SIZE}{archive.size}"]
    told = [
        "",
        f"A finished layer of *{archive.image}*, from which builds go on. `goldsmith cache` lists and removes it.",
    ]
    return "\n".join([render_owner(archive.image), layer, *about, *last, *users, *told])


def parse_archive(volume: Volume, *, now: float) -> CacheArchive | None:
    """Parse what a storage tells of a backup; None where it is none of ours, or not the one that its notes tell of.

    :param now: seconds since 1970.
    """
    notes = volume.notes
    owner, layer = find_owner(notes), parse_layer(notes.partition("\n")[2], volume.created)
    if not owner or layer is None or find_line(notes, SIZE) != str(volume.size):
        return None
    return CacheArchive(
        **vars(layer),
        volid=volume.volid,
        image=owner,
        size=volume.size,
        opened_by=find_line(notes, OPENED_BY),
        used=parse_time(notes, USED),
        users=tuple(_list_users(notes, now)),
    )


def _list_users(notes: str, now: float) -> Iterator[tuple[str, int]]:
    for line in notes.splitlines():
        run_id, _, begun = line.removeprefix(IN_USE).partition(" since ")
        if line.startswith(IN_USE) and begun.isdecimal() and now - int(begun) < LONGEST_USE:
            yield run_id, int(begun)


def list_archives(site: Site) -> list[CacheArchive]:
    """Return the archives of layers in the storages that a node can restore from; one that does not answer has none."""
    found: list[CacheArchive] = []
    for storage in list_dump_storages(site):
        with suppress(ApiFailed):
            volumes = site.node.storage.read_backups(storage.name)
            found += [one for volume in volumes if (one := parse_archive(volume, now=time.time())) is not None]
    return found


def find_archive(site: Site, volid: str) -> CacheArchive | None:
    """Find an archive by its volume id."""
    volume = site.node.storage.find_volume(volid)
    return None if volume is None else parse_archive(volume, now=time.time())


def keep_archive(site: Site, backup: Backup, image: str, layer: Finished, opened_by: str) -> CacheArchive:
    """Make a dump that is whole an archive of a layer: from here on it is no longer its build's, and stays."""
    archive = CacheArchive(**vars(layer), volid=backup.volid, image=image, size=backup.size, opened_by=opened_by)
    site.node.storage.set_volume(backup.volid, {"notes": describe_archive(archive), "protected": True})
    return archive


def choose_replaced(archives: Iterable[CacheArchive], new: CacheArchive, kept: Sequence[str]) -> list[CacheArchive]:
    """Return the archives that a new one takes the place of.

    Those of the same image, made with the same build key, that hold the same layer or one that is no longer kept. One
    that a build makes a guest of stays.

    :param kept: names of the image's layers that are kept now.
    """
    own = [one for one in archives if (one.image, one.opened_by) == (new.image, new.opened_by)]
    old = [one for one in own if one.volid != new.volid and (one.layer == new.layer or one.layer not in kept)]
    return [one for one in old if not one.in_use]


def drop_archive(site: Site, volid: str) -> None:
    """Remove an archive."""
    site.node.storage.delete_backup(volid)


@contextmanager
def open_archive(site: Site, volid: str, run_id: str) -> Iterator[CacheArchive | None]:
    """Hold an archive for a build while the block runs, so that nothing of ours removes it; None: it is not there."""
    archive = _note_use(site, volid, add=run_id)
    try:
        yield archive
    finally:
        if archive is not None:
            with suppress(ApiFailed):  # somebody has removed it in spite of that
                _note_use(site, volid, remove=run_id)


def _note_use(site: Site, volid: str, *, add: str = "", remove: str = "") -> CacheArchive | None:
    archive = find_archive(site, volid)
    if archive is None:
        return None
    now = int(time.time())
    users = [user for user in archive.users if user[0] != remove] + ([(add, now)] if add else [])
    changed = replace(archive, used=now, users=tuple(users))
    site.node.storage.set_volume(volid, {"notes": describe_archive(changed)})
    return changed
