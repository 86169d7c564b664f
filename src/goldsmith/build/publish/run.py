"""Bringing versions to places: side by side, but one transfer at a time into each storage of each node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from goldsmith.base.digest import digest_bytes
from goldsmith.base.errors import GoldsmithError, Interrupted, LockTaken
from goldsmith.base.events import Events, Notice
from goldsmith.base.files import open_lock
from goldsmith.build.carry import Cargo, carry
from goldsmith.build.facts import Site
from goldsmith.build.publish.places import Place
from goldsmith.build.publish.plan import Action, Publication
from goldsmith.build.publish.records import Brought, note_brought
from goldsmith.build.several import Job, run_jobs

AT_ONCE = 4
"""Places at a time: all of it is read from one disk, and leaves by one network."""
TURN_TIMEOUT = 4 * 3600.0
"""Seconds for which another process may use a storage before we give up."""

Open = Callable[[Place], AbstractContextManager[Site]]
"""Opens a place's node, with a connection of its own."""


@dataclass(frozen=True)
class Published:
    """How it went with one version at one place. Seconds."""

    publication: Publication
    state: str
    """`sent`, `there`, `refused` or `failed`."""
    message: str = ""
    seconds: float = 0.0
    error: GoldsmithError | None = None

    @property
    def is_well(self) -> bool:
        """Whether the version is there now."""
        return self.state in ("sent", "there")


def run_publish(
    plan: Sequence[Publication], cargo: Mapping[str, Cargo], open_place: Open, *, state: Path, events: Events
) -> Iterator[Published]:
    """Do what a plan says; what fails does not keep the rest from being done. Each is yielded when it has ended.

    :param cargo: the versions, by their references; one that is only there, and that nobody can read there, needs none.
    :param state: goldsmith's own directory on this machine.
    """
    rest: list[Publication] = []
    for one in plan:
        if one.action is Action.REFUSE:
            yield Published(one, "refused", one.reason)
        elif one.action is Action.NOTHING and str(one.version) not in cargo:
            yield Published(one, "there", one.reason)
        else:
            rest.append(one)
    jobs = [
        Job(
            f"{one.version} to {one.place}",
            partial(_publish, one, cargo[str(one.version)], open_place, state, (number, len(rest))),
            shares=_name_turn(one.place),
        )
        for number, one in enumerate(rest, start=1)
    ]
    yield from run_jobs(jobs, AT_ONCE, events)


def _name_turn(place: Place) -> str:
    return place.storage if place.shared else str(place)


def _publish(
    one: Publication, cargo: Cargo, open_place: Open, state: Path, place: tuple[int, int], events: Events
) -> Published:
    begun, events = time.monotonic(), events.about(str(one.version))
    try:
        with (
            open_place(one.place) as site,
            _open_turn(state, site, one.place, events),
            events.step(f"to {one.place}", reason=one.reason, index=place[0], total=place[1]) as outcome,
        ):
            outcome.result = carry(cargo, site, one.place.storage, events).volid
            where = one.place.identify(site.name)
            note_brought(state, Brought(where, one.volid, str(one.version), one.version.digest, cargo.size))
    except Interrupted:
        raise
    except GoldsmithError as error:
        events.emit(Notice(message=f"{one.version} is not on {one.place}: {error.message}", level="warning"))
        return Published(one, "failed", error.message, time.monotonic() - begun, error)
    word = "sent" if one.action is Action.SEND else "there"
    return Published(one, word, one.reason, time.monotonic() - begun)


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
