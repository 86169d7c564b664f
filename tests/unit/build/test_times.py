from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goldsmith.artifacts.archive import Times
from goldsmith.artifacts.record import GitState, Package, parse_record, render_record
from goldsmith.base.errors import UsageError
from goldsmith.base.process import run
from goldsmith.build.git import read_git_state
from goldsmith.build.times import SPREAD, choose_times, read_epoch
from tests.unit.artifacts.making import make_record

SINCE = 1_795_000_000
COMMITTED = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
CLEAN = GitState("3f" * 20, committed=COMMITTED)


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """An image's folder in a git repository, committed at `COMMITTED`."""
    folder = tmp_path / "images" / "web"
    folder.mkdir(parents=True)
    (folder / "vars.yml").write_text("")
    git = ["git", "-C", tmp_path, "-c", "user.name=jane", "-c", "user.email=jane@example.com"]
    run([*git, "init", "--quiet"])
    run([*git, "add", "images"])
    run([*git, "commit", "--quiet", "--message", "first"], env={"GIT_COMMITTER_DATE": COMMITTED.isoformat()})
    return folder


def test_a_commit_is_known_with_its_time(committed: Path) -> None:
    state = read_git_state(committed)
    assert state is not None
    assert (state.dirty, state.committed) == (False, COMMITTED)
    (committed / "vars.yml").write_text("template_user: jane\n")
    assert read_git_state(committed) == replace(state, dirty=True)
    record = make_record(git=state)
    assert parse_record(render_record(record)).git == state


def test_outside_of_git_no_commit_is_known(tmp_path: Path) -> None:
    assert read_git_state(tmp_path) is None


def test_what_a_build_writes_is_as_old_as_the_commit() -> None:
    times = choose_times(make_record(git=CLEAN), SINCE, None)
    newest = int(COMMITTED.timestamp()) - 1
    assert times.settle(newest) == times
    assert (times.since, times.becomes) == (SINCE, int(COMMITTED.timestamp()))


@pytest.mark.parametrize("git", [None, CLEAN, replace(CLEAN, dirty=True)])
def test_where_no_commit_comes_last_the_inputs_choose_a_time_after_everything(git: GitState | None) -> None:
    """It is never older than what was there before, and another one when anything of the inputs is."""
    newest = int(COMMITTED.timestamp()) + 5
    record = make_record(git=git)
    settled = choose_times(record, SINCE, None).settle(newest)
    assert newest < settled.becomes <= newest + SPREAD
    assert choose_times(replace(record, build_id="other"), SINCE + 99, None).settle(newest).becomes == settled.becomes
    others = [
        replace(record, variables={"template_user": "joe"}),
        replace(record, packages=(Package("git", "2", "amd64"),)),
        replace(record, playbook_digest=record.base_digest),
    ]
    found = {choose_times(other, SINCE, None).settle(newest).becomes for other in [record, *others]}
    assert len(found) == 4


def test_a_changed_definition_is_not_as_old_as_its_commit() -> None:
    changed = choose_times(make_record(git=replace(CLEAN, dirty=True)), SINCE, None)
    assert changed.settle(1_000_000).becomes <= 1_000_000 + SPREAD


def test_the_time_that_the_environment_wants_is_the_latest_of_all() -> None:
    record = make_record(git=CLEAN)
    assert choose_times(record, SINCE, SINCE - 7) == Times(SINCE - 7, SINCE - 7)
    assert choose_times(record, SINCE, SINCE + 7) == Times(SINCE, SINCE + 7)


@pytest.mark.parametrize(("said", "meant"), [({}, None), ({"SOURCE_DATE_EPOCH": ""}, None),
                                             ({"SOURCE_DATE_EPOCH": "1700000000"}, 1_700_000_000)])  # fmt: skip
def test_the_environment_names_seconds(said: dict[str, str], meant: int | None) -> None:
    assert read_epoch(said) == meant


@pytest.mark.parametrize("said", ["yesterday", "-1", "1.5", "\u0661"])
def test_what_are_no_seconds_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match=r"SOURCE_DATE_EPOCH is '.*', no number of seconds"):
        read_epoch({"SOURCE_DATE_EPOCH": said})
