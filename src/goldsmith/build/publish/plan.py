"""Deciding what is brought where: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from goldsmith.artifacts.export import measure_template
from goldsmith.artifacts.repository import Version
from goldsmith.base.units import render_bytes
from goldsmith.build.carry import name_template
from goldsmith.build.publish.places import Place
from goldsmith.pve.storage import Volume


class Action(StrEnum):
    """What is done about a version at a place."""

    SEND = "send"
    NOTHING = "nothing"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Publication:
    """A version and a place, what is to be done, and why."""

    version: Version
    place: Place
    action: Action
    reason: str

    @property
    def volid(self) -> str:
        """Where it is, or will be."""
        return f"{self.place.storage}:vztmpl/{name_template(self.version)}"


def plan_publish(
    versions: Iterable[Version],
    places: Sequence[Place],
    lying: Mapping[Place, Sequence[Volume]],
    refused: Mapping[str, str] | None = None,
) -> tuple[Publication, ...]:
    """Decide for each version and place.

    :param lying: the templates at each place.
    :param refused: why versions must not be published, by their references.
    """
    planned: list[Publication] = []
    room = {place: place.available for place in places}
    for version in versions:
        for place in places:
            action, reason = _decide(
                version, place, lying.get(place, ()), room[place], (refused or {}).get(str(version))
            )
            if action is Action.SEND:
                room[place] -= measure_template(version)
            planned.append(Publication(version, place, action, reason))
    return tuple(planned)


def _decide(
    version: Version, place: Place, lying: Sequence[Volume], room: int, refused: str | None
) -> tuple[Action, str]:
    if refused:
        return Action.REFUSE, refused
    if place.fault:
        return Action.REFUSE, place.fault
    size, name = measure_template(version), name_template(version)
    found = next((volume for volume in lying if volume.name == name), None)
    if found is not None and found.size != size:
        return Action.REFUSE, f"{found.volid} is there with {found.size} bytes, and {version} has {size}"
    if found is not None:
        return Action.NOTHING, "it is there"
    if room < size:
        return Action.REFUSE, f"{place} is full: {render_bytes(room)} free, {render_bytes(size)} wanted"
    return Action.SEND, "it is not there yet"
