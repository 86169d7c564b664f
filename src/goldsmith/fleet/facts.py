"""What runs: the guests of a whole cluster, as one call shows them and, where that is not enough, their nodes."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from goldsmith.base.errors import NotOurs
from goldsmith.build.facts import Site
from goldsmith.definition.image import POOL
from goldsmith.fleet.marks import Labels, Role, parse_labels
from goldsmith.pve.client import Pve
from goldsmith.pve.guests import Guest


def choose_spare_vmid(site: Site) -> int:
    """Return a free vmid for a guest that stays only as long as a run.

    :raises NotOurs: none is free.
    """
    taken = {guest.vmid for guest in site.pve.list_guests()}  # those that we may see
    free = next((vmid for vmid in POOL if vmid not in taken and site.pve.is_free(vmid)), None)
    if free is None:
        raise NotOurs(f"no vmid from {POOL.start} to {POOL.stop - 1} is free on {site.node.name}")
    return free


def list_guests(pve: Pve, names: Iterable[str]) -> list[Guest]:
    """Return the guests of a cluster, with names and states as they are now where plans for servers rely on them.

    In the cluster's own list both may be ten seconds old: a server that has just been made has no name there yet, or
    that of a guest which had its vmid before, so that it would be made once more. So the nodes are asked, unless all is
    as it is when nothing goes on.

    :param names: the host names of the servers.
    """
    listed = pve.list_guests()
    return listed if _is_settled(listed, frozenset(names)) else pve.look_again(listed)


def _is_settled(listed: Iterable[Guest], names: Set[str]) -> bool:
    """Tell whether each server runs as one guest, those that it was before do not, and none is being made."""
    serving: list[str] = []
    for guest in listed:
        role = parse_labels(guest.tags).role
        if role in (Role.NEXT, Role.HOLDER) or (role is not None and guest.name in ("", f"CT{guest.vmid}")):
            return False
        if guest.name in names:
            if (role, guest.running) == (Role.CURRENT, True):
                serving.append(guest.name)
            elif (role, guest.running) != (Role.PREVIOUS, False):
                return False
    return sorted(serving) == sorted(names)


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
