"""Guests that were replaced and kept for a rollback: removed when their time is over, never with data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from goldsmith.base.events import Events
from goldsmith.build.facts import Site
from goldsmith.build.traces import find_config
from goldsmith.definition.fleet import Server
from goldsmith.fleet.actions.data import check_owns_nothing
from goldsmith.fleet.facts import Guests
from goldsmith.fleet.marks import Role, find_retired, find_server
from goldsmith.fleet.work import Handling


@dataclass(frozen=True)
class Expired:
    """A guest whose time is over."""

    server: Server
    vmid: int
    node: str


def list_expired(server: Server, guests: Guests, site: Site, now: float) -> list[Expired]:
    """Return the guests before a server that are kept no longer: older than `keep_old`, or not the last one before it.

    :param now: seconds since 1970.
    """
    ages: list[tuple[int, Expired]] = []
    for guest in guests.by_name.get(server.hostname, ()):
        if guest.labels.role is not Role.PREVIOUS or guest.running:
            continue
        config = find_config(replace(site, node=site.pve.node(guest.node)), guest.vmid)
        retired = find_retired(config.description) if config is not None else None  # else it has just gone
        if config is not None and retired is not None and find_server(config.description) == server.name:
            ages.append((retired, Expired(server, guest.vmid, guest.node)))
    ages.sort(key=lambda age: age[0], reverse=True)
    return [one for number, (retired, one) in enumerate(ages) if number or now - retired > server.variables.keep_old]


def remove_expired(expired: Expired, site: Site, events: Events) -> None:
    """Destroy a guest whose time is over.

    :raises DataMissing: it owns data: somebody has to look at it.
    """
    handling = Handling(expired.server, site, events.about(expired.server.name))
    with handling.events.step(f"remove guest {expired.vmid}", reason="it is kept for a rollback no longer"):
        check_owns_nothing(handling, expired.vmid, frozenset())
        site.node.tasks.run(lambda: site.node.guests.destroy(expired.vmid, purge=True))
