"""Builds that go wrong, for real: whatever happens, nothing is left behind, and nobody else's guest is touched."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goldsmith.artifacts.repository import open_repository
from goldsmith.base.errors import GoldsmithError, Interrupted, NotOurs, PlaybookFailed, RepositoryError
from goldsmith.base.events import Event, Events, Notice, PlaybookTask, StepFailed, StepFinished, StepStarted, Undone
from goldsmith.build.sweep import list_kept, remove_kept
from tests.lxc.guests import Guests, RunningNode, wait_until
from tests.lxc.images import SMALL, Workshop, open_site

pytestmark = pytest.mark.root

FAILING = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Read a file that is not there
      ansible.builtin.raw: cat /etc/not-there
"""
STEPS = 10


@pytest.fixture
def workshop(node: RunningNode, tmp_path: Path) -> Iterator[Workshop]:
    with open_site(node) as site:
        made = Workshop(tmp_path, site)
        made.write_image(SMALL)
        yield made
        templates = made.site.node.storage.list_content("local", "vztmpl")
        for volume in templates:
            if volume.name.startswith("lxc-"):
                made.site.node.storage.delete_volume(volume.volid)


def interrupt_at(matches: Callable[[Event], bool]) -> Callable[[Event], None]:
    """A listener that does what a signal does: it raises in the middle of the work."""
    pending = [True]

    def listen(event: Event) -> None:
        if pending and matches(event):
            pending.pop()
            raise Interrupted("SIGTERM")

    return listen


@pytest.mark.parametrize("number", range(1, STEPS + 1))
def test_an_interrupt_at_any_step_leaves_nothing(workshop: Workshop, number: int) -> None:
    workshop.listeners.append(interrupt_at(lambda event: isinstance(event, StepStarted) and event.index == number))
    with pytest.raises(Interrupted):
        workshop.build()
    assert workshop.find_leftovers() == []
    assert len(open_repository(workshop.load().repository).list_versions()) == (1 if number > STEPS - 2 else 0)


@pytest.mark.parametrize("title", ["create", "vzdump", "store"])
def test_an_interrupt_right_after_something_was_made_leaves_nothing(workshop: Workshop, title: str) -> None:
    workshop.listeners.append(
        interrupt_at(lambda event: isinstance(event, StepFinished) and event.step.startswith(title))
    )
    with pytest.raises(Interrupted):
        workshop.build()
    assert workshop.find_leftovers() == []


def test_a_failed_task_says_which_and_why_and_leaves_nothing(workshop: Workshop) -> None:
    workshop.write_image(FAILING)
    with pytest.raises(PlaybookFailed) as caught:
        workshop.build()
    assert "Read a file that is not there" in str(caught.value)
    assert "No such file or directory" in str(caught.value) + caught.value.detail
    assert str(workshop.log) in caught.value.hint + caught.value.detail
    assert "No such file" in workshop.log.read_text()
    assert [event for event in workshop.told if isinstance(event, PlaybookTask) and event.outcome == "failed"]
    assert [event for event in workshop.told if isinstance(event, StepFailed)]
    assert [event for event in workshop.told if isinstance(event, Undone) and event.what.startswith("build guest")]
    assert workshop.find_leftovers() == []


def test_a_failed_build_keeps_its_guest_where_that_is_wanted(workshop: Workshop, node: RunningNode) -> None:
    workshop.write_image(FAILING)
    with pytest.raises(PlaybookFailed):
        workshop.build(keep=True)
    assert enter_kept_guest(workshop) == "lxc-build"
    (kept,) = list_kept(workshop.state)
    with pytest.raises(PlaybookFailed):  # a later build does not take it for an orphan
        workshop.build()
    assert workshop.site.pve.find_guest(kept.vmid) is not None
    remove_kept(kept, workshop.site, workshop.state, workshop_events(workshop))
    assert workshop.find_leftovers() == []
    assert list_kept(workshop.state) == []


def test_a_build_that_went_well_keeps_its_guest_running_and_unsealed(workshop: Workshop) -> None:
    built = workshop.build(keep=True)
    assert built.template.name.startswith("lxc-")
    wait_until(lambda: enter_kept_guest(workshop, check=False) == "lxc-build", what="the kept guest lets us in")
    (kept,) = list_kept(workshop.state)
    remove_kept(kept, workshop.site, workshop.state, workshop_events(workshop))
    assert workshop.find_leftovers() == []


def enter_kept_guest(workshop: Workshop, *, check: bool = True) -> str:
    """Do what the notice says."""
    (said,) = [event.message for event in workshop.told if isinstance(event, Notice) and "enter it: " in event.message]
    command = [*said.partition("enter it: ")[2].split(), "-o", "BatchMode=yes", "hostname"]
    done = subprocess.run(command, capture_output=True, text=True, check=check, timeout=30)
    return done.stdout.strip()


def workshop_events(workshop: Workshop) -> Events:
    return Events(workshop.told.append)


def test_two_builds_at_once_do_not_disturb_each_other(workshop: Workshop, node: RunningNode, tmp_path: Path) -> None:
    results: list[str] = []
    failed: list[BaseException] = []

    def build() -> None:
        try:
            with open_site(node) as site:
                own = Workshop(tmp_path, site)
                results.append(own.build(own.load()).version.tag.partition(".")[2])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    for error in failed:
        raise error
    assert sorted(results) == ["1", "2"]
    assert workshop.find_leftovers() == []


def test_a_guest_under_temp_vmid_is_never_touched(workshop: Workshop, make_guest: Guests) -> None:
    theirs = make_guest()
    workshop.write_image(SMALL, f"temp_vmid: {theirs.vmid}\n")
    with pytest.raises(NotOurs, match=f"temp_vmid {theirs.vmid} belongs to another guest"):
        workshop.build()
    assert theirs.config["hostname"] == f"t{theirs.vmid}.test"


def test_a_vmid_that_is_taken_between_plan_and_create_is_never_touched(
    workshop: Workshop, make_guest: Guests, node: RunningNode
) -> None:
    vmid = make_guest.claim()
    workshop.write_image(SMALL, f"temp_vmid: {vmid}\n")

    def take_it(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step.startswith("base image"):
            node.do(make_guest.request(vmid))

    workshop.listeners.append(take_it)
    with pytest.raises(NotOurs):
        workshop.build()
    assert node.lxc(vmid).config.get()["hostname"] == f"t{vmid}.test"
    assert workshop.find_leftovers() == []


def test_an_address_that_another_guest_has_is_refused(
    workshop: Workshop, make_guest: Guests, node: RunningNode
) -> None:
    theirs = make_guest()
    address = node.address(theirs.vmid)
    workshop.write_image(SMALL, f"temp_ip_address: {address}/16\ntemp_gateway: {node.settings.gateway}\n")
    with pytest.raises(NotOurs, match=f"temp_ip_address {address} belongs to another guest"):
        workshop.build()
    assert workshop.find_leftovers() == []


def test_an_address_at_which_any_other_machine_answers_is_refused(workshop: Workshop, node: RunningNode) -> None:
    bridge, address = node.settings.host_bridge, node.address(249)
    subprocess.run(["ip", "address", "add", f"{address}/16", "dev", bridge], check=True)
    try:
        workshop.write_image(SMALL, f"temp_ip_address: {address}/16\ntemp_gateway: {node.settings.gateway}\n")
        with pytest.raises(NotOurs, match=f"temp_ip_address {address} belongs to another"):
            workshop.build()
    finally:
        subprocess.run(["ip", "address", "del", f"{address}/16", "dev", bridge], check=True)
    assert workshop.find_leftovers() == []


def test_a_full_disk_where_versions_are_stored_leaves_nothing(workshop: Workshop, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], check=True)
    try:
        workshop.write_image(SMALL, f"repository: {small}/repository\n")
        with pytest.raises(RepositoryError, match=r"no space left|full") as caught:
            workshop.build()
        assert caught.value.hint
        assert workshop.find_leftovers() == []
        assert open_repository(small / "repository").list_versions() == []
        assert not [path for path in small.rglob("*") if path.is_file() and path.stat().st_size > 1 << 20]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_full_disk_where_templates_go_leaves_the_version_and_no_half_template(
    workshop: Workshop, tmp_path: Path
) -> None:
    small = tmp_path / "templates"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], check=True)
    try:
        workshop.write_image(SMALL, f"dump_dir: {small}\n")
        with pytest.raises(GoldsmithError, match="No space left"):
            workshop.build()
        assert list(small.iterdir()) == []
        assert workshop.find_leftovers() == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_node_that_dies_is_an_error_and_the_next_build_clears_up(workshop: Workshop, node: RunningNode) -> None:
    def kill_it(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "seal":
            workshop.listeners.clear()
            node.kill()

    workshop.listeners.append(kill_it)
    with pytest.raises(GoldsmithError) as caught:
        workshop.build()
    assert "answer" in str(caught.value) or "connect" in str(caught.value).lower()
    node.start()
    with open_site(node) as site:
        workshop.site = site
        assert [left for left in workshop.find_leftovers() if left.startswith("guest")]
        told = len(workshop.told)
        workshop.build()
        swept = [event.what for event in workshop.told[told:] if isinstance(event, Undone)]
        assert any("left by build" in what for what in swept)
        assert workshop.find_leftovers() == []


def test_a_guest_that_bears_a_stranger_s_mark_is_not_swept(workshop: Workshop, make_guest: Guests) -> None:
    theirs = make_guest(tags="goldsmith;goldsmith-build", description="goldsmith run 0123456789ab")
    workshop.build()
    assert theirs.status == "stopped"


def test_a_base_image_that_nobody_has_is_named_before_anything_is_made(workshop: Workshop) -> None:
    workshop.write_image(SMALL, "base_image: debian-12-standart\n")
    with pytest.raises(GoldsmithError, match="debian-12-standart") as caught:
        workshop.build()
    assert "debian-12-standard" in caught.value.hint
    assert workshop.find_leftovers() == []
