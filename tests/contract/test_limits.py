"""How much is asked of a node at a time, and what is begun again: fakepve, clients in threads as in builds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.base.errors import TaskFailed
from goldsmith.pve import slots, tasks
from goldsmith.pve.client import open_pve
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount

from .fakes import NODE, TEMPLATE, Fault, Node, open_site, serve_node


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(slots, "PAUSE", 0.01)
    with serve_node(tmp_path) as made:
        made.time_scale, made.ct_secs = 1, {**made.ct_secs, "create": 0.1}
        yield made


def specify(vmid: int, storage: str = "local-lvm") -> ContainerSpec:
    return ContainerSpec(vmid=vmid, ostemplate=f"local:vztmpl/{TEMPLATE}", rootfs=Mount(f"{storage}:1"))


class Counter(threading.Thread):
    """Looks how many guests are being made, or dumped, at the same time."""

    def __init__(self, node: Node, lock: str) -> None:
        super().__init__(daemon=True)
        self._node, self._what, self._ended = node, lock, threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._ended.is_set():
            busy = sum(guest.lock == self._what for guest in list(self._node._guests()))
            self.most = max(self.most, busy)
            time.sleep(0.002)

    def stop(self) -> int:
        self._ended.set()
        self.join()
        return self.most


def test_guests_made_side_by_side_never_exceed_the_limit(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MADE_ON_STORAGE", 2)
    counter = Counter(node, "create")
    counter.start()
    with open_site(node) as site:

        def make(vmid: int) -> None:
            with open_pve(site.pve.connection) as pve:
                own = pve.node(NODE)
                own.tasks.run(lambda: own.guests.create_container(specify(vmid)))

        threads = [threading.Thread(target=make, args=(950 + number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert counter.stop() == 2
        assert {guest.vmid for guest in site.pve.list_guests()} >= set(range(950, 958))


def test_one_dump_at_a_time(node: Node) -> None:
    told: list[str] = []
    with open_site(node) as site:
        for vmid in (950, 951, 952):
            site.node.tasks.run(lambda vmid=vmid: site.node.guests.create_container(specify(vmid)))
        counter = Counter(node, "backup")
        counter.start()

        def dump(vmid: int) -> None:
            with open_pve(site.pve.connection) as pve:
                pve.node(NODE).backups.create(vmid, storage="local", compress="0", on_line=told.append)

        threads = [threading.Thread(target=dump, args=(vmid,)) for vmid in (950, 951, 952)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert counter.stop() == 1
    assert sum("another dump of ours is waited for" in line for line in told) == 2


@pytest.mark.parametrize("kind", ["task lacks lock", "locked"])
def test_a_create_that_got_no_lock_is_begun_again(node: Node, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(tasks, "LOCK_PAUSE", 0.01)
    with open_site(node) as site:
        site.pve.version()
        node.arm(Fault(kind, 0))
        site.node.tasks.run(lambda: site.node.guests.create_container(specify(950)))
        assert node.calls.count(f"POST /nodes/{NODE}/lxc") == 2
        node.arm(Fault("task fails", 0))
        with pytest.raises(TaskFailed, match="No space left on device"):
            site.node.tasks.run(lambda: site.node.guests.create_container(specify(951)))
        assert node.calls.count(f"POST /nodes/{NODE}/lxc") == 1
