"""Deciding what is brought where, and how: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from goldsmith.artifacts.repository import Version
from goldsmith.base.units import render_bytes
from goldsmith.build.carry import is_archive, list_names, measure_file, name_archive, name_template
from goldsmith.build.publish.lying import find_fault
from goldsmith.build.publish.places import Place
from goldsmith.build.publish.records import Brought
from goldsmith.build.pull import Way
from goldsmith.pve.storage import Volume


class Action(StrEnum):
    """What is done about a version at a place."""

    SEND = "send"
    PULL = "pull"
    NOTHING = "nothing"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Publication:
    """A version and a place, what is to be done, and why."""

    version: Version
    place: Place
    action: Action
    reason: str
    name: str
    """Of the file that is there, or will be."""
    denied: str = ""
    """Why it is sent although it was to be pulled."""

    @property
    def volid(self) -> str:
        """Where it is, or will be."""
        return f"{self.place.storage}:vztmpl/{self.name}"

    @property
    def is_archive(self) -> bool:
        """Whether it is, or will be, what a node has pulled."""
        return is_archive(self.name)


@dataclass(frozen=True)
class _Circumstances:
    """What decides about one version at one place. `room` in bytes."""

    lying: Sequence[Volume]
    brought: Mapping[str, Brought]
    room: int
    way: Way
    refused: str


def plan_publish(
    versions: Iterable[Version],
    places: Sequence[Place],
    lying: Mapping[Place, Sequence[Volume]],
    refused: Mapping[str, str] | None = None,
    *,
    ways: Mapping[tuple[str, Place], Way] | None = None,
    brought: Mapping[Place, Mapping[str, Brought]] | None = None,
) -> tuple[Publication, ...]:
    """Decide for each version and place.

    :param lying: the templates at each place.
    :param refused: why versions must not be published, by their references.
    :param ways: how each gets there, by reference and place; one that is not named is sent.
    :param brought: what was written down here of the templates at each place, by volume id.
    """
    planned: list[Publication] = []
    room = {place: place.available for place in places}
    for version in versions:
        for place in places:
            known = _Circumstances(
                lying.get(place, ()), (brought or {}).get(place, {}), room[place],
                (ways or {}).get((str(version), place), Way()), (refused or {}).get(str(version), ""),
            )  # fmt: skip
            planned.append(_decide(version, place, known))
            if planned[-1].action in (Action.SEND, Action.PULL):
                room[place] -= measure_file(version, planned[-1].name).stop - 1
    return tuple(planned)


def _decide(version: Version, place: Place, known: _Circumstances) -> Publication:
    name = name_archive(version) if known.way.is_pulled else name_template(version)
    if reason := known.refused or place.fault:
        return Publication(version, place, Action.REFUSE, reason, name)
    named = [volume for volume in known.lying if volume.name in list_names(version)]
    faults = [find_fault(volume, version, known.brought.get(volume.volid)) for volume in named]
    if "" in faults:
        found = named[faults.index("")].name
        reason = "it is there, pulled by a node" if is_archive(found) else "it is there"
        return Publication(version, place, Action.NOTHING, reason, found)
    if named:
        return Publication(version, place, Action.REFUSE, f"{named[0].volid} is there with {faults[0]}", named[0].name)
    size = measure_file(version, name).stop - 1
    if known.room < size:
        full = f"{place} is full: {render_bytes(known.room)} free, {render_bytes(size)} wanted"
        return Publication(version, place, Action.REFUSE, full, name)
    return _bring(version, place, known.way, name)


def _bring(version: Version, place: Place, way: Way, name: str) -> Publication:
    reason = "it is not there yet"
    if way.is_pulled:
        return Publication(version, place, Action.PULL, f"{reason}; {way.reason}", name)
    if way.reason:
        return Publication(version, place, Action.SEND, f"{reason}; sent, as {way.reason}", name, way.reason)
    return Publication(version, place, Action.SEND, reason, name)
