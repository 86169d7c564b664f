"""Which places are meant, what is brought where, what lies there, and what may go again: all of it pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.artifacts.channels import Channel
from goldsmith.artifacts.export import measure_template
from goldsmith.artifacts.pulling import measure_archive
from goldsmith.artifacts.retention import PrunePolicy
from goldsmith.build.carry import name_archive, name_template, parse_name
from goldsmith.build.publish.lying import Lying, State, judge_place
from goldsmith.build.publish.places import Place, choose_places
from goldsmith.build.publish.plan import Action, plan_publish
from goldsmith.build.publish.records import Brought, find_brought, forget_brought, list_brought, note_brought
from goldsmith.build.publish.withdraw import plan_withdraw
from goldsmith.build.pull import Way
from tests.unit.build.publish.making import NOW, make_archive, make_cluster, make_version, make_volume

HERE = Place("pve1", "local", available=1 << 40)


# --- names


@given(
    name=st.from_regex(r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+){0,3}", fullmatch=True), number=st.integers(1, 28),
    content=st.text(),
)  # fmt: skip
def test_a_name_says_which_version_is_meant(name: str, number: int, content: str) -> None:
    version = make_version(number, name, content)
    for file in (name_template(version), name_archive(version)):
        named = parse_name(file)
        assert named is not None
        assert named.means(version)
        assert named.reference == str(version)


def test_two_repositories_with_the_same_name_and_tag_never_meet() -> None:
    one, other = make_version(1, content="a"), make_version(1, content="b")
    assert str(one) == str(other)
    assert name_template(one) != name_template(other)
    named = parse_name(name_template(one))
    assert named is not None
    assert not named.means(other)


@pytest.mark.parametrize(
    "name",
    [
        "golden-20261123.tar.zst", "golden-20261123.2.tar.zst", "debian-12-standard_12.7-1_amd64.tar.zst",
        "golden-20261123.1-0123456789AB.tar.zst", "golden-20261123.1-0123456789ab.tar.gz",
        "golden-20261123.1-0123456789ab", "goldsmith-golden-20261123.1-0123456789abc.tar",
        "goldsmith-golden-20261123.1-0123456789abc.tar.zst",
    ],
)  # fmt: skip
def test_other_names_are_none_of_ours(name: str) -> None:
    assert parse_name(name) is None


# --- places


def show(places: tuple[Place, ...]) -> list[str]:
    return [f"{place} {place.fault}".strip() for place in places]


def test_a_shared_storage_is_one_place_and_a_local_one_as_many_as_nodes() -> None:
    assert show(choose_places(["nas"], make_cluster())) == ["pve2:nas"], "over the image's own node"
    assert show(choose_places(["local"], make_cluster())) == ["pve2:local", "pve1:local", "pve3:local"]
    assert show(choose_places(["fast"], make_cluster())) == ["pve2:fast"], "no other node has it"
    assert show(choose_places(["nas", "pve1:local", "pve3:nas"], make_cluster())) == ["pve2:nas", "pve1:local"]


def test_nodes_may_be_chosen() -> None:
    assert show(choose_places(["local", "nas"], make_cluster(), ["pve3"])) == ["pve3:local", "pve3:nas"]
    assert show(choose_places(["pve1:local"], make_cluster(), ["pve3"])) == []
    assert show(choose_places(["nas"], make_cluster(), ["pve3", "pve9"])) == [
        "pve3:nas",
        "pve9:- there is no node pve9",
    ]


def test_what_is_wrong_with_a_place_is_said() -> None:
    cluster = make_cluster(off=("pve3",))
    assert show(
        choose_places(["local", "disks", "pve3:local", "pve9:local", "nope"], cluster, ["pve2", "pve3", "pve9"])
    ) == [
        "pve2:local",
        "pve3:local pve3 is off, or out of reach",
        "pve2:disks disks takes no templates (pvesm set disks --content rootdir,vztmpl)",
        "pve3:disks pve3 is off, or out of reach",
        "pve9:local there is no node pve9",
        "pve3:nope pve3 is off, or out of reach",
        "pve9:- there is no node pve9",
    ]
    assert show(choose_places(["nope"], make_cluster())) == ["pve2:nope pve2 has no storage nope that we may see"]


def test_a_shared_storage_is_reached_though_the_own_node_is_off() -> None:
    assert show(choose_places(["nas"], make_cluster(off=("pve2",)))) == ["pve1:nas"]


# --- what is brought


def test_what_is_there_is_not_sent_again_and_nothing_is_overwritten() -> None:
    there, half, new = make_version(1), make_version(2), make_version(3)
    lying = {HERE: [make_volume(there), make_volume(half, size=7)]}
    steps = plan_publish([there, half, new], [HERE], lying)
    assert [step.action for step in steps] == [Action.NOTHING, Action.REFUSE, Action.SEND]
    assert (
        steps[1].reason
        == f"local:vztmpl/{name_template(half)} is there with 7 bytes, and {half} has {measure_template(half)}"
    )


def test_a_storage_is_not_filled_beyond_its_room() -> None:
    """What is to be sent counts, too: the second would not fit any more."""
    one, two = make_version(2), make_version(3)
    place = replace(HERE, available=4000)
    assert [step.action for step in plan_publish([one, two], [place], {})] == [Action.SEND, Action.REFUSE]
    assert [step.action for step in plan_publish([two, one], [place], {})] == [Action.SEND, Action.REFUSE]


def test_refused_versions_and_bad_places_are_refused_with_their_reasons() -> None:
    version, bad = make_version(1), Place("pve3", "local", fault="pve3 is off")
    assert [(one.action, one.reason) for one in plan_publish([version], [HERE, bad], {})] == [
        (Action.SEND, "it is not there yet"), (Action.REFUSE, "pve3 is off"),
    ]  # fmt: skip
    (step,) = plan_publish([version], [HERE], {}, {str(version): "it has not been tested"})
    assert (step.action, step.reason) == (Action.REFUSE, "it has not been tested")


PULLED = Way(is_pulled=True, reason="the node pulls it from oci://r/x")
DENIED = Way(reason="pve1 runs 9.0.3 and cannot pull")


def test_the_plan_says_which_way_and_why() -> None:
    version = make_version(1)
    far = Place("pve2", "local", available=1 << 40)
    ways = {(str(version), HERE): PULLED, (str(version), far): DENIED}
    pulled, sent = plan_publish([version], [HERE, far], {}, ways=ways)
    assert (pulled.action, pulled.volid) == (Action.PULL, f"local:vztmpl/{name_archive(version)}")
    assert pulled.reason == "it is not there yet; the node pulls it from oci://r/x"
    assert (sent.action, sent.volid) == (Action.SEND, f"local:vztmpl/{name_template(version)}")
    assert sent.reason == "it is not there yet; sent, as pve1 runs 9.0.3 and cannot pull"
    assert (pulled.denied, sent.denied) == ("", "pve1 runs 9.0.3 and cannot pull")


@pytest.mark.parametrize("way", [PULLED, DENIED, Way()])
def test_what_was_sent_is_not_pulled_and_what_was_pulled_is_not_sent(way: Way) -> None:
    version = make_version(1)
    for volume, reason in (
        (make_volume(version), "it is there"), (make_archive(version), "it is there, pulled by a node"),
    ):  # fmt: skip
        (step,) = plan_publish([version], [HERE], {HERE: [volume]}, ways={(str(version), HERE): way})
        assert (step.action, step.reason, step.volid) == (Action.NOTHING, reason, volume.volid)


def test_an_archive_of_another_size_is_neither_used_nor_overwritten() -> None:
    version = make_version(1)
    sizes, archive = measure_archive(version), make_archive(version)
    for size in (sizes.start - 1, sizes.stop):
        (step,) = plan_publish([version], [HERE], {HERE: [replace(archive, size=size)]})
        assert step.action is Action.REFUSE
        assert step.reason == (
            f"{archive.volid} is there with {size} bytes, and an archive of {version} has {sizes.start} to "
            f"{sizes.stop - 1}"
        )
    record = Brought("x", archive.volid, str(version), version.digest, archive.size + 1)
    (step,) = plan_publish([version], [HERE], {HERE: [archive]}, brought={HERE: {archive.volid: record}})
    assert step.reason.endswith(f"with {archive.size} bytes, and had {archive.size + 1} when it was brought")
    (step,) = plan_publish([version], [HERE], {HERE: [replace(archive, size=1), make_volume(version)]})
    assert (step.action, step.volid) == (Action.NOTHING, make_volume(version).volid), "one of them is right"


def test_what_is_pulled_wants_room_too() -> None:
    version = make_version(1)
    place = replace(HERE, available=measure_archive(version).stop - 2)
    (step,) = plan_publish([version], [place], {}, ways={(str(version), place): PULLED})
    assert (step.action, step.reason.partition(":")[0]) == (Action.REFUSE, "pve1")
    assert "local is full" in step.reason


# --- what lies there


def test_only_what_is_proven_is_ours() -> None:
    known, gone, other = make_version(1), make_version(2), make_version(1, content="of another repository")
    volumes = [make_volume(known), make_volume(gone), make_volume(other)]
    record = Brought("x", volumes[1].volid, str(gone), gone.digest, volumes[1].size)
    states = {one.volid: one.state for one in judge_place(HERE, volumes, [known], {volumes[1].volid: record})}
    assert states == {
        volumes[0].volid: State.PUBLISHED, volumes[1].volid: State.FORGOTTEN, volumes[2].volid: State.STRANGER,
    }  # fmt: skip
    (changed,) = judge_place(HERE, [replace(volumes[1], size=3)], [], {volumes[1].volid: record})
    assert changed.state is State.STRANGER, "somebody has put another file there since"
    (broken,) = judge_place(HERE, [make_volume(known, size=3)], [known], {})
    assert (broken.state, broken.is_ours) == (State.BROKEN, False)


def test_what_was_pulled_is_ours_by_its_name_within_bounds_or_as_it_was_written_down() -> None:
    version = make_version(1)
    archive = make_archive(version)

    def judge(size: int, noted: int | None, *, known: bool = True) -> State:
        brought = (
            {} if noted is None else {archive.volid: Brought("x", archive.volid, str(version), version.digest, noted)}
        )
        (one,) = judge_place(HERE, [replace(archive, size=size)], [version] if known else [], brought)
        return one.state

    size, sizes = archive.size, measure_archive(version)
    assert judge(size, None) is State.PUBLISHED
    assert judge(size, size) is State.PUBLISHED
    assert judge(size, size + 512) is State.BROKEN, "another file by now"
    assert {judge(sizes.start - 1, None), judge(sizes.stop, None)} == {State.BROKEN}
    assert judge(size, size, known=False) is State.FORGOTTEN
    assert {judge(size, None, known=False), judge(size, 5, known=False)} == {State.STRANGER}
    (other,) = judge_place(HERE, [make_archive(make_version(1, content="b"))], [version], {})
    assert other.state is State.STRANGER, "of another repository"


def test_what_is_missing_is_listed() -> None:
    one, two, three = make_version(1), make_version(2), make_version(3)
    lying = [make_volume(one), make_archive(three)]
    found = judge_place(HERE, lying, [one, two, three], {}, [one, two, three])
    assert [(entry.state, entry.reference) for entry in found] == [
        (State.PUBLISHED, str(one)), (State.PUBLISHED, str(three)), (State.MISSING, str(two)),
    ]  # fmt: skip


def test_records_are_found_by_place_and_volume(tmp_path: Path) -> None:
    brought = Brought("proxmox:a:8006 nas", "nas:vztmpl/x.tar.zst", "golden:20261123.1", "sha256:1", 5)
    note_brought(tmp_path, brought)
    assert list_brought(tmp_path, brought.place, [brought.volid, "nas:vztmpl/y"]) == {brought.volid: brought}
    assert find_brought(tmp_path, "proxmox:b:8006 nas", brought.volid) is None
    forget_brought(tmp_path, brought.place, brought.volid)
    forget_brought(tmp_path, brought.place, brought.volid)
    assert find_brought(tmp_path, brought.place, brought.volid) is None


# --- what goes again


def list_lying(*versions: int) -> list[Lying]:
    return judge_place(HERE, [make_volume(make_version(n)) for n in versions], [make_version(n) for n in versions], {})


def told(lying: list[Lying], keep: int = 1, **given: object) -> dict[str, str]:
    values: dict[str, object] = {"channels": (), "in_use": ()} | given
    steps = plan_withdraw(lying, policy=PrunePolicy(keep), now=NOW, **values)  # type: ignore[arg-type]
    return {step.lying.reference or step.lying.volid: ("goes: " if step.goes else "") + step.reason for step in steps}


def test_the_last_ones_a_channel_and_what_servers_use_stay() -> None:
    one, two, three, four = (make_version(n) for n in range(1, 5))
    channels = [Channel("golden", "stable", one.digest)]
    assert told(list_lying(1, 2, 3, 4), channels=channels, in_use={str(two)}) == {
        str(one): "stable names it", str(two): "a server uses it", str(three): "goes: older, and unused",
        str(four): "the newest",
    }  # fmt: skip


def test_the_last_ones_are_those_of_the_place() -> None:
    """A newer version that was never published there makes none of them older."""
    assert told(list_lying(1, 2), keep=2) == {
        str(make_version(1)): "among the last 2",
        str(make_version(2)): "the newest",
    }


def test_one_that_lies_there_twice_counts_once() -> None:
    one, two = make_version(1), make_version(2)
    volumes = [make_volume(one), make_archive(one), make_volume(two), make_archive(two)]
    lying = judge_place(HERE, volumes, [one, two], {})
    steps = plan_withdraw(lying, (), (), PrunePolicy(2), NOW)
    assert [step.goes for step in steps] == [False] * 4, "these are the last 2"
    steps = plan_withdraw(lying, (), (), PrunePolicy(1), NOW)
    assert [step.lying.volid for step in steps if step.goes] == [volume.volid for volume in volumes[:2]]


def test_what_is_not_ours_never_goes() -> None:
    one = make_version(1)
    strangers = judge_place(HERE, [make_volume(one), make_volume(make_version(2), size=2)], [make_version(2)], {})
    assert told(strangers) == {
        str(one): "goldsmith did not bring it",
        str(make_version(2)): "it is not what its name says: a person has to look at it",
    }


def test_what_left_the_repository_goes_unless_a_server_uses_it() -> None:
    volume, one = make_volume(make_version(1)), make_version(1)
    record = Brought("x", volume.volid, str(one), one.digest, volume.size)
    lying = judge_place(HERE, [volume], [], {volume.volid: record})
    assert told(lying) == {str(one): "goes: its version is not in the repository any more"}
    assert told(lying, in_use={str(one)}) == {str(one): "a server uses it"}


def test_images_that_are_not_named_stay() -> None:
    lying = list_lying(1, 2)
    assert told(lying, names=["other"])[str(make_version(1))] == "its image is not named"
    policy = PrunePolicy(1, timedelta(days=400))
    steps = plan_withdraw(lying, (), (), policy, NOW)
    assert [step.goes for step in steps] == [False, False]
