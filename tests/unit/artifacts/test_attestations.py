"""What is kept beside a version for others: bill of materials, provenance, signatures."""

from __future__ import annotations

import io
import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom

from goldsmith.artifacts.provenance import attach_provenance, find_provenance
from goldsmith.artifacts.record import Package
from goldsmith.artifacts.repository import NewVersion, Repository, Version, open_repository
from goldsmith.artifacts.sbom import Distribution, attach_sbom, find_sbom, parse_os_release, render_purl, render_sbom
from goldsmith.artifacts.signature import (
    MEDIA_TYPE,
    SSH_TYPE,
    STATEMENT_TYPE,
    NotSigned,
    check_signed,
    list_signatures,
    sign_version,
)
from goldsmith.artifacts.tree import find_file
from goldsmith.base.errors import RepositoryError, VersionNotFound

from .making import BASE, make_record, put, small_tar

MOMENT = datetime(2026, 11, 25, 12, tzinfo=UTC)
OS_RELEASE = b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def put_debian(repository: Repository) -> Version:
    with repository.open_writer() as writer:
        layers = writer.add_layers(io.BytesIO(small_tar(("./usr/lib/os-release", OS_RELEASE), ("./x", b"x" * 9999))))
        return writer.put(NewVersion(name="debian", layers=layers, record=make_record()))


# --- bill of materials


def test_the_bill_of_materials_names_every_package(repository: Repository) -> None:
    version = put_debian(repository)
    attach_sbom(repository, version)
    data = find_sbom(repository, version)
    assert data is not None
    document: dict[str, Any] = json.loads(data)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "debian"
    assert document["metadata"]["component"]["version"] == version.tag
    found = {part["name"]: (part["version"], part["purl"]) for part in document["components"]}
    assert found == {
        "git": ("1:2.39.5-0+deb12u2", "pkg:deb/debian/git@1:2.39.5-0%2Bdeb12u2?arch=amd64&distro=debian-12"),
        "adduser": ("3.134", "pkg:deb/debian/adduser@3.134?arch=all&distro=debian-12"),
    }
    assert {str(part.purl) for part in Bom.from_json(document).components} == {purl for _, purl in found.values()}  # type: ignore[attr-defined]
    assert repository.verify() == []


def test_the_same_version_gives_the_same_bill(repository: Repository) -> None:
    version = put(repository)
    bills = {render_sbom(version, make_record(packages=order), Distribution()) for order in (
        (Package("a", "1"), Package("b", "2")), (Package("b", "2"), Package("a", "1")))}  # fmt: skip
    assert len(bills) == 1


def test_whose_packages_they_are_stands_in_the_image(repository: Repository) -> None:
    assert find_file(repository, put_debian(repository), "usr/lib/os-release") == OS_RELEASE
    assert find_file(repository, put(repository), "usr/lib/os-release") is None
    assert parse_os_release(OS_RELEASE) == Distribution("debian", "12")
    assert parse_os_release(b"# nothing\n\n") == Distribution("debian", "")
    ubuntu = parse_os_release(b"ID=ubuntu\nVERSION_ID='24.04'")
    assert render_purl(Package("jq", "1.7", "amd64"), ubuntu) == "pkg:deb/ubuntu/jq@1.7?arch=amd64&distro=ubuntu-24.04"


def test_a_version_that_nobody_recorded_has_no_bill(repository: Repository, tmp_path: Path) -> None:
    gone = put(open_repository(tmp_path / "other"), content=b"other")
    with pytest.raises(VersionNotFound):
        attach_sbom(repository, gone)


# --- provenance


def test_provenance_names_subject_inputs_and_tools(repository: Repository) -> None:
    version = put(repository, record=make_record(extra={"layers": [{"key": "sha256:1"}]}))
    attach_provenance(repository, version)
    data = find_provenance(repository, version)
    assert data is not None
    document: dict[str, Any] = json.loads(data)
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert document["subject"] == [
        {"name": version.reference, "digest": {"sha256": version.digest.removeprefix("sha256:")}}
    ]
    definition, details = document["predicate"]["buildDefinition"], document["predicate"]["runDetails"]
    inputs = {item["name"]: item["digest"] for item in definition["resolvedDependencies"]}
    assert inputs["base"] == {"sha256": BASE.removeprefix("sha256:")}
    assert inputs["definition"] == {"gitCommit": "3f" * 20}
    assert definition["externalParameters"]["variables"]["apps"] == ["git", "vim"]
    assert definition["internalParameters"]["layers"] == [{"key": "sha256:1"}]
    assert details["builder"]["version"]["ansible-core"] == "2.17.1"
    assert details["metadata"]["startedOn"] == "2026-11-23T17:15:56Z"


# --- signatures


def make_key(folder: Path, name: str = "id", **options: str) -> Path:
    path = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", options.get("passphrase", ""), "-C", name, "-f", str(path)]
    subprocess.run(command, check=True)
    return path


def allow(folder: Path, *keys: Path, options: str = "") -> Path:
    path = folder / "allowed_signers"
    lines = [f"{key.name}@ops {options} {key.with_suffix('.pub').read_text()}" for key in keys]
    path.write_text("".join(lines))
    return path


def test_a_signed_version_is_accepted(repository: Repository, tmp_path: Path) -> None:
    key, version = make_key(tmp_path), put(repository)
    attach_sbom(repository, version)
    statement = sign_version(repository, version, key, at=MOMENT)
    found = check_signed(repository, version, allow(tmp_path, make_key(tmp_path, "other"), key))
    assert found.signer == "id@ops"
    assert found.statement == statement
    fingerprint = subprocess.check_output(["ssh-keygen", "-l", "-f", str(key)], text=True).split()[1]
    assert found.fingerprint == fingerprint
    assert len(statement.attached) == 2
    assert repository.verify() == []


def test_the_key_may_be_another_kind(repository: Repository, tmp_path: Path) -> None:
    key = tmp_path / "ecdsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(key)], check=True)
    version = put(repository)
    sign_version(repository, version, key)
    assert (
        check_signed(repository, version, allow(tmp_path, key, options='namespaces="goldsmith"')).signer == "ecdsa@ops"
    )


def test_an_unsigned_version_is_refused(repository: Repository, tmp_path: Path) -> None:
    key, version = make_key(tmp_path), put(repository)
    with pytest.raises(NotSigned, match="is not signed"):
        check_signed(repository, version, allow(tmp_path, key))
    sign_version(repository, version, key)
    with pytest.raises(RepositoryError, match="no allowed signers file"):
        check_signed(repository, version, tmp_path / "nowhere")


def test_a_signature_of_somebody_else_is_refused_and_named(repository: Repository, tmp_path: Path) -> None:
    key, version = make_key(tmp_path), put(repository)
    sign_version(repository, version, key)
    with pytest.raises(NotSigned, match=r"signed with the ED25519 key SHA256:\S+, which .* does not allow"):
        check_signed(repository, version, allow(tmp_path, make_key(tmp_path, "other")))
    with pytest.raises(NotSigned):
        check_signed(repository, version, allow(tmp_path, key, options='namespaces="git"'))
    with pytest.raises(NotSigned):
        check_signed(repository, version, allow(tmp_path, key, options='valid-before="20200101"'))


def test_a_signature_cannot_be_moved_to_another_version(repository: Repository, tmp_path: Path) -> None:
    key, version, other = make_key(tmp_path), put(repository), put(repository, content=b"2")
    sign_version(repository, version, key)
    (signature,) = list_signatures(repository, version)
    parts = {part.media_type: repository.store.read_blob(part) for part in signature.parts}
    repository.attach(other, MEDIA_TYPE, parts, signature.annotations)
    with pytest.raises(NotSigned, match=f"a signature of {version} lies beside {other}"):
        check_signed(repository, other, allow(tmp_path, key))


def test_a_signature_of_another_text_or_purpose_is_refused(repository: Repository, tmp_path: Path) -> None:
    key, version = make_key(tmp_path), put(repository)
    statement = sign_version(repository, version, key)
    (signature,) = list_signatures(repository, version)
    text = repository.store.read_blob(signature.get_part(STATEMENT_TYPE))
    signed = repository.store.read_blob(signature.get_part(SSH_TYPE))
    other = put(repository, content=b"2")
    forged = text.replace(version.digest.encode(), other.digest.encode()).replace(b".1", b".2")
    assert statement.digest.encode() in text
    repository.attach(other, MEDIA_TYPE, {STATEMENT_TYPE: forged, SSH_TYPE: signed}, {})
    with pytest.raises(NotSigned, match="not valid"):
        check_signed(repository, other, allow(tmp_path, key))
    for_git = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", str(key)], input=text, capture_output=True, check=True
    ).stdout
    third = put(repository, content=b"3")
    mine = text.replace(version.digest.encode(), third.digest.encode()).replace(b".1", b".3")
    repository.attach(third, MEDIA_TYPE, {STATEMENT_TYPE: mine, SSH_TYPE: for_git}, {})
    with pytest.raises(NotSigned):
        check_signed(repository, third, allow(tmp_path, key))


def test_one_good_signature_among_others_is_enough(repository: Repository, tmp_path: Path) -> None:
    key, other, version = make_key(tmp_path), make_key(tmp_path, "other"), put(repository)
    for signer in (other, key, other):
        sign_version(repository, version, signer)
    assert check_signed(repository, version, allow(tmp_path, key)).signer == "id@ops"


def test_a_key_that_cannot_sign_is_an_error_with_a_way_out(repository: Repository, tmp_path: Path) -> None:
    version = put(repository)
    locked = make_key(tmp_path, "locked", passphrase="secret words")
    for key in (locked, tmp_path / "nowhere"):
        with pytest.raises(RepositoryError, match="cannot sign") as refused:
            sign_version(repository, version, key)
        assert "ssh-add" in refused.value.hint
    assert list_signatures(repository, version) == []
    with pytest.raises(VersionNotFound):
        sign_version(repository, replace(version, tag="20200101.1"), make_key(tmp_path))
