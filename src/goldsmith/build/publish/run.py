"""Bringing versions to places: side by side, but one transfer at a time into each storage of each node.

They are carried there, or the node pulls them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from goldsmith.artifacts.repository import Repository
from goldsmith.base.digest import digest_bytes
from goldsmith.base.errors import GoldsmithError, Interrupted, LockTaken
from goldsmith.base.events import Events, Notice
from goldsmith.base.files import open_lock
from goldsmith.build.carry import Cargo, carry
from goldsmith.build.facts import Site
from goldsmith.build.publish.places import Place
from goldsmith.build.publish.plan import Action, Publication
from goldsmith.build.publish.records import Brought, note_brought
from goldsmith.build.pull import ensure_pulled
from goldsmith.build.several import Job, run_jobs
from goldsmith.pve.storage import Volume

AT_ONCE = 4
"""Places at a time: all of it is read from one disk, and leaves by one network."""
TURN_TIMEOUT = 4 * 3600.0
"""Seconds for which another process may use a storage before we give up."""

Open = Callable[[Place], AbstractContextManager[Site]]
"""Opens a place's node, with a connection of its own."""
Bring = Callable[[Site, str, Events], Volume]
"""Has a version in a storage of a node, and returns it there; where it is already, it is only compared."""


DONE = {Action.SEND: "sent", Action.PULL: "pulled", Action.NOTHING: "there"}
"""What is said of a version that is there now, by what was to be done about it."""


@dataclass(frozen=True)
class Published:
    """How it went with one version at one place. Seconds."""

    publication: Publication
    state: str
    """`sent`, `pulled`, `there`, `refused` or `failed`."""
    message: str = ""
    seconds: float = 0.0
    error: GoldsmithError | None = None

    @property
    def is_well(self) -> bool:
        """Whether the version is there now."""
        return self.state in ("sent", "pulled", "there")


def run_publish(
    plan: Sequence[Publication], cargo: Mapping[str, Cargo], open_place: Open, *, state: Path, events: Events,
    pulled: Mapping[str, Repository] | None = None,
) -> Iterator[Published]:  # fmt: skip
    """Do what a plan says; what fails does not keep the rest from being done. Each is yielded when it has ended.

    :param cargo: what is sent, by the versions' references; one that is only there, and that nobody can read there,
        needs none.
    :param state: goldsmith's own directory on this machine.
    :param pulled: the repositories, in registries, of those that nodes pull; as for `cargo`.
    """
    rest: list[tuple[Publication, Bring]] = []
    for one in plan:
        if one.action is Action.REFUSE:
            yield Published(one, "refused", one.reason)
        elif (bring := _find_way(one, cargo, pulled or {})) is None:
            yield Published(one, "there", one.reason)
        else:
            rest.append((one, bring))
    jobs = [
        Job(
            f"{one.version} to {one.place}",
            partial(_publish, one, bring, open_place, state, (number, len(rest))),
            shares=_name_turn(one.place),
        )
        for number, (one, bring) in enumerate(rest, start=1)
    ]
    yield from run_jobs(jobs, AT_ONCE, events)


def _find_way(one: Publication, cargo: Mapping[str, Cargo], pulled: Mapping[str, Repository]) -> Bring | None:
    """Return how a version gets to a place; None where it is there, and nobody is to look closer."""
    reference = str(one.version)
    if one.action is Action.NOTHING and reference not in (pulled if one.is_archive else cargo):
        return None
    if one.is_archive:
        return partial(ensure_pulled, one.version, pulled[reference])
    return partial(carry, cargo[reference])


def _name_turn(place: Place) -> str:
    return place.storage if place.shared else str(place)


def _publish(
    one: Publication, bring: Bring, open_place: Open, state: Path, place: tuple[int, int], events: Events
) -> Published:
    begun, events = time.monotonic(), events.about(str(one.version))
    if one.denied:
        events.emit(Notice(message=f"{one.version} is sent to {one.place}: {one.denied}", level="warning"))
    try:
        with (
            open_place(one.place) as site,
            _open_turn(state, site, one.place, events),
            events.step(f"to {one.place}", reason=one.reason, index=place[0], total=place[1]) as outcome,
        ):
            volume = bring(site, one.place.storage, events)
            outcome.result, where = volume.volid, one.place.identify(site.name)
            note_brought(state, Brought(where, volume.volid, str(one.version), one.version.digest, volume.size))
    except Interrupted:
        raise
    except GoldsmithError as error:
        events.emit(Notice(message=f"{one.version} is not on {one.place}: {error.message}", level="warning"))
        return Published(one, "failed", error.message, time.monotonic() - begun, error)
    return Published(one, DONE[one.action], one.reason, time.monotonic() - begun)


@contextmanager
def _open_turn(state: Path, site: Site, place: Place, events: Events) -> Iterator[None]:
    """Hold off other processes of ours that write into the same storage; an interrupt is heard while one waits."""
    name = digest_bytes(place.identify(site.name).encode()).removeprefix("sha256:")[:24]
    deadline = time.monotonic() + TURN_TIMEOUT
    with ExitStack() as stack:
        while True:
            try:
                lock = open_lock(state / "transfers" / f"{name}.lock", timeout=1.0, what=f"storage {place}")
                stack.enter_context(lock)
                break
            except LockTaken:
                events.pulse()
                if time.monotonic() > deadline:
                    raise
        yield
