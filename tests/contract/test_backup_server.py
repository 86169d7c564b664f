"""Backups on a Proxmox Backup Server: ids with colons, no files. What a list leaves out, and what it leaves unsaid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.base.errors import ApiFailed, PermissionMissing
from goldsmith.build.facts import Site
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount

from .fakes import TEMPLATE, Node, open_site, serve_node

NOTES = "**goldsmith** was here\n\ngoldsmith server db1"
VMID = 905


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with serve_node(tmp_path) as made:
        made.storages["vault"] = {"type": "pbs", "active": 1, "content": "backup", "files": set(), "volumes": {}}
        yield made


@pytest.fixture
def site(node: Node) -> Iterator[Site]:
    with open_site(node) as site:
        spec = ContainerSpec(vmid=VMID, ostemplate=f"local:vztmpl/{TEMPLATE}", rootfs=Mount("local-lvm:1"))
        site.node.tasks.wait(site.node.guests.create_container(spec))
        yield site


def test_a_backup_there_is_found_read_changed_and_removed(site: Site) -> None:
    store = site.node.storage
    backup = site.node.backups.create(VMID, storage="vault", notes=NOTES, protected=True)
    assert (backup.volid[: len("vault:backup/ct/905/")], backup.path) == ("vault:backup/ct/905/", "")
    (found,) = store.read_backups("vault")
    assert (found.volid, found.notes, found.protected, found.vmid) == (backup.volid, NOTES, True, VMID)
    store.set_volume(backup.volid, {"notes": f"{NOTES}\ngoldsmith drill today", "protected": False})
    changed = store.find_volume(backup.volid)
    assert changed is not None
    assert (changed.notes.splitlines()[-1], changed.protected) == ("goldsmith drill today", False)
    assert store.has_volume(backup.volid)
    store.delete_volume(backup.volid)
    assert not store.has_volume(backup.volid)
    store.delete_volume(backup.volid)  # gone already: no failure, although the task fails there


def test_what_cannot_be_protected_keeps_its_notes(node: Node, site: Site) -> None:
    backup = site.node.backups.create(VMID, storage="vault", notes=NOTES)
    node.storages["vault"]["full"] = True
    with pytest.raises(ApiFailed, match="limited to 5 on storage 'vault'") as refused:
        site.node.storage.set_volume(backup.volid, {"notes": "goldsmith: something that is kept", "protected": True})
    assert "--max-protected-backups" in refused.value.hint
    assert [found.notes for found in site.node.storage.read_backups("vault")] == [NOTES]


def test_notes_longer_than_a_template_are_whole(site: Site) -> None:
    notes = "\n".join([NOTES, "of {{guestname}}, as it is", *(f"line {number}" for number in range(300))])
    for storage in ("vault", "local"):
        backup = site.node.backups.create(VMID, storage=storage, notes=notes)
        found = site.node.storage.find_volume(backup.volid)
        assert found is not None
        assert found.notes == notes


def test_what_we_may_not_see_is_not_taken_for_gone(node: Node, site: Site) -> None:
    node.users["ops@pve"] = "pw"
    node.acl = {"ops@pve": [("/storage/local-lvm", {"Datastore.AllocateSpace"}), ("/vms", {"VM.Config.Disk"})]}
    rootfs = site.node.guests.get_config(VMID).rootfs
    assert rootfs is not None
    assert site.node.storage.has_volume(rootfs.volume)
    assert not site.node.storage.has_volume(f"local-lvm:vm-{VMID}-disk-99")
    with open_site(node, user="ops@pve", password="pw") as theirs:
        assert theirs.node.storage.find_volume(rootfs.volume) is None
        with pytest.raises(PermissionMissing, match=r"/storage/local-lvm, Datastore\.Audit"):
            theirs.node.storage.has_volume(rootfs.volume)


def test_where_templates_lie(node: Node, site: Site) -> None:
    base = node.storages["local"]["path"]
    assert str(site.node.storage.get_template_directory("local")) == f"{base}/template/cache"
    for folders in ("iso=images,vztmpl=lxc/cache", {"iso": "images", "vztmpl": "lxc/cache"}):
        node.storages["local"]["content-dirs"] = folders
        assert str(site.node.storage.get_template_directory("local")) == f"{base}/lxc/cache"
