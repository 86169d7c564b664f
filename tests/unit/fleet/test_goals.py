"""The goals of replacements, in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from goldsmith.fleet.goals import NEW, OLD, BackedUp, Finished, Goal, Gone, Released, list_goals, list_undoing
from goldsmith.fleet.marks import Record
from tests.unit.fleet.making import DATA, make_server

RECORD = Record(run="abc", server="web1", strategy="swap", node="pve1", image="golden", tag="20261124.1", old=100)
WITH_DATA = replace(RECORD, data=(("/srv/data", "local:100/x"),))


def titles(goals: tuple[Goal, ...]) -> list[str]:
    return [goal.title for goal in goals]


def test_without_data_the_links_are_switched() -> None:
    assert titles(list_goals(RECORD, make_server())) == [
        "claim the server", "look at version, data and room", "template of the version", "make the new guest",
        "start the new guest", "link of the old guest down", "link of the new guest up", "checks",
        "stop the old guest", "the new guest is the server",
    ]  # fmt: skip


def test_with_data_the_new_guest_starts_on_it() -> None:
    assert titles(list_goals(WITH_DATA, make_server(**DATA))) == [
        "claim the server", "look at version, data and room", "template of the version", "back up guest 100",
        "make the new guest", "stop the old guest", "data to the new guest", "link of the new guest up",
        "start the new guest", "checks", "the new guest is the server",
    ]  # fmt: skip


def test_recreating_never_leaves_data_without_an_owner() -> None:
    record = replace(WITH_DATA, strategy="recreate")
    goals = titles(list_goals(record, make_server(strategy="recreate", **DATA)))
    assert goals.index("data from the old guest to the holder") < goals.index("destroy the old guest")
    assert goals.index("back up guest 100") < goals.index("destroy the old guest")
    assert goals.index("data to the new guest") < goals.index("destroy the holder")


@pytest.mark.parametrize("strategy", ["swap", "recreate", "rollback", "create"])
@pytest.mark.parametrize("data", [(), WITH_DATA.data])
def test_whatever_is_done_can_be_undone(strategy: str, data: tuple[Any, ...]) -> None:
    record = replace(RECORD, strategy=strategy, data=data, old=0 if strategy == "create" else 100)
    forward, back = list_goals(record, make_server(**(DATA if data else {}))), list_undoing(record)
    assert isinstance(forward[-1], Finished)
    assert isinstance(back[-1], Gone if strategy == "create" else Released)
    destroyed = [goal.which for goal in back if isinstance(goal, Gone)]
    assert OLD not in destroyed
    assert (NEW in destroyed) is (strategy in ("swap", "create"))


def test_nothing_is_destroyed_before_its_backup() -> None:
    for strategy, data in (("swap", WITH_DATA.data), ("recreate", ()), ("recreate", WITH_DATA.data)):
        record = replace(RECORD, strategy=strategy, data=data)
        kinds = [type(goal) for goal in list_goals(record, make_server(strategy=strategy, **DATA))]
        assert BackedUp in kinds
        first = next((n for n, kind in enumerate(kinds) if kind is Gone), len(kinds))
        assert kinds.index(BackedUp) < first
