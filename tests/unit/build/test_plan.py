from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import PurePosixPath
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.base.digest import Digest
from goldsmith.base.errors import DefinitionError, NotOurs
from goldsmith.build.cache.archives import CacheArchive
from goldsmith.build.cache.choose import Layering
from goldsmith.build.cache.guests import CacheGuest, Checkpoint
from goldsmith.build.cache.keys import LayerKey
from goldsmith.build.facts import GuestNetwork
from goldsmith.build.plan import plan_build
from goldsmith.build.steps import (
    ArchiveLayer,
    CopyGuest,
    CreateGuest,
    DropLayers,
    DumpGuest,
    EnsureBase,
    KeepLayer,
    Place,
    PlaceTemplate,
    Provision,
    RemoveGuest,
    RestoreGuest,
    ReuseGuest,
    StartGuest,
    StoreVersion,
)
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import POOL
from goldsmith.provision.play import Play
from goldsmith.provision.stages import Stage
from goldsmith.pve.properties import render_net
from tests.unit.build.making import make_facts, make_image
from tests.unit.build.making import plan as plan_one

T = TypeVar("T")


def find(steps: Sequence[object], kind: type[T]) -> T:
    return next(step for step in steps if isinstance(step, kind))


def test_the_steps_of_an_image_with_defaults_are_those_of_the_readme() -> None:
    plan = plan_one(make_image(), make_facts())
    assert [step.title for step in plan.steps] == [
        "base image debian-12-standard",
        "create golden-build",
        "start, wait for ssh",
        "playbook playbook.yml",
        "seal",
        "shut down",
        "vzdump to local",
        "store golden",
        "template into /node/local/template/cache",
        "remove the build guest",
    ]
    assert all(step.reason for step in plan.steps)


def test_a_plan_of_the_same_things_is_the_same_plan() -> None:
    assert plan_one(make_image(), make_facts()) == plan_one(make_image(), make_facts())


def test_what_the_image_says_is_what_is_planned() -> None:
    image = make_image(
        proxmox_storage="tank", base_image="debian-13-standard", temp_vmid=150, temp_hostname="forge",
        temp_disk_size="fast:4.5", temp_ip_address="10.86.3.4/16", temp_gateway="10.86.0.9", dump_dir="/srv/templates",
        ansible_strategy="linear", repository="/srv/repository",
    )  # fmt: skip
    plan = plan_one(image, make_facts(compress="zstd", dump_storage="nas"), keep=True)
    create = find(plan.steps, CreateGuest)
    assert find(plan.steps, EnsureBase).storage == "tank"
    assert create.places == (Place(150, IPv4Interface("10.86.3.4/16")),)
    assert (create.hostname, create.storage, create.disk) == ("forge", "fast", 4.5)
    assert create.link.gateway == IPv4Address("10.86.0.9")
    assert find(plan.steps, Provision).reason == "strategy linear"
    assert (find(plan.steps, DumpGuest).storage, find(plan.steps, DumpGuest).compress) == ("nas", "zstd")
    assert find(plan.steps, PlaceTemplate).directory == PurePosixPath("/srv/templates")
    assert find(plan.steps, StoreVersion).repository == "/srv/repository"
    assert find(plan.steps, RemoveGuest).keep
    assert plan.keep


def test_the_places_are_the_pool_less_what_guests_and_servers_have() -> None:
    first = make_facts().network
    assert first is not None
    facts = make_facts(vmids=frozenset([900, 902]), addresses=frozenset([first.address_of(901).ip]))
    reserved = Reserved(frozenset([903]), frozenset([first.address_of(904).ip]))
    places = find(plan_one(make_image(), facts, reserved=reserved).steps, CreateGuest).places
    assert places[0] == Place(905, first.address_of(905))
    assert not {900, 901, 902, 903, 904} & {place.vmid for place in places}


@given(st.integers(16, 24), st.integers(0, 255))
def test_no_two_vmids_of_the_pool_share_an_address_and_none_has_the_gateways(prefix: int, third: int) -> None:
    network = GuestNetwork(IPv4Interface(f"10.{third}.0.1/{prefix}"))
    addresses = [network.address_of(vmid) for vmid in POOL]
    assert len(set(addresses)) == len(POOL)
    inside = network.gateway.network
    for address in addresses:
        assert address.network == inside
        assert address.ip not in (inside.network_address, inside.broadcast_address, network.gateway.ip)
        assert int(address.ip) - int(inside.network_address) < inside.num_addresses // 2  # DHCP has the upper half


def test_a_vmid_of_ones_own_choice_has_an_address_in_the_network_too() -> None:
    for vmid in (100, 101, 4711, 999_999_999):
        place = find(plan_one(make_image(temp_vmid=vmid), make_facts()).steps, CreateGuest).places[0]
        assert place.address.ip in IPv4Interface("10.86.0.1/16").network


def test_a_taken_vmid_is_refused_by_name() -> None:
    with pytest.raises(NotOurs, match=r"temp_vmid 150 belongs to another guest of pve; it is not touched") as caught:
        plan_one(make_image(temp_vmid=150), make_facts(vmids=frozenset([150])))
    assert "/project/images/lxc/vars.yml" in caught.value.hint


def test_a_taken_address_is_refused_by_name() -> None:
    facts = make_facts(addresses=frozenset([IPv4Address("10.86.3.4")]))
    with pytest.raises(NotOurs, match=r"temp_ip_address 10\.86\.3\.4 belongs to another guest of pve"):
        plan_one(make_image(temp_ip_address="10.86.3.4/16", temp_gateway="10.86.0.1"), facts)


def test_a_full_pool_is_an_error_that_says_so() -> None:
    with pytest.raises(NotOurs, match="no vmid from 900 to 999 is free on pve"):
        plan_one(make_image(), make_facts(vmids=frozenset(POOL)))


def test_an_address_outside_the_embedded_network_is_refused() -> None:
    with pytest.raises(DefinitionError) as caught:
        plan_one(make_image(temp_ip_address="10.10.10.254/24", temp_gateway="10.10.10.1"), make_facts())
    assert "10.10.10.254/24 is outside the embedded node's network 10.86.0.0/16" in caught.value.detail


def test_elsewhere_an_image_must_say_where_its_guest_goes() -> None:
    with pytest.raises(DefinitionError) as caught:
        plan_one(make_image(), make_facts(kind="proxmox", network=None))
    assert "temp_ip_address is missing" in caught.value.detail


def test_through_the_console_it_need_not_and_the_plan_says_the_way_and_why() -> None:
    facts = make_facts(kind="proxmox", network=None)
    steps = plan_one(make_image(guest_connection="console"), facts).steps
    create, start = find(steps, CreateGuest), find(steps, StartGuest)
    assert (create.places[0].address, create.link.gateway) == (None, None)
    assert "ip=dhcp" in render_net(create.link.connect(900, None))
    assert start.title == "start, wait for its console"
    assert start.reason == "guest_connection: console; through the API, whether or not a network leads there"


def test_on_the_embedded_node_it_has_its_address_all_the_same() -> None:
    image = make_image(guest_connection="console")
    assert find(plan_one(image, make_facts()).steps, CreateGuest).places[0].address is not None


@pytest.mark.parametrize(
    ("templates", "said"),
    [
        (None, "from local, or the appliance index"),
        (["debian-12-standard"], "local has it"),
        (["debian-12-standard_12.12-1_amd64.tar.zst"], "local has it"),
        (["debian-12-standard-other_1.tar.zst"], "local lacks it; the appliance index is asked for it"),
    ],
)
def test_the_reason_for_the_base_step_says_where_it_comes_from(templates: list[str] | None, said: str) -> None:
    facts = make_facts(templates=None if templates is None else frozenset(templates))
    assert plan_one(make_image(), facts).steps[0].reason == said


def test_a_base_that_is_a_volume_is_looked_for_in_its_own_storage() -> None:
    plan = plan_one(
        make_image(base_image="plain:vztmpl/mine.tar.zst"), make_facts(templates=frozenset(["mine.tar.zst"]))
    )
    assert plan.steps[0].reason == "plain has it"


def test_a_name_that_is_no_host_name_becomes_one() -> None:
    image = make_image()
    plan = plan_one(type(image)(**{**image.__dict__, "name": "debian_12.base"}), make_facts())
    assert find(plan.steps, CreateGuest).hostname == "debian-12-base-build"


NAMES = ("tools", "web", "last")
KEYS = tuple(LayerKey(name, Digest(f"sha256:{name}"), {}) for name in NAMES)
SINCE = {"made": 9, "since": (5, 7), "layer": "web", "key": KEYS[1].key}


def layer(**values: Any) -> Layering:
    """Three layers, the first of packages; somebody has the first two of them."""
    play = Play(make_image().playbook, make_image().project)
    stages = tuple(Stage(name, play, installs_packages=name == "tools") for name in NAMES)
    return Layering(**{"stages": stages, "keys": KEYS, "opened_by": "me", **values})


def keep_in_guest(vmid: int = 900, image: str = "golden") -> CacheGuest:
    return CacheGuest(vmid, image, (Checkpoint(**SINCE, vmid=vmid, snapshot="layer-web"),), opened_by="me")


ARCHIVE = CacheArchive(**SINCE, volid="local:backup/web", image="golden", size=1, opened_by="me")


def test_layers_are_kept_as_snapshots_of_the_guest_that_stays() -> None:
    plan = plan_build(make_image(), make_facts(), layer())
    assert [step.layer for step in plan.steps if isinstance(step, KeepLayer)] == ["tools", "web"]
    assert not [step for step in plan.steps if isinstance(step, ArchiveLayer)]
    assert find(plan.steps, RemoveGuest).title == "give the guest with the layers back"
    assert plan.has_cache_guest


def test_where_the_storage_makes_no_snapshots_they_are_kept_as_archives_and_the_guest_goes() -> None:
    plan = plan_build(make_image(), make_facts(dump_storage="nas"), layer(keeps="archives"))
    titles = [step.title for step in plan.steps]
    assert titles[3:8] == ["layer tools", "keep layer tools", "layer web", "keep layer web", "layer last"]
    archived = [step for step in plan.steps if isinstance(step, ArchiveLayer)]
    assert [(step.layer, step.index, step.storage, step.kept) for step in archived] == [
        ("tools", 0, "nas", ("tools", "web")),
        ("web", 1, "nas", ("tools", "web")),
    ]
    assert titles[-1] == "remove the build guest"
    assert not plan.has_cache_guest


def test_a_guest_that_somebody_keeps_keeps_no_layers() -> None:
    for keeps in ("snapshots", "archives"):
        plan = plan_build(make_image(), make_facts(), layer(keeps=keeps), keep=True)
        assert not [step for step in plan.steps if isinstance(step, KeepLayer)]


@pytest.mark.parametrize("keeps", ["snapshots", "archives"])
def test_an_archive_becomes_the_build_guest(keeps: str) -> None:
    image = make_image(temp_disk_size="plain:4")
    plan = plan_build(image, make_facts(), layer(archives=(ARCHIVE,), keeps=keeps))
    restore = find(plan.steps, RestoreGuest)
    assert (restore.title, restore.archive, restore.since) == ("restore layer web", "local:backup/web", (5, 7))
    assert (restore.storage, restore.disk, restore.places[0].vmid) == ("plain", 4, 900)
    assert [step.layer for step in plan.steps if isinstance(step, Provision)] == ["last"]
    assert not [step for step in plan.steps if isinstance(step, CreateGuest | KeepLayer)]
    assert plan.since == (5, 7)
    assert plan.has_cache_guest is (keeps == "snapshots")
    assert find(plan.steps, Provision).reason == "it was never built"


def test_own_layers_are_gone_on_from_and_others_copied() -> None:
    own = plan_build(make_image(), make_facts(vmids=frozenset([900])), layer(cache=(keep_in_guest(),)))
    assert find(own.steps, ReuseGuest).vmid == 900
    others = layer(cache=(keep_in_guest(image="other"),))
    copy = find(plan_build(make_image(), make_facts(vmids=frozenset([900])), others).steps, CopyGuest)
    assert (copy.source, copy.places[0].vmid, copy.since) == (900, 901, (5, 7))


def test_what_is_in_a_guest_that_makes_room_is_built_again() -> None:
    """Another image's guest has the vmid that this one wants: it goes, and its layers with it."""
    layering, facts = layer(cache=(keep_in_guest(950, "other"),)), make_facts(vmids=frozenset([950]))
    plan = plan_build(make_image(temp_vmid=950), facts, layering)
    assert find(plan.steps, DropLayers).vmid == 950
    assert find(plan.steps, CreateGuest).places[0].vmid == 950
    assert [step.layer for step in plan.steps if isinstance(step, Provision)] == list(NAMES)
    assert plan.since == ()
    both = replace(layering, archives=(ARCHIVE,))
    plan = plan_build(make_image(temp_vmid=950), facts, both)
    assert find(plan.steps, DropLayers).vmid == 950
    assert find(plan.steps, RestoreGuest).places[0].vmid == 950
