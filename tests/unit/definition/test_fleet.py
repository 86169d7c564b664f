"""Servers as an inventory declares them."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from goldsmith.base.errors import DefinitionError
from goldsmith.definition.fleet import Fleet, HostEntry, make_finder, parse_fleet
from goldsmith.definition.mounts import BackupPlan, BindMount, Check, DataVolume
from goldsmith.definition.source import parse_document
from goldsmith.definition.values import DiskSize

FILE = Path("/project/inventory/hosts.yml")
COMPLETE: dict[str, Any] = {
    "ansible_host": "10.10.10.11",
    "image": "debian-12-docker",
    "channel": "stable",
    "node": ["pve1", "pve2"],
    "vmid": [111, 211],
    "address": "10.10.10.11/24",
    "gateway": "10.10.10.1",
    "bridge": "vmbr1",
    "cores": 2,
    "memory": "2048",
    "disk": "local-lvm:8",
    "features": {"nesting": True, "keyctl": 1},
    "tags": ["web"],
    "order": 10,
    "data": [
        {"path": "/var/lib/postgresql", "volume": "local-lvm:8"},
        {"path": "/srv/films", "bind": "/tank/films", "backup": "none"},
        {"path": "/srv/mail", "bind": "/tank/mail", "backup": "restic", "repository": "/mnt/backup/mail"},
    ],
    "backup": {"storage": "pbs", "keep": {"last": 3, "weekly": 4}, "before": "pg_dumpall -f /x"},
    "checks": [{"port": 5432}, {"url": "http://10.10.10.11/health", "timeout": 60}, {"testinfra": "checks/web.py"}],
    "keep_old": "2d",
    "their_own": "{{ not_known_here }}",
}


def parse(*hosts: tuple[str, dict[str, Any]], groups: tuple[str, ...] = ()) -> Fleet:
    entries = [HostEntry(name, variables, groups) for name, variables in hosts]
    return parse_fleet(entries, FILE, make_finder([]), {})


def refuse(**variables: Any) -> str:
    with pytest.raises(DefinitionError) as refused:
        parse(("web1", {"image": "golden", **variables}))
    return "\n".join(str(problem) for problem in refused.value.problems)


def test_a_complete_server() -> None:
    (server,) = parse(("web1", COMPLETE), groups=("web",)).servers
    variables = server.variables
    assert (server.name, server.hostname, server.wanted) == ("web1", "web1", "debian-12-docker:stable")
    assert (variables.node, variables.vmid) == (("pve1", "pve2"), (111, 211))
    assert variables.fixed_address == IPv4Interface("10.10.10.11/24")
    assert (variables.memory, variables.features) == (2048, {"nesting": "1", "keyctl": "1"})
    assert variables.volumes == (
        DataVolume(PurePosixPath("/var/lib/postgresql"), DiskSize("local-lvm", 8 << 30), True),
    )
    assert variables.binds[1] == BindMount(
        PurePosixPath("/srv/mail"), PurePosixPath("/tank/mail"), "restic", "/mnt/backup/mail"
    )
    assert variables.backup == BackupPlan("pbs", {"keep-last": 3, "keep-weekly": 4}, before="pg_dumpall -f /x")
    assert variables.checks[1] == Check(url="http://10.10.10.11/health", timeout=60)
    assert [check.title for check in variables.checks] == [
        "port 5432", "http://10.10.10.11/health", "tests in checks/web.py",
    ]  # fmt: skip
    assert variables.keep_old == 2 * 86400


def test_a_host_without_an_image_is_no_server() -> None:
    assert parse(("router", {"ansible_host": "10.0.0.1", "vmid": "not ours"})).servers == ()


def test_little_is_needed() -> None:
    (server,) = parse(("web1", {"image": "golden"})).servers
    variables = server.variables
    assert (server.wanted, variables.strategy, variables.keep_old) == ("golden:stable", "swap", 7 * 86400)
    assert (variables.vmid, variables.data, variables.checks) == ((), (), ())


def test_values_may_be_templates_of_other_variables() -> None:
    hosts = ("web1", {"image": "{{ what }}", "what": "golden", "address": "10.0.0.{{ number }}/24", "number": 7,
                      "hostname": "{{ inventory_hostname }}.example.com"})  # fmt: skip
    (server,) = parse(hosts).servers
    assert server.variables.image == "golden"
    assert str(server.variables.address) == "10.0.0.7/24"
    assert server.hostname == "web1.example.com"


def test_servers_are_in_the_order_of_replacement() -> None:
    hosts = [("b", {}), ("a", {}), ("z", {"order": 1}), ("y", {"order": 2})]
    fleet = parse(*((name, {"image": "x", **more}) for name, more in hosts))
    assert [server.name for server in fleet.servers] == ["z", "y", "a", "b"]


def test_servers_are_selected_by_name_and_group() -> None:
    fleet = parse_fleet(
        [HostEntry("a", {"image": "x"}, ("web",)), HostEntry("b", {"image": "x"}, ("db",))], FILE, make_finder([]), {}
    )
    assert [server.name for server in fleet.select(["web"])] == ["a"]
    assert [server.name for server in fleet.select(["b", "web"])] == ["a", "b"]
    assert len(fleet.select([])) == 2
    with pytest.raises(DefinitionError) as refused:
        fleet.select(["c"])
    assert refused.value.problems[0].message == "there is no server or group 'c'"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"image": "Golden"}, "image: 'Golden' is not the name of an image"),
        ({"vmid": 99}, "vmid: 99 is too small"),
        ({"vmid": [111, 111]}, "vmid is a list that is empty, or in which something stands twice"),
        ({"vmid": 111}, "vmid 111 alone is not enough for strategy swap: give two, or a range"),
        ({"kind": "vm"}, "kind is 'vm', not lxc"),
        ({"version": "20261123.1", "channel": "stable"}, "version and channel are both given; one is wanted"),
        ({"version": "1"}, "version: '1' is not a version's tag"),
        ({"address": "10.0.0.5/24", "gateway": "10.0.1.1"}, "gateway 10.0.1.1 lies outside the network 10.0.0.0/24"),
        ({"gateway": "10.0.1.1"}, "gateway makes no sense without a fixed address"),
        ({"data": [{"path": "/data", "volume": "local:1"}]}, "data without backup: set backup, or backup: false"),
        ({"data": {"path": "/data"}}, "data is not a list of data"),
        ({"data": [{"path": "/etc", "volume": "local:1"}]}, "data 1: /etc belongs to the image"),
        ({"data": [{"path": "data", "volume": "local:1"}]}, "data 1: path 'data' is not an absolute path"),
        ({"data": [{"path": "/d"}]}, "data 1: one of volume (STORAGE:GIB) and bind"),
        ({"data": [{"path": "/d", "volume": "local"}]}, "data 1: volume: 'local' names no storage before a colon"),
        ({"data": [{"path": "/d", "bind": "/tank"}]}, "data 1: vzdump never has a bind mount in it"),
        (
            {"data": [{"path": "/d", "bind": "/tank", "backup": "none", "password_file": "/root/pass"}]},
            "data 1: a password_file makes no sense with backup: none",
        ),
        (
            {"data": [{"path": "/d", "volume": "local:1", "password_file": "/root/pass"}]},
            "data 1: password_file is for bind mounts",
        ),
        ({"data": [{"path": "/d", "bind": "/tank", "backup": "borg"}]}, "data 1: repository says where borg puts it"),
        ({"data": [{"path": "/d", "volume": "local:1", "sise": 3}]}, "data 1 has 'sise', which is not known there"),
        ({"backup": {"storage": "pbs", "keep": {"lots": 3}}}, "backup: keep: keep-lots is not last, hourly"),
        ({"backup": "no storage"}, "backup: storage 'no storage' is not a storage id"),
        ({"checks": [{"port": 80, "url": "http://x"}]}, "check 1 has port and url of port, url, command, testinfra"),
        ({"checks": [{"port": 0}]}, "check 1: 0 is not a port"),
        ({"memori": 3}, "unknown variable 'memori'; did you mean 'memory'?"),
        ({"strategy": "blue"}, "strategy is 'blue', not swap or recreate"),
        ({"tags": ["a b"]}, "tags: 'a b' cannot be a tag of a guest"),
        ({"image": "{{ nothing }}"}, "image"),
    ],
)
def test_mistakes(variables: dict[str, Any], said: str) -> None:
    found = refuse(**variables)
    assert said in found
    assert "web1: " in found


def test_servers_that_clash() -> None:
    with pytest.raises(DefinitionError) as refused:
        parse(
            ("a", {"image": "x", "vmid": "300-302", "address": "10.0.0.1/24"}),
            ("b", {"image": "x", "vmid": [302, 303], "address": "10.0.0.1/24"}),
        )
    said = [problem.message for problem in refused.value.problems]
    assert said == ["b: address 10.0.0.1 is a's already", "b: vmid 302 is a's already"]


INVENTORY = """\
all:
  vars:
    memory: 16777217
  children:
    web:
      hosts:
        web1:
          image: golden
          vmid: 5
"""


def test_a_mistake_is_shown_where_it_was_written() -> None:
    find = make_finder([parse_document(INVENTORY, FILE)])
    hosts = [HostEntry("web1", {"image": "golden", "vmid": 5, "memory": 16777217}, ("web",))]
    with pytest.raises(DefinitionError) as refused:
        parse_fleet(hosts, FILE, find, {})
    assert [str(problem) for problem in refused.value.problems] == [
        "/project/inventory/hosts.yml:3: web1: memory: 16777217 is too large (accepted: a whole number from 16)",
        "/project/inventory/hosts.yml:9: web1: vmid: 5 is too small (accepted: a whole number from 100 to 999999999, "
        "a list of them, or a range like 300-309)",
    ]
