"""Deciding what has to be done for each server: pure. Declared, stored and running are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from goldsmith.definition.fleet import Fleet, Server
from goldsmith.fleet.facts import Guests, ServerGuest
from goldsmith.fleet.marks import Role
from goldsmith.fleet.specification import make_labels


class Action(StrEnum):
    """What has to be done for a server."""

    CREATE = "create"
    REPLACE = "replace"
    RECONFIGURE = "reconfigure"
    NOTHING = "nothing"
    RESUME = "resume"
    """A replacement was interrupted: it has to be finished or undone first."""
    BLOCKED = "blocked"
    """Something stands in the way that a person has to decide on."""


@dataclass(frozen=True)
class Wanted:
    """The version that a server is to run; without a tag there is none, and `fault` says why."""

    image: str
    tag: str = ""
    digest: str = ""
    fault: str = ""

    @property
    def version(self) -> str:
        """`NAME:TAG`."""
        return f"{self.image}:{self.tag}"


@dataclass(frozen=True)
class ServerPlan:
    """What is to be done for one server, and why."""

    server: Server
    action: Action
    reason: str
    wanted: Wanted
    guest: ServerGuest | None = None
    """The guest that runs it now."""

    @property
    def has_work(self) -> bool:
        """Whether something is to be done, by us or by a person."""
        return self.action is not Action.NOTHING

    @property
    def is_deployable(self) -> bool:
        """Whether it is something that a deployment does."""
        return self.action in (Action.CREATE, Action.REPLACE, Action.RECONFIGURE)


@dataclass(frozen=True)
class FleetPlan:
    """What is to be done for the fleet."""

    servers: tuple[ServerPlan, ...]
    strays: tuple[ServerGuest, ...] = ()
    """Guests of servers that the inventory does not know any more."""

    @property
    def has_work(self) -> bool:
        """Whether anything is to be done."""
        return any(plan.has_work for plan in self.servers)


def plan_fleet(
    fleet: Fleet, servers: Iterable[Server], wanted: Mapping[str, Wanted], guests: Guests, *, again: bool = False,
    adopt: bool = False,
) -> FleetPlan:  # fmt: skip
    """Decide what has to be done.

    :param servers: those that are meant, of the fleet.
    :param wanted: the version of each, by the server's name.
    :param again: replace servers also where they run that version already.
    :param adopt: replace guests of their names that goldsmith has not made.
    """
    plans = tuple(plan_server(one, wanted[one.name], guests, again=again, adopt=adopt) for one in servers)
    known = {server.hostname for server in fleet.servers}
    strays = (
        guest for guest in guests.by_vmid.values() if guest.labels.role is Role.CURRENT and guest.name not in known
    )
    return FleetPlan(plans, tuple(sorted(strays, key=lambda guest: guest.vmid)))


def plan_server(
    server: Server, wanted: Wanted, guests: Guests, *, again: bool = False, adopt: bool = False
) -> ServerPlan:
    """Decide what has to be done for one server."""
    current = guests.find(server.hostname, Role.CURRENT)
    if (unfinished := _find_unfinished(server, guests)) is not None:
        return ServerPlan(server, Action.RESUME, unfinished, wanted, current)
    if wanted.fault:
        return ServerPlan(server, Action.BLOCKED, wanted.fault, wanted, current)
    if current is None:
        return _plan_new(server, wanted, guests, adopt=adopt)
    if (reason := _find_replacement(server, wanted, current, again=again)) is not None:
        return ServerPlan(server, Action.REPLACE, reason, wanted, current)
    if make_labels(server, Role.CURRENT, wanted.image, wanted.tag).conf != current.labels.conf:
        return ServerPlan(server, Action.RECONFIGURE, "the inventory says something else", wanted, current)
    if not current.running:
        return ServerPlan(server, Action.RECONFIGURE, "it does not run", wanted, current)
    return ServerPlan(server, Action.NOTHING, f"runs {wanted.version}", wanted, current)


def _find_unfinished(server: Server, guests: Guests) -> str | None:
    signs = (guest for guest in guests.by_name.get(server.hostname, ()) if guest.labels.replacing)
    found = next(signs, None) or guests.find(server.hostname, Role.NEXT) or guests.find(server.hostname, Role.HOLDER)
    if found is None:
        return None
    return f"a replacement is under way, or was interrupted (guest {found.vmid}): goldsmith resume, or goldsmith abort"


def _plan_new(server: Server, wanted: Wanted, guests: Guests, *, adopt: bool) -> ServerPlan:
    """Decide about a server that does not run: it is made, unless somebody else's guest is in its place."""
    strangers = guests.list_strangers(server.hostname)
    if adopt and len(strangers) == 1 and strangers[0].kind == "lxc":
        reason = f"guest {strangers[0].vmid}, which goldsmith has not made, is taken over"
        return ServerPlan(server, Action.REPLACE, reason, wanted, strangers[0])
    if strangers:
        reason = f"guest {strangers[0].vmid} has its name and was not made by goldsmith: --adopt, or remove it"
        return ServerPlan(server, Action.BLOCKED, reason, wanted)
    taken = [vmid for vmid in server.variables.vmid if vmid in guests.by_vmid]
    if server.variables.vmid and len(taken) == len(server.variables.vmid):
        return ServerPlan(server, Action.BLOCKED, f"vmid {taken[0]} belongs to another guest", wanted)
    return ServerPlan(server, Action.CREATE, f"from {wanted.version}", wanted)


def _find_replacement(server: Server, wanted: Wanted, current: ServerGuest, *, again: bool) -> str | None:
    labels = make_labels(server, Role.CURRENT, wanted.image, wanted.tag)
    if current.labels.version != wanted.version:
        return f"from {current.labels.version or 'an unknown version'} to {wanted.version}"
    if current.labels.made != labels.made:
        return "the inventory says what only a new guest can have (host name, features, disk or pool)"
    return f"again from {wanted.version}" if again else None
