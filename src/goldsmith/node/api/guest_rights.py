"""What rights on containers and virtual machines have in common: who asks, for which guest, put into which pool."""

from __future__ import annotations

from dataclasses import dataclass

from goldsmith.node.context import Node
from goldsmith.node.faults import PermissionFault
from goldsmith.node.routing import Caller

_BRIDGES = "/sdn/zones/localnetwork"


@dataclass(frozen=True)
class GuestRights:
    """Checks a caller's changes to one guest. `pool` is the pool that a new guest is put into."""

    node: Node
    caller: Caller
    vmid: int
    pool: str = ""

    def check_guest(self, *privileges: str) -> None:
        """Raise unless the caller has the privileges on the guest or on its pool."""
        if not (self.pool and self.caller.may(f"/pool/{self.pool}", *privileges)):
            self.caller.check(f"/vms/{self.vmid}", *privileges)

    def check_pool(self) -> None:
        """Raise when the pool that a new guest is to be put into does not exist."""
        if self.pool:
            self.node.access.load().get_pool(self.pool)

    def may_allocate(self) -> bool:
        """Tell whether the caller may make a guest of that id or in that pool."""
        return self.caller.may(f"/vms/{self.vmid}", "VM.Allocate") or (
            bool(self.pool) and self.caller.may(f"/pool/{self.pool}", "VM.Allocate")
        )

    def check_allocate(self) -> None:
        """Raise unless `may_allocate`; PVE does not say what is missing."""
        if not self.may_allocate():
            raise PermissionFault

    def check_storage(self, storage: str) -> None:
        """Raise unless the caller may make disks on a storage."""
        self.caller.check(f"/storage/{storage}", "Datastore.AllocateSpace")

    def check_bridge(self, bridge: str) -> None:
        """Raise unless the caller may connect guests to a bridge."""
        if bridge:
            self.caller.check(f"{_BRIDGES}/{bridge}", "SDN.Use")
