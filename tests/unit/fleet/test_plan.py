"""What is to be done for each server."""

from __future__ import annotations

from typing import Any

import pytest

from goldsmith.fleet.marks import Role
from goldsmith.fleet.plan import Action, Wanted, plan_fleet, plan_server
from tests.unit.fleet.making import DATA, ONE, TWO, make_fleet, make_guest, make_guests, make_server, make_stranger


def test_a_server_that_is_not_there_is_made() -> None:
    plan = plan_server(make_server(), ONE, make_guests())
    assert (plan.action, plan.reason) == (Action.CREATE, "from golden:20261123.1")


def test_one_that_runs_what_it_should_needs_nothing() -> None:
    server = make_server(memory=1024, tags=["web"], **DATA)
    plan = plan_server(server, ONE, make_guests(make_guest(server)))
    assert (plan.action, plan.has_work) == (Action.NOTHING, False)


def test_another_version_replaces_it() -> None:
    server = make_server()
    plan = plan_server(server, TWO, make_guests(make_guest(server)))
    assert (plan.action, plan.reason) == (Action.REPLACE, "from golden:20261123.1 to golden:20261124.1")


def test_so_does_a_rebuild_with_the_same() -> None:
    server = make_server()
    plan = plan_server(server, ONE, make_guests(make_guest(server)), again=True)
    assert (plan.action, plan.reason) == (Action.REPLACE, "again from golden:20261123.1")


@pytest.mark.parametrize("changed", [{"memory": 2048}, {"cores": 2}, {"bridge": "vmbr1"}, {"tags": ["x"]}, DATA])
def test_what_proxmox_changes_in_place_is_reconfigured(changed: dict[str, Any]) -> None:
    guest = make_guest(make_server())
    plan = plan_server(make_server(**changed), ONE, make_guests(guest))
    assert plan.action is Action.RECONFIGURE


@pytest.mark.parametrize("changed", [{"features": {"nesting": False}}, {"disk": "local:9"}, {"pool": "golden"}])
def test_what_only_a_new_guest_can_have_replaces_it(changed: dict[str, Any]) -> None:
    guest = make_guest(make_server())
    plan = plan_server(make_server(**changed), ONE, make_guests(guest))
    assert (plan.action, "only a new guest can have" in plan.reason) == (Action.REPLACE, True)


def test_one_that_is_stopped_is_started() -> None:
    server = make_server()
    plan = plan_server(server, ONE, make_guests(make_guest(server, running=False)))
    assert (plan.action, plan.reason) == (Action.RECONFIGURE, "it does not run")


def test_somebody_elses_guest_of_its_name_is_not_touched() -> None:
    plan = plan_server(make_server(), ONE, make_guests(make_stranger()))
    assert plan.action is Action.BLOCKED
    assert "guest 100 has its name and was not made by goldsmith: --adopt, or remove it" in plan.reason


def test_unless_that_is_said() -> None:
    guests = make_guests(make_stranger())
    plan = plan_server(make_server(), ONE, guests, adopt=True)
    assert (plan.action, plan.reason) == (
        Action.REPLACE, "guest 100, which goldsmith has not made, is taken over",
    )  # fmt: skip
    two = make_guests(make_stranger(), make_stranger(vmid=101))
    assert plan_server(make_server(), ONE, two, adopt=True).action is Action.BLOCKED, "which of the two?"


def test_vmids_that_are_all_taken_block_it() -> None:
    plan = plan_server(make_server(vmid=[100, 101]), ONE, make_guests(make_stranger("a"), make_stranger("b", 101)))
    assert (plan.action, plan.reason) == (Action.BLOCKED, "vmid 100 belongs to another guest")


def test_a_version_that_is_not_there_blocks_it() -> None:
    plan = plan_server(make_server(), Wanted("golden", fault="no version is called golden:stable"), make_guests())
    assert (plan.action, plan.reason) == (Action.BLOCKED, "no version is called golden:stable")


def test_what_was_interrupted_comes_first() -> None:
    server = make_server()
    claimed = make_guest(server, replacing=True)
    begun = make_guest(server, TWO, Role.NEXT, 101)
    for guests in ([claimed], [make_guest(server), begun], [make_guest(server, role=Role.HOLDER)]):
        plan = plan_server(server, TWO, make_guests(*guests))
        assert plan.action is Action.RESUME
        assert "goldsmith resume, or goldsmith abort" in plan.reason


def test_the_guest_before_does_not_count() -> None:
    server = make_server()
    previous = make_guest(server, ONE, Role.PREVIOUS, 100, running=False)
    plan = plan_server(server, TWO, make_guests(previous, make_guest(server, TWO, vmid=101)))
    assert (plan.action, plan.guest.vmid if plan.guest else 0) == (Action.NOTHING, 101)


def test_servers_that_the_inventory_has_forgotten_are_named() -> None:
    fleet = make_fleet(web1={}, web2={})
    one, two = fleet.servers
    rest = make_fleet(web1={})
    planned = plan_fleet(rest, rest.servers, {"web1": ONE}, make_guests(make_guest(one), make_guest(two, vmid=101)))
    assert [guest.name for guest in planned.strays] == ["web2"]
    assert not planned.has_work


def test_a_thousand_servers_are_planned_by_what_one_call_shows() -> None:
    fleet = make_fleet(**{f"web{number}": {"memory": 512} for number in range(1000)})
    guests = make_guests(*(make_guest(server, vmid=100 + number) for number, server in enumerate(fleet.servers)))
    planned = plan_fleet(fleet, fleet.servers, {server.name: TWO for server in fleet.servers}, guests)
    assert {plan.action for plan in planned.servers} == {Action.REPLACE}
