"""A fault at each call of the work of a build, one after another: told clearly, and nothing is left or touched.

What a build does on a node is done here for real but for what happens inside the guest, which fakepve has not.
"""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.errors import GoldsmithError
from goldsmith.base.events import Event, Events
from goldsmith.build.context import Build
from goldsmith.build.credentials import ensure_build_key
from goldsmith.build.facts import Site
from goldsmith.build.journal import open_journal
from goldsmith.build.plan import BuildPlan
from goldsmith.build.play import read_stages
from goldsmith.build.run import Wishes, look_and_plan, run_step
from goldsmith.build.steps import (
    CreateGuest,
    DumpGuest,
    EnsureBase,
    PlaceTemplate,
    RemoveGuest,
    StartGuest,
    Step,
    StopGuest,
    StoreVersion,
)
from goldsmith.build.sweep import sweep_orphans
from goldsmith.build.undo import Undo
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import Image
from goldsmith.definition.load import Surroundings, load_image
from goldsmith.pve import door, tasks

from .fakes import FAULTS, NODE, Fault, Node, open_site, serve_node

DONE = (EnsureBase, CreateGuest, StartGuest, StopGuest, DumpGuest, StoreVersion, PlaceTemplate, RemoveGuest)
TIMEOUT = 0.4


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with guests and backups of somebody else, some in the middle of our range of vmids."""
    with serve_node(tmp_path) as made:
        made.add_ct(900, name="theirs", node=NODE, status="running", config={"tags": "goldsmith;goldsmith-build"})
        made.add_ct(902, name="busy", node=NODE, config={"lock": "backup", "description": "goldsmith run 0123456789ab"})
        made.add_vm(903, "a-vm", node=NODE, config={"protection": 1})
        for number, notes in enumerate(["theirs", "golden\ngoldsmith run 0123456789ab"]):
            made.store_file("local", f"vzdump-lxc-900-2026_11_25-10_00_0{number}.tar", 5, "backup")
            made.storages["local"]["volumes"][f"backup/vzdump-lxc-900-2026_11_25-10_00_0{number}.tar"]["notes"] = notes
        yield made


def look(node: Node) -> dict[str, Any]:
    """All that there is on the node."""
    guests = {guest.vmid: (guest.node, guest.status, guest.lock, dict(guest.config)) for guest in node._guests()}
    return copy.deepcopy({"guests": guests, "volumes": node.storages["local"]["volumes"], "pools": node.pools})


@dataclass
class Work:
    """A project, and what a build of its image told."""

    project: Path
    image: Image
    told: list[Event] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.project / "state"

    @property
    def runs(self) -> list[Path]:
        return list((self.state / "runs").iterdir()) if (self.state / "runs").exists() else []

    def plan(self, site: Site) -> BuildPlan:
        reserved = Reserved(frozenset(), frozenset())
        return look_and_plan(
            self.image, site, read_stages(self.image), state=self.state, reserved=reserved, wishes=Wishes()
        )

    def build(self, site: Site) -> None:
        """Build, without what happens inside the guest, and as if for the first time."""
        shutil.rmtree(self.image.repository, ignore_errors=True)
        plan, events = self.plan(site), Events(self.told.append)
        with (
            open_journal(self.state, "build", site=site.name, image=self.image.name) as journal,
            Undo(events, journal) as undo,
        ):
            key = ensure_build_key(self.state)
            build = Build(plan, site, journal, undo, events, key, self.project / "log")
            for step in plan.steps:
                if isinstance(step, DONE):
                    self.do(step, build)

    def do(self, step: Step, build: Build) -> None:
        if not isinstance(step, StartGuest):
            run_step(step, build)
            return
        build.site.node.tasks.wait(build.site.node.guests.start(build.guest.vmid), build.hear("start"))
        build.packages, build.architecture, build.os_release = (), "amd64", b"ID=debian\n"
        _ = build.keys
        build.since.append(build.created)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    directory = tmp_path / "project" / "images" / "golden"
    directory.mkdir(parents=True)
    (directory / "playbook.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks: []\n")
    (directory / "vars.yml").write_text("temp_ip_address: dhcp\nproxmox_storage: local\ntemp_disk_size: local-lvm:8\n")
    around = Surroundings({"TEMPLATE_PASSWORD": "correct horse battery"}, tmp_path / "project", None)
    return Work(tmp_path / "project", load_image(directory, around))


def test_a_build_without_faults_changes_nothing_on_the_node(node: Node, work: Work) -> None:
    before = look(node)
    with open_site(node) as site:
        work.build(site)

    assert look(node) == before
    assert work.runs == []


def check_told(error: GoldsmithError | None, fault: Fault) -> None:
    """A message for a tired operator: what, where, and no traceback or Python."""
    if error is None:
        return
    said = f"{error.message} {error.hint}"
    assert error.message, fault
    for word in ("Traceback", "object at 0x", "None", "Errno", "HTTPSConnectionPool"):
        assert word not in said, (fault, said)


def try_build(site: Site, work: Work) -> GoldsmithError | None:
    try:
        work.build(site)
    except GoldsmithError as error:
        return error
    return None


def count_calls(site: Site, node: Node, work: Work) -> int:
    """Return how many calls a build makes, after the first, which remembers some answers."""
    work.build(site)
    node.arm(None)
    work.build(site)
    return len(node.calls)


@pytest.mark.parametrize(
    ("kind", "lasting"),
    [*((kind, False) for kind in FAULTS), ("refused", True), ("no quorum", True)],
)
def test_a_fault_at_any_call_leaves_nothing(
    node: Node, work: Work, kind: str, lasting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PATIENCE", 0.5)  # else minutes are waited for a node that is gone for good
    monkeypatch.setattr(tasks, "LOCK_PATIENCE", 0.2)
    monkeypatch.setattr(tasks, "LOCK_PAUSE", 0.1)
    monkeypatch.setattr(door, "PAUSE", 0.01)
    before = look(node)
    with open_site(node, timeout=TIMEOUT) as site:
        for at in range(count_calls(site, node, work)):
            fault = Fault(kind, at, lasting)
            node.arm(fault)
            check_told(try_build(site, work), fault)
            node.arm(None)
            if work.runs:  # what could not be undone stays in the journal, for the next run to do
                sweep_orphans(site, work.state, Events())
            assert (look(node), work.runs) == (before, []), fault


def test_a_backup_that_somebody_makes_of_the_build_guest_is_waited_for(node: Node, work: Work) -> None:
    """A scheduled job takes all guests: ours is locked for a while, and removed after that."""
    before = look(node)
    with open_site(node) as site:
        plan, events = work.plan(site), Events(work.told.append)
        with (
            open_journal(work.state, "build", site=site.name, image="golden") as journal,
            Undo(events, journal) as undo,
        ):
            build = Build(plan, site, journal, undo, events, ensure_build_key(work.state), work.project / "log")
            for step in plan.steps[:2]:
                work.do(step, build)
            node.snapshot_lock(build.guest.vmid, "backup")
            timer = threading.Timer(1.0, lambda: node.unlock(build.guest.vmid))
            timer.start()
        timer.join()
    assert (look(node), work.runs) == (before, [])
