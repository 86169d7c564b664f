"""Our client's view of guests, the same cases on every server."""

from __future__ import annotations

import pytest

from goldsmith.base.errors import ApiFailed, GuestError, NotOurs, TaskFailed
from goldsmith.base.secrets import Secret
from goldsmith.fleet.facts import list_guests
from goldsmith.pve.client import PveVersion
from goldsmith.pve.guests import has_vmid_clash
from goldsmith.pve.properties import Mount, Net

from .conftest import Target


def test_the_version_can_be_compared(target: Target) -> None:
    assert target.pve.version() >= PveVersion(8, 0)


def test_the_node_is_listed_and_online(target: Target) -> None:
    assert (target.node.name, True) in [(node.name, node.online) for node in target.pve.nodes()]


def test_a_container_lives_and_goes(target: Target) -> None:
    vmid = target.vmids[0]
    guests, tasks = target.node.guests, target.node.tasks
    target.create(vmid)
    assert not guests.get_status(vmid).running
    tasks.wait(guests.start(vmid))
    assert guests.get_status(vmid).running
    listed = guests.find_guest(vmid)
    assert listed is not None
    assert (listed.name, listed.running, listed.kind) == (f"contract-{vmid}", True, "lxc")
    tasks.wait(guests.stop(vmid))
    assert not guests.get_status(vmid).running
    tasks.wait(guests.destroy(vmid))
    assert guests.find_guest(vmid) is None


def test_what_was_asked_for_is_what_the_config_says(target: Target) -> None:
    vmid = target.create(
        target.vmids[0],
        nets=(target.net(),),
        cores=2,
        features={"nesting": "1"},
        password=Secret("correct horse battery"),
        description="first line\nsecond: 100 % äö",
        tags=("zebra", "alpha"),
        nameserver="192.0.2.53",
    )
    config = target.node.guests.get_config(vmid)
    assert (config.hostname, config.memory, config.swap, config.cores) == (f"contract-{vmid}", 128, 0, 2)
    assert (config.unprivileged, config.template, config.lock) == (True, False, "")
    assert config.description == "first line\nsecond: 100 % äö"
    assert config.tags == ("alpha", "zebra")
    assert config.features == {"nesting": "1"}
    net = config.nets["net0"]
    assert (net.name, net.bridge, net.ip) == ("eth0", target.bridge, "manual")
    assert net.hwaddr
    assert config.rootfs is not None
    assert config.rootfs.size == "1G"
    assert "password" not in config.raw


def test_a_guest_is_seen_in_the_whole_cluster(target: Target) -> None:
    vmid = target.create(target.vmids[0])
    found = target.pve.find_guest(vmid)
    assert found is not None
    assert (found.node, found.kind, found.tags) == (target.node.name, "lxc", ("goldsmith-contract",))


def test_a_server_that_was_just_made_is_known_by_its_name(target: Target) -> None:
    """The cluster does not know that yet: a node tells it names and states every ten seconds (pvestatd)."""
    target.pve.list_guests()
    unused = target.vmids[9]  # of one that was there some seconds ago, the cluster has the name still
    vmid = target.create(unused, tags=("goldsmith", "goldsmith-server"))
    if target.kind == "embedded":
        listed = target.pve.find_guest(vmid)
        assert listed is not None
        assert (listed.name, listed.tags) == ("", ("goldsmith", "goldsmith-server"))
    name = f"contract-{vmid}"
    (found,) = [guest for guest in list_guests(target.pve, [name]) if guest.vmid == vmid]
    assert (found.name, found.node, found.running) == (name, target.node.name, False)
    target.node.tasks.wait(target.node.guests.start(vmid))
    (found,) = [guest for guest in list_guests(target.pve, [name]) if guest.vmid == vmid]
    assert found.running


def test_a_guest_is_copied_several_times_at_once(target: Target) -> None:
    """Proxmox locks it for each copy; the next one waits."""
    source, *copies = target.vmids[:3]
    target.create(source)
    target.created.update(copies)
    begun = [target.node.guests.clone(source, vmid, full=True) for vmid in copies]
    for upid in begun:
        target.node.tasks.wait(upid)
    assert set(copies) < {guest.vmid for guest in target.node.guests.list_guests()}


def test_a_free_vmid_is_free_until_it_is_taken(target: Target) -> None:
    vmid = target.vmids[0]
    assert target.pve.is_free(vmid)
    target.create(vmid)
    assert not target.pve.is_free(vmid)
    assert target.pve.next_vmid() != vmid


def test_a_taken_vmid_is_told_apart_from_other_refusals(target: Target) -> None:
    vmid = target.create(target.vmids[0])
    with pytest.raises(ApiFailed) as clash:
        target.node.guests.create_container(target.spec(vmid))
    assert has_vmid_clash(clash.value)
    with pytest.raises(ApiFailed) as other:
        target.node.guests.create_container(target.spec(target.vmids[1], hostname="bad_host!"))
    assert not has_vmid_clash(other.value)
    assert set(other.value.errors) == {"hostname"}


def test_a_range_is_walked_to_its_first_free_vmid(target: Target) -> None:
    first, second, third = target.vmids[:3]
    target.create(first)
    spec, upid = target.node.guests.create_in_range(target.vmids[:3], target.spec)
    target.node.tasks.wait(upid)
    assert spec.vmid == second
    target.create(third)
    with pytest.raises(NotOurs, match="no free vmid"):
        target.node.guests.create_in_range(target.vmids[:3], target.spec)


def test_a_vmid_that_is_taken_in_between_is_passed_over(target: Target) -> None:
    """The list says free, but by the time of the create somebody else has it."""
    first, second = target.vmids[:2]

    def slow_specification(vmid: int) -> object:
        if vmid == first:
            target.create(first)
        return target.spec(vmid)

    spec, upid = target.node.guests.create_in_range(target.vmids[:2], slow_specification)  # type: ignore[arg-type]
    target.node.tasks.wait(upid)
    assert spec.vmid == second


def test_all_refused_parameters_are_named_at_once(target: Target) -> None:
    with pytest.raises(ApiFailed) as refused:
        target.node.guests.create_container(
            target.spec(target.vmids[0], memory=1, hostname="bad_host!", nets=(Net(name=""),))
        )
    assert refused.value.status == 400
    assert {"memory", "hostname", "net0"} <= set(refused.value.errors)
    assert "bad_host" not in refused.value.reason


def test_a_container_that_is_not_there(target: Target) -> None:
    with pytest.raises(ApiFailed, match=f"lxc/{target.vmids[0]}.conf' does not exist"):
        target.node.guests.get_config(target.vmids[0])


def test_changes_are_applied_and_deleted(target: Target) -> None:
    guests, vmid = target.node.guests, target.create(target.vmids[0])
    guests.set_config(vmid, {"memory": 256, "description": "changed", "onboot": True})
    config = guests.get_config(vmid)
    assert (config.memory, config.description, config.onboot) == (256, "changed", True)
    guests.set_config(vmid, {}, delete=["description", "onboot"])
    config = guests.get_config(vmid)
    assert (config.description, config.onboot) == ("", False)


def test_a_change_based_on_an_old_config_is_refused(target: Target) -> None:
    guests, vmid = target.node.guests, target.create(target.vmids[0])
    old = guests.get_config(vmid).digest
    guests.set_config(vmid, {"memory": 256}, digest=old)
    with pytest.raises(ApiFailed, match="detected modified configuration"):
        guests.set_config(vmid, {"memory": 512}, digest=old)
    assert guests.get_config(vmid).memory == 256


def test_the_root_disk_is_never_replaced_in_place(target: Target) -> None:
    vmid = target.create(target.vmids[0])
    with pytest.raises(GuestError, match="never changed in place"):
        target.node.guests.set_config(vmid, {"rootfs": "local:4"})


def test_a_mount_point_comes_back_as_it_was_given(target: Target) -> None:
    vmid = target.create(target.vmids[0], mounts=(Mount(f"{target.storage}:1", path="/data", backup=True),))
    mount = target.node.guests.get_config(vmid).mounts["mp0"]
    assert (mount.path, mount.backup, mount.size, mount.is_bind) == ("/data", True, "1G", False)
    assert mount.volume.startswith(f"{target.storage}:")


def test_a_running_container_is_destroyed_by_force_only(target: Target) -> None:
    guests, tasks, vmid = target.node.guests, target.node.tasks, target.create(target.vmids[0])
    tasks.wait(guests.start(vmid))
    with pytest.raises(ApiFailed, match="container is running"):
        guests.destroy(vmid)
    tasks.wait(guests.destroy(vmid, force=True))
    assert guests.find_guest(vmid) is None


def test_protection_holds(target: Target) -> None:
    guests, vmid = target.node.guests, target.create(target.vmids[0], protection=True)
    with pytest.raises(ApiFailed, match="protection"):
        guests.destroy(vmid)
    guests.set_config(vmid, {"protection": False})
    target.node.tasks.wait(guests.destroy(vmid))


def test_a_template_is_made_and_cloned(target: Target) -> None:
    guests, tasks = target.node.guests, target.node.tasks
    source, copy = target.vmids[:2]
    target.create(source, nets=(target.net(),))
    guests.make_template(source, timeout=60)
    assert guests.get_config(source).template
    with pytest.raises((ApiFailed, TaskFailed), match="template"):
        tasks.wait(guests.start(source))
    target.created.add(copy)
    tasks.wait(guests.clone(source, copy, hostname="copy", full=True))
    cloned = guests.get_config(copy)
    assert (cloned.hostname, cloned.template) == ("copy", False)
    assert cloned.nets["net0"].hwaddr != guests.get_config(source).nets["net0"].hwaddr


def test_snapshots_and_rollback(target: Target) -> None:
    guests, tasks, vmid = target.node.guests, target.node.tasks, target.create(target.vmids[0])
    if "feature" not in target.lacks and not guests.has_feature(vmid, "snapshot"):
        pytest.skip(f"the disks on {target.storage} of {target.kind} have no snapshots")
    tasks.wait(guests.create_snapshot(vmid, "one", description="before"))
    guests.set_config(vmid, {"memory": 256})
    tasks.wait(guests.create_snapshot(vmid, "two"))
    names = {snapshot.name: snapshot for snapshot in guests.list_snapshots(vmid)}
    assert set(names) == {"one", "two"}
    assert (names["one"].description, names["two"].parent) == ("before", "one")
    tasks.wait(guests.delete_snapshot(vmid, "two"))
    tasks.wait(guests.rollback(vmid, "one"))
    assert guests.get_config(vmid).memory == 128
    assert [snapshot.name for snapshot in guests.list_snapshots(vmid)] == ["one"]


def test_a_data_volume_goes_to_another_container(target: Target) -> None:
    target.needs("move_volume")
    guests, tasks = target.node.guests, target.node.tasks
    old, new = target.vmids[:2]
    target.create(old, mounts=(Mount(f"{target.storage}:1", path="/data", backup=True),))
    target.create(new)
    tasks.wait(guests.move_volume(old, "mp0", target_vmid=new, target_volume="mp0"))
    assert guests.get_config(old).mounts == {}
    mount = guests.get_config(new).mounts["mp0"]
    assert (mount.path, mount.backup) == ("/data", True)
