"""A cluster of 100 nodes and 5,000 guests: looking and planning take a handful of calls, and no call for each guest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.build.facts import Site
from goldsmith.build.plan import BuildPlan
from goldsmith.build.play import read_stages
from goldsmith.build.run import Wishes, look_and_plan
from goldsmith.definition.fleet import Fleet, HostEntry, make_finder, parse_fleet
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import Image
from goldsmith.definition.load import Surroundings, load_image
from goldsmith.fleet.facts import read_guests
from goldsmith.fleet.marks import Role, render_labels
from goldsmith.fleet.plan import Action, Wanted, plan_fleet
from goldsmith.fleet.specification import make_labels

from .fakes import Node, fill_cluster, open_site, serve_node

NODES, GUESTS, SERVERS = 100, 5000, 500
LONGEST = 2.0
"""Seconds, for all calls and the plan."""
MOST_CALLS = 9


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Node]:
    with serve_node(tmp_path) as node:
        fill_cluster(node, NODES, GUESTS)
        yield node


def write_image(project: Path) -> Image:
    directory = project / "images" / "lxc"
    directory.mkdir(parents=True)
    (directory / "playbook.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks: []\n")
    (directory / "vars.yml").write_text(
        "temp_ip_address: dhcp\nproxmox_storage: local\ntemp_disk_size: local-lvm:8\nproxmox_vmids: 5990-6099\n"
    )
    return load_image(directory, Surroundings({"TEMPLATE_PASSWORD": "correct horse battery"}, project, None))


def plan_image(image: Image, site: Site, state: Path) -> BuildPlan:
    reserved = Reserved(frozenset(), frozenset())
    return look_and_plan(image, site, read_stages(image), state=state, reserved=reserved, wishes=Wishes())


def test_a_build_is_planned_with_a_handful_of_calls(cluster: Node, tmp_path: Path) -> None:
    image = write_image(tmp_path / "project")
    with open_site(cluster) as site:
        plan_image(image, site, tmp_path / "state")  # remembers the digest of the base image
        cluster.arm(None)
        begun = time.monotonic()
        plan = plan_image(image, site, tmp_path / "state")
        seconds, calls = time.monotonic() - begun, cluster.calls
    create = plan.steps[1]
    assert create.reason == "vmid 6000, an address by DHCP, on pve1"
    assert len(calls) <= MOST_CALLS, calls
    assert calls.count("GET /cluster/resources") == 1
    assert seconds < LONGEST


def declare_fleet(count: int) -> Fleet:
    hosts = [HostEntry(f"app{number}", {"image": "golden", "address": "dhcp"}, ("apps",)) for number in range(count)]
    return parse_fleet(hosts, Path("/project/inventory/hosts.yml"), make_finder([]), {})


def test_a_fleet_is_planned_with_one_call(cluster: Node) -> None:
    fleet = declare_fleet(SERVERS)
    for number, server in enumerate(fleet.servers[1:]):
        tags = ";".join(render_labels(make_labels(server, Role.CURRENT, "golden", "20261125.1")))
        cluster.add_ct(
            8000 + number,
            name=server.hostname,
            node=f"pve{number % NODES + 1}",
            status="running",
            config={"tags": tags},
        )
    wanted = {server.name: Wanted("golden", "20261125.1") for server in fleet.servers}
    with open_site(cluster) as site:
        site.pve.version()
        cluster.arm(None)
        begun = time.monotonic()
        plan = plan_fleet(fleet, fleet.servers, wanted, read_guests(site.pve.list_guests()))
        seconds, calls = time.monotonic() - begun, cluster.calls
    actions = [one.action for one in plan.servers]
    assert (actions.count(Action.CREATE), actions.count(Action.NOTHING)) == (1, SERVERS - 1)
    assert calls == ["GET /cluster/resources"]
    assert seconds < LONGEST
