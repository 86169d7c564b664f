"""What the templates in a storage are to us: told by their names, and proven by repository or record; pure.

A template bears no notes, so its name is the mark: image, tag, and the first digits of the version's digest. Ours is
only what agrees with a version of the repository in all of these and in its size, or with what was written down when it
was brought from this machine. Everything else is a stranger's, whatever it is called.

Of what a node has pulled, the version tells the size only within bounds: what is in an archive, and the little that is
around it. There the size that was written down at its arrival has to be right as well, where one was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from goldsmith.artifacts.repository import Version
from goldsmith.build.carry import is_archive, list_names, measure_file, name_template, parse_name, render_sizes
from goldsmith.build.publish.places import Place
from goldsmith.build.publish.records import Brought
from goldsmith.pve.storage import Volume


class State(StrEnum):
    """What a template is."""

    PUBLISHED = "published"
    """A version of the repository."""
    FORGOTTEN = "forgotten"
    """Brought from here; its version is no longer in the repository."""
    BROKEN = "broken"
    """Called like a version, and of another size."""
    MISSING = "missing"
    """A version that is to be there, and is not."""
    STRANGER = "stranger"
    """Not proven to be ours: never touched."""


@dataclass(frozen=True)
class Lying:
    """A template at a place, or one that is missing there. `size` in bytes."""

    place: Place
    volid: str
    state: State
    size: int = 0
    reference: str = ""
    """`NAME:TAG`, where its name says so."""
    version: Version | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is proven to be."""
        return self.state in (State.PUBLISHED, State.FORGOTTEN)


def judge_place(
    place: Place,
    volumes: Iterable[Volume],
    versions: Sequence[Version],
    brought: Mapping[str, Brought],
    wanted: Iterable[Version] = (),
) -> list[Lying]:
    """Say what lies at a place, and what is missing there.

    :param versions: those of the repository.
    :param brought: what was written down here of that place's templates, by volume id.
    :param wanted: the versions that are to be there.
    """
    listed = list(volumes)
    found = [_judge(place, volume, versions, brought.get(volume.volid)) for volume in listed]
    names = {volume.name for volume in listed}
    missing = [
        Lying(place, f"{place.storage}:vztmpl/{name_template(one)}", State.MISSING, reference=str(one), version=one)
        for one in wanted
        if names.isdisjoint(list_names(one))
    ]
    return [*found, *missing]


def find_fault(volume: Volume, version: Version, brought: Brought | None = None) -> str:
    """Return why a file that is called like a version is not it, as far as its size tells; empty where it may be.

    :param brought: what was written down here when it arrived.
    """
    sizes = measure_file(version, volume.name)
    if volume.size not in sizes:
        what = f"an archive of {version}" if is_archive(volume.name) else str(version)
        return f"{volume.size} bytes, and {what} has {render_sizes(sizes)}"
    if is_archive(volume.name) and brought is not None and volume.size != brought.size:
        return f"{volume.size} bytes, and had {brought.size} when it was brought"
    return ""


def _judge(place: Place, volume: Volume, versions: Sequence[Version], brought: Brought | None) -> Lying:
    named = parse_name(volume.name)
    if named is None:
        return Lying(place, volume.volid, State.STRANGER, volume.size)
    version = next((one for one in versions if named.means(one)), None)
    if version is not None:
        state = State.BROKEN if find_fault(volume, version, brought) else State.PUBLISHED
        return Lying(place, volume.volid, state, volume.size, named.reference, version)
    is_recorded = brought is not None and (brought.version, brought.size) == (named.reference, volume.size)
    return Lying(place, volume.volid, State.FORGOTTEN if is_recorded else State.STRANGER, volume.size, named.reference)
