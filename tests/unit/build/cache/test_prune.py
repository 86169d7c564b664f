"""Which guests with layers go: those that are asked for, the old, the many; never one that a build is in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.base.digest import Digest
from goldsmith.build.cache.guests import CacheGuest, Checkpoint
from goldsmith.build.cache.prune import LONGEST, MOST, Pruned, PruneRule, find_newest, plan_bounds, plan_prune

NOW = 1e9
DAY = 86400


def make_guest(vmid: int, *ages: float, image: str = "golden", **values: Any) -> CacheGuest:
    """A guest with layers of these ages, in days."""
    made = [int(NOW - age * DAY) for age in ages]
    found = tuple(Checkpoint(f"l{n}", Digest(f"sha256:{n}"), vmid, f"layer-{n}", at, 0) for n, at in enumerate(made))
    return CacheGuest(vmid, image, found, **values)


OLD = {902: "its newest layer is 31 days old", 903: "its newest layer is 11574 days old"}
GUESTS = [
    make_guest(900, 1),
    make_guest(901, 40, 10),
    make_guest(902, 40, 31),
    make_guest(903),
    make_guest(904, 90, in_use=True),
]


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        (PruneRule(), {900: "asked for", 901: "asked for", 902: "asked for", 903: "asked for"}),
        (PruneRule(frozenset({901, 904, 999})), {901: "asked for"}),
        (PruneRule(older_than=30 * DAY), OLD),
        (PruneRule(frozenset({900}), older_than=30 * DAY), {900: "asked for", **OLD}),
        (PruneRule(older_than=10**10), {}),
    ],
)  # fmt: skip
def test_what_goes_and_why(rule: PruneRule, gone: dict[int, str]) -> None:
    assert plan_prune(GUESTS, rule, now=NOW) == [Pruned(vmid, "golden", reason) for vmid, reason in gone.items()]


def test_a_guest_is_as_old_as_its_newest_layer() -> None:
    assert find_newest(make_guest(900, 40, 10, 20)) == NOW - 10 * DAY
    assert find_newest(make_guest(900)) == 0


def test_few_and_young_ones_stay() -> None:
    guests = [make_guest(900 + number, 1, image=f"i{number}") for number in range(MOST)]
    assert plan_bounds(guests, now=NOW) == []


def test_the_oldest_go_when_there_are_many() -> None:
    guests = [make_guest(900 + number, number / 10, image=f"i{number}") for number in range(MOST + 2)]
    told = plan_bounds(guests, now=NOW)
    assert [pruned.vmid for pruned in told] == [900 + MOST, 901 + MOST]
    assert told[0].reason == f"there are more than {MOST}"


def test_of_two_guests_of_an_image_the_newer_stays() -> None:
    guests = [
        make_guest(900, 2),
        make_guest(901, 1),
        make_guest(902, 3, image="other"),
        make_guest(903, 0, in_use=True),
    ]
    assert plan_bounds(guests, now=NOW) == [Pruned(900, "golden", "a newer one of the image is there")]


def test_old_ones_go_whatever_their_number() -> None:
    days = LONGEST / DAY
    guests = [make_guest(900, days), make_guest(901, days + 1), make_guest(902, days + 1, in_use=True)]
    assert [pruned.vmid for pruned in plan_bounds(guests, now=NOW)] == [901]


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=3 * MOST))
def test_the_bounds_hold_and_no_build_loses_its_guest(drawn: list[tuple[int, bool]]) -> None:
    guests = [make_guest(number, age, in_use=in_use) for number, (age, in_use) in enumerate(drawn)]
    gone = [pruned.vmid for pruned in plan_bounds(guests, now=NOW)]
    assert len(set(gone)) == len(gone)
    left = [guest for guest in guests if guest.vmid not in gone and not guest.in_use]
    assert not any(guest.in_use for guest in guests if guest.vmid in gone)
    assert len(left) <= MOST
    assert all(NOW - find_newest(guest) <= LONGEST for guest in left)
    removed = [guest for guest in guests if guest.vmid in gone]
    if left and removed:
        assert min(map(find_newest, left)) >= max(map(find_newest, removed))
