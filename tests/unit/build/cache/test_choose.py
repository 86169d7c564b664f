"""From which finished layer a build goes on: tables of what the node has, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.repository import Version
from goldsmith.base.digest import Digest
from goldsmith.build.cache.choose import Layering, Start, choose_start, explain_layer, is_current
from goldsmith.build.cache.guests import CacheGuest, Checkpoint
from goldsmith.build.cache.keys import LayerKey
from goldsmith.provision.play import Play
from goldsmith.provision.stages import Stage

NOW = 1_000_000.0
DAY = 86400
NAMES = ("packages", "web", "last")
KEYS = tuple(LayerKey(name, Digest(f"sha256:{name}"), {"file a": "1"}) for name in NAMES)


def make_layering(*cache: CacheGuest, keys: tuple[LayerKey, ...] = KEYS, **values: Any) -> Layering:
    play = Play(Path("/project/images/lxc/playbook.yml"), Path("/project"))
    stages = tuple(Stage(key.name, play) for key in keys)
    return Layering(**{"stages": stages, "keys": keys, "cache": cache, "opened_by": "me", "now": NOW, **values})


def make_guest(vmid: int, *layers: str, image: str = "golden", since: float = NOW - 10, **values: Any) -> CacheGuest:
    found = tuple(
        Checkpoint(name, Digest(f"sha256:{name}"), vmid, f"layer-{name}", int(since), int(since)) for name in layers
    )
    return CacheGuest(vmid, image, found, **{"opened_by": "me", **values})


def make_version(made: float) -> Version:
    config = Descriptor("application/vnd.oci.image.config.v1+json", Digest("sha256:c"), 1)
    return Version("golden", "20260101.1", Digest("sha256:v"), datetime.fromtimestamp(made, UTC), 1, (), config)


def choose(layering: Layering, *, keep: bool = False) -> tuple[int, int | None, bool]:
    start = choose_start("golden", layering, keep=keep)
    return start.done, start.checkpoint.vmid if start.checkpoint else None, start.is_own


NOTHING = (0, None, False)
TABLE: dict[str, tuple[list[CacheGuest], tuple[int, int | None, bool]]] = {
    "nothing is kept": ([], NOTHING),
    "own": ([make_guest(900, "packages", "web")], (2, 900, True)),
    "all are there": ([make_guest(900, *NAMES)], (3, 900, True)),
    "another image's": ([make_guest(900, "packages", image="other")], (1, 900, False)),
    "own before another's": (
        [make_guest(901, "packages", "web", image="other"), make_guest(900, "packages", "web")], (2, 900, True),
    ),
    "own of less before another's of more": (
        [make_guest(901, "packages", "web", image="other"), make_guest(900, "packages")], (1, 900, True),
    ),
    "the deepest of own": ([make_guest(900, "packages"), make_guest(901, "packages", "web")], (2, 901, True)),
    "the deepest of others": (
        [make_guest(900, "packages", image="a"), make_guest(901, "packages", "web", image="b")], (2, 901, False),
    ),
    "a later layer is enough": ([make_guest(900, "web")], (2, 900, True)),
    "order in the guest does not matter": ([make_guest(900, "web", "packages")], (2, 900, True)),
    "unknown layers": ([make_guest(900, "other", "packages")], (1, 900, True)),
    "none of ours in own, but in another's": (
        [make_guest(900, "other"), make_guest(901, "packages", image="other")], (1, 901, False),
    ),
    "in use": ([make_guest(900, "packages", in_use=True)], NOTHING),
    "own in use, another's free": (
        [make_guest(900, "packages", in_use=True), make_guest(901, "packages", image="other")], (1, 901, False),
    ),
    "opened by another key": ([make_guest(900, "packages", opened_by="them")], NOTHING),
    "opened by nobody knows": ([make_guest(900, "packages", opened_by="")], NOTHING),
    "empty guest": ([make_guest(900)], NOTHING),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_where_a_build_begins(case: str) -> None:
    cache, wanted = TABLE[case]
    assert choose(make_layering(*cache)) == wanted


def test_a_guest_that_is_to_be_kept_is_a_copy() -> None:
    assert choose(make_layering(make_guest(900, "packages")), keep=True) == (1, 900, False)


def test_nothing_is_used_while_keys_are_not_known() -> None:
    layering = make_layering(make_guest(900, *NAMES), keys=())
    assert choose(layering) == NOTHING
    assert not is_current(layering)
    assert explain_layer(layering, 0, Start()) == "the base image is not on the node yet"


def with_key(index: int, **values: Any) -> tuple[LayerKey, ...]:
    return tuple(replace(key, **values) if number == index else key for number, key in enumerate(KEYS))


@pytest.mark.parametrize(("index", "done"), [(0, 0), (1, 1), (2, 2)])
def test_what_reads_more_than_files_and_variables_is_run_with_all_after_it(index: int, done: int) -> None:
    layering = make_layering(make_guest(900, *NAMES), keys=with_key(index, outside="it reads the network"))
    assert choose(layering)[0] == done
    assert not is_current(replace(layering, current=make_version(NOW)))
    assert explain_layer(layering, index, choose_start("golden", layering)) == "it reads the network"


@pytest.mark.parametrize(("index", "done"), [(0, 0), (1, 1), (2, 2)])
def test_refresh_runs_packages_with_all_after_them(index: int, done: int) -> None:
    keys = with_key(index, installs_packages=True)
    layering = make_layering(make_guest(900, *NAMES), keys=keys, current=make_version(NOW))
    assert choose(layering)[0] == 3
    assert is_current(layering)
    anew = replace(layering, refresh=True, before=keys)
    assert choose(anew)[0] == done
    assert not is_current(anew)
    assert explain_layer(anew, index, choose_start("golden", anew)) == "--refresh"


@pytest.mark.parametrize(("age", "done"), [(0, 3), (7 * DAY - 1, 3), (7 * DAY, 3), (7 * DAY + 1, 1)])
def test_packages_become_old(age: float, done: int) -> None:
    keys = with_key(1, installs_packages=True, refresh_after=7 * DAY)
    guests = make_guest(900, "packages", "web", "last", since=NOW - age)
    layering = make_layering(guests, keys=keys, current=make_version(NOW - age), before=keys)
    assert choose(layering)[0] == done
    assert is_current(layering) is (done == 3)
    if done < 3:
        assert explain_layer(layering, 1, choose_start("golden", layering)) == "its packages are older than 1 weeks"


def test_a_later_layer_is_as_old_as_the_oldest_in_it() -> None:
    """The second was finished today, upon packages of ten days ago."""
    packages, web = make_guest(900, "packages", "web", since=NOW - 10 * DAY).checkpoints
    guest = CacheGuest(900, "golden", (packages, replace(web, made=int(NOW))), opened_by="me")
    keys = with_key(0, installs_packages=True, refresh_after=7 * DAY)
    assert choose(make_layering(guest, keys=keys)) == NOTHING


def test_a_version_is_as_old_as_the_layer_that_it_was_built_on() -> None:
    """Built today, upon packages of ten days ago."""
    keys = with_key(0, installs_packages=True, refresh_after=7 * DAY)
    kept = make_guest(900, "packages", since=NOW - 10 * DAY)
    assert not is_current(make_layering(kept, keys=keys, current=make_version(NOW)))
    assert is_current(make_layering(replace(kept, image="other"), keys=keys, current=make_version(NOW)))


def test_a_fresh_copy_is_taken_where_ones_own_is_old() -> None:
    keys = with_key(0, refresh_after=DAY)
    old, fresh = make_guest(900, "packages", since=NOW - 2 * DAY), make_guest(901, "packages", image="other")
    assert choose(make_layering(old, fresh, keys=keys)) == (1, 901, False)


def test_a_layer_says_what_has_changed() -> None:
    before = with_key(1, inputs={"file a": "0", "file b": "1", "tool x": "1"})
    layering = make_layering(make_guest(900, "packages"), before=before)
    start = choose_start("golden", layering)
    assert explain_layer(layering, 0, start) == "nothing has changed; it is kept on the node"
    assert explain_layer(layering, 1, start) == "file a has changed, file b is gone, tool x is gone"
    assert explain_layer(layering, 2, start) == "nothing has changed, but it is not kept on the node"
    assert explain_layer(replace(layering, before=()), 1, start) == "it was never built"


def test_many_changes_are_counted() -> None:
    keys = with_key(1, inputs={f"file {number}": "1" for number in range(9)})
    layering = make_layering(keys=keys, before=with_key(1, inputs={f"file {number}": "0" for number in range(9)}))
    told = explain_layer(layering, 1, Start())
    assert told == "file 0 has changed, file 1 has changed, file 2 has changed and 6 more"


def test_no_newest_version_is_what_a_build_would_make_unless_there_is_one() -> None:
    assert not is_current(make_layering())
    assert is_current(make_layering(current=make_version(NOW)))


GUESTS = st.lists(
    st.builds(
        make_guest,
        st.integers(900, 999),
        image=st.sampled_from(["golden", "other"]),
        since=st.integers(int(NOW) - 10 * DAY, int(NOW)),
        in_use=st.booleans(),
        opened_by=st.sampled_from(["me", "them"]),
    ).flatmap(
        lambda guest: st.lists(st.sampled_from([*NAMES, "other"]), unique=True).map(
            lambda layers: replace(
                guest,
                checkpoints=tuple(
                    Checkpoint(name, Digest(f"sha256:{name}"), guest.vmid, name, 0, int(NOW) - 5 * DAY)
                    for name in layers
                ),
            )
        )
    ),
    max_size=6,
)
CHANGES = st.fixed_dictionaries(
    {
        "outside": st.sampled_from(["", "", "the network"]),
        "installs_packages": st.booleans(),
        "refresh_after": st.sampled_from([None, DAY, 7 * DAY]),
    }
)


@given(GUESTS, st.tuples(CHANGES, CHANGES, CHANGES), st.booleans(), st.booleans())
def test_nothing_stale_is_ever_gone_on_from(
    guests: list[CacheGuest], changes: tuple[dict[str, Any], ...], refresh: bool, keep: bool
) -> None:
    keys = tuple(replace(key, **change) for key, change in zip(KEYS, changes, strict=True))
    layering = make_layering(*guests, keys=keys, refresh=refresh)
    start = choose_start("golden", layering, keep=keep)
    assert (start.done == 0) == (start.checkpoint is None)
    if start.checkpoint is None:
        return
    owners = [
        guest for guest in guests if start.checkpoint in guest.checkpoints and guest.vmid == start.checkpoint.vmid
    ]
    assert any(not guest.in_use and guest.opened_by == "me" for guest in owners)
    assert start.checkpoint.key == keys[start.done - 1].key
    assert not (keep and start.is_own)
    for key in keys[: start.done]:
        assert not key.outside
        assert not (refresh and key.installs_packages)
        assert key.refresh_after is None or NOW - start.checkpoint.since <= key.refresh_after
