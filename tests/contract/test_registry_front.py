"""Registries that do more, or other things, than Debian's: a referrers API, pages, redirects, broken connections."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.artifacts.credentials import Credentials
from goldsmith.artifacts.http import RegistryOptions
from goldsmith.artifacts.repository import NewVersion, Repository, Version, open_repository
from goldsmith.artifacts.revocation import find_revocation, revoke
from goldsmith.artifacts.transfer import copy_version
from goldsmith.artifacts.verdicts import TestState, get_state
from goldsmith.base.secrets import Secret
from tests.unit.artifacts.making import make_record, put, small_tar

from .front import Front, open_front
from .registry import RealRegistry
from .test_registry import judge

MIB = 1 << 20
JANE = RegistryOptions(credentials=Credentials("jane", Secret("of-this-test")), patience=10)
HASH = "$2b$04$h2w1HrIUrIsD9SbW.HDkzeR0/g.zYahgaiWFeyiKLhKH4E6nX56/i"


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    users = tmp_path / "htpasswd"
    users.write_text(f"jane:{HASH}\n")
    registry = RealRegistry(tmp_path / "registry", auth={"htpasswd": {"realm": "test", "path": str(users)}})
    registry.start()
    yield Front(registry.port)
    registry.kill()


@pytest.fixture
def local(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def put_large(repository: Repository) -> Version:
    with repository.open_writer() as writer:
        layers = writer.add_layers(io.BytesIO(small_tar(("./large", os.urandom(6 * MIB)))))
        return writer.put(NewVersion(name="large", layers=layers, record=make_record()))


def test_a_registry_that_keeps_referrers_itself_is_let_do_so(front: Front, local: Repository) -> None:
    version = put(local)
    judge(local, version, TestState.FAILED)
    judge(local, version, TestState.PASSED, 1)
    with open_front(front) as host:
        remote = open_repository(f"oci://{host}/images", JANE)
        copy_version(version, local, remote)
        revoke(remote, version, reason="a key was in it", who="jane@ops")
        fresh = open_repository(f"oci://{host}/images", JANE)
        assert fresh.list_versions() == [version]
        assert fresh.read_record(version) == local.read_record(version)
        assert get_state(fresh, version) is TestState.PASSED, "the newest counts, in whatever order they are listed"
        revocation = find_revocation(fresh, version)
        assert revocation is not None
        assert revocation.reason == "a key was in it"
        assert fresh.store.list_tags(version.name) == [version.tag]
        assert fresh.verify() == []


def test_blobs_may_lie_at_another_host_that_is_told_no_password(front: Front, local: Repository) -> None:
    front.redirect_blobs = True
    version = put_large(local)
    with open_front(front) as host:
        copy_version(version, local, open_repository(f"oci://{host}/images", JANE))
        remote = open_repository(f"oci://{host}/images", JANE)
        problems = remote.verify()
        redirected = [headers for _, path, headers in front.seen if path.endswith("?signed=1")]
        assert redirected
        assert not [headers for headers in redirected if "Authorization" in headers]
        assert problems, "the registry behind wants a password"


@pytest.mark.parametrize("ignore_ranges", [False, True])
def test_a_download_that_breaks_off_goes_on(
    front: Front, local: Repository, tmp_path: Path, ignore_ranges: bool
) -> None:
    front.break_after, front.breaks, front.ignore_ranges = 5 * MIB, 3, ignore_ranges
    version = put_large(local)
    with open_front(front) as host:
        remote = open_repository(f"oci://{host}/images", JANE)
        copy_version(version, local, remote)
        again = open_repository(tmp_path / "again")
        copy_version(remote.get_version("large"), remote, again)
        ranges = [headers.get("Range") for _, path, headers in front.seen if headers.get("Range")]
        assert ranges[0] == f"bytes={5 * MIB}-"
    assert again.verify() == []
    assert again.list_versions() == [version]
