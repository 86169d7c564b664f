"""Two versions are compared: what was recorded, and file by file."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from goldsmith.artifacts.diff import diff_packages, diff_trees, diff_versions, render_files_json
from goldsmith.artifacts.layers import Layer
from goldsmith.artifacts.record import Package
from goldsmith.artifacts.repository import NewVersion, Repository, RepositoryWriter, Version, open_repository
from goldsmith.artifacts.tree import FileKind, read_tree, read_trees
from goldsmith.base.digest import digest_bytes
from goldsmith.base.errors import RepositoryDamaged

from .making import make_record, put


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **values: object) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in {"mode": 0o644, **values}.items():
        setattr(info, key, value)
    return info, content


def archive(*members: Member) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def put_layers(repository: Repository, *archives: bytes) -> Version:
    """A version of layers as another tool may have made them: gzip or nothing, each with an end marker."""
    with repository.store.open_writer() as store:
        added = [store.add_bytes("application/vnd.oci.image.layer.v1.tar", data) for data in archives]
        layers = tuple(Layer(blob.digest, blob.size, blob.digest, blob.size, 0) for blob in added)
        return RepositoryWriter(store).put(NewVersion(name="debian", layers=layers, record=make_record()))


FILES = (
    member("./", tarfile.DIRTYPE, mode=0o755),
    member("./etc/", tarfile.DIRTYPE, mode=0o755),
    member("./etc/hosts", content=b"127.0.0.1 localhost\n" * 100, uid=1, gid=2),
    member("./etc/link", tarfile.SYMTYPE, linkname="hosts", mode=0o777),
    member("./etc/same", tarfile.LNKTYPE, linkname="./etc/hosts"),
    member("./dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    member("./pipe", tarfile.FIFOTYPE),
    member("./\udcff", content=b"odd"),
    member("./ping", content=b"elf", pax_headers={"SCHILY.xattr.security.capability": "cap"}),
)


def test_the_files_of_a_version_are_read_from_its_layers(repository: Repository) -> None:
    tree = read_tree(repository, put_layers(repository, archive(*FILES)))
    assert sorted(tree) == [".", "dev/null", "etc", "etc/hosts", "etc/link", "etc/same", "ping", "pipe", "\udcff"]
    hosts = tree["etc/hosts"]
    assert (hosts.kind, hosts.mode, hosts.uid, hosts.gid, hosts.size) == (FileKind.FILE, 0o644, 1, 2, 2000)
    assert hosts.content == digest_bytes(b"127.0.0.1 localhost\n" * 100)
    assert (tree["etc/link"].kind, tree["etc/link"].target) == (FileKind.SYMLINK, "hosts")
    assert tree["etc/same"].target == "./etc/hosts"
    assert (tree["dev/null"].kind, tree["dev/null"].target) == (FileKind.DEVICE, "c1:3")
    assert tree["ping"].attributes == ((b"SCHILY.xattr.security.capability", b"cap"),)


def test_files_of_our_own_layers_are_read(repository: Repository) -> None:
    version = put(repository, content=b"x" * 5_000_000)
    seen: list[int] = []
    tree = read_tree(repository, version, seen.append)
    assert tree["etc/hostname"].content == digest_bytes(b"x" * 5_000_000)
    assert seen[-1] == version.size


def test_upper_layers_replace_and_take_away(repository: Repository) -> None:
    below = archive(
        member("a", content=b"1"),
        member("b", content=b"1"),
        member("d/x"),
        member("d/y/z"),
        member("o/x"),
        member("dd"),
    )
    above = archive(
        member("a", content=b"2"), member(".wh.b"), member(".wh.d"), member("o/.wh..wh..opq"), member("o/n")
    )
    version = put_layers(repository, below, above)
    tree = read_tree(repository, version)
    assert sorted(tree) == ["a", "dd", "o/n"]
    assert tree["a"].content == digest_bytes(b"2")


def test_every_kind_of_difference_has_its_name(repository: Repository) -> None:
    changed = (
        *FILES[:2],
        member("./etc/hosts", content=b"127.0.0.1 localhost\n" * 99, uid=1, gid=2),
        member("./etc/link", tarfile.SYMTYPE, linkname="passwd", mode=0o777),
        member("./etc/same", tarfile.LNKTYPE, linkname="./etc/hosts", mode=0o600, mtime=99),
        member("./dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666, mtime=99),
        member("./pipe", content=b"now a file"),
        member("./new", content=b"new"),
        member("./ping", content=b"elf", uid=7),
    )
    before, after = read_trees(
        repository, [put_layers(repository, archive(*FILES)), put_layers(repository, archive(*changed))]
    )
    changes = diff_trees(before, after)
    assert {change.path: change.what for change in changes} == {
        "etc/hosts": ("content",),
        "etc/link": ("target",),
        "dev/null": ("time",),
        "etc/same": ("mode",),
        "new": ("added",),
        "ping": ("owner", "attributes"),
        "pipe": ("kind", "content"),
        "\udcff": ("removed",),
    }
    assert {change.path: change.grown for change in changes if change.grown} == {
        "etc/hosts": -20, "new": 3, "pipe": 10, "\udcff": -3
    }  # fmt: skip
    text = json.dumps(render_files_json(changes)).encode()
    assert [item["path"] for item in json.loads(text)][-1] == "\\xff"
    assert diff_trees(before, before) == []


def test_a_damaged_layer_gives_no_tree(repository: Repository) -> None:
    version = put(repository, content=b"x" * 100_000)
    path = repository.path / "blobs/sha256" / version.layers[0].digest.split(":")[1]
    data = bytearray(path.read_bytes())
    data += b"\x50\x2a\x4d\x18\x01\0\0\0x"  # a frame that unpackers pass over
    path.write_bytes(data)
    with pytest.raises(RepositoryDamaged, match=version.layers[0].digest):
        read_tree(repository, version)


def test_packages_are_compared_by_name_and_architecture() -> None:
    old = [
        Package("git", "1", "amd64"),
        Package("libc6", "1", "amd64"),
        Package("libc6", "1", "i386"),
        Package("a", "1"),
    ]
    new = [
        Package("git", "2", "amd64"),
        Package("libc6", "1", "amd64"),
        Package("vim", "1", "amd64"),
        Package("a", "1"),
    ]
    told = [(change.name, change.arch, change.before, change.after) for change in diff_packages(old, new)]
    assert told == [("git", "amd64", "1", "2"), ("libc6", "i386", "1", ""), ("vim", "amd64", "", "1")]


def test_versions_are_compared_by_what_was_recorded(repository: Repository) -> None:
    old = make_record(packages=(Package("git", "1"), Package("vim", "1")), variables={"a": 1, "b": [1]})
    new = make_record(
        packages=(Package("git", "2"), Package("jq", "1")), variables={"a": 1, "b": [2], "c": None}, git=None,
        tools={"goldsmith": "0.2.0", "ansible-core": "2.17.1"},
    )  # fmt: skip
    before, after = put(repository, record=old), put(repository, content=b"2", record=new)
    diff = diff_versions(before, after, old, new)
    assert [change.name for change in diff.added] == ["jq"]
    assert [change.name for change in diff.removed] == ["vim"]
    assert [(change.name, change.before, change.after) for change in diff.upgraded] == [("git", "1", "2")]
    assert [(change.name, change.before, change.after) for change in diff.variables] == [("b", [1], [2])]
    assert [change.name for change in diff.inputs] == ["commit", "tool goldsmith"]
    assert (diff.old_layers, diff.new_layers, diff.shared_layers) == (before.layers, after.layers, ())
    document = json.loads(json.dumps(diff.as_json()))
    assert document["packages"]["upgraded"] == [{"name": "git", "arch": "", "before": "1", "after": "2"}]
    assert document["layers"]["added"] == [{"digest": after.layers[0].digest, "size": after.size}]


def test_a_version_without_a_record_is_compared_by_its_layers(repository: Repository) -> None:
    before, after = put(repository), put(repository)
    diff = diff_versions(before, after, None, make_record())
    assert (diff.packages, diff.variables, diff.inputs) == ((), (), ())
    assert diff.shared_layers == after.layers
