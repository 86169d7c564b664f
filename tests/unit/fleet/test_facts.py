"""When the cluster's list of guests, which may be ten seconds old, is enough for a plan."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from goldsmith.fleet.facts import list_guests
from goldsmith.fleet.marks import Role
from goldsmith.pve.client import Pve
from goldsmith.pve.guests import Guest
from tests.unit.fleet.making import ONE, make_guest, make_server, make_stranger

SERVER = make_server()
CURRENT, PREVIOUS = make_guest(SERVER), make_guest(SERVER, role=Role.PREVIOUS, vmid=101, running=False)
NEXT, HOLDER = make_guest(SERVER, role=Role.NEXT, vmid=102), make_guest(SERVER, ONE, Role.HOLDER, 103, running=False)


def is_asked_again(*listed: Guest, names: tuple[str, ...] = ("web1",)) -> bool:
    again = [make_stranger(vmid=900)]
    pve = SimpleNamespace(list_guests=lambda: list(listed), look_again=lambda _listed: again)
    return list_guests(cast("Pve", pve), names) is again


def test_nodes_are_left_alone_where_nothing_goes_on() -> None:
    assert not is_asked_again(CURRENT, PREVIOUS, make_stranger("mail", 500))
    assert not is_asked_again(make_stranger("mail", 500), names=())


@pytest.mark.parametrize(
    "listed",
    [
        (),
        (replace(CURRENT, name=""),),
        (replace(CURRENT, name="CT100"),),
        (replace(CURRENT, name="what had its vmid before"),),
        (replace(CURRENT, running=False),),
        (CURRENT, replace(PREVIOUS, running=True)),
        (CURRENT, replace(CURRENT, vmid=PREVIOUS.vmid)),
        (CURRENT, NEXT),
        (CURRENT, replace(HOLDER, name="")),
        (CURRENT, make_stranger(vmid=104)),
    ],
)
def test_nodes_are_asked_where_the_list_may_be_old(listed: tuple[Guest, ...]) -> None:
    assert is_asked_again(*listed)
