"""What runs: the guests of a whole cluster as one call shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from goldsmith.base.errors import NotOurs
from goldsmith.build.facts import Site
from goldsmith.definition.image import POOL
from goldsmith.fleet.marks import Labels, Role, parse_labels
from goldsmith.pve.guests import Guest


def choose_spare_vmid(site: Site) -> int:
    """Return a free vmid for a guest that stays only as long as a run.

    :raises NotOurs: none is free.
    """
    taken = {guest.vmid for guest in site.pve.list_guests()}
    free = next((vmid for vmid in POOL if vmid not in taken), None)
    if free is None:
        raise NotOurs(f"no vmid from {POOL.start} to {POOL.stop - 1} is free on {site.node.name}")
    return free


@dataclass(frozen=True)
class ServerGuest:
    """A guest with what its tags say of it."""

    vmid: int
    node: str
    name: str
    running: bool
    kind: str
    labels: Labels
    lock: str = ""


@dataclass(frozen=True)
class Guests:
    """All guests that we may see."""

    by_name: dict[str, tuple[ServerGuest, ...]]
    by_vmid: dict[int, ServerGuest]

    def find(self, name: str, role: Role) -> ServerGuest | None:
        """Find the guest that has a role for a server, by its host name; of several one that runs."""
        found = [guest for guest in self.by_name.get(name, ()) if guest.labels.role is role]
        return max(found, key=lambda guest: (guest.running, guest.vmid), default=None)

    def list_strangers(self, name: str) -> list[ServerGuest]:
        """Return guests of a host name that are none of ours."""
        return [guest for guest in self.by_name.get(name, ()) if guest.labels.role is None]


def read_guests(listed: Iterable[Guest]) -> Guests:
    """Sort guests by what plans ask for."""
    by_name: dict[str, list[ServerGuest]] = {}
    by_vmid: dict[int, ServerGuest] = {}
    for guest in listed:
        one = ServerGuest(
            guest.vmid, guest.node, guest.name, guest.running, guest.kind, parse_labels(guest.tags), guest.lock
        )
        by_name.setdefault(guest.name, []).append(one)
        by_vmid[guest.vmid] = one
    return Guests({name: tuple(found) for name, found in by_name.items()}, by_vmid)
