"""HA, replication, backup jobs and firewall of a guest are handed on to another one, and back: judged by fakepve."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from fakepve import FakePve

from goldsmith.base.errors import PermissionMissing
from goldsmith.base.secrets import Secret
from goldsmith.pve import membership
from goldsmith.pve.client import Pve, open_pve
from goldsmith.pve.firewall import GuestFirewall, IpSet
from goldsmith.pve.membership import Membership

from .cluster import ClusterState
from .conftest import connect_fake

RULES: tuple[dict[str, str], ...] = (
    {"type": "in", "action": "ACCEPT", "macro": "SSH", "source": "+guest/admins", "enable": "1"},
    {"type": "in", "action": "ACCEPT", "proto": "tcp", "dport": "5432", "source": "office", "enable": "1"},
    {"type": "out", "action": "DROP", "dest": "10.9.0.0/16", "enable": "0", "comment": "not yet"},
)
WALL = GuestFirewall(
    options={"enable": "1", "policy_in": "DROP", "log_level_in": "info"},
    rules=RULES,
    aliases=({"name": "office", "cidr": "192.0.2.0/24", "comment": "main street"},),
    ipsets=(IpSet("admins", "who may", ({"cidr": "192.0.2.7"}, {"cidr": "198.51.100.0/24", "nomatch": "1"})),),
)


@pytest.fixture
def pve(fakepve: FakePve, fakepve_cafile: str) -> Iterator[Pve]:
    with open_pve(connect_fake(fakepve, Path(fakepve_cafile))) as pve:
        yield pve


@pytest.fixture
def cluster(fakepve: FakePve) -> ClusterState:
    state = ClusterState(fakepve)
    state.ha["ct:101"] = {"state": "started", "max_restart": 3, "comment": "the shop", "type": "ct"}
    state.ha["vm:200"] = {"state": "started"}
    state.rules["near"] = {"type": "node-affinity", "nodes": "pve1:2,pve2", "resources": "ct:101,vm:200"}
    state.rules["alone"] = {"type": "node-affinity", "nodes": "pve1", "resources": "ct:101", "strict": 1}
    state.rules["others"] = {"type": "node-affinity", "nodes": "pve1", "resources": "vm:200"}
    state.replication["101-0"] = {"type": "local", "target": "pve2", "schedule": "*/5", "rate": 10}
    state.replication["200-0"] = {"type": "local", "target": "pve2"}
    state.jobs["nightly"] = {"vmid": "100,101", "storage": "local", "schedule": "02:00"}
    state.jobs["all"] = {"all": 1, "exclude": "101", "storage": "local", "schedule": "sun 03:00"}
    state.jobs["pool"] = {"pool": "shop", "exclude": "101", "storage": "local", "schedule": "sun 04:00"}
    state.jobs["other"] = {"vmid": "100", "storage": "local", "schedule": "sat"}
    return state


def test_a_firewall_is_given_to_another_guest_as_it_is(pve: Pve) -> None:
    walls = pve.node("pve1").firewalls
    assert walls.read(101).is_empty
    assert walls.write(101, WALL)
    assert walls.read(101) == WALL
    assert not walls.write(101, WALL), "it is so"
    less = GuestFirewall(options={"enable": "1"}, rules=RULES[:1][::-1], ipsets=WALL.ipsets)
    assert walls.write(102, WALL)
    assert walls.write(102, less), "what was there before goes"
    assert walls.read(102) == less
    assert walls.read(101) == WALL


def test_a_guest_leaves_and_another_one_takes_its_place(pve: Pve, cluster: ClusterState) -> None:
    before = deepcopy(cluster.kept)
    held = pve.memberships.read(101, in_ha=True)
    assert held == Membership(
        {"state": "started", "max_restart": "3", "comment": "the shop"},
        {
            "near": {"type": "node-affinity", "nodes": "pve1:2,pve2", "resources": "vm:200"},
            "alone": {"type": "node-affinity", "nodes": "pve1", "strict": "1", "resources": ""},
        },
        {"0": {"type": "local", "target": "pve2", "schedule": "*/5", "rate": "10"}},
    )
    pve.memberships.leave(101, held)
    pve.memberships.leave(101, held)
    assert set(cluster.ha) == {"vm:200"}
    assert set(cluster.rules) == {"near", "others"}
    assert set(cluster.replication) == {"200-0"}
    pve.memberships.join(102, held)
    pve.memberships.join(102, held)
    assert {sid: fields["state"] for sid, fields in cluster.ha.items()} == {"vm:200": "started", "ct:102": "started"}
    assert {name: rule["resources"] for name, rule in cluster.rules.items()} == {
        "near": "vm:200,ct:102", "others": "vm:200", "alone": "ct:102",
    }  # fmt: skip
    assert cluster.rules["alone"]["strict"] in (1, "1")
    assert set(cluster.replication) == {"200-0", "102-0"}
    assert pve.memberships.read(102, in_ha=True) == held, "as the one before"
    pve.memberships.leave(102, held)
    pve.memberships.join(101, held)
    assert pve.memberships.read(101, in_ha=True) == held, "and back"
    assert set(cluster.ha) == set(before["/cluster/ha/resources"])


def test_a_replication_job_goes_with_its_copies_where_it_can(
    pve: Pve, cluster: ClusterState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "REMOVAL_PAUSE", 0.01)
    monkeypatch.setattr(membership, "REMOVAL_PATIENCE", 0.1)
    held = pve.memberships.read(101, in_ha=True)
    pve.memberships.leave(101, held)
    assert set(cluster.replication) == {"200-0"}, "by the scheduler, which was waited for"
    pve.memberships.join(101, held)
    cluster.unreachable = True
    pve.memberships.leave(101, held)
    assert set(cluster.replication) == {"200-0"}, "by force"


def test_backup_jobs_name_the_new_guest(pve: Pve, cluster: ClusterState) -> None:
    jobs = pve.memberships.list_backup_jobs(101)
    assert jobs == ["nightly", "all"]
    assert pve.memberships.hand_on_jobs(jobs, {101, 102}, 102) == jobs
    assert pve.memberships.hand_on_jobs(jobs, {101, 102}, 102) == []
    assert (cluster.jobs["nightly"]["vmid"], cluster.jobs["all"]["exclude"]) == ("100,102", "102")
    assert cluster.jobs["other"]["vmid"] == "100"
    assert cluster.jobs["pool"]["exclude"] == "101", "without its pool in the same call it would be one of all guests"


def test_what_we_may_not_see_is_told(fakepve: FakePve, fakepve_cafile: str, cluster: ClusterState) -> None:
    fakepve.users["ops@pve"] = "pw"
    fakepve.acl = {}
    connection = connect_fake(fakepve, Path(fakepve_cafile), user="ops@pve", password=Secret("pw"))
    with open_pve(connection) as pve:
        assert pve.memberships.read(101, in_ha=False).ha is None, "not asked for"
        with pytest.raises(PermissionMissing):
            pve.memberships.read(101, in_ha=True)
        with pytest.raises(PermissionMissing):
            pve.memberships.list_backup_jobs(101)
    assert cluster.ha.keys() == {"ct:101", "vm:200"}
