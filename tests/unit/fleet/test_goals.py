"""The goals of replacements, in their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from goldsmith.fleet.goals import (
    NEW,
    OLD,
    RECREATE,
    RESTORE,
    RESTORE_DATA,
    ROLLBACK,
    SWAP,
    BackedUp,
    ChecksHold,
    Finished,
    FirewallAt,
    Goal,
    Gone,
    Joined,
    Left,
    Released,
    Stopped,
    list_goals,
    list_undoing,
)
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


CLUSTER = {"ha": {"state": "started"}, "replication": {"0": {"target": "pve2"}}, "jobs": ["nightly"], "firewall": True}


@pytest.mark.parametrize("strategy", [SWAP, RECREATE, ROLLBACK, RESTORE, RESTORE_DATA])
def test_a_guest_is_out_of_ha_before_it_is_stopped_and_in_again_at_the_end(strategy: str) -> None:
    record = Record(
        run="r", server="web1", strategy=strategy, node="pve", image="golden", tag="20261124.1", old=101, new=102,
        holder=900, data=(("/srv/data", "local:1"),), cluster=CLUSTER,
    )  # fmt: skip
    server = make_server(**DATA)
    forward, back = list_goals(record, server), list_undoing(record)
    assert list(forward).index(one(forward, Left)) < list(forward).index(one(forward, Stopped))
    assert [goal.which for goal in forward if isinstance(goal, Joined)] == ["new"]
    assert list(forward).index(one(forward, ChecksHold)) < list(forward).index(one(forward, Joined))
    walls = [goal.which for goal in forward if isinstance(goal, FirewallAt)]
    assert walls == (["holder", "new"] if strategy == RECREATE else ["new"])
    assert back[0] == Left(which="new", reason="HA would start it again")
    assert [goal.which for goal in back if isinstance(goal, Joined)] == ["old"]
    plain = replace(record, cluster={})
    goals = [*list_goals(plain, server), *list_undoing(plain)]
    assert not [goal for goal in goals if isinstance(goal, (Left, Joined, FirewallAt))]


def one(goals: Iterable[Goal], kind: type[Goal]) -> Goal:
    return next(goal for goal in goals if isinstance(goal, kind))
