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
from goldsmith.build.cache.archives import CacheArchive
from goldsmith.build.cache.choose import Layering, Start, choose_kept, choose_start, explain_layer, is_current
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


def make_checkpoint(vmid: int, name: str, *since: float) -> Checkpoint:
    built = tuple(map(int, since))
    return Checkpoint(
        layer=name, key=Digest(f"sha256:{name}"), made=max(built), since=built, vmid=vmid, snapshot=f"layer-{name}"
    )


def make_guest(vmid: int, *layers: str, image: str = "golden", since: float = NOW - 10, **values: Any) -> CacheGuest:
    found = tuple(make_checkpoint(vmid, name, since) for name in layers)
    return CacheGuest(vmid, image, found, **{"opened_by": "me", **values})


def make_archive(name: str, *since: float, image: str = "golden", **values: Any) -> CacheArchive:
    built = tuple(map(int, since or [NOW - 10]))
    key = Digest(f"sha256:{name}")
    given = {"layer": name, "key": key, "made": max(built), "since": built, "opened_by": "me", "size": 1}
    return CacheArchive(**{**given, "volid": f"local:backup/{name}", "image": image, **values})


def make_version(made: float) -> Version:
    config = Descriptor("application/vnd.oci.image.config.v1+json", Digest("sha256:c"), 1)
    return Version("golden", "20260101.1", Digest("sha256:v"), datetime.fromtimestamp(made, UTC), 1, (), config)


Chosen = tuple[int, int | str | None, bool]


def choose(layering: Layering, *, keep: bool = False, wanted: int | None = None) -> Chosen:
    """How many layers are done, in which guest or archive, and whether the build goes on in that itself."""
    start = choose_start("golden", layering, keep=keep, wanted=wanted)
    match start.checkpoint:
        case Checkpoint(vmid=vmid):
            return start.done, vmid, start.is_own
        case CacheArchive(volid=volid):
            return start.done, volid, start.is_own
    return start.done, None, start.is_own


NOTHING = (0, None, False)
TABLE: dict[str, tuple[list[CacheGuest], Chosen]] = {
    "nothing is kept": ([], NOTHING),
    "own": ([make_guest(900, "packages", "web")], (2, 900, True)),
    "all are there": ([make_guest(900, *NAMES)], (3, 900, True)),
    "another image's": ([make_guest(900, "packages", image="other")], (1, 900, False)),
    "own before another's": (
        [make_guest(901, "packages", "web", image="other"), make_guest(900, "packages", "web")], (2, 900, True),
    ),
    "another's of more before own of less": (
        [make_guest(900, "packages"), make_guest(901, "packages", "web", image="other")], (2, 901, False),
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
    found = (make_checkpoint(900, "packages", NOW - 10 * DAY), make_checkpoint(900, "web", NOW - 10 * DAY, NOW))
    guest = CacheGuest(900, "golden", found, opened_by="me")
    keys = with_key(0, installs_packages=True, refresh_after=7 * DAY)
    assert choose(make_layering(guest, keys=keys)) == NOTHING


def test_a_layer_is_not_old_because_one_before_it_is() -> None:
    """Packages of today upon a role of a month ago: only the packages become old."""
    guest = CacheGuest(900, "golden", (make_checkpoint(900, "web", NOW - 30 * DAY, NOW - DAY),), opened_by="me")
    keys = with_key(1, installs_packages=True, refresh_after=7 * DAY)
    assert choose(make_layering(guest, keys=keys)) == (2, 900, True)
    assert choose_start("golden", make_layering(guest, keys=keys)).since == (NOW - 30 * DAY, NOW - DAY)


def test_of_what_an_older_goldsmith_kept_only_the_oldest_time_is_known() -> None:
    guest = CacheGuest(900, "golden", (make_checkpoint(900, "web", NOW - 30 * DAY),), opened_by="me")
    assert choose(make_layering(guest, keys=with_key(1, refresh_after=7 * DAY))) == NOTHING
    start = choose_start("golden", make_layering(guest))
    assert start.since == (NOW - 30 * DAY, NOW - 30 * DAY)


def test_a_version_is_as_old_as_the_layer_that_it_was_built_on() -> None:
    """Built today, upon packages of ten days ago."""
    keys = with_key(0, installs_packages=True, refresh_after=7 * DAY)
    kept = make_guest(900, "packages", since=NOW - 10 * DAY)
    assert not is_current(make_layering(kept, keys=keys, current=make_version(NOW)))
    assert is_current(make_layering(replace(kept, image="other"), keys=keys, current=make_version(NOW)))


def test_a_version_says_itself_when_its_layers_were_built() -> None:
    """However young the version is, and wherever it was copied: nothing of its layers is kept any more."""
    keys = with_key(0, installs_packages=True, refresh_after=7 * DAY)
    old = tuple(replace(key, since=int(NOW - 10 * DAY)) for key in keys)
    young = tuple(replace(key, since=int(NOW - DAY)) for key in keys)
    made_today, made_long_ago = make_version(NOW), make_version(NOW - 30 * DAY)
    assert not is_current(make_layering(keys=keys, before=old, current=made_today))
    assert is_current(make_layering(keys=keys, before=young, current=made_today))
    assert is_current(make_layering(keys=keys, before=young, current=made_long_ago))
    assert explain_layer(make_layering(keys=keys, before=old), 0, Start()) == "its packages are older than 1 weeks"


def test_a_fresh_copy_is_taken_where_ones_own_is_old() -> None:
    keys = with_key(0, refresh_after=DAY)
    old, fresh = make_guest(900, "packages", since=NOW - 2 * DAY), make_guest(901, "packages", image="other")
    assert choose(make_layering(old, fresh, keys=keys)) == (1, 901, False)


WEB = make_archive("web")
ARCHIVES: dict[str, tuple[list[CacheGuest], list[CacheArchive], Chosen]] = {
    "an archive": ([], [WEB], (2, WEB.volid, False)),
    "another image's": ([], [make_archive("web", image="other")], (2, WEB.volid, False)),
    "the deepest": ([], [make_archive("packages"), WEB], (2, WEB.volid, False)),
    "of another machine": ([], [make_archive("web", opened_by="them")], NOTHING),
    "unknown": ([], [make_archive("other")], NOTHING),
    "used by others at the same time": ([], [make_archive("web", users=(("0123", 1),))], (2, WEB.volid, False)),
    "deeper than own": ([make_guest(900, "packages")], [WEB], (2, WEB.volid, False)),
    "as deep as own": ([make_guest(900, "web")], [WEB], (2, 900, True)),
    "as deep as another's guest": ([make_guest(900, "web", image="other")], [WEB], (2, 900, False)),
    "less deep than own": ([make_guest(900, *NAMES)], [WEB], (3, 900, True)),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_are_gone_on_from_like_guests(case: str) -> None:
    guests, archives, wanted = ARCHIVES[case]
    assert choose(make_layering(*guests, archives=tuple(archives))) == wanted


def test_it_is_told_where_a_layer_is_kept() -> None:
    places = {
        "on the node": make_layering(make_guest(900, "web")),
        "on the node, of guest 901": make_layering(make_guest(901, "web", image="other")),
        "in local:backup/web": make_layering(archives=(WEB,)),
    }
    for place, layering in places.items():
        start = choose_start("golden", layering)
        told = f"nothing has changed; it is kept {place}"
        assert [explain_layer(layering, index, start) for index in (0, 1)] == [told, told]


def test_of_an_archive_it_counts_when_each_layer_was_built() -> None:
    keys = with_key(1, refresh_after=DAY)
    old, fresh = make_archive("web", NOW, NOW - 2 * DAY), make_archive("web", NOW - 9 * DAY, NOW, volid="l:backup/f")
    assert choose(make_layering(keys=keys, archives=(old, fresh))) == (2, "l:backup/f", False)
    assert choose(make_layering(keys=keys, archives=(old,))) == NOTHING


@pytest.mark.parametrize(
    ("image", "keep", "chosen"),
    [("golden", False, (2, 900, True)), ("golden", True, NOTHING), ("other", False, NOTHING)],
)
def test_a_guest_that_has_the_wanted_vmid_makes_room_unless_the_build_goes_on_in_it(
    image: str, keep: bool, chosen: Chosen
) -> None:
    """Nothing may be taken as done that is in a guest which is removed first."""
    layering = make_layering(make_guest(900, "packages", "web", image=image))
    assert choose(layering, keep=keep, wanted=900) == chosen
    assert choose(layering, keep=keep, wanted=950) == (2, 900, False)


@pytest.mark.parametrize(
    ("keeps", "packages", "outside", "kept"),
    [
        ("snapshots", [], None, (0, 1, 2, 3)),
        ("snapshots", [], 2, (0, 1)),
        ("snapshots", [], 0, ()),
        ("archives", [], None, (3,)),
        ("archives", [0], None, (0, 3)),
        ("archives", [0, 2], None, (2, 3)),
        ("archives", [3], None, (3,)),
        ("archives", [4], None, (3,)),
        ("archives", [0, 2], 2, (0, 1)),
        ("archives", [0], 0, ()),
    ],
)
def test_which_layers_are_kept(keeps: Any, packages: list[int], outside: int | None, kept: tuple[int, ...]) -> None:
    keys = tuple(
        LayerKey(f"l{n}", Digest(f"sha256:{n}"), {}, outside="the network" if n == outside else "") for n in range(5)
    )
    layering = make_layering(keys=keys, keeps=keeps)
    stages = tuple(replace(stage, installs_packages=n in packages) for n, stage in enumerate(layering.stages))
    assert choose_kept(replace(layering, stages=stages)) == kept


def test_no_layer_is_kept_of_a_single_one() -> None:
    assert choose_kept(make_layering(keys=KEYS[:1])) == ()
    assert choose_kept(make_layering(keys=KEYS[:1], keeps="archives")) == ()


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
                    make_checkpoint(guest.vmid, name, NOW - 5 * DAY, *([NOW - 2 * DAY] * NAMES.index(name)))
                    if name in NAMES
                    else make_checkpoint(guest.vmid, name, NOW)
                    for name in layers
                ),
            )
        )
    ),
    max_size=6,
)
SINCE = st.lists(st.integers(int(NOW) - 10 * DAY, int(NOW)), min_size=1, max_size=3)
MADE_ARCHIVES = st.lists(
    st.builds(
        lambda name, since, owner: make_archive(name, *since, opened_by=owner),
        st.sampled_from([*NAMES, "other"]),
        SINCE,
        st.sampled_from(["me", "them"]),
    ),
    max_size=4,
)
CHANGES = st.fixed_dictionaries(
    {
        "outside": st.sampled_from(["", "", "the network"]),
        "installs_packages": st.booleans(),
        "refresh_after": st.sampled_from([None, DAY, 7 * DAY]),
    }
)


@given(GUESTS, MADE_ARCHIVES, st.tuples(CHANGES, CHANGES, CHANGES), st.booleans(), st.booleans())
def test_nothing_stale_is_ever_gone_on_from(
    guests: list[CacheGuest],
    archives: list[CacheArchive],
    changes: tuple[dict[str, Any], ...],
    refresh: bool,
    keep: bool,
) -> None:
    keys = tuple(replace(key, **change) for key, change in zip(KEYS, changes, strict=True))
    layering = make_layering(*guests, archives=tuple(archives), keys=keys, refresh=refresh)
    start = choose_start("golden", layering, keep=keep)
    assert (start.done == 0) == (start.checkpoint is None)
    if start.checkpoint is None:
        return
    if isinstance(start.checkpoint, CacheArchive):
        assert start.checkpoint.opened_by == "me"
    else:
        owners = [guest for guest in guests if start.checkpoint in guest.checkpoints]
        assert any(not guest.in_use and guest.opened_by == "me" for guest in owners)
    assert start.checkpoint.key == keys[start.done - 1].key
    assert not (keep and start.is_own)
    assert len(start.since) == start.done
    for key, since in zip(keys[: start.done], start.since, strict=True):
        assert not key.outside
        assert not (refresh and key.installs_packages)
        assert key.refresh_after is None or NOW - since <= key.refresh_after
