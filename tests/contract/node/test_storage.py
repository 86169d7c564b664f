"""Storages over the API: listing, uploading, allocating, deleting, notes, pruning (observed answers, section 13)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from proxmoxer import ResourceException

from tests.contract.node.conftest import Served

NAME = "thing_1-1_amd64.tar.zst"


@pytest.fixture
def dump(served: Served) -> Iterator[Path]:
    """The folder of backups, emptied afterwards."""
    folder = served.settings.state / "storage" / "dump"
    yield folder
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture(autouse=True)
def tidy(served: Served) -> Iterator[None]:
    yield
    left = [path for path in (served.settings.state / "storage").rglob("*") if path.is_file() and path.name != ".lock"]
    for path in left:
        path.unlink()
    assert not [path for path in left if "pveupload" in path.name]


def make_backup(folder: Path, vmid: int, day: int, hour: int = 12) -> str:
    name = f"vzdump-lxc-{vmid}-2026_11_{day:02}-{hour:02}_00_00.tar.zst"
    (folder / name).write_bytes(b"x" * day)
    return f"local:backup/{name}"


def upload(served: Served, payload: bytes, *, name: str = NAME, **fields: str) -> Any:
    fields = {"content": "vztmpl", **fields}
    return served.request(
        "POST", "/api2/json/nodes/pve/storage/local/upload", data=fields, files={"filename": (name, BytesIO(payload))}
    )


def test_the_list_of_storages(served: Served) -> None:
    shown = {entry["storage"]: entry for entry in served.api.nodes("pve").storage.get()}
    assert set(shown) == {"local", "plain"}
    local = shown["local"]
    assert (local["active"], local["enabled"], local["shared"]) == (1, 1, 0)
    assert {"rootdir", "vztmpl", "backup"} <= set(local["content"].split(","))
    assert local["total"] >= local["used"] + local["avail"] > 0
    assert 0 < local["used_fraction"] < 1


def test_what_is_not_there(served: Served) -> None:
    node = served.api.nodes("pve")
    with pytest.raises(ResourceException) as caught:
        node.storage("nope").status.get()
    assert caught.value.errors == {"storage": "No such storage."}
    with pytest.raises(ResourceException) as caught:
        node.storage("nope").content.get()
    assert caught.value.content == "storage 'nope' does not exist"
    with pytest.raises(ResourceException) as caught:
        node.storage("local").content("local:backup/none.tar.zst").get()
    assert caught.value.content == "volume_size_info on 'local:backup/none.tar.zst' failed - no format"


@pytest.mark.parametrize("name", ["vztmpl/..", "vztmpl/../dump", "100/../../x.raw", "../../etc/passwd", "/etc/passwd"])
def test_no_volume_is_outside(served: Served, name: str) -> None:
    path = quote(f"local:{name}", safe="")
    response = served.request("GET", f"/api2/json/nodes/pve/storage/local/content/{path}")
    assert response.json()["message"] == f"unable to parse directory volume name '{name}'\n"


def test_an_upload_is_filed_away_and_listed(served: Served) -> None:
    content = b"template" * 20_000
    upid = upload(served, content).json()["data"]
    assert upid.split(":")[5:7] == ["imgcopy", ""]
    assert served.wait(upid)["exitstatus"] == "OK"
    log = served.log(upid)
    assert "target node: pve" in log
    assert f"file size is: {len(content)}" in log
    assert log[-2:] == ["finished file import successfully", "TASK OK"]
    items = served.api.nodes("pve").storage("local").content.get(content="vztmpl")
    assert [(item["volid"], item["format"], item["size"]) for item in items] == [
        (f"local:vztmpl/{NAME}", "tzst", len(content))
    ]
    assert (
        Path(served.api.nodes("pve").storage("local").content(f"local:vztmpl/{NAME}").get()["path"]).read_bytes()
        == content
    )


def test_proxmoxer_uploads_a_file_with_its_sum(served: Served, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"x" * 3_000_000)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        upid = (
            served.api.nodes("pve")
            .storage("local")
            .upload.post(content="vztmpl", **{"checksum-algorithm": "sha256", "checksum": digest}, filename=file)
        )
    assert served.wait(upid)["exitstatus"] == "OK"


def test_a_wrong_sum_leaves_the_old_file(served: Served) -> None:
    served.wait(upload(served, b"old").json()["data"])
    upid = upload(served, b"new", **{"checksum-algorithm": "md5", "checksum": "0" * 32}).json()["data"]
    found = hashlib.md5(b"new", usedforsecurity=False).hexdigest()
    assert served.wait(upid)["exitstatus"] == f"checksum mismatch: got '{found}' != expect '{'0' * 32}'"
    assert (served.settings.state / "storage/template/cache" / NAME).read_bytes() == b"old"
    served.wait(upload(served, b"newer").json()["data"])
    assert (served.settings.state / "storage/template/cache" / NAME).read_bytes() == b"newer"


def test_the_order_of_an_uploads_fields(served: Served) -> None:
    files = [("checksum", (None, "0")), ("checksum-algorithm", (None, "md5")), ("filename", (NAME, b"x"))]
    response = served.request("POST", "/api2/json/nodes/pve/storage/local/upload", files=files)
    assert (response.status_code, response.reason, response.content) == (400, "Bad Request", b"")
    late = served.request(
        "POST", "/api2/json/nodes/pve/storage/local/upload",
        files=[("filename", (NAME, b"x")), ("content", (None, "vztmpl"))],
    )  # fmt: skip
    assert late.json()["errors"] == {"content": "property is missing and it is not optional"}
    without = served.request("POST", "/api2/json/nodes/pve/storage/local/upload", files=[("content", (None, "vztmpl"))])
    assert (without.status_code, without.reason[:13]) == (500, "upload failed")


@pytest.mark.parametrize(
    ("name", "content", "errors"),
    [
        ("x.zip", "vztmpl", {"filename": "wrong file extension"}),
        ("x.tar.zst", "iso", {"filename": "wrong file extension"}),
        (
            "x.tar.zst",
            "backup",
            {"content": "value 'backup' does not have a value in the enumeration 'iso, vztmpl, import'"},
        ),
    ],
)
def test_uploads_that_are_refused(served: Served, name: str, content: str, errors: dict[str, str]) -> None:
    response = upload(served, b"x", name=name, content=content)
    assert (response.status_code, response.json()["errors"]) == (400, errors)


def test_an_uploads_name_is_made_safe(served: Served) -> None:
    served.wait(upload(served, b"x", name="../../we ird;\u00e4.tar.gz").json()["data"])
    names = [item["volid"] for item in served.api.nodes("pve").storage("local").content.get(content="vztmpl")]
    assert len(names) == 1
    assert names[0].startswith("local:vztmpl/we_ird_")


def test_backups_with_notes_and_protection(served: Served, dump: Path) -> None:
    volid = make_backup(dump, 100, 3)
    volume = served.api.nodes("pve").storage("local").content(volid)
    assert volume.put(notes="first\nsecond", protected=1) is None
    item = served.api.nodes("pve").storage("local").content.get(content="backup", vmid=100)[0]
    assert {key: item[key] for key in ("volid", "format", "subtype", "vmid", "size", "notes", "protected")} == {
        "volid": volid, "format": "tar.zst", "subtype": "lxc", "vmid": 100, "size": 3, "notes": "first",
        "protected": 1,
    }  # fmt: skip
    assert volume.get()["notes"] == "first\nsecond"
    upid = volume.delete()
    assert upid.split(":")[5:7] == ["imgdel", "100@local"]
    assert served.wait(upid)["exitstatus"] == f"cannot remove protected volume '{volid[6:]}' on 'local'"
    volume.put(protected=0)
    assert volume.delete(delay=5) is None
    assert list(dump.iterdir()) == []


def test_protected_backups_are_limited(served: Served, dump: Path, make_user: Callable[..., str]) -> None:
    """For who may not allocate anything there (PVE::Storage, get_max_protected_backups)."""
    user = make_user("ansible@pve", password="secret99")
    served.api.access.roles.post(roleid="keeper", privs="Datastore.AllocateSpace,Datastore.Audit,VM.Backup")
    for path in ("/storage/local", "/vms"):
        served.api.access.acl.put(path=path, roles="keeper", users=user)
    theirs = served.login(user, "secret99").nodes("pve").storage("local").content
    made = [make_backup(dump, 100, day) for day in range(1, 8)]
    for volid in made[:5]:
        theirs(volid).put(protected=1)
    with pytest.raises(ResourceException) as caught:
        theirs(made[5]).put(protected=1)
    assert caught.value.content == "The number of protected backups per guest is limited to 5 on storage 'local'"
    theirs(made[0]).put(protected=1)  # it is already
    theirs(make_backup(dump, 101, 1)).put(protected=1)
    served.api.nodes("pve").storage("local").content(made[6]).put(protected=1)
    served.api.access.roles("keeper").delete()


def test_deleting_what_is_not_there_goes_well(served: Served) -> None:
    upid = served.api.nodes("pve").storage("local").content("backup/none.tar.zst").delete()
    assert served.wait(upid)["exitstatus"] == "OK"
    assert served.log(upid)[0].endswith("none.tar.zst' does not exist")


def test_pruning_keeps_what_it_should(served: Served, dump: Path) -> None:
    made = [make_backup(dump, 100, day) for day in (1, 2, 3, 4)]
    other = make_backup(dump, 101, 1)
    prune = served.api.nodes("pve").storage("local").prunebackups
    served.api.nodes("pve").storage("local").content(made[0]).put(protected=1)
    marks = {entry["volid"]: entry["mark"] for entry in prune.get(**{"prune-backups": "keep-last=1"}, vmid=100)}
    assert marks == {made[0]: "protected", made[1]: "remove", made[2]: "remove", made[3]: "keep"}
    upid = prune.delete(**{"prune-backups": "keep-last=1", "vmid": 100})
    assert upid.split(":")[5:7] == ["prunebackups", "100@local"]
    assert served.wait(upid)["exitstatus"] == "OK"
    left = {item["volid"] for item in served.api.nodes("pve").storage("local").content.get(content="backup")}
    assert left == {made[0], made[3], other}


def test_a_disk_of_a_given_name(served: Served) -> None:
    content = served.api.nodes("pve").storage("local").content
    volid = content.post(filename="subvol-170-disk-0.subvol", size="0", vmid=170)
    assert volid == "local:170/subvol-170-disk-0.subvol"
    assert content.get(content="rootdir", vmid=170) == [], "a container's only where there is one"
    assert [(item["vmid"], item["format"]) for item in content.get(content="images", vmid=170)] == [(170, "subvol")]
    with pytest.raises(ResourceException) as caught:
        content.post(filename="vm-171-disk-0.raw", size="1G", vmid=170)
    assert caught.value.content == "illegal name 'vm-171-disk-0.raw' - should be 'vm-170-*'"
    assert served.wait(content(volid).delete())["exitstatus"] == "OK"
    assert content.get(vmid=170) == []


def test_a_name_with_a_colon_is_a_whole_id(served: Served) -> None:
    content = served.api.nodes("pve").storage("local").content
    with pytest.raises(ResourceException) as caught:
        content("backup/ct/100/2026-11-23T17:16:36Z").get()
    assert caught.value.errors == {"volume": "unable to parse volume ID 'backup/ct/100/2026-11-23T17:16:36Z'\n"}


def test_an_unknown_kind_of_content(served: Served) -> None:
    with pytest.raises(ResourceException) as caught:
        served.api.nodes("pve").storage.get(content="bogus")
    assert caught.value.errors == {"content": "invalid format - invalid content type 'bogus'\n"}


def test_the_appliance_index(served: Served) -> None:
    shown = {entry["template"]: entry for entry in served.api.nodes("pve").aplinfo.get()}
    names = [name for name in shown if name.startswith("debian-12-standard_12.")]
    assert len(names) == 1
    assert shown[names[0]]["os"] == "debian-12"
    with pytest.raises(ResourceException) as caught:
        served.api.nodes("pve").aplinfo.post(storage="local", template="nosuch.tar.zst")
    assert caught.value.errors == {"template": "no such template"}
