"""What is pruned, why the rest stays, and that nobody at work loses anything."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from goldsmith.artifacts.channels import Channel, get_channel, list_channels, set_channel
from goldsmith.artifacts.layout import Layout
from goldsmith.artifacts.repository import NewVersion, Repository, Version, open_repository
from goldsmith.artifacts.retention import Prune, PrunePolicy, measure_prune, plan_prune, run_prune
from goldsmith.artifacts.verdicts import TestState, put_verdict
from goldsmith.base.errors import UsageError

from .making import FINISHED, make_record, put, small_tar

NOW = datetime(2026, 12, 31, tzinfo=UTC)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def make(repository: Repository, count: int, name: str = "debian") -> list[Version]:
    """One version a day, each with a layer of its own."""
    return [
        put(repository, name, b"%s %d" % (name.encode(), day), record=make_record(finished=FINISHED + timedelta(day)))
        for day in range(count)
    ]


def blobs(repository: Repository) -> set[str]:
    return {path.name for path in (repository.path / "blobs/sha256").iterdir()}


def referenced(repository: Repository) -> set[str]:
    return {d.digest.removeprefix("sha256:") for d in Layout(repository.path).list_references()}


def prune_last(repository: Repository, keep: int = 1, in_use: tuple[str, ...] = ()) -> list[Prune]:
    return plan_prune(
        repository.list_versions(), list_channels(repository), in_use, PrunePolicy(keep_last=keep), NOW
    )  # fmt: skip


def told(plan: list[Prune]) -> list[tuple[str, bool, str]]:
    return [(step.version.tag[6:8], step.goes, step.reason) for step in plan]


# --- deciding


def test_the_last_ones_of_each_image_stay(repository: Repository) -> None:
    make(repository, 3)
    make(repository, 1, "other")
    assert told(prune_last(repository, 2)) == [
        ("23", True, "older, and unused"),
        ("24", False, "among the last 2"),
        ("25", False, "the newest"),
        ("23", False, "the newest"),
    ]


def test_the_newest_of_a_day_is_that_of_the_highest_number(repository: Repository) -> None:
    for content in range(11):
        put(repository, "debian", b"%d" % content)
    assert [step.version.number for step in prune_last(repository, 2) if not step.goes] == [10, 11]


def test_what_is_young_stays(repository: Repository) -> None:
    versions = make(repository, 3)
    policy = PrunePolicy(keep_last=1, keep_within=timedelta(days=7))
    plan = plan_prune(versions, [], (), policy, FINISHED + timedelta(days=8, hours=-1))
    assert told(plan) == [
        ("23", True, "older, and unused"), ("24", False, "younger than 7 days"), ("25", False, "the newest")
    ]  # fmt: skip


def test_what_a_channel_names_or_a_server_uses_stays(repository: Repository) -> None:
    versions = make(repository, 5)
    channels = [Channel("debian", "stable", versions[0].digest)]
    in_use = {versions[1].reference, versions[2].digest}
    plan = plan_prune(versions, channels, in_use, PrunePolicy(keep_last=1), NOW)
    assert told(plan) == [
        ("23", False, "stable names it"),
        ("24", False, "a server uses it"),
        ("25", False, "a server uses it"),
        ("26", True, "older, and unused"),
        ("27", False, "the newest"),
    ]


def test_what_others_are_built_on_stays(repository: Repository) -> None:
    first, middle, last = make(repository, 3, "base")
    leaf = put(repository, "leaf", record=make_record(base_digest=first.digest))
    plan = plan_prune([first, middle, last, leaf], [], (), PrunePolicy(keep_last=1), NOW)
    assert [(step.goes, step.reason) for step in plan] == [
        (False, f"{leaf} is built on it"),
        (True, "older, and unused"),
        (False, "the newest"),
        (False, "the newest"),
    ]


def test_revoked_ones_are_not_among_the_last(repository: Repository) -> None:
    versions = make(repository, 3)
    plan = plan_prune(versions, [], (), PrunePolicy(keep_last=1), NOW, revoked=[versions[2].digest])
    assert told(plan) == [
        ("23", True, "older, and unused"), ("24", False, "the newest"), ("25", True, "revoked, and unused")
    ]  # fmt: skip


def test_one_is_always_kept() -> None:
    with pytest.raises(UsageError, match="0 versions"):
        PrunePolicy(keep_last=0)


# --- doing


def test_pruned_versions_and_their_blobs_are_gone(repository: Repository) -> None:
    versions = make(repository, 4)
    for version in versions:
        put_verdict(
            repository, version, state=TestState.PASSED, summary="", document=version.tag.encode(), junit="", html=""
        )
    set_channel(repository, "stable", versions[0])
    before = sum(path.stat().st_size for path in (repository.path / "blobs/sha256").iterdir())
    plan = prune_last(repository)
    pruned = run_prune(repository, plan)
    assert pruned.versions == (versions[1], versions[2])
    assert pruned.spared == ()
    assert repository.list_versions() == [versions[0], versions[3]]
    assert get_channel(repository, "debian", "stable") == versions[0]
    assert repository.verify() == []
    assert blobs(repository) == referenced(repository)
    after = sum(path.stat().st_size for path in (repository.path / "blobs/sha256").iterdir())
    assert pruned.freed == before - after > measure_prune(plan) > 0
    assert run_prune(repository, prune_last(repository)).versions == ()


def test_shared_layers_stay(repository: Repository) -> None:
    first, second = put(repository), put(repository)
    assert first.layers == second.layers
    plan = prune_last(repository)
    assert measure_prune(plan) == 0
    run_prune(repository, plan)
    assert repository.list_versions() == [second]
    assert repository.verify() == []


def test_a_version_that_got_a_channel_meanwhile_is_spared(repository: Repository) -> None:
    first, second, _ = make(repository, 3)
    plan = prune_last(repository)
    set_channel(repository, "stable", first)
    pruned = run_prune(repository, plan)
    assert (pruned.versions, pruned.spared) == ((second,), (first,))
    assert get_channel(repository, "debian", "stable") == first
    assert repository.verify() == []


def test_blobs_of_other_tools_stay(repository: Repository) -> None:
    make(repository, 2)
    stray = repository.path / "blobs/sha256" / ("e" * 64)
    stray.write_bytes(b"of another tool, not yet in the index")
    run_prune(repository, prune_last(repository))
    assert stray.exists()


def test_layers_that_images_of_other_tools_have_too_stay(repository: Repository) -> None:
    """Docker's own manifests look like OCI's, under another name."""
    first, _ = make(repository, 2)
    with repository.store.open_writer() as writer, Layout(repository.path).open_index() as entries:
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        layer = {"mediaType": "", "digest": first.layers[0].digest, "size": first.size}
        foreign = writer.add_bytes(kind, json.dumps({"layers": [layer]}).encode())
        entries.append({"mediaType": kind, "digest": foreign.digest, "size": foreign.size})
    assert run_prune(repository, prune_last(repository)).versions == (first,)
    assert repository.verify() == []
    assert first.layers[0].digest.removeprefix("sha256:") in blobs(repository)


def test_nothing_is_freed_while_it_is_not_known_what_is_needed(repository: Repository) -> None:
    first, second = make(repository, 2)
    path = repository.path / "blobs/sha256" / second.digest.removeprefix("sha256:")
    whole = path.read_bytes()
    plan = prune_last(repository)
    path.write_bytes(whole[:-1])
    before = blobs(repository)
    assert run_prune(repository, plan).freed == 0
    assert blobs(repository) == before
    path.write_bytes(whole)
    put(repository, "next")
    assert blobs(repository) == referenced(repository)
    assert first.layers[0].digest.removeprefix("sha256:") not in blobs(repository)


def test_a_reader_reads_on_and_the_next_writer_removes(repository: Repository) -> None:
    first, second = make(repository, 2)
    layout = Layout(repository.path)
    with repository.open_blob(first.config):
        removed, freed = layout.prune([(first.name, first.tag)], wait=0)
        assert (removed, freed) == ([(first.name, first.tag)], 0)
        assert repository.list_versions() == [second]
        with repository.open_blob(first.layers[0]) as layer:
            assert len(layer.read()) == first.size
    put(repository, "next")
    assert blobs(repository) == referenced(repository)
    assert not list((repository.path / ".goldsmith/pruned").iterdir())


def test_a_writer_that_uses_a_pruned_layer_again_keeps_it(repository: Repository) -> None:
    first, _ = make(repository, 2)
    archived = small_tar(("./etc/hostname", b"debian 0"))
    with repository.open_writer() as writer:
        (layer,) = writer.add_layers(io.BytesIO(archived))
        assert layer.digest == first.layers[0].digest
        removed, freed = Layout(repository.path).prune([(first.name, first.tag)], wait=0)
        assert (len(removed), freed) == (1, 0)
        again = writer.put(NewVersion(name="again", layers=(layer,), record=make_record()))
    assert repository.verify() == []
    assert again.layers == first.layers
    assert blobs(repository) == referenced(repository)


CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from goldsmith.artifacts.repository import open_repository
from goldsmith.artifacts.retention import PrunePolicy, plan_prune, run_prune
from tests.unit.artifacts.making import put

NOW = datetime(2026, 12, 31, tzinfo=UTC)
repository = open_repository(Path(sys.argv[1]))
for number in range(12):
    if sys.argv[2] == "prune":
        versions = repository.list_versions()
        run_prune(repository, plan_prune(versions, [], (), PrunePolicy(keep_last=2), NOW))
    else:
        put(repository, sys.argv[2], b"%d" % (number % 3))
"""


PRUNE = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from goldsmith.artifacts.repository import open_repository
from goldsmith.artifacts.retention import PrunePolicy, plan_prune, run_prune

repository, left = open_repository(Path(sys.argv[1])), int(sys.argv[2])
plan = plan_prune(repository.list_versions(), [], (), PrunePolicy(keep_last=1), datetime(2026, 12, 31, tzinfo=UTC))

def count(event, arguments):
    global left
    if event in ("os.remove", "os.rename", "os.rmdir", "os.utime") or (event == "open" and arguments[2] & os.O_CREAT):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
run_prune(repository, plan)
"""


@pytest.mark.slow
def test_killed_at_every_change_of_a_file_while_it_prunes(repository: Repository) -> None:
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": f"{root}/src:{root}"}
    put(repository, "keep")
    for step in range(1, 100, 2):
        make(repository, 2)
        before = len(repository.list_versions("debian"))
        command = [sys.executable, "-c", PRUNE, str(repository.path), str(step)]
        ended = subprocess.run(command, cwd=root, env=environment, check=False).returncode
        assert repository.verify() == []
        assert len(repository.list_versions("debian")) in (1, before)
        put(repository, "keep")
        run_prune(repository, prune_last(repository))
        assert blobs(repository) == referenced(repository)
        if ended == 0:
            break
    assert step > 15, "hardly anything was changed: the test proves nothing"


@pytest.mark.slow
def test_writers_readers_and_pruners_in_many_processes(repository: Repository) -> None:
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": f"{root}/src:{root}"}
    workers = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(repository.path), task], cwd=root, env=environment)
        for task in ("prune", "image-0", "image-1", "image-2", "prune")
    ]
    while any(worker.poll() is None for worker in workers):
        assert repository.verify() == []
        assert all(version.layers for version in repository.list_versions())
    assert [worker.returncode for worker in workers] == [0] * 5
    run_prune(repository, prune_last(repository, 1))
    assert [version.name for version in repository.list_versions()] == ["image-0", "image-1", "image-2"]
    assert repository.verify() == []
    put(repository, "last")
    assert blobs(repository) == referenced(repository)
