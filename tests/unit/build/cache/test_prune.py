"""Which guests and archives with layers go: those that are asked for, the old, the many, the large; none in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.base.digest import Digest
from goldsmith.build.cache.archives import CacheArchive
from goldsmith.build.cache.guests import CacheGuest, Checkpoint
from goldsmith.build.cache.prune import (
    LARGEST,
    LONGEST,
    MOST,
    Kept,
    Pruned,
    PruneRule,
    get_name,
    plan_bounds,
    plan_prune,
)

NOW = 10**9
DAY = 86400
GB = 10**9


def make_guest(vmid: int, *ages: float, image: str = "golden", **values: Any) -> CacheGuest:
    """A guest with layers of these ages, in days."""
    made = [int(NOW - age * DAY) for age in ages]
    found = tuple(
        Checkpoint(layer=f"l{n}", key=Digest(f"sha256:{n}"), vmid=vmid, snapshot=f"layer-{n}", made=at, since=(at,))
        for n, at in enumerate(made)
    )
    return CacheGuest(vmid, image, found, **values)


def make_archive(name: str, age: float, *, layer: str = "l0", image: str = "golden", **values: Any) -> CacheArchive:
    """An archive that was made so many days ago."""
    made = int(NOW - age * DAY)
    given = {"opened_by": "me", "size": 0, "key": Digest("sha256:0"), "since": (made,), **values}
    return CacheArchive(layer=layer, made=made, volid=f"local:backup/{name}", image=image, **given)


def list_gone(told: Sequence[Pruned]) -> list[str]:
    return [get_name(pruned.kept) for pruned in told]


USED = (("0123", NOW),)
OLD = {"902": "no build has used it for 31 days", "903": "no build has used it for 11574 days"}
KEPT: list[Kept] = [
    make_guest(900, 1, size=GB),
    make_guest(901, 40, 10, size=2 * GB),
    make_guest(902, 40, 31, size=4 * GB),
    make_guest(903),
    make_guest(904, 90, in_use=True, size=8 * GB),
    make_archive("a", 5, size=GB),
    make_archive("b", 50, size=GB, used=NOW - 20 * DAY),
    make_archive("c", 60, size=GB, users=USED),
]
EXCESS = "all together take more than 12.0 GB"
ALL = ["900", "901", "902", "903", "local:backup/a", "local:backup/b"]


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        (PruneRule(), dict.fromkeys(ALL, "asked for")),
        (PruneRule(frozenset({"901", "904", "999"})), {"901": "asked for"}),
        (PruneRule(frozenset({"local:backup/b", "local:backup/c"})), {"local:backup/b": "asked for"}),
        (PruneRule(older_than=30 * DAY), OLD),
        (PruneRule(frozenset({"900"}), older_than=30 * DAY), {"900": "asked for", **OLD}),
        (PruneRule(older_than=10**10), {}),
        (PruneRule(size=18 * GB), {}),
        (PruneRule(size=12 * GB), dict.fromkeys(["903", "902", "local:backup/b", "901"], EXCESS)),
        (PruneRule(frozenset({"900"}), size=17 * GB), {"900": "asked for"}),
        (PruneRule(older_than=30 * DAY, size=14 * GB), OLD),
        (
            PruneRule(size=0),
            dict.fromkeys(["903", "902", "local:backup/b", "901", "local:backup/a", "900"],
                          "all together take more than 0 B"),
        ),
    ],
)  # fmt: skip
def test_what_goes_and_why(rule: PruneRule, gone: dict[str, str]) -> None:
    told = {get_name(pruned.kept): pruned.reason for pruned in plan_prune(KEPT, rule, now=NOW)}
    assert list(told.items()) == list(gone.items())


def test_a_guest_was_last_used_when_a_build_was_done_with_it_or_made_a_layer() -> None:
    assert make_guest(900, 40, 10, 20).last_used == NOW - 10 * DAY
    assert make_guest(900, 40, used=NOW - DAY).last_used == NOW - DAY
    assert make_guest(900).last_used == 0
    assert make_archive("a", 3).last_used == NOW - 3 * DAY
    assert make_archive("a", 3, used=NOW).last_used == NOW


def test_what_is_told_names_it() -> None:
    told = [pruned.title for pruned in plan_prune(KEPT, PruneRule(frozenset({"900", "local:backup/a"})), now=NOW)]
    assert told == [
        "guest 900 with layers of golden: asked for",
        "archive local:backup/a with layers of golden: asked for",
    ]


def test_few_and_young_ones_stay() -> None:
    guests = [make_guest(900 + number, 1, image=f"i{number}") for number in range(MOST)]
    assert plan_bounds(guests, now=NOW) == []


def test_the_oldest_go_when_there_are_many() -> None:
    kept: list[Kept] = [make_guest(900 + number, number / 10, image=f"i{number}") for number in range(MOST)]
    kept += [make_archive("old", 50), make_archive("young", 0.05, image="other")]
    told = plan_bounds(kept, now=NOW)
    assert list_gone(told) == [str(899 + MOST), "local:backup/old"]
    assert told[0].reason == f"there are more than {MOST}"


def test_of_two_guests_of_an_image_the_newer_stays() -> None:
    guests = [
        make_guest(900, 2, used=NOW),
        make_guest(901, 1),
        make_guest(902, 3, image="other"),
        make_guest(903, 0, in_use=True),
    ]
    assert plan_bounds(guests, now=NOW) == [Pruned(guests[0], "a newer one is there")]


def test_of_two_archives_of_a_layer_the_newer_stays() -> None:
    archives = [
        make_archive("old", 2),
        make_archive("new", 1),
        make_archive("layer", 3, layer="l1"),
        make_archive("image", 3, image="other"),
        make_archive("machine", 3, opened_by="them"),
        make_archive("used", 3, users=USED),
    ]
    assert list_gone(plan_bounds(archives, now=NOW)) == ["local:backup/old"]
    assert plan_bounds([make_guest(900, 1), *archives[1:]], now=NOW) == []


def test_old_ones_go_whatever_their_number() -> None:
    days = LONGEST / DAY
    guests = [make_guest(900, days), make_guest(901, days + 1, image="b"), make_guest(902, days + 1, in_use=True)]
    assert list_gone(plan_bounds(guests, now=NOW)) == ["901"]
    assert plan_bounds([make_guest(901, days + 1, used=NOW - DAY)], now=NOW) == []


def test_the_longest_unused_go_when_all_take_too_much() -> None:
    kept = [
        make_guest(900, 3, size=LARGEST // 2),
        make_archive("a", 9, image="a", size=LARGEST // 3, used=NOW),
        make_archive("b", 5, image="b", size=LARGEST // 3),
        make_guest(901, 9, image="c", size=LARGEST // 6, in_use=True),
    ]
    told = plan_bounds(kept, now=NOW)
    assert list_gone(told) == ["local:backup/b"]
    assert told[0].reason == "all together take more than 60.0 GB"


def test_one_that_is_too_large_alone_goes() -> None:
    assert list_gone(plan_bounds([make_guest(900, 1, size=LARGEST + 1)], now=NOW)) == ["900"]


DRAWN = st.lists(
    st.tuples(st.integers(0, 100), st.booleans(), st.booleans(), st.integers(0, LARGEST // 4)), max_size=3 * MOST
)


def make_kept(number: int, age: int, in_use: bool, is_archive: bool, size: int) -> Kept:
    if is_archive:
        return make_archive(f"{number}", age, image=f"i{number}", size=size, users=USED if in_use else ())
    return make_guest(number, age, image=f"i{number}", size=size, in_use=in_use)


@given(DRAWN)
def test_the_bounds_hold_and_no_build_loses_its_guest(drawn: list[tuple[int, bool, bool, int]]) -> None:
    kept = [make_kept(number, *one) for number, one in enumerate(drawn)]
    gone = list_gone(plan_bounds(kept, now=NOW))
    assert len(set(gone)) == len(gone)
    left = [one for one in kept if get_name(one) not in gone and not one.in_use]
    busy = [one for one in kept if one.in_use]
    assert not any(one.in_use for one in kept if get_name(one) in gone)
    assert len(left) <= MOST
    assert all(NOW - one.last_used <= LONGEST for one in left)
    assert not left or sum(one.size for one in [*left, *busy]) <= LARGEST
    removed = [one for one in kept if get_name(one) in gone]
    if left and removed:
        assert min(one.last_used for one in left) >= max(one.last_used for one in removed)
