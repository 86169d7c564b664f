"""How a version is tested, decided."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address

import pytest

from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.repository import Version
from goldsmith.base.digest import digest_bytes
from goldsmith.base.errors import DefinitionError, NotOurs
from goldsmith.build.steps import CreateGuest
from goldsmith.build.trial.plan import MEMORY, MIB, judge_capacity, plan_trial
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import POOL
from goldsmith.pve.client import NodeState
from goldsmith.verify.tests import TestGroup
from tests.unit.build.making import make_facts, make_image
from tests.unit.build.making import plan as plan_one

DIGEST = digest_bytes(b"")
VERSION = Version("golden", "20261125.1", DIGEST, datetime(2026, 11, 25, tzinfo=UTC), 1, (), Descriptor("x", DIGEST, 1))
GROUPS = (TestGroup("shared", ("test_a",)), TestGroup("test_b", ("test_b",), destructive=True))


def test_guests_of_a_test_never_take_what_servers_have() -> None:
    first = make_facts().network
    assert first is not None
    reserved = Reserved(frozenset({900}), frozenset({first.address_of(901).ip}))
    plan = plan_trial(make_image(), VERSION, make_facts(vmids={902}), GROUPS, at_once=4, reserved=reserved)
    assert [place.vmid for place in plan.places[:2]] == [903, 904]


def test_the_vmid_of_the_build_guest_is_not_that_of_test_guests() -> None:
    plan = plan_trial(make_image(temp_vmid=150), VERSION, make_facts(), GROUPS, at_once=4)
    assert {place.vmid for place in plan.places} <= set(POOL)


def test_two_guests_are_compared_where_the_node_bears_two() -> None:
    assert plan_trial(make_image(), VERSION, make_facts(), GROUPS, at_once=4).compared == 2
    assert plan_trial(make_image(), VERSION, make_facts(), GROUPS, at_once=1).compared == 1


def test_one_address_means_one_guest_at_a_time() -> None:
    image = make_image(temp_ip_address="10.86.3.4/16")
    plan = plan_trial(image, VERSION, make_facts(), GROUPS, at_once=4)
    assert (plan.at_once, plan.compared) == (1, 1)
    assert {str(place.address) for place in plan.places} == {"10.86.3.4/16"}


def test_a_test_guest_has_the_disk_and_gateway_of_a_build_guest_and_a_name_of_its_own() -> None:
    image = make_image(temp_disk_size="fast:4.5", temp_gateway="10.86.0.9")
    plan = plan_trial(image, VERSION, make_facts(), GROUPS, at_once=2)
    created = next(step for step in plan_one(image, make_facts()).steps if isinstance(step, CreateGuest))
    assert (plan.disk.storage, plan.disk_gib, plan.link.gateway) == (
        created.storage,
        created.disk,
        IPv4Address("10.86.0.9"),
    )
    assert plan.hostname == "golden-test"


def test_an_address_that_somebody_has_is_refused() -> None:
    facts = make_facts(addresses={IPv4Address("10.86.3.4")})
    with pytest.raises(NotOurs, match=r"10\.86\.3\.4"):
        plan_trial(make_image(temp_ip_address="10.86.3.4/16"), VERSION, facts, GROUPS, at_once=2)


def test_without_any_address_there_is_no_test() -> None:
    with pytest.raises(DefinitionError) as raised:
        plan_trial(make_image(), VERSION, make_facts(network=None), GROUPS, at_once=2)
    assert [problem.message for problem in raised.value.problems] == ["temp_ip_address is missing"]


@pytest.mark.parametrize(
    ("cpus", "free", "guests"),
    [(2, 64, 4), (16, 64, 8), (8, 3, 3), (4, 0, 1), (0, 64, 2)],
)
def test_how_many_guests_a_node_bears(cpus: int, free: int, guests: int) -> None:
    guest = MEMORY * MIB
    node = NodeState("pve", online=True, cpus=cpus, memory=100 * guest, memory_used=(100 - free) * guest)
    assert judge_capacity(node) == guests


def test_of_a_node_that_does_not_show_itself_little_is_asked() -> None:
    assert judge_capacity(None) == 2
