"""Channels name versions; a version is promoted when it has shown that it works, and never when it was revoked."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from goldsmith.artifacts.channels import (
    find_channel,
    get_channel,
    is_channel,
    list_channels,
    promote,
    remove_channel,
    set_channel,
)
from goldsmith.artifacts.proof import NotProven, check_proven, find_override, put_override
from goldsmith.artifacts.repository import Repository, Version, open_repository
from goldsmith.artifacts.revocation import (
    VersionRevoked,
    check_not_revoked,
    find_revocation,
    list_ancestors,
    list_descendants,
    revoke,
)
from goldsmith.artifacts.verdicts import TestState, put_verdict
from goldsmith.base.errors import RepositoryError, UsageError, VersionNotFound

from .making import make_record, put

MOMENT = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def judge(repository: Repository, version: Version, state: str, minutes: int = 0) -> None:
    put_verdict(
        repository, version, state=TestState(state), summary=f"it has {state}", document=f'{{"at":{minutes}}}'.encode(),
        junit="", html="", tested=MOMENT + timedelta(minutes=minutes),
    )  # fmt: skip


def build_on(repository: Repository, base: Version, name: str) -> Version:
    return put(repository, name, record=make_record(base_name=f"image:{base}", base_digest=base.digest))


# --- channels


def test_a_channel_names_a_version_and_moves(repository: Repository) -> None:
    first, second = put(repository), put(repository, content=b"2")
    set_channel(repository, "stable", first)
    assert repository.find_version("debian-12-docker:stable") == first
    set_channel(repository, "stable", second)
    assert repository.get_version("debian-12-docker:stable") == second == get_channel(repository, second.name, "stable")
    assert repository.list_versions() == [first, second]
    assert repository.get_version("debian-12-docker") == second
    assert repository.verify() == []


def test_channels_are_listed_with_what_they_name(repository: Repository) -> None:
    docker, base = put(repository), put(repository, "base")
    set_channel(repository, "stable", docker)
    set_channel(repository, "eu.west-1", docker)
    set_channel(repository, "stable", base)
    listed = [(str(channel), channel.tag, channel.digest) for channel in list_channels(repository)]
    assert listed == [
        ("base:stable", base.tag, base.digest),
        ("debian-12-docker:eu.west-1", docker.tag, docker.digest),
        ("debian-12-docker:stable", docker.tag, docker.digest),
    ]
    assert [channel.image for channel in list_channels(repository, "base")] == ["base"]


def test_a_channel_is_removed_and_its_version_stays(repository: Repository) -> None:
    version = put(repository)
    set_channel(repository, "stable", version)
    remove_channel(repository, version.name, "stable")
    assert find_channel(repository, version.name, "stable") is None
    assert repository.list_versions() == [version]
    with pytest.raises(VersionNotFound):
        remove_channel(repository, version.name, "stable")


def test_a_missing_channel_is_an_error_that_names_the_others(repository: Repository) -> None:
    version = put(repository)
    set_channel(repository, "candidate", version)
    with pytest.raises(VersionNotFound, match="no channel 'stable'") as missing:
        get_channel(repository, version.name, "stable")
    assert missing.value.hint == "its channels: candidate"
    with pytest.raises(VersionNotFound) as near:
        repository.get_version("debian-12-docker:candidat")
    assert "debian-12-docker:candidate" in near.value.hint


@pytest.mark.parametrize(
    "name", ["", "Stable", "20261123.1", "1st", "a b", "a/b", "a:b", "-a", "a--b", "a" * 65, "sha256-" + "a" * 64]
)
def test_a_name_that_no_channel_can_have(repository: Repository, name: str) -> None:
    version = put(repository)
    assert not is_channel(name)
    with pytest.raises(UsageError, match="no name for a channel"):
        set_channel(repository, name, version)
    assert list_channels(repository) == []


def test_a_channel_never_names_a_version_that_has_gone(repository: Repository, tmp_path: Path) -> None:
    other = put(open_repository(tmp_path / "other"), content=b"other")
    put(repository)
    with pytest.raises(VersionNotFound, match="no longer"):
        set_channel(repository, "stable", other)
    assert list_channels(repository) == []


def test_other_tools_follow_a_channel(repository: Repository) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    put(repository)
    version = put(repository, content=b"2")
    set_channel(repository, "stable", version)
    seen = json.loads(
        subprocess.check_output(["skopeo", "inspect", f"oci:{repository.path}:debian-12-docker:stable"])
    )  # fmt: skip
    assert seen["Digest"] == version.digest


# --- proof


def test_a_version_that_passed_is_promoted(repository: Repository) -> None:
    version = put(repository)
    with pytest.raises(NotProven, match="has not been tested"):
        promote(repository, "stable", version)
    judge(repository, version, "failed")
    with pytest.raises(NotProven, match="has failed its tests: it has failed"):
        promote(repository, "stable", version)
    assert find_channel(repository, version.name, "stable") is None
    judge(repository, version, "passed", 1)
    promote(repository, "stable", version)
    assert find_channel(repository, version.name, "stable") == version


def test_an_override_is_recorded_and_counts(repository: Repository) -> None:
    version = put(repository)
    judge(repository, version, "failed")
    made = put_override(repository, version, reason="the mirror\nwas down", who="jane@ops", at=MOMENT)
    assert (made.reason, made.who, made.at) == ("the mirror was down", "jane@ops", MOMENT)
    assert find_override(repository, version) == made
    check_proven(repository, version)
    promote(repository, "stable", version)
    assert repository.verify() == []


@pytest.mark.parametrize("newer", ["failed", "passed"])
def test_a_newer_verdict_makes_an_override_void(repository: Repository, newer: str) -> None:
    version = put(repository)
    judge(repository, version, "failed")
    put_override(repository, version, reason="known", who="jane@ops")
    judge(repository, version, newer, 1)
    assert find_override(repository, version) is None
    if newer == "failed":
        with pytest.raises(NotProven):
            check_proven(repository, version)


def test_an_override_of_no_verdict_ends_with_the_first_one(repository: Repository) -> None:
    version = put(repository)
    put_override(repository, version, reason="urgent", who="jane@ops")
    check_proven(repository, version)
    judge(repository, version, "failed")
    with pytest.raises(NotProven):
        check_proven(repository, version)


def test_an_override_needs_a_reason_a_person_and_something_to_override(repository: Repository) -> None:
    version = put(repository)
    for reason, who in (("", "jane"), ("  \n", "jane"), ("urgent", "")):
        with pytest.raises(UsageError):
            put_override(repository, version, reason=reason, who=who)
    judge(repository, version, "passed")
    with pytest.raises(UsageError, match="nothing to override"):
        put_override(repository, version, reason="urgent", who="jane")


# --- revoked


def test_a_revoked_version_is_refused_and_says_why(repository: Repository) -> None:
    version, other = put(repository), put(repository, content=b"2")
    judge(repository, version, "passed")
    check_not_revoked(repository, version)
    revoke(repository, version, reason="CVE-2026-1 in openssl", who="jane@ops", at=MOMENT)
    revoke(repository, version, reason="again", who="joe@ops", at=MOMENT + timedelta(days=1))
    with pytest.raises(VersionRevoked) as refused:
        check_not_revoked(repository, version)
    assert refused.value.message == f"{version} was revoked by jane@ops on 2026-11-25: CVE-2026-1 in openssl"
    with pytest.raises(VersionRevoked):
        promote(repository, "stable", version)
    check_not_revoked(repository, other)
    assert find_revocation(repository, other) is None


def test_what_is_built_on_a_revoked_version_is_refused(repository: Repository) -> None:
    base = put(repository, "base")
    middle = build_on(repository, base, "middle")
    leaf = build_on(repository, middle, "leaf")
    stranger = put(repository, "stranger")
    known = repository.list_versions()
    assert list_ancestors(leaf, known) == [middle, base]
    assert list_descendants(base, known) == [leaf, middle]
    check_not_revoked(repository, leaf)
    revoke(repository, base, reason="a key was in it", who="jane@ops", at=MOMENT)
    with pytest.raises(VersionRevoked) as refused:
        check_not_revoked(repository, leaf)
    assert refused.value.message == (
        f"{leaf} is built on {base}, which was revoked by jane@ops on 2026-11-25: a key was in it"
    )
    check_not_revoked(repository, stranger)
    assert issubclass(VersionRevoked, RepositoryError)


@pytest.mark.parametrize("name", ["image:{}", "{}", "local:vztmpl/base.tar.zst", ""])
def test_what_a_version_is_built_on_is_known_by_its_digest(repository: Repository, name: str) -> None:
    base, other = put(repository, "base"), put(repository, "base", content=b"2")
    said = name.format(f"base:{other.tag}")
    leaf = put(repository, "leaf", record=make_record(base_name=said, base_digest=base.digest))
    assert repository.find_base(leaf) == base
    assert repository.find_base(base) is None


def test_a_revocation_needs_a_reason(repository: Repository) -> None:
    version = put(repository)
    with pytest.raises(UsageError, match="a reason"):
        revoke(repository, version, reason="", who="jane")
    check_not_revoked(repository, version)
