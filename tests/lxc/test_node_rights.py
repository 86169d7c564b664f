"""Who may do what: an ordinary token's whole life with guests of its pool, and where Proxmox stops it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI, ResourceException

from tests.lxc.guests import Guest, Guests, RunningNode

pytestmark = pytest.mark.root

POOL_PRIVILEGES = (
    "VM.Allocate,VM.Audit,VM.PowerMgmt,VM.Config.Options,VM.Config.CPU,VM.Config.Memory,VM.Config.Network,"
    "VM.Config.Disk,VM.Backup,VM.Clone,VM.Snapshot,VM.Snapshot.Rollback,Pool.Audit"
)
"""What sufficed on a real Proxmox VE 8.4 (behaviour-8.4.md, section 4)."""
USER = "ansible@pve"


@pytest.fixture
def lab(node: RunningNode) -> Iterator[RunningNode]:
    """The node as an ordinary user's token sees it: rights on the pool `lab`, one storage and one bridge only."""
    access, storage = node.api.access, "Datastore.AllocateSpace,Datastore.Audit"
    node.api.pools.post(poolid="lab")
    access.users.post(userid=USER)
    made = access.users(USER).token("t1").post(privsep=1)
    paths = {"/pool/lab": POOL_PRIVILEGES, "/storage/local": storage, "/sdn/zones/localnetwork/vmbr0": "SDN.Use"}
    for number, (path, privileges) in enumerate(paths.items()):
        access.roles.post(roleid=f"lab{number}", privs=privileges)
        for who in ({"users": USER}, {"tokens": f"{USER}!t1"}):
            access.acl.put(path=path, roles=f"lab{number}", **who)
    address = node.address_of_node()
    client = ProxmoxAPI(
        address.host, port=address.port, user=USER, token_name="t1", token_value=made["value"],
        verify_ssl=str(address.ca_file),
    )  # fmt: skip
    yield RunningNode(node.settings, node.template, node.vmids, client)
    access.users(USER).delete()
    node.api.pools("lab").delete()
    for number in range(len(paths)):
        access.roles(f"lab{number}").delete()


def refused(call: Any, **params: Any) -> str:
    with pytest.raises(ResourceException) as caught:
        call(**params)
    assert caught.value.status_code == 403, caught.value
    return str(caught.value.content).strip()


def test_a_life_in_a_pool(node: RunningNode, lab: RunningNode) -> None:
    guests = Guests(lab)
    try:
        guest = guests(pool="lab", start=True)
        assert guest.vmid in [member["vmid"] for member in node.api.pools("lab").get()["members"]]
        guest.api.config.put(memory=256, description="mine")
        lab.do(guest.api.snapshot.post(snapname="s1"))
        clone = Guest(lab, guests.claim())
        lab.do(guest.api.clone.post(newid=clone.vmid, snapname="s1", pool="lab"))
        lab.do(lab.api.nodes("pve").vzdump.post(vmid=guest.vmid, storage="local", compress="zstd"))
        backup = lab.api.nodes("pve").storage("local").content.get(content="backup", vmid=guest.vmid)[0]
        upid = lab.api.nodes("pve").storage("local").content(backup["volid"]).delete()
        assert upid is None or lab.wait(upid) == "OK"
        guest.stop()
    finally:
        guests.remove_all()
    assert node.api.pools("lab").get()["members"] == []


def test_a_backup_outlives_the_rights_on_its_guest(node: RunningNode, lab: RunningNode) -> None:
    """Rights on a pool end with the guest; made from its own backup it may be again (PVE, check_volume_access)."""
    guests = Guests(lab)
    try:
        guest, other = guests(pool="lab"), guests.claim()
        lab.do(lab.api.nodes("pve").vzdump.post(vmid=guest.vmid, storage="local", compress="zstd"))
        content = lab.api.nodes("pve").storage("local").content
        (backup,) = content.get(content="backup", vmid=guest.vmid)
        given = dict.fromkeys(("hostname", "unprivileged", "features", "rootfs", "net0"))
        lab.do(guest.api.delete())
        denied = f"Permission check failed (/vms/{guest.vmid}, VM.Backup)"
        assert content.get(content="backup") == []
        assert refused(content(backup["volid"]).get) == denied
        assert refused(lab.api.nodes("pve").vzdump.extractconfig.get, volume=backup["volid"]) == denied
        again = {**given, "ostemplate": backup["volid"], "restore": 1, "pool": "lab"}
        assert refused(guests.request, vmid=other, **again) == denied
        lab.do(guests.request(guest.vmid, **again))
        assert [entry["volid"] for entry in content.get(content="backup")] == [backup["volid"]]
        upid = content(backup["volid"]).delete()
        assert upid is None or lab.wait(upid) == "OK"
    finally:
        guests.remove_all()


def test_where_it_is_stopped(node: RunningNode, lab: RunningNode, make_guest: Guests) -> None:
    others = make_guest()
    vmid, guests = make_guest.claim(), Guests(lab)
    assert lab.lxc.get() == []
    assert refused(others_api := lab.lxc(others.vmid).config.get) == (
        f"Permission check failed (/vms/{others.vmid}, VM.Audit)"
    )
    assert others_api is not None
    assert refused(lab.lxc(999999).config.get) == "Permission check failed (/vms/999999, VM.Audit)"
    assert refused(guests.request, vmid=vmid) == "Permission check failed"
    on_plain = refused(guests.request, vmid=vmid, pool="lab", rootfs="plain:1")
    assert on_plain == "Permission check failed (/storage/plain, Datastore.AllocateSpace)"
    bridge = refused(guests.request, vmid=vmid, pool="lab", rootfs="plain:1", net0="name=eth0,bridge=vmbr1")
    assert bridge == "Permission check failed (/sdn/zones/localnetwork/vmbr1, SDN.Use)"
    assert "except nesting" in refused(guests.request, vmid=vmid, pool="lab", features="keyctl=1")
    assert "privileged container" in refused(guests.request, vmid=vmid, pool="lab", unprivileged=None)
    task = lab.api.nodes("pve").vzdump.post(vmid=others.vmid, storage="local")
    assert lab.wait(task) == f"403 Permission check failed (/vms/{others.vmid}, VM.Backup)"


def test_a_token_of_root_is_not_root(node: RunningNode, make_guest: Guests, root_ticket: ProxmoxAPI) -> None:
    guest = make_guest()
    assert "except nesting" in refused(guest.api.config.put, features="nesting=1,keyctl=1")
    assert "mount point type bind" in refused(guest.api.config.put, mp0="/srv,mp=/srv")
    assert "hookscript" in refused(guest.api.config.put, hookscript="local:snippets/x.sh")
    root_ticket.nodes("pve").lxc(guest.vmid).config.put(features="nesting=1,keyctl=1")
    assert guest.config["features"] == "nesting=1,keyctl=1"
    assert guest.start().wait_booted().run("id", "-u") == "0"


def test_no_user_of_the_machine_enters_the_disks_and_dumps_of_guests(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls"]
    for storage in ("local", "plain"):
        for content in ("images", "backup"):
            folder = node.node.storage(storage).folder(content)
            assert folder.is_dir()
            seen = subprocess.run([*nobody, folder], capture_output=True, text=True, check=False)
            assert "Permission denied" in seen.stderr
    assert guest.wait_booted().status == "running"
