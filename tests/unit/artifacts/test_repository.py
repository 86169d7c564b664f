"""The repository as its users and other tools see it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from goldsmith.artifacts.damage import list_damage
from goldsmith.artifacts.layout import Layout
from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.record import parse_record, render_record
from goldsmith.artifacts.repository import NewVersion, Repository, Version, open_repository
from goldsmith.artifacts.transfer import copy_version
from goldsmith.base.digest import Digest, digest_file
from goldsmith.base.errors import RepositoryDamaged, RepositoryError, UsageError, VersionNotFound
from goldsmith.base.secrets import Secret

from .making import BASE, FINISHED, make_record, put, small_tar


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def blobs(repository: Repository) -> set[str]:
    return {path.name for path in (repository.path / "blobs/sha256").iterdir()}


def referenced(repository: Repository) -> set[str]:
    return {d.digest.removeprefix("sha256:") for d in Layout(repository.path).list_references()}


def fail_after_layer(repository: Repository, archived: bytes) -> None:
    """A build that adds a layer and then fails."""
    try:
        with repository.open_writer() as writer:
            writer.add_layers(io.BytesIO(archived))
            raise RuntimeError
    except RuntimeError:
        pass


def read_in_pieces(repository: Repository, version: Version) -> None:
    with repository.open_blob(version.layers[0]) as blob:
        while blob.read(7):
            pass


def test_an_empty_repository_holds_nothing_and_is_not_made_by_reading(repository: Repository) -> None:
    assert repository.list_versions() == []
    assert repository.find_version("debian") is None
    assert repository.verify() == []
    assert not repository.path.exists()


def test_a_version_is_found_by_its_name(repository: Repository) -> None:
    version = put(repository)
    assert version.reference == "debian-12-docker:20261123.1"
    assert version.created == FINISHED
    assert version.size == version.layers[0].size > 0
    assert repository.get_version("debian-12-docker:20261123.1") == version
    assert repository.get_version("debian-12-docker") == version
    assert repository.list_versions() == [version]
    assert repository.verify() == []


def test_versions_are_numbered_by_day_and_name(repository: Repository) -> None:
    tomorrow = make_record(finished=FINISHED + timedelta(days=1))
    made = [put(repository, "a"), put(repository, "a"), put(repository, "b"), put(repository, "a", record=tomorrow)]
    assert [v.reference for v in made] == ["a:20261123.1", "a:20261123.2", "b:20261123.1", "a:20261124.1"]
    assert repository.list_versions("a") == [made[0], made[1], made[3]]


def test_the_newest_is_the_newest_by_number_not_by_text(repository: Repository) -> None:
    for _ in range(10):
        put(repository)
    assert repository.get_version("debian-12-docker").tag == "20261123.10"
    assert [v.tag for v in repository.list_versions()][-2:] == ["20261123.9", "20261123.10"]


def test_the_day_can_be_given(repository: Repository) -> None:
    assert put(repository, day=date(2026, 1, 2)).tag == "20260102.1"


def test_a_missing_version_is_an_error_that_names_what_comes_near(repository: Repository) -> None:
    put(repository)
    with pytest.raises(VersionNotFound, match="no version 'debian-12-doker'") as missing:
        repository.get_version("debian-12-doker")
    assert "debian-12-docker" in missing.value.hint
    with pytest.raises(VersionNotFound):
        repository.get_version("debian-12-docker:20261123.2")


@pytest.mark.parametrize("name", ["", "a b", "-a", "a:b", "a/b", "../a", "ä", "a.", "a--b"])
def test_a_name_that_cannot_be_one(repository: Repository, name: str) -> None:
    with pytest.raises(UsageError, match="no name for an image"):
        put(repository, name)
    assert repository.list_versions() == []


# --- what it was made of


def test_the_record_comes_back(repository: Repository) -> None:
    record = make_record()
    version = put(repository, record=record)
    assert repository.read_record(version) == replace(record, packages=tuple(sorted(record.packages)))


def test_a_record_is_that_of_its_version(repository: Repository) -> None:
    first = put(repository, record=make_record(build_id="first"))
    second = put(repository, record=make_record(build_id="second"))
    assert repository.read_record(first).build_id == "first"
    assert repository.read_record(second).build_id == "second"


def test_times_are_kept_in_utc() -> None:
    summer = timezone(timedelta(hours=2))
    record = make_record(finished=datetime(2026, 7, 1, 1, 30, tzinfo=summer))
    assert json.loads(render_record(record))["finished"] == "2026-06-30T23:30:00Z"
    assert parse_record(render_record(record)).finished == datetime(2026, 6, 30, 23, 30, tzinfo=UTC)


def test_a_secret_is_never_recorded(repository: Repository) -> None:
    for variables in ({"password": Secret("x")}, {"users": [{"password": Secret("x")}]}):
        with pytest.raises(TypeError, match="must not be recorded: variables"):
            put(repository, record=make_record(variables=variables))
    assert repository.list_versions() == []
    assert blobs(repository) == set()


def test_a_version_that_is_a_backup_has_all_but_files(repository: Repository, tmp_path: Path) -> None:
    kept = put(repository, layers=(), backup="nas:backup/ct/900/2026-11-23T17:16:36Z", backup_size=77)
    assert (kept.backup, kept.size, kept.layers) == ("nas:backup/ct/900/2026-11-23T17:16:36Z", 77, ())
    assert repository.get_version(str(kept)) == kept
    assert repository.read_record(kept).build_id == make_record().build_id
    whole = put(repository)
    assert (whole.backup, whole.tag) == ("", "20261123.2")
    other = open_repository(tmp_path / "other")
    for version in (kept, whole):
        copy_version(version, repository, other)
    assert [one.backup for one in other.list_versions(kept.name)] == [kept.backup, ""]
    assert list_damage(other, kept, lambda _: None) == []


def test_what_a_later_goldsmith_records_is_not_lost() -> None:
    later = json.loads(render_record(make_record())) | {"sbom": {"spdx": "2.3"}}
    record = parse_record(json.dumps(later).encode())
    assert record.extra == {"sbom": {"spdx": "2.3"}}
    assert json.loads(render_record(record)) == later


def test_what_is_no_record_is_an_error() -> None:
    for data in (b"", b"[]", b"{}", b'{"image":"a","base":{"name":"b"},"started":"yesterday"}'):
        with pytest.raises(RepositoryDamaged):
            parse_record(data)


# --- as OCI has it


def test_the_documents_are_as_oci_has_them(repository: Repository) -> None:
    version = put(repository, labels={"role": "docker"}, title="Docker host")

    def read(digest: str) -> dict[str, object]:
        data: dict[str, object] = json.loads((repository.path / "blobs/sha256" / digest.split(":")[1]).read_bytes())
        return data

    assert json.loads((repository.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((repository.path / "index.json").read_bytes())
    image, record = index["manifests"]
    assert image["annotations"]["org.opencontainers.image.ref.name"] == version.reference
    assert image["platform"] == {"architecture": "amd64", "os": "linux"}
    manifest = read(image["digest"])
    assert manifest["annotations"] == {
        "org.opencontainers.image.created": "2026-11-23T17:16:36Z",
        "org.opencontainers.image.title": "Docker host",
        "org.opencontainers.image.version": "20261123.1",
        "org.opencontainers.image.revision": "3f" * 20,
        "org.opencontainers.image.base.name": "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst",
        "org.opencontainers.image.base.digest": BASE,
    }
    config = repository.read_config(version)
    assert config.entrypoint == ("/sbin/init",)
    assert (config.architecture, config.os, config.labels) == ("amd64", "linux", {"role": "docker"})
    assert len(config.diff_ids) == 1
    referrer = read(record["digest"])
    assert referrer["artifactType"] == record["artifactType"] == "application/vnd.goldsmith.build-record.v1+json"
    assert referrer["subject"] == {
        "mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"],
    }  # fmt: skip
    assert referrer["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    }  # fmt: skip


def test_skopeo_reads_and_copies_a_version(repository: Repository, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    put(repository, content=b"other")
    version = put(repository)
    put(repository, "another")
    source, target = f"oci:{repository.path}:{version.reference}", f"oci:{tmp_path}/copy:{version.reference}"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    seen = json.loads(subprocess.check_output(["skopeo", "inspect", source], env=environment))
    assert seen["Digest"] == version.digest
    assert seen["Layers"] == [layer.digest for layer in version.layers]
    policy = ["--insecure-policy", "--override-os", "linux"]
    subprocess.run(["skopeo", *policy, "copy", "--quiet", source, target], check=True, env=environment)
    copied = open_repository(tmp_path / "copy")
    assert copied.get_version(version.reference).digest == version.digest
    assert copied.verify() == []
    with pytest.raises(VersionNotFound, match="no build record"):
        copied.read_record(copied.get_version(version.reference))
    unpacked = ["--dest-decompress", source, f"dir:{tmp_path}/unpacked"]
    subprocess.run(["skopeo", *policy, "copy", "--quiet", *unpacked], check=True, env=environment)
    (diff_id,) = repository.read_config(version).diff_ids
    assert digest_file(tmp_path / "unpacked" / diff_id.removeprefix("sha256:")) == diff_id


def test_images_of_other_tools_are_left_alone(repository: Repository) -> None:
    put(repository)
    path = repository.path / "index.json"
    index = json.loads(path.read_bytes())
    foreign = {
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": "sha256:" + "d" * 64, "size": 7,
        "annotations": {"org.opencontainers.image.ref.name": "latest"}, "unknown": {"to": "us"},
    }  # fmt: skip
    index["manifests"].append(foreign)
    path.write_text(json.dumps(index))
    stray = repository.path / "blobs/sha256" / ("e" * 64)
    stray.write_bytes(b"by another tool, not yet in the index")
    put(repository)
    assert foreign in json.loads(path.read_bytes())["manifests"]
    assert len(repository.list_versions()) == 2
    assert stray.exists()


# --- safety


def test_equal_layers_are_stored_once(repository: Repository) -> None:
    first, second = put(repository), put(repository)
    assert first.layers == second.layers
    assert first.digest != second.digest
    assert blobs(repository) == referenced(repository)


def test_nothing_is_left_of_a_version_that_failed(repository: Repository) -> None:
    version = put(repository)
    before = blobs(repository)
    fail_after_layer(repository, small_tar(("./a", b"of a failed build")))
    with pytest.raises(RepositoryError, match="damaged"), repository.open_writer() as writer:
        writer.add_layers(io.BytesIO(small_tar(("./a", b"x" * 5000))[:4000]))
    assert blobs(repository) == before
    assert list((repository.path / ".goldsmith/incoming").iterdir()) == []
    assert repository.list_versions() == [version]


def test_a_failed_version_takes_no_layer_from_another(repository: Repository) -> None:
    """Both have the same layer; the second fails after it has found the first one's."""
    version = put(repository)
    fail_after_layer(repository, small_tar(("./etc/hostname", b"1")))
    assert repository.verify() == []
    assert repository.get_version(version.reference) == version


def test_many_builds_at_once_get_a_number_each(repository: Repository) -> None:
    start = threading.Barrier(4)

    def build(worker: int) -> list[str]:
        start.wait()
        return [put(repository, content=b"%d" % worker).tag for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        tags = [tag for made in pool.map(build, range(4)) for tag in made]
    assert sorted(tags, key=lambda tag: int(tag.split(".")[1])) == [f"20261123.{n}" for n in range(1, 21)]
    assert repository.verify() == []
    assert blobs(repository) == referenced(repository)


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove"])
def test_damage_is_found(repository: Repository, damage: str) -> None:
    version = put(repository)
    path = repository.path / "blobs/sha256" / version.layers[0].digest.split(":")[1]
    data = bytearray(path.read_bytes())
    match damage:
        case "flip":
            data[len(data) // 2] ^= 1
        case "cut":
            del data[-1]
        case "grow":
            data += b"\0"
    path.unlink() if damage == "remove" else path.write_bytes(data)
    (problem,) = repository.verify()
    assert version.layers[0].digest in problem
    with pytest.raises(RepositoryDamaged):
        read_in_pieces(repository, version)


def test_a_damaged_manifest_is_found_and_stops_nobody_from_adding(repository: Repository) -> None:
    version = put(repository)
    path = repository.path / "blobs/sha256" / version.digest.split(":")[1]
    path.write_bytes(path.read_bytes().replace(b"20261123", b"20261124"))
    assert [problem for problem in repository.verify() if version.digest in problem]
    before = blobs(repository)
    put(repository, "another")
    assert before <= blobs(repository)


def test_a_digest_in_a_document_leads_nowhere_else(repository: Repository) -> None:
    version = put(repository)
    evil = replace(version.layers[0], digest="sha256:../../../etc/passwd")  # type: ignore[arg-type]
    with pytest.raises(RepositoryDamaged, match="no digest"), repository.open_blob(evil):
        pass


def test_layers_of_one_writer_make_one_version(repository: Repository) -> None:
    with repository.open_writer() as writer:
        layers = tuple(layer for n in range(3) for layer in writer.add_layers(io.BytesIO(small_tar((f"./{n}", b"x")))))
        version = writer.put(NewVersion(name="many", layers=layers, record=make_record()))
    assert [layer.digest for layer in version.layers] == [layer.digest for layer in layers]
    assert repository.read_config(version).diff_ids == tuple(layer.diff_id for layer in layers)


def add(repository: Repository, changed: bytes, known: dict[Digest, Descriptor] | None = None) -> Version:
    """Store a small root file system, one of whose files is `changed`."""
    members = [(f"usr/lib/file-{number}", bytes([number]) * 5000) for number in range(20)]
    archive = io.BytesIO(small_tar(*members, ("etc/changed", changed)))
    with repository.open_writer() as writer:
        return writer.put(NewVersion(name="x", layers=writer.add_layers(archive, known=known), record=make_record()))


def test_what_is_stored_already_is_not_packed_again_and_nothing_else_differs(tmp_path: Path) -> None:
    repository, other = open_repository(tmp_path / "a"), open_repository(tmp_path / "b")
    first = add(repository, b"1")
    second = add(repository, b"2", repository.list_diff_ids(first))
    plain = add(other, b"2")
    assert [layer.digest for layer in second.layers] == [layer.digest for layer in plain.layers]
    shared = {layer.digest for layer in first.layers} & {layer.digest for layer in second.layers}
    assert shared
    assert repository.verify() == []


def test_what_is_stored_and_damaged_is_packed_again(tmp_path: Path) -> None:
    repository = open_repository(tmp_path / "a")
    first = add(repository, b"1")
    for layer in first.layers:
        blob = tmp_path / "a" / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")
        blob.chmod(0o644)
        blob.write_bytes(b"\\0" * layer.size)
    assert repository.verify() != []
    second = add(repository, b"2", repository.list_diff_ids(first))
    damaged = {
        digest
        for digest in (layer.digest for layer in second.layers)
        if any(digest in said for said in repository.verify())
    }
    assert damaged == set()
