"""What is refused of a guest before its data is handed over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from goldsmith.base.errors import FleetError
from goldsmith.fleet.actions.data import check_data
from goldsmith.fleet.work import Work
from goldsmith.pve.containers import ContainerConfig, Snapshot
from goldsmith.pve.properties import Mount
from tests.unit.fleet.making import DATA, make_server

VOLUME = "local:100/vm-100-disk-1.raw"
MOUNTS = {"mp0": Mount(VOLUME, "/srv/data")}


def check(strategy: str = "swap", *, in_snapshot: str = "", **config: Any) -> None:
    now = ContainerConfig(**{"digest": "x", "unprivileged": True, "mounts": MOUNTS, **config})
    then = ContainerConfig(digest="x", mounts={"mp0": Mount(in_snapshot, "/srv/data")})
    guests = SimpleNamespace(
        list_snapshots=lambda _vmid: [Snapshot("before")], get_config=lambda _vmid, snapshot: then if snapshot else now
    )
    site = SimpleNamespace(
        node=SimpleNamespace(guests=guests, storage=SimpleNamespace(find_volume=lambda _volid: None))
    )
    work = SimpleNamespace(
        server=make_server(**DATA), site=site, adopt=False, discard=frozenset(), find=lambda _vmid: now,
        record=SimpleNamespace(strategy=strategy, old=100, data=(("/srv/data", VOLUME),)),
        find_guest=lambda _which: 100,
    )  # fmt: skip
    check_data(cast("Work", work))


def test_what_can_be_handed_over_is_not_refused() -> None:
    check()
    check("recreate")
    check(protection=True)
    check(in_snapshot="local:100/vm-100-disk-7.raw")


@pytest.mark.parametrize(
    ("said", "strategy", "found"),
    [
        ("guest 100 is privileged", "swap", {"unprivileged": False}),
        ("guest 100 is protected", "recreate", {"protection": True}),
        ("snapshot before of guest 100 has /srv/data", "swap", {"in_snapshot": VOLUME}),
        (
            "has data that the inventory does not declare: /srv/x",
            "swap",
            {"mounts": {"mp1": Mount("local:x", "/srv/x")}},
        ),
    ],
)
def test_what_proxmox_would_not_do_is_told_before(said: str, strategy: str, found: dict[str, Any]) -> None:
    with pytest.raises(FleetError, match=said):
        check(strategy, **found)
