"""Versions that are protected backups on their node, where there is no shell to read them: what their notes say.

    NAME:DAY.N: a golden image of goldsmith, built upon BASE.
    Guests are made from it: ...
    goldsmith image NAME:DAY.N DIGEST

The last line is for programs: the digest is the version's, of which the repository holds all but the files. A backup
is only used where all of it agrees: volume, size, protection, name and digest.
"""

from __future__ import annotations

import re

from goldsmith.artifacts.repository import Version
from goldsmith.base.errors import PveError
from goldsmith.build.facts import Site
from goldsmith.pve.storage import Volume

LINE = re.compile(r"goldsmith image (?P<reference>\S+:\S+) (?P<digest>sha256:[0-9a-f]{64})", re.ASCII)


def render_notes(version: Version, base: str) -> str:
    """Return the notes of a backup that guests are made from."""
    lines = [
        f"{version}: a golden image of goldsmith, built upon {base}.",
        "Guests are made from it: restore it under a new vmid, with unique addresses.",
        f"goldsmith image {version} {version.digest}",
    ]
    return "\n".join(lines)


def is_version(volume: Volume, version: Version) -> bool:
    """Tell whether a backup is a version, by all that is known of it."""
    named = next((found for line in volume.notes.splitlines() if (found := LINE.fullmatch(line))), None)
    if named is None or not volume.protected:
        return False
    told = (volume.volid, volume.size, named["reference"], named["digest"])
    return told == (version.backup, version.size, str(version), version.digest)


def find_backup(version: Version, site: Site) -> Volume | None:
    """Find the backup that a version is; None where it is not there, or is no longer what it was."""
    volume = site.node.storage.find_volume(version.backup)
    return volume if volume is not None and is_version(volume, version) else None


def get_backup(version: Version, site: Site) -> Volume:
    """Return the backup that a version is.

    :raises PveError: it is not there.
    """
    volume = find_backup(version, site)
    if volume is None:
        raise PveError(
            f"{version} is the backup {version.backup}, and {site.node.name} has none that is it",
            hint="it was removed, changed, or lies on another Proxmox: build the image again, or name another version",
        )
    return volume


def remove_backup(version: Version, site: Site) -> None:
    """Remove the backup that a version is, if it is there; guests that were made of it do not need it."""
    if (volume := find_backup(version, site)) is not None:
        site.node.storage.delete_backup(volume.volid)
