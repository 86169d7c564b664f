"""Whether a version has shown that it works is kept beside it."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goldsmith.artifacts.layout import Layout
from goldsmith.artifacts.repository import Repository, Version, open_repository
from goldsmith.artifacts.verdicts import (
    MEDIA_TYPE,
    StoredVerdict,
    TestState,
    find_verdict,
    get_state,
    put_verdict,
    read_document,
)
from goldsmith.base.digest import Digest
from goldsmith.base.errors import RepositoryDamaged, VersionNotFound

from .making import put

MOMENT = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def store(repository: Repository, version: Version, state: str = "passed", said: str = "") -> StoredVerdict:
    return put_verdict(
        repository, version, state=TestState(state), summary=said or f"it has\n{state}", document=b'{"a":1}',
        junit="<testsuites/>", html="<!doctype html>", tested=MOMENT,
    )  # fmt: skip


def test_a_version_is_untested_until_it_has_a_verdict(repository: Repository) -> None:
    version = put(repository)
    assert find_verdict(repository, version) is None
    assert get_state(repository, version) is TestState.UNTESTED
    stored = store(repository, version)
    assert find_verdict(repository, version) == stored
    assert (stored.state, stored.tested, stored.summary) == (TestState.PASSED, MOMENT, "it has passed")
    documents = [read_document(repository, part) for part in (stored.document, stored.junit, stored.html)]
    assert documents == [b'{"a":1}', b"<testsuites/>", b"<!doctype html>"]
    assert repository.verify() == []


def test_the_newest_verdict_counts_and_the_others_stay(repository: Repository) -> None:
    version = put(repository)
    for state in ("passed", "failed", "passed", "failed"):
        store(repository, version, state)
    assert get_state(repository, version) is TestState.FAILED
    assert len(repository.list_attached(version, MEDIA_TYPE)) == 4


def test_a_verdict_is_on_one_version_only_and_changes_nothing_else(repository: Repository) -> None:
    first, second = put(repository), put(repository)
    record = repository.read_record(first)
    store(repository, first, "failed")
    assert get_state(repository, second) is TestState.UNTESTED
    assert repository.list_versions() == [first, second]
    assert repository.read_record(first) == record


def test_untested_is_no_verdict_and_a_version_that_has_gone_gets_none(repository: Repository) -> None:
    version = put(repository)
    with pytest.raises(ValueError, match="passed or failed"):
        store(repository, version, "untested")
    gone = replace(version, digest=Digest("sha256:" + "0" * 64))
    before = {path.name for path in (repository.path / "blobs/sha256").iterdir()}
    with pytest.raises(VersionNotFound, match="no longer"):
        store(repository, gone)
    assert {path.name for path in (repository.path / "blobs/sha256").iterdir()} == before


def test_many_tests_at_once_lose_no_verdict(repository: Repository) -> None:
    versions = [put(repository, name) for name in ("a", "b")]
    start = threading.Barrier(4)

    def work(worker: int) -> None:
        start.wait()
        for number in range(5):
            store(repository, versions[worker % 2], said=f"{worker}.{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    for version in versions:
        assert len(repository.list_attached(version, MEDIA_TYPE)) == 10
    assert repository.verify() == []


def test_the_documents_are_as_oci_has_them(repository: Repository) -> None:
    version = put(repository)
    store(repository, version)
    entry = Layout(repository.path).read_index()[-1]
    manifest = json.loads((repository.path / "blobs/sha256" / entry.digest.split(":")[1]).read_bytes())
    assert manifest["artifactType"] == entry.artifact_type == "application/vnd.goldsmith.verdict.v1+json"
    assert manifest["subject"]["digest"] == version.digest
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert [layer["mediaType"] for layer in manifest["layers"]] == [
        MEDIA_TYPE, "application/vnd.goldsmith.junit.v1+xml", "text/html",
    ]  # fmt: skip


def test_a_verdict_that_another_tool_has_put_there_is_damage(repository: Repository) -> None:
    version = put(repository)
    repository.attach(version, MEDIA_TYPE, {"text/plain": b"fine"}, {})
    with pytest.raises(RepositoryDamaged, match="a verdict cannot be read"):
        find_verdict(repository, version)
