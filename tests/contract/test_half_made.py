"""What a Proxmox that died in the middle of our task has left: known as ours by its task alone, or left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.events import Event, Events, Notice
from goldsmith.build.facts import Site
from goldsmith.build.journal import find_orphans, open_journal, render_mark
from goldsmith.build.sweep import sweep_orphans
from goldsmith.pve import door, tasks
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount
from goldsmith.pve.shell import LocalShell
from goldsmith.pve.tasks import parse_upid

from .fakes import Node, open_site, serve_node

VMID = 905


@dataclass
class Pct(LocalShell):
    """The node's shell, of which only `pct unlock` is wanted."""

    node: Node | None = None
    asked: list[list[str]] = field(default_factory=list)

    def run(self, argv: Any, **_: Any) -> Any:
        self.asked.append([str(word) for word in argv])
        assert argv[:2] == ["pct", "unlock"]
        assert self.node is not None
        self.node.unlock(int(argv[2]))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with serve_node(tmp_path) as made:
        yield made


@pytest.fixture
def site(node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(tasks, "LOCK_PATIENCE", 0.2)
    monkeypatch.setattr(door, "HELD_PATIENCE", 0.2)
    monkeypatch.setattr(door, "HELD_PAUSE", 0.1)
    with open_site(node) as site:
        yield replace(site, shell=Pct(node=node))


def create(site: Site, description: str = "") -> str:
    spec = ContainerSpec(
        vmid=VMID, ostemplate="local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst", rootfs=Mount("local-lvm:1"),
        description=description,
    )  # fmt: skip
    upid = site.node.guests.create_container(spec)
    site.node.tasks.wait(upid)
    return upid


def break_off(node: Node) -> None:
    """Leave of a guest what there is of it in the middle of its making."""
    guest = node.guest(VMID)
    for key in list(guest.config):
        del guest.config[key]
    guest.lock = "create"


def leave(site: Site, state: Path, *upids: str) -> str:
    """A run that was killed when it had begun these tasks; returns its id."""
    with open_journal(state, "build", site=site.name, image="golden") as journal:
        journal.note_vmid(VMID)
        for upid in upids:
            journal.note_task(upid)
        journal.left_behind.append("of the killed")
        run_id = journal.run_id
    assert find_orphans(state)
    return run_id


def test_a_guest_that_our_task_did_not_finish_is_removed(node: Node, site: Site, tmp_path: Path) -> None:
    upid = create(site)
    break_off(node)
    leave(site, tmp_path, upid)
    sweep_orphans(site, tmp_path, Events())
    assert site.pve.is_free(VMID)
    assert isinstance(site.shell, Pct)
    assert site.shell.asked == [["pct", "unlock", str(VMID)]]
    assert find_orphans(tmp_path) == []


def test_the_disks_of_a_half_made_guest_go_with_it(node: Node, site: Site, tmp_path: Path) -> None:
    """They are found while there is the guest; one from before is somebody else's."""
    upid = create(site)
    break_off(node)
    since = parse_upid(upid).started
    volumes = node.storages["local-lvm"].setdefault("volumes", {})
    for number, made in ((7, since), (8, since - 1)):
        volumes[f"vm-{VMID}-disk-{number}"] = {
            "content": "rootdir", "format": "raw", "size": 1, "vmid": VMID, "ctime": made,
        }  # fmt: skip
    leave(site, tmp_path, upid)
    sweep_orphans(site, tmp_path, Events())
    assert site.pve.is_free(VMID)
    assert f"vm-{VMID}-disk-7" not in volumes
    assert f"vm-{VMID}-disk-8" in volumes


def test_one_that_a_later_task_makes_is_left_alone(node: Node, site: Site, tmp_path: Path) -> None:
    ours = create(site)
    site.node.tasks.run(lambda: site.node.guests.destroy(VMID))
    create(site)
    break_off(node)
    leave(site, tmp_path, ours)
    sweep_orphans(site, tmp_path, Events())
    assert not site.pve.is_free(VMID)


def test_one_that_says_anything_else_is_left_alone(node: Node, site: Site, tmp_path: Path) -> None:
    upid = create(site)
    node.guest(VMID).config["description"] = "mine"
    node.guest(VMID).lock = "create"
    leave(site, tmp_path, upid)
    sweep_orphans(site, tmp_path, Events())
    assert not site.pve.is_free(VMID)


def test_without_its_task_in_the_journal_it_is_left_alone(
    node: Node, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldsmith.build.traces.SETTLE_SECONDS", 0.1)
    create(site)
    break_off(node)
    leave(site, tmp_path)
    sweep_orphans(site, tmp_path, Events())
    assert not site.pve.is_free(VMID)


def test_a_lock_whose_task_is_gone_does_not_keep_our_guest(node: Node, site: Site, tmp_path: Path) -> None:
    upid = create(site)
    run_id = leave(site, tmp_path, upid)
    node.guest(VMID).config["description"] = f"built in here\n\n{render_mark(run_id)}"
    node.guest(VMID).lock = "backup"
    sweep_orphans(site, tmp_path, Events())
    assert site.pve.is_free(VMID)


def test_somebody_elses_lock_and_guest_stay(node: Node, site: Site, tmp_path: Path) -> None:
    upid = create(site)
    node.guest(VMID).config["description"] = "theirs"
    node.guest(VMID).lock = "backup"
    leave(site, tmp_path, upid)
    sweep_orphans(site, tmp_path, Events())
    assert node.guest(VMID).lock == "backup"


def test_one_that_nobody_can_unlock_is_told_of_and_stays_in_the_journal(node: Node, site: Site, tmp_path: Path) -> None:
    embedded = replace(site, kind="embedded")
    upid = create(site)
    break_off(node)
    leave(embedded, tmp_path, upid)
    told: list[Event] = []
    sweep_orphans(embedded, tmp_path, Events(told.append))
    (notice,) = [event for event in told if isinstance(event, Notice)]
    assert notice.level == "warning"
    assert f"guest {VMID} is locked (create) by a task that is gone (the embedded node puts" in notice.message
    assert not site.pve.is_free(VMID)
    assert find_orphans(tmp_path)
