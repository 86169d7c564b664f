"""Divided versions in a repository, as other tools read them, and what a killed build leaves of them."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.artifacts.layout import Layout
from goldsmith.artifacts.repository import NewVersion, Repository, Version, open_repository

from .making import make_record, put, small_tar
from .trees import archive, describe_tree, dump, is_root, make_tree

KILLED_WHILE_PACKING = """
import os, signal, sys
from pathlib import Path
from goldsmith.artifacts.repository import open_repository

size = Path(sys.argv[2]).stat().st_size
with open_repository(Path(sys.argv[1])).open_writer() as writer, open(sys.argv[2], "rb") as dump:
    writer.add_layers(dump, on_bytes=lambda done: done > size // 2 + 1 and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of several packages; nothing in it that only tar can hold (a name that OCI takes for a whiteout)."""
    root = make_tree(tmp_path_factory.mktemp("tree"))
    shutil.rmtree(root / "etc/vzdump")
    (root / "names/.wh.whiteout").unlink()
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info.parent / "status").write_text("Package: tool\n\nPackage: other\nVersion: 1+deb12u1\n\nPackage: big\n")
    (info / "tool.list").write_text("/usr/bin/tool\n/usr/bin/link\n")
    (info / "other.list").write_text("/sparse/many\n/zero\n")
    (info / "big.list").write_text("/opt/big\n")
    (root / "opt").mkdir()
    (root / "opt/big").write_bytes(os.urandom(3 << 20))
    return root


def put_tree(repository: Repository, tree: Path, dumped: Path) -> Version:
    with repository.open_writer() as writer, dump(tree, dumped).open("rb") as stream:
        return writer.put(NewVersion(name="debian", layers=writer.add_layers(stream), record=make_record()))


def list_blobs(repository: Repository) -> set[str]:
    return {path.name for path in (repository.path / "blobs/sha256").iterdir()}


def test_the_same_tree_is_stored_once(repository: Repository, tree: Path, tmp_path: Path) -> None:
    first = put_tree(repository, tree, tmp_path / "dump")
    blobs = list_blobs(repository)
    second = put_tree(repository, tree, tmp_path / "dump")
    assert (second.layers, second.reference) == (first.layers, "debian:20261123.2")
    documents = 4  # the image's manifest (its name is in it), the record's manifest; records are the same
    assert len(list_blobs(repository) - blobs) < documents
    assert repository.verify() == []


def test_an_upgraded_package_adds_its_layer_the_folders_and_what_changes(
    repository: Repository, tree: Path, tmp_path: Path
) -> None:
    first = put_tree(repository, tree, tmp_path / "dump")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", tree, copy], check=True)
    (copy / "opt/big").unlink()
    (copy / "opt/big").write_bytes(os.urandom(3 << 20))
    (copy / "var/lib/dpkg/status").write_text((tree / "var/lib/dpkg/status").read_text() + "Version: 2\n")
    second = put_tree(repository, copy, tmp_path / "dump")
    new = {layer.digest for layer in second.layers} - {layer.digest for layer in first.layers}
    assert len(new) == 3
    assert len(second.layers) == len(first.layers) > 6


def test_skopeo_reads_and_copies_a_divided_version(repository: Repository, tree: Path, tmp_path: Path) -> None:
    """The folders' layer comes twice; every layer unpacks to what the config says."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    version = put_tree(repository, tree, tmp_path / "dump")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    source = f"oci:{repository.path}:{version.reference}"
    subprocess.run(["skopeo", "inspect", source], check=True, env=environment, stdout=subprocess.DEVNULL)
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet"]
    subprocess.run([*copy, source, f"oci:{tmp_path}/copy:{version.reference}"], check=True, env=environment)
    copied = open_repository(tmp_path / "copy")
    assert copied.get_version(version.reference).layers == version.layers
    assert copied.verify() == []
    unpacked = tmp_path / "unpacked"
    subprocess.run([*copy, "--dest-decompress", source, f"dir:{unpacked}"], check=True, env=environment)
    diff_ids = repository.read_config(version).diff_ids
    assert diff_ids[0] == diff_ids[-1]
    for diff_id in diff_ids:
        name = diff_id.removeprefix("sha256:")
        assert hashlib.sha256((unpacked / name).read_bytes()).hexdigest() == name


@pytest.fixture
def podman() -> Iterator[list[str]]:
    """A podman with a storage of its own, in a short path: it refuses long ones."""
    if not is_root() or shutil.which("podman") is None:
        pytest.skip("needs root and podman")
    with tempfile.TemporaryDirectory() as folder:
        command = ["podman", "--root", f"{folder}/storage", "--runroot", f"{folder}/run"]
        yield command
        subprocess.run([*command, "rmi", "--all", "--force"], check=True, capture_output=True)
        subprocess.run(["umount", f"{folder}/storage/overlay"], check=False, capture_output=True)


@pytest.mark.slow
def test_podman_sees_the_same_tree(repository: Repository, tree: Path, tmp_path: Path, podman: list[str]) -> None:
    """It keeps layers apart and mounts them over one another: folders are those of the last layer."""
    version = put_tree(repository, tree, tmp_path / "dump")
    source = f"oci:{repository.path}:{version.reference}"
    image = subprocess.check_output([*podman, "pull", "--quiet", source], text=True).strip()
    mounted = Path(subprocess.check_output([*podman, "image", "mount", image], text=True).strip())
    found, expected = describe_tree(mounted), describe_tree(tree)
    subprocess.run([*podman, "image", "umount", image], check=True, capture_output=True)
    assert found.keys() == expected.keys()
    found[b"exactly-512"]["mtime"] = expected[b"exactly-512"]["mtime"]  # podman 4.3 knows no times before 1970
    for name, entry in expected.items():
        for acl in ("system.posix_acl_access", "system.posix_acl_default"):  # nor ACLs
            entry["xattrs"].pop(acl, None)
        assert found[name] == entry, name


def test_killed_while_it_packs(repository: Repository, tree: Path, tmp_path: Path) -> None:
    put(repository)
    dumped = archive(make_tree(tmp_path / "tree"), tmp_path / "dump")
    command = [sys.executable, "-c", KILLED_WHILE_PACKING, str(repository.path), str(dumped)]
    killed = subprocess.run(command, check=False, env={"PYTHONPATH": str(Path(__file__).parents[3] / "src")})
    assert killed.returncode == -signal.SIGKILL
    incoming = repository.path / ".goldsmith/incoming"
    assert list(incoming.glob("*/*")), "nothing was left over: the test proves nothing"
    put(repository, content=b"next")
    assert list(incoming.iterdir()) == []
    referred = {d.digest.removeprefix("sha256:") for d in Layout(repository.path).list_references()}
    assert list_blobs(repository) == referred


def test_layers_are_added_one_archive_after_another(repository: Repository) -> None:
    with repository.open_writer() as writer:
        one = writer.add_layers(io.BytesIO(small_tar(("./a", b"1"))))
        two = writer.add_layers(io.BytesIO(small_tar(("./a", b"2"))))
        version = writer.put(NewVersion(name="debian", layers=one + two, record=make_record()))
    assert len(version.layers) == 2
    assert repository.verify() == []
