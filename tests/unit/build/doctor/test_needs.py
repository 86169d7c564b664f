"""Which privileges are needed, and the commands that grant them."""

from __future__ import annotations

from goldsmith.build.doctor.needs import GUEST, Need, Work, list_needs
from goldsmith.build.doctor.role import render_commands
from goldsmith.pve.client import PveVersion

WORK = Work(
    node="pve1", vmids=range(900, 1000), disk_storage="local-lvm", template_storage="local", dump_storage="local",
    bridge="vmbr0",
)  # fmt: skip


def test_one_entry_for_each_path() -> None:
    needs = list_needs(WORK, PveVersion(8, 4))
    assert [need.path for need in needs] == [
        "/vms/900", "/storage/local-lvm", "/storage/local", "/sdn/zones/localnetwork/vmbr0", "/nodes/pve1", "/",
    ]  # fmt: skip
    local = needs[2]
    assert local.privileges == (
        "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit",
    )  # fmt: skip
    assert local.purpose == "base images and finished templates, dumps"
    assert [need.path for need in needs if not need.vital] == ["/nodes/pve1", "/"]


def test_before_version_8_bridges_need_nothing() -> None:
    paths = [need.path for need in list_needs(WORK, PveVersion(7, 4))]
    assert not [path for path in paths if path.startswith("/sdn")]


def test_a_pool_takes_the_place_of_vmids() -> None:
    work = Work(**{**vars(WORK), "pool": "golden"})
    assert list_needs(work, PveVersion(9, 0))[0].path == "/pool/golden"


def test_consoles_need_their_own_privilege() -> None:
    guests = list_needs(Work(**{**vars(WORK), "console": True}), PveVersion(8, 4))[0]
    assert set(guests.privileges) == {*GUEST, "VM.Console"}
    assert guests.purpose == "temporary guests, entering them through their consoles"
    assert "VM.Console" not in GUEST


def test_roles_are_added_or_changed_and_granted_to_user_and_token() -> None:
    needs = [
        Need("/vms/900", GUEST, "guests"),
        Need("/storage/a", ("Datastore.Audit",), "x"),
        Need("/storage/b", ("Datastore.AllocateSpace",), "y"),
    ]
    assert render_commands(needs, "ops@pve", "ci", ["GoldsmithGuests", "PVEAdmin"]) == [
        f'pveum role modify GoldsmithGuests --privs "{" ".join(GUEST)}"',
        'pveum role add GoldsmithStorage --privs "Datastore.AllocateSpace Datastore.Audit"',
        "pveum acl modify /vms --roles GoldsmithGuests --users ops@pve",
        "pveum acl modify /vms --roles GoldsmithGuests --tokens 'ops@pve!ci'",
        "pveum acl modify /storage/a --roles GoldsmithStorage --users ops@pve",
        "pveum acl modify /storage/a --roles GoldsmithStorage --tokens 'ops@pve!ci'",
        "pveum acl modify /storage/b --roles GoldsmithStorage --users ops@pve",
        "pveum acl modify /storage/b --roles GoldsmithStorage --tokens 'ops@pve!ci'",
    ]


def test_the_network_and_the_whole_have_roles_of_their_own() -> None:
    lines = render_commands(list_needs(WORK, PveVersion(9, 1)), "ops@pve")
    assert [line.split()[3] for line in lines if " role " in line] == [
        "GoldsmithGuests", "GoldsmithStorage", "GoldsmithNetwork", "GoldsmithNode", "GoldsmithCluster",
    ]  # fmt: skip
    assert "pveum acl modify / --roles GoldsmithCluster --users ops@pve" in lines


def test_a_base_from_a_url_wants_the_network_for_the_node() -> None:
    work = Work(**{**vars(WORK), "downloads": True})
    assert Need("/nodes/pve1", ("Sys.AccessNetwork", "Sys.Audit"), "downloading base images and versions, seeing "
                "processors and memory of the node") in list_needs(work, PveVersion(8, 2))  # fmt: skip
    older = {need.path: need for need in list_needs(work, PveVersion(8, 1))}
    assert (older["/"].privileges, older["/"].vital) == (("Sys.Audit", "Sys.Modify"), True)


def test_where_nothing_is_built_nothing_is_dumped() -> None:
    """With proxmox_shell: none the template is uploaded: guests there are only those of tests."""
    needs = {need.path: need for need in list_needs(Work(**{**vars(WORK), "dump_storage": ""}), PveVersion(8, 4))}
    guests, local = needs["/vms/900"], needs["/storage/local"]
    assert set(GUEST) - set(guests.privileges) == {"VM.Backup", "VM.Clone", "VM.Snapshot"}
    assert local.privileges == ("Datastore.Allocate", "Datastore.AllocateTemplate", "Datastore.Audit")
    assert local.purpose == "uploading and removing templates"
