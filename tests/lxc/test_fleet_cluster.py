"""A replaced server stays in HA, replication and backup jobs, and keeps its firewall.

The guests are real. What a cluster has besides them is kept by fakepve, and HA is played by a thread that does what
the real one does to its resources: it starts again whatever stands still.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fakepve import FakePve

from goldsmith.artifacts.repository import Version
from goldsmith.base.errors import PveError, RolledBack
from goldsmith.fleet.backups import list_backups
from goldsmith.pve.client import Pve, open_pve
from goldsmith.pve.containers import GuestStatus
from goldsmith.pve.firewall import GuestFirewall
from tests.contract.cluster import ClusterState
from tests.contract.conftest import connect_fake
from tests.lxc.fleets import Lab, open_lab
from tests.lxc.guests import RunningNode

pytestmark = pytest.mark.root

DATA = {"data": [{"path": "/srv/data", "volume": "local:1"}], "backup": {"storage": "local"}}
WALL = GuestFirewall(
    options={"enable": "1", "policy_in": "DROP"},
    rules=({"type": "in", "action": "ACCEPT", "macro": "SSH", "enable": "1"},),
    aliases=({"name": "office", "cidr": "192.0.2.0/24"},),
)


class HighAvailability:
    """Starts each resource that is to run, and knows which guests are resources."""

    def __init__(self, pve: Pve, node: str, cluster: ClusterState) -> None:
        self.guests, self.cluster = pve.node(node).guests, cluster
        self.started: list[int] = []
        self._done = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def get_status(self, vmid: int) -> GuestStatus:
        state = self.cluster.ha.get(f"ct:{vmid}", {}).get("state", "ignored")
        return replace(self.guests.get_status(vmid), ha_managed=state != "ignored")

    def _work(self) -> None:
        while not self._done.wait(0.1):
            for sid, fields in list(self.cluster.ha.items()):
                vmid = int(sid.partition(":")[2])
                with suppress(PveError):
                    if fields.get("state") == "started" and not self.guests.get_status(vmid).running:
                        self.guests.start(vmid)
                        self.started.append(vmid)

    def stop(self) -> None:
        self._done.set()
        self.thread.join(10)


@pytest.fixture(scope="module")
def made(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Version, Version]]:
    with open_lab(node, tmp_path_factory) as lab:
        yield lab, lab.build("one"), lab.build("two")


@pytest.fixture
def cluster(fakepve: FakePve, fakepve_cafile: str, made: tuple[Lab, Version, Version]) -> Iterator[ClusterState]:
    """The lab's site, with a cluster around it that fakepve keeps."""
    lab, state = made[0], ClusterState(fakepve)
    with open_pve(connect_fake(fakepve, Path(fakepve_cafile))) as fake, open_pve(lab.site.pve.connection) as own:
        ha = HighAvailability(own, lab.site.node.name, state)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(vars(lab.site.pve), "memberships", fake.memberships)
            patch.setitem(vars(lab.site.node), "firewalls", fake.node("pve1").firewalls)
            patch.setattr(lab.site.node.guests, "get_status", ha.get_status)
            ha.thread.start()
            yield state
            ha.stop()
    assert ha.started == [], "nothing was stopped while HA was to keep it running"


@pytest.mark.parametrize("strategy", ["swap", "recreate"])
def test_a_server_stays_what_it_was_in_its_cluster(
    made: tuple[Lab, Version, Version], cluster: ClusterState, strategy: str
) -> None:
    lab, one, two = made
    lab.declare("db1", strategy=strategy, **DATA)
    first = lab.deploy("db1", one).vmid
    state = {"swap": "started", "recreate": "ignored"}[strategy]  # the latter is no managed one by a guest's status
    cluster.ha[f"ct:{first}"] = {"state": state, "max_restart": 2}
    cluster.rules["near"] = {"type": "node-affinity", "nodes": "pve1", "resources": f"ct:{first}"}
    cluster.replication[f"{first}-0"] = {"type": "local", "target": "pve2"}
    cluster.jobs["nightly"] = {"vmid": f"{first}", "storage": "local"}
    lab.site.node.firewalls.write(first, WALL)
    before = show(cluster)

    lab.hosts["db1"]["checks"] = [{"command": "grep -q one /etc/golden", "timeout": 1}]
    with pytest.raises(RolledBack):
        lab.deploy("db1", two)
    assert show(cluster) == before
    assert lab.site.node.firewalls.read(first) == WALL

    lab.hosts["db1"]["checks"] = []
    second = lab.deploy("db1", two).vmid
    assert (second == first) is (strategy == "recreate")
    assert show(cluster) == before.replace(f"{first}", f"{second}")
    assert lab.site.node.firewalls.read(second) == WALL
    cluster.ha.clear()
    lab.clear()
    lab.hosts.clear()


def test_a_backup_does_not_stop_what_ha_manages(made: tuple[Lab, Version, Version], cluster: ClusterState) -> None:
    """Proxmox refuses that (PVE::VZDump, exec_backup_task); `plain` makes no snapshots, so it is suspended."""
    lab, one, _ = made
    lab.declare("db1", disk="plain:2", backup={"storage": "local"})
    vmid = lab.deploy("db1", one).vmid
    cluster.ha[f"ct:{vmid}"] = {"state": "started"}
    lab.back_up("db1")
    assert len(list_backups(lab.server("db1"), lab.site)) == 1
    cluster.ha.clear()
    lab.clear()
    lab.hosts.clear()


def show(cluster: ClusterState) -> str:
    """All that the cluster has, in an order of its own; the numbers of guests as they are."""
    kept = {path: sorted(f"{name}: {sorted(fields.items())}" for name, fields in held.items())
            for path, held in cluster.kept.items()}  # fmt: skip
    return str(kept)
