"""Images that stay on their node as protected backups, where there is no shell to read them: what their notes say.

    NAME:DAY-TIME: a golden image, built upon BASE.
    Guests are made from it: ...
    goldsmith image NAME:DAY-TIME KEY SINCE,SINCE,...

The last line is for programs: the key of its last layer, and when each of them was built, in seconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from goldsmith.base.errors import ApiFailed
from goldsmith.build.facts import Site, list_dump_storages
from goldsmith.pve.storage import Volume

LINE = re.compile(
    r"goldsmith image (?P<reference>(?P<name>\S+):\S+) (?P<key>sha256:[0-9a-f]{64}) (?P<since>\d+(,\d+)*)", re.ASCII
)


@dataclass(frozen=True)
class KeptImage:
    """An image that is a backup. `size` in bytes, `since` and `created` in seconds since 1970."""

    volid: str
    reference: str
    key: str
    since: tuple[int, ...]
    size: int = 0
    created: int = 0

    @property
    def name(self) -> str:
        """The image's."""
        return self.reference.partition(":")[0]


def render_notes(reference: str, key: str, since: Sequence[int], base: str) -> str:
    """Return the notes of a backup that guests are made from."""
    lines = [
        f"{reference}: a golden image, built upon {base}.",
        "Guests are made from it: restore it under a new vmid, with unique addresses.",
        f"goldsmith image {reference} {key} {','.join(map(str, since))}",
    ]
    return "\n".join(lines)


def parse_kept(volume: Volume) -> KeptImage | None:
    """Return what a backup is, by its notes; None where it is no image."""
    for line in volume.notes.splitlines():
        if found := LINE.fullmatch(line):
            since = tuple(map(int, found["since"].split(",")))
            return KeptImage(volume.volid, found["reference"], found["key"], since, volume.size, volume.created)
    return None


def list_kept(site: Site) -> list[KeptImage]:
    """Return the images in the storages that a node can restore from, newest first."""
    volumes: list[Volume] = []
    for storage in list_dump_storages(site):
        with suppress(ApiFailed):  # one that does not answer has none
            volumes += site.node.storage.list_content(storage.name, "backup")
    return select_kept(volumes)


def select_kept(volumes: Iterable[Volume]) -> list[KeptImage]:
    """Return those of some backups that are images, newest first."""
    found = [kept for volume in volumes if volume.protected and (kept := parse_kept(volume)) is not None]
    return sorted(found, key=lambda one: (one.created, one.volid), reverse=True)
