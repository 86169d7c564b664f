"""A replacement is killed (kill -9) as each of its goals begins; it is finished, or undone, and the data is there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from goldsmith.artifacts.repository import Version
from goldsmith.fleet.backups import list_backups
from goldsmith.fleet.plan import Action
from tests.lxc.fleets import Lab, open_lab
from tests.lxc.guests import RunningNode

pytestmark = pytest.mark.root

DATA = {"data": [{"path": "/srv/data", "volume": "local:1"}], "backup": {"storage": "local"}}


@pytest.fixture(scope="module")
def lab(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(node, tmp_path_factory) as lab:
        yield lab


@pytest.fixture(scope="module")
def versions(lab: Lab) -> tuple[Version, Version]:
    return lab.build("one"), lab.build("two")


@pytest.mark.parametrize("strategy", ["swap", "recreate"])
def test_killed_at_each_goal(lab: Lab, versions: tuple[Version, Version], strategy: str) -> None:
    """Every other one is finished, the rest undone. In between, whatever happened, the data is owned by one guest."""
    name = f"db-{strategy}"
    lab.declare(name, strategy=strategy, **DATA)
    lab.deploy(name, versions[0])
    lab.run(name, "echo precious > /srv/data/word")
    runs, ended = versions[0], 0
    for goal in count(1):
        wanted = versions[1] if runs is versions[0] else versions[0]
        if not lab.deploy_killed(name, wanted, goal):
            ended = goal
            break
        assert_owned_once(lab, f"goal {goal}")
        assert lab.plan(name, wanted).action in (Action.RESUME, Action.REPLACE, Action.CREATE), goal
        if lab.find_interrupted(name) is None:
            assert goal <= 1, "nothing was written down before the first goal"
        elif goal % 2:
            lab.resume(name)
            runs = wanted
        else:
            lab.abort(name)
        assert_well(lab, name, runs, f"goal {goal}")
        lab.clear_previous()
    assert ended > 8, "all goals have had their turn"
    lab.remove(name)


def test_a_restoring_of_data_is_killed(lab: Lab, versions: tuple[Version, Version]) -> None:
    """Finished or undone: the data of the backup or that of before, and never neither."""
    lab.declare("db2", **DATA)
    lab.deploy("db2", versions[0])
    lab.run("db2", "echo precious > /srv/data/word")
    lab.back_up("db2")
    (backup,) = list_backups(lab.server("db2"), lab.site)
    lab.run("db2", "echo spoiled > /srv/data/word")
    for goal in (3, 4, 6, 7, 9, 10, 11):
        assert lab.restore_killed("db2", backup, goal), goal
        assert lab.find_interrupted("db2") is not None, goal
        if goal % 2:
            lab.resume("db2")
            assert lab.run("db2", "cat /srv/data/word") == "precious", goal
            assert len(lab.list_volumes()) == 2, goal
            lab.roll_back("db2")
            lab.clear_previous(data=True)
        else:
            lab.abort("db2")
        assert lab.run("db2", "cat /srv/data/word") == "spoiled", goal
        assert list(lab.list_guests().values()) == ["goldsmith-server running"], goal
        assert len(lab.list_volumes()) == 1, goal
    assert not lab.restore_killed("db2", backup, 12)
    lab.remove("db2")


def assert_owned_once(lab: Lab, when: str) -> None:
    assert len(lab.list_volumes()) == 1, f"{when}: {lab.describe()}"


def assert_well(lab: Lab, name: str, version: Version, when: str) -> None:
    """The data is there, one guest runs, and nothing else is left but the guest before it."""
    text = {"1": "one", "2": "two"}[version.tag.rpartition(".")[2]]
    assert lab.run(name, "cat /etc/golden /srv/data/word") == f"{text}\nprecious", when
    states = list(lab.list_guests().values())
    assert [state for state in states if "running" in state] == ["goldsmith-server running"], f"{when}: {states}"
    assert set(states) <= {"goldsmith-server running", "goldsmith-previous"}, f"{when}: {states}"
    assert len(lab.list_volumes()) == 1, when
    assert lab.find_interrupted(name) is None, when
    assert lab.plan(name, version).action is Action.NOTHING, when


def test_two_operators_at_once(lab: Lab, versions: tuple[Version, Version]) -> None:
    """The second is told who is at it, also when the first one's machine is another."""
    lab.declare("web1")
    lab.deploy("web1", versions[0])
    assert lab.deploy_killed("web1", versions[1], 3)
    record = lab.find_interrupted("web1")
    assert record is not None
    assert "@" in record.by
    plan = lab.plan("web1", versions[1])
    assert plan.action is Action.RESUME
    assert "goldsmith resume, or goldsmith abort" in plan.reason
    lab.abort("web1")
    assert lab.run("web1", "cat /etc/golden") == "one"
    lab.remove("web1")


def test_rolled_back_to_the_guest_that_was_kept(lab: Lab, versions: tuple[Version, Version]) -> None:
    lab.declare("db1", **DATA)
    first = lab.deploy("db1", versions[0])
    lab.run("db1", "echo precious > /srv/data/word")
    second = lab.deploy("db1", versions[1])
    lab.run("db1", "echo newer >> /srv/data/word")
    back = lab.roll_back("db1")
    assert back is not None
    assert (back.vmid, back.version, back.was) == (first.vmid, second.was, second.version)
    assert lab.run("db1", "cat /etc/golden /srv/data/word") == "one\nprecious\nnewer"
    assert lab.list_guests() == {first.vmid: "goldsmith-server running", second.vmid: "goldsmith-previous"}
    forth = lab.roll_back("db1")
    assert forth is not None
    assert lab.run("db1", "cat /etc/golden") == "two"
    lab.remove("db1")
