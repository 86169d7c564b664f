"""The repository in a real registry: Debian's docker-registry, which has no referrers API."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from goldsmith.artifacts.channels import get_channel, list_channels, promote, remove_channel, set_channel
from goldsmith.artifacts.diff import diff_trees
from goldsmith.artifacts.export import open_template
from goldsmith.artifacts.http import RegistryError, RegistryOptions, RegistryUnreachable
from goldsmith.artifacts.layers import Layer
from goldsmith.artifacts.layout import Layout
from goldsmith.artifacts.repository import NewVersion, Repository, Version, open_repository
from goldsmith.artifacts.retention import PrunePolicy, plan_prune, run_prune
from goldsmith.artifacts.revocation import VersionRevoked, check_not_revoked, revoke
from goldsmith.artifacts.sbom import attach_sbom, find_sbom
from goldsmith.artifacts.transfer import copy_version, plan_transfer
from goldsmith.artifacts.tree import read_trees
from goldsmith.artifacts.verdicts import TestState, get_state, put_verdict
from goldsmith.base.errors import RepositoryDamaged, UsageError, VersionExists, VersionNotFound
from tests.unit.artifacts.making import FINISHED, make_record, put, small_tar

from .registry import RealRegistry, find_free_port

MIB = 1 << 20


@pytest.fixture
def local(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def put_large(repository: Repository, *sizes: int, name: str = "large") -> Version:
    """A version of layers that cannot be packed any smaller."""
    with repository.open_writer() as writer:
        layers = tuple(
            layer
            for number, size in enumerate(sizes)
            for layer in writer.add_layers(io.BytesIO(small_tar((f"./{number}", os.urandom(size)))))
        )
        return writer.put(NewVersion(name=name, layers=layers, record=make_record()))


def judge(repository: Repository, version: Version, state: TestState = TestState.PASSED, minute: int = 0) -> None:
    put_verdict(
        repository, version, state=state, summary="", document=b"%d" % minute, junit="", html="",
        tested=FINISHED + timedelta(minutes=minute),
    )  # fmt: skip


# --- there and back


def test_a_version_is_pushed_and_pulled_with_all_that_belongs_to_it(
    registry: RealRegistry, local: Repository, tmp_path: Path
) -> None:
    version = put(local)
    judge(local, version)
    attach_sbom(local, version)
    remote = registry.open()
    assert remote.list_versions() == []
    assert remote.find_version(version.reference) is None
    copy_version(version, local, remote)
    assert remote.list_versions() == [version] == remote.list_versions(version.name)
    assert remote.get_version(version.reference) == remote.get_version(version.name) == version
    assert remote.read_record(version) == local.read_record(version)
    assert get_state(remote, version) is TestState.PASSED
    assert find_sbom(remote, version) == find_sbom(local, version)
    again = open_repository(tmp_path / "again")
    copy_version(remote.get_version(version.name), remote, again)
    assert again.list_versions() == [version]
    assert get_state(again, version) is TestState.PASSED
    assert again.verify() == remote.verify() == []


def test_only_what_is_missing_is_sent(registry: RealRegistry, local: Repository) -> None:
    first = put_large(local, 3 * MIB, 2 * MIB)
    with local.open_writer() as writer:
        layers = tuple(Layer(blob.digest, blob.size, blob.digest, blob.size, 1) for blob in first.layers)
        layers += writer.add_layers(io.BytesIO(small_tar(("./new", b"new"))))
        second = writer.put(NewVersion(name="large", layers=layers, record=make_record()))
        other = writer.put(NewVersion(name="other", layers=layers, record=make_record()))
    remote = registry.open()
    seen: list[int] = []
    assert copy_version(first, local, remote, watch=lambda _: seen.append).size == seen[-1] > 5 * MIB
    assert plan_transfer(second, local, remote).size == copy_version(second, local, remote).size < 10_000
    patched = len(registry.list_calls('"PATCH'))
    copy_version(other, local, remote)
    sent = registry.list_calls('"PATCH')[patched:]
    assert len(sent) == 3, sent  # its own config and record, and the empty config of that; the layers were mounted
    assert len(registry.list_calls('"POST', "mount=", "201")) == 3
    assert copy_version(other, local, remote).missing == ()
    assert remote.verify() == []


# --- the same interface


def test_a_version_is_built_straight_into_a_registry(registry: RealRegistry, tmp_path: Path) -> None:
    """As a build does it: written with one object, read with another."""
    version = put_large(registry.open(), MIB)
    remote = registry.open()
    assert remote.list_versions() == [version]
    assert put(remote, "large").tag == "20261123.2"
    with open_template(registry.open(), version) as template:
        assert sum(len(piece) for piece in iter(lambda: template.read(MIB), b"")) == template.size
    assert remote.verify() == []
    assert list(tmp_path.glob("goldsmith-*")) == []


def test_channels_verdicts_and_revocations_work_in_a_registry(registry: RealRegistry) -> None:
    remote = registry.open()
    first, second = put(remote), put(remote, content=b"2")
    judge(remote, first, TestState.FAILED)
    judge(remote, first, TestState.PASSED, 1)
    promote(remote, "stable", first)
    assert remote.get_version("debian-12-docker:stable") == first == get_channel(remote, first.name, "stable")
    set_channel(remote, "stable", second)
    set_channel(remote, "candidate", first)
    assert [(str(c), c.tag) for c in list_channels(registry.open())] == [
        ("debian-12-docker:candidate", first.tag), ("debian-12-docker:stable", second.tag)
    ]  # fmt: skip
    leaf = put(remote, "leaf", record=make_record(base_name=f"image:{first}", base_digest=first.digest))
    check_not_revoked(remote, leaf)
    revoke(remote, first, reason="a key was in it", who="jane@ops")
    with pytest.raises(VersionRevoked, match=f"{leaf} is built on {first}"):
        check_not_revoked(registry.open(), leaf)
    with pytest.raises(RegistryError, match=f"/{first.name} does not forget candidate") as refused:
        remove_channel(remote, first.name, "candidate")
    assert (refused.value.status, "before version 3" in refused.value.hint) == (400, True)
    assert remote.verify() == []


def test_a_registry_that_lets_nothing_be_deleted_says_so(tmp_path: Path) -> None:
    registry = RealRegistry(tmp_path / "registry", deletes=False)
    registry.start()
    try:
        version = put(registry.open())
        set_channel(registry.open(), "candidate", version)
        for refused in (
            lambda: remove_channel(registry.open(), version.name, "candidate"),
            lambda: registry.open().store.prune([(version.name, version.tag), (version.name, "candidate")]),
        ):
            with pytest.raises(RegistryError, match="does not let anything be deleted") as told:
                refused()
            assert (told.value.status, "enabled: true" in told.value.hint) == (405, True)
    finally:
        registry.kill()


def test_images_of_others_are_not_ours(registry: RealRegistry) -> None:
    put(registry.open("team/images"))
    put(registry.open("team/images/deeper"), "other")
    put(registry.open("team"), "third")
    assert registry.open("team/images").list_names() == ["debian-12-docker"]
    assert registry.open("team").list_names() == ["third"]
    assert registry.open("tea").list_names() == []
    assert registry.open("").list_names() == []


def test_what_a_registry_cannot_name_is_refused(registry: RealRegistry) -> None:
    with pytest.raises(UsageError, match="no registry takes an image named 'Debian'"):
        put(registry.open(), "Debian")
    for location in ("oci://", "oci://host/Path", "oci://a b/c", "oci://host:x/path"):
        with pytest.raises(UsageError, match="no place in a registry"):
            open_repository(location)
    with pytest.raises(VersionNotFound, match=r"no version 'debian'"):
        registry.open().get_version("debian")


def test_a_version_in_a_registry_never_changes(registry: RealRegistry, local: Repository, tmp_path: Path) -> None:
    copy_version(put(local), local, registry.open())
    other = open_repository(tmp_path / "other")
    with pytest.raises(VersionExists, match="has another debian-12-docker"):
        copy_version(put(other, content=b"other"), other, registry.open())
    registry_version = registry.open().get_version("debian-12-docker")
    with pytest.raises(VersionExists):
        copy_version(registry_version, registry.open(), other)
    assert local.get_version("debian-12-docker") == registry_version


def test_a_name_that_was_taken_meanwhile_is_not_taken_away(registry: RealRegistry) -> None:
    remote = registry.open()
    first = put(remote)
    image = remote.get_image(first)
    with remote.store.open_writer() as writer, ExitStack() as stack:
        names = stack.enter_context(writer.open_names())
        names.set(first.name, "20261123.2", image)
        second = put(registry.open(), content=b"2")
        with pytest.raises(VersionExists, match=r"has another debian-12-docker:20261123\.2"):
            stack.close()
    assert registry.open().list_versions() == [first, second]


def test_versions_are_pruned_in_a_registry(registry: RealRegistry) -> None:
    remote = registry.open()
    versions = [put(remote, content=b"%d" % number) for number in range(4)]
    for version in versions:
        judge(remote, version)
    set_channel(remote, "stable", versions[0])
    now = datetime(2026, 12, 31, tzinfo=UTC)
    plan = plan_prune(remote.list_versions(), list_channels(remote), (), PrunePolicy(keep_last=1), now)
    assert run_prune(remote, plan).versions == (versions[1], versions[2])
    fresh = registry.open()
    assert fresh.list_versions() == [versions[0], versions[3]]
    assert fresh.verify() == []
    assert get_state(fresh, versions[0]) is TestState.PASSED
    left = set(fresh.store.list_tags(versions[0].name))
    assert left == {
        "20261123.1",
        "20261123.4",
        "stable",
        *(v.digest.replace(":", "-") for v in (versions[0], versions[3])),
    }


def test_the_registry_frees_the_room_of_what_was_pruned(registry: RealRegistry, local: Repository) -> None:
    first, second = put_large(local, 3 * MIB), put_large(local, 2 * MIB)
    remote = registry.open()
    for version in (first, second):
        judge(local, version)
        copy_version(version, local, remote)
    remote.store.prune([(first.name, first.tag)])
    registry.collect_garbage()
    assert not find_file(registry, first.layers[0].digest).exists()
    assert find_file(registry, second.layers[0].digest).exists()
    fresh = registry.open()
    assert fresh.list_versions() == [second]
    assert get_state(fresh, second) is TestState.PASSED
    assert fresh.verify() == []
    copy_version(first, local, fresh)
    assert registry.open().verify() == []


def test_files_are_compared_across_repositories(registry: RealRegistry, local: Repository) -> None:
    before, after = put(local), put(local, content=b"two")
    remote = registry.open()
    for version in (before, after):
        copy_version(version, local, remote)
    versions = remote.list_versions()
    assert [change.path for change in diff_trees(*read_trees(remote, versions))] == ["etc/hostname"]


def test_skopeo_reads_what_was_pushed(registry: RealRegistry, local: Repository, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    version = put(local)
    remote = registry.open()
    copy_version(version, local, remote)
    set_channel(remote, "stable", version)
    source = f"docker://{registry.host}/images/{version.name}"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    inspect = ["skopeo", "inspect", "--tls-verify=false"]
    for tag in (version.tag, "stable"):
        seen = json.loads(subprocess.check_output([*inspect, f"{source}:{tag}"], env=environment))
        assert seen["Digest"] == version.digest
        assert seen["Layers"] == [layer.digest for layer in version.layers]
    target = f"oci:{tmp_path}/copy:{version.reference}"
    copy = ["skopeo", "--insecure-policy", "--override-os", "linux", "copy", "-q", "--src-tls-verify=false"]
    subprocess.run([*copy, f"{source}:stable", target], check=True, env=environment)
    copied = open_repository(tmp_path / "copy")
    assert copied.get_version(version.reference) == version
    assert copied.verify() == []


# --- broken off


def test_a_registry_that_is_killed_in_the_middle_of_a_push_and_comes_back(
    registry: RealRegistry, local: Repository
) -> None:
    version = put_large(local, 50 * MIB, 40 * MIB)
    killed = threading.Event()

    def kill_once(done: int) -> None:
        if done > 60 * MIB and not killed.is_set():
            killed.set()
            registry.kill()
            threading.Timer(1, registry.start).start()

    remote = registry.open()
    plan = copy_version(version, local, remote, watch=lambda _: kill_once)
    assert killed.is_set()
    assert plan.size > 90 * MIB
    assert remote.list_versions() == [version]
    assert remote.verify() == []


def test_a_push_that_was_given_up_is_taken_up_again(registry: RealRegistry, local: Repository) -> None:
    version = put_large(local, 2 * MIB, 3 * MIB, 40 * MIB)
    killed = threading.Event()

    def kill_once(done: int) -> None:
        if done > 25 * MIB and not killed.is_set():
            killed.set()
            registry.kill()

    impatient = registry.open(options=RegistryOptions(patience=1))
    with pytest.raises(RegistryUnreachable, match="does not answer: Connection refused"):
        copy_version(version, local, impatient, watch=lambda _: kill_once)
    registry.start()
    remote = registry.open()
    assert remote.list_versions() == []
    again = copy_version(version, local, remote)
    assert {blob.digest for blob in again.missing} >= {version.layers[2].digest}
    assert {blob.digest for blob in again.present} >= {version.layers[0].digest, version.layers[1].digest}
    assert remote.list_versions() == [version]
    assert remote.verify() == []


def test_a_pull_goes_on_where_the_connection_broke(registry: RealRegistry, local: Repository, tmp_path: Path) -> None:
    version = put_large(local, 60 * MIB)
    remote = registry.open()
    copy_version(version, local, remote)
    killed = threading.Event()

    def kill_once(done: int) -> None:
        if done > 20 * MIB and not killed.is_set():
            killed.set()
            registry.kill()
            registry.start()

    again = open_repository(tmp_path / "again")
    copy_version(version, remote, again, watch=lambda _: kill_once)
    assert again.list_versions() == [version]
    assert again.verify() == []
    assert registry.list_calls('"GET', version.layers[0].digest, " 206 ")


PULL = """
import os, signal, sys
from pathlib import Path
from goldsmith.artifacts.repository import open_repository
from goldsmith.artifacts.transfer import copy_version

source, target = open_repository(sys.argv[1]), open_repository(Path(sys.argv[2]))
def on_bytes(done):
    if done > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
copy_version(source.get_version("large"), source, target, watch=lambda _: on_bytes)
"""


def kill_in_pull(registry: RealRegistry, target: Path, limit: int) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PULL, f"oci://{registry.host}/images", str(target), str(limit)]
    environment = {"PYTHONPATH": f"{root}/src:{root}", "HOME": str(target)}
    assert subprocess.run(command, cwd=root, env=environment, check=False).returncode == -9


def test_a_pull_that_was_killed_goes_on_where_it_was(registry: RealRegistry, local: Repository, tmp_path: Path) -> None:
    version = put_large(local, 40 * MIB, 8 * MIB)
    remote = registry.open()
    copy_version(version, local, remote)
    again = open_repository(tmp_path / "again")
    for limit in (12 * MIB, 30 * MIB, 44 * MIB):
        kill_in_pull(registry, again.path, limit)
        assert again.list_versions("large") == []
        put(again, "meanwhile")  # clears up what is left over, but no part of a blob
    asked = len(registry.list_calls('"GET', version.layers[0].digest))
    assert asked == 3
    assert len(registry.list_calls('"GET', version.layers[0].digest, " 206 ")) == 2
    copy_version(version, remote, again)
    assert again.get_version("large") == version
    assert again.verify() == []
    assert {path.suffix for path in (again.path / ".goldsmith/partial").iterdir()} == {".lock"}


def test_a_part_that_was_damaged_meanwhile_is_fetched_anew(
    registry: RealRegistry, local: Repository, tmp_path: Path
) -> None:
    version = put_large(local, 20 * MIB)
    remote = registry.open()
    copy_version(version, local, remote)
    again = open_repository(tmp_path / "again")
    kill_in_pull(registry, again.path, 10 * MIB)
    path = again.path / ".goldsmith/partial" / version.layers[0].digest.removeprefix("sha256:")
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    copy_version(version, remote, again)
    assert again.list_versions() == [version]
    assert again.verify() == []


def test_several_pull_the_same_version_at_once(registry: RealRegistry, local: Repository, tmp_path: Path) -> None:
    version = put_large(local, 10 * MIB, 5 * MIB)
    copy_version(version, local, registry.open())
    again = tmp_path / "again"
    threads = [
        threading.Thread(target=copy_version, args=(version, registry.open(), open_repository(again))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert open_repository(again).list_versions() == [version]
    assert open_repository(again).verify() == []
    assert len(Layout(again).read_index()) == 2  # the version and its record


PUSH = """
import os, signal, sys
from pathlib import Path
from goldsmith.artifacts.repository import open_repository
from goldsmith.artifacts.transfer import copy_version

source, target = open_repository(Path(sys.argv[1])), open_repository(sys.argv[2])
def on_bytes(done):
    if done > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
copy_version(source.get_version("large"), source, target, watch=lambda _: on_bytes)
"""


def test_whoever_pushes_is_killed_and_nothing_can_be_seen(registry: RealRegistry, local: Repository) -> None:
    version = put_large(local, 8 * MIB, 20 * MIB)
    root = Path(__file__).parents[2]
    location = f"oci://{registry.host}/images"
    for limit in (0, 9 * MIB, 15 * MIB):
        command = [sys.executable, "-c", PUSH, str(local.path), location, str(limit)]
        environment = {"PYTHONPATH": f"{root}/src:{root}", "HOME": str(local.path)}
        ended = subprocess.run(command, cwd=root, env=environment, check=False)
        assert ended.returncode == -9
        assert registry.open().list_versions() == []
    copy_version(version, local, registry.open())
    assert registry.open().verify() == []


@pytest.mark.usefixtures("hear_signals")
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_an_interrupt_ends_all_transfers_soon_even_while_the_registry_is_away(
    registry: RealRegistry, local: Repository, tmp_path: Path, direction: str
) -> None:
    version = put_large(local, 30 * MIB, 30 * MIB, 30 * MIB)
    remote = registry.open(options=RegistryOptions(patience=300))
    source, target = local, remote
    if direction == "pull":
        copy_version(version, local, remote)
        source, target = remote, open_repository(tmp_path / "again")
    started = threading.Event()

    def kill_once(done: int) -> None:
        if done > 5 * MIB and not started.is_set():
            started.set()
            registry.kill()
            threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()

    with pytest.raises(KeyboardInterrupt):
        copy_version(version, source, target, watch=lambda _: kill_once)
    registry.start()
    assert target.list_versions() == []
    copy_version(version, source, target)
    assert target.list_versions() == [version]


def test_several_processes_push_at_once(registry: RealRegistry, local: Repository) -> None:
    versions = [put_large(local, 3 * MIB), put_large(local, 3 * MIB), put(local, "small")]
    remote = registry.open()
    threads = [threading.Thread(target=copy_version, args=(version, local, registry.open())) for version in versions]
    threads += [threading.Thread(target=copy_version, args=(versions[0], local, registry.open()))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert remote.list_versions() == versions
    assert remote.verify() == []


def test_a_registry_that_is_not_there_is_named() -> None:
    nowhere = open_repository(f"oci://127.0.0.1:{find_free_port()}/images", RegistryOptions(patience=0.2))
    with pytest.raises(RegistryUnreachable, match=r"the registry 127\.0\.0\.1:\d+ does not answer: Connection refused"):
        nowhere.list_versions("debian")


@pytest.mark.parametrize("takes", [True, False])
def test_a_registry_that_never_says_anything_is_not_waited_for_long(takes: bool) -> None:
    """The first time; a firewall that drops, or something else that listens there, would cost a minute each."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        places = [socket.create_connection(silent.getsockname()) for _ in range(0 if takes else 1)]  # its queue is full
        options = RegistryOptions(first_timeout=0.3)
        nowhere = open_repository(f"oci://127.0.0.1:{silent.getsockname()[1]}/images", options)
        told = "it takes the connection, but says nothing" if takes else "nobody takes the connection"
        begun = time.monotonic()
        with pytest.raises(RegistryUnreachable, match=f"does not answer: {told}"):
            nowhere.list_versions("debian")
        assert time.monotonic() - begun < 3
        for place in places:
            place.close()


# --- damaged


def find_file(registry: RealRegistry, digest: str) -> Path:
    hexes = digest.removeprefix("sha256:")
    return registry.folder / "data/docker/registry/v2/blobs/sha256" / hexes[:2] / hexes / "data"


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
def test_a_blob_that_is_damaged_in_the_registry_is_found_and_named(
    registry: RealRegistry, local: Repository, tmp_path: Path, damage: str, what: str
) -> None:
    version = put_large(local, MIB)
    copy_version(version, local, registry.open())
    digest = {"layer": version.layers[0].digest, "config": version.config.digest, "manifest": version.digest}[what]
    path = find_file(registry, digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink() if damage == "remove" else path.write_bytes(data if damage == "flip" else data[:-1])
    registry.kill()
    registry.start()  # it keeps lengths in memory
    problems = registry.open().verify()
    named = version.tag if what == "manifest" else digest
    assert any(named in problem or digest in problem for problem in problems), problems
    again = open_repository(tmp_path / "again")
    remote = registry.open()
    with pytest.raises((RepositoryDamaged, VersionNotFound, RegistryError)):
        copy_version(replace(version), remote, again)
    assert again.list_versions() == []
    assert again.verify() == []


def test_a_damaged_blob_is_never_sent(registry: RealRegistry, local: Repository) -> None:
    version = put_large(local, 20 * MIB)
    path = local.path / "blobs/sha256" / version.layers[0].digest.removeprefix("sha256:")
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(RepositoryDamaged, match=version.layers[0].digest):
        copy_version(version, local, registry.open())
    assert registry.open().list_versions() == []
    assert not find_file(registry, version.layers[0].digest).exists()


def test_pulling_again_mends_a_damaged_directory(registry: RealRegistry, local: Repository) -> None:
    version = put_large(local, 2 * MIB)
    judge(local, version)
    remote = registry.open()
    copy_version(version, local, remote)
    for path in [path for path in (local.path / "blobs/sha256").iterdir() if path.stat().st_size]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert local.verify() != []
    copy_version(version, remote, local)
    assert local.verify() == []
    assert local.list_versions() == [version]
    assert get_state(local, version) is TestState.PASSED


def test_pushing_again_mends_what_a_careless_collection_of_garbage_has_taken(
    registry: RealRegistry, local: Repository
) -> None:
    """Docker's registry 2.8 takes what belongs to a version for untagged; until it is mended nothing is promoted."""
    version = put(local)
    judge(local, version)
    copy_version(version, local, registry.open())
    registry.collect_garbage("--delete-untagged")
    assert registry.open().verify() != []
    with pytest.raises(RepositoryDamaged, match="is missing"):
        promote(registry.open(), "stable", version)
    copy_version(version, local, registry.open())
    remote = registry.open()
    assert remote.verify() == []
    promote(remote, "stable", version)
