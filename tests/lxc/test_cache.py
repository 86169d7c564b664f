"""Finished layers are gone on from, and a stale one never is: with real guests, snapshots and playbooks.

The tests share a project: each finds layers one and two of the image kept in a guest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from goldsmith.base.errors import Interrupted, PlaybookFailed
from goldsmith.base.events import Event, StepStarted
from goldsmith.build.cache import guests as cache
from goldsmith.build.cache.prune import plan_bounds, read_kept
from goldsmith.build.journal import Entry, Journal
from goldsmith.pve.properties import render_net
from tests.lxc.guests import Guests, RunningNode
from tests.lxc.layers import FAILS, LayeredWorkshop, look, open_workshop

pytestmark = pytest.mark.root
LAYERS = (
    "layers: [{name: one, playbook: one.yml}, {name: two, playbook: two.yml}, {name: three, playbook: three.yml}]\n"
)
KEPT, ALL = ["one", "two"], ["one", "two", "three"]


@pytest.fixture(scope="module")
def shared(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LayeredWorkshop]:
    with open_workshop(node, tmp_path_factory, LAYERS, KEPT) as workshop:
        yield workshop


@pytest.fixture
def workshop(shared: LayeredWorkshop) -> LayeredWorkshop:
    shared.ensure()
    return shared


def test_nothing_is_built_when_nothing_has_changed(workshop: LayeredWorkshop) -> None:
    (before,) = cache.list_cache(workshop.site)
    first = workshop.build()
    assert workshop.list_ran() == ["three"]
    again = workshop.build()
    assert not again.is_new
    assert (again.version, again.template) == (first.version, first.template)
    assert workshop.list_ran() == []
    workshop.site.shell.remove(first.template)
    assert workshop.build().template == first.template
    assert workshop.site.shell.exists(first.template)
    assert workshop.list_kept() == KEPT
    assert workshop.find_leftovers() == []
    (kept,) = read_kept(workshop.site)
    assert isinstance(kept, cache.CacheGuest)
    assert kept.last_used > max(before.last_used, *(checkpoint.made for checkpoint in kept.checkpoints))
    assert 50 << 20 < kept.size < 4 << 30
    assert plan_bounds([kept], now=kept.last_used) == []


def test_only_layers_from_the_change_on_are_built(workshop: LayeredWorkshop, make_guest: Guests) -> None:
    workshop.describe(three="changed")
    first = workshop.build()
    assert workshop.list_ran() == ["three"]
    assert look(first, make_guest) == {**workshop.texts, "three": "changed"}
    workshop.describe(two="second")
    second = workshop.build()
    assert workshop.list_ran() == ["two", "three"]
    assert look(second, make_guest) == {**workshop.texts, "two": "second", "three": "x"}
    workshop.describe(one="third")
    third = workshop.build()
    assert workshop.list_ran() == ALL
    assert look(third, make_guest) == {"one": "third", "two": "second", "three": "x"}
    assert workshop.list_kept() == KEPT
    assert len({built.version.tag for built in (first, second, third)}) == 3
    assert workshop.find_leftovers() == []


@pytest.mark.parametrize("error", [Interrupted, PlaybookFailed])
def test_a_build_that_ends_early_keeps_what_is_finished(workshop: LayeredWorkshop, error: type[Exception]) -> None:
    workshop.describe(two=f"before {error.__name__}", three=FAILS if error is PlaybookFailed else "x")

    def interrupt(event: Event) -> None:
        if error is Interrupted and isinstance(event, StepStarted) and event.step == "layer three":
            raise Interrupted

    workshop.listeners.append(interrupt)
    with pytest.raises(error):
        workshop.build()
    workshop.listeners.remove(interrupt)
    assert workshop.list_ran() == ["two", "three"]
    assert workshop.list_kept() == KEPT
    assert workshop.find_leftovers() == []
    workshop.describe(three=f"after {error.__name__}")
    workshop.build()
    assert workshop.list_ran() == ["three"]


def test_what_a_killed_build_was_in_is_given_back(workshop: LayeredWorkshop) -> None:
    """As after kill -9: a guest with finished layers that a journal names and a mark claims, running."""
    (kept,) = cache.list_cache(workshop.site)
    assert cache.claim_guest(workshop.site, kept.vmid, "0123456789ab")
    assert not cache.claim_guest(workshop.site, kept.vmid, "ba9876543210")
    site = workshop.site
    site.node.tasks.wait(site.node.guests.start(kept.vmid))
    folder = workshop.state / "runs" / "0123456789ab"
    folder.mkdir(parents=True)
    Journal(folder, Entry("0123456789ab", "build", site.name, "golden", (kept.vmid,))).write()
    workshop.build()
    assert workshop.list_ran() == ["three"]


def test_another_image_with_the_same_layers_copies_them(workshop: LayeredWorkshop, make_guest: Guests) -> None:
    (kept,) = cache.list_cache(workshop.site)
    workshop.describe(name="other", three="other")
    other = workshop.build()
    assert workshop.list_ran() == ["three"]
    assert look(other, make_guest) == {**workshop.texts, "three": "other"}
    copied = {guest.image: guest for guest in cache.list_cache(workshop.site)}
    assert sorted(copied) == ["golden", "other"]
    assert copied["other"].checkpoints[-1].since == kept.checkpoints[-1].since  # no younger for being copied
    assert copied["other"].checkpoints[-1].made > kept.checkpoints[-1].made
    workshop.describe(name="other", three="once more")
    workshop.build()
    assert workshop.list_ran() == ["three"]
    assert workshop.find_leftovers() == []
    cache.drop_guest(workshop.site, copied["other"].vmid)


def test_a_kept_guest_is_a_copy_and_the_layers_stay(workshop: LayeredWorkshop) -> None:
    workshop.build(keep=True)
    assert workshop.list_ran() == ["three"]
    assert workshop.list_kept() == KEPT
    site = workshop.site
    (guest,) = [guest for guest in site.pve.list_guests() if "goldsmith-build" in guest.tags]
    site.node.tasks.wait(site.node.guests.destroy(guest.vmid, force=True))


def test_what_is_edited_while_a_build_runs_is_never_taken_for_what_was_built(
    workshop: LayeredWorkshop, make_guest: Guests
) -> None:
    def edit(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "keep layer two":
            workshop.describe(three="edited")

    workshop.describe(two="edited later")
    workshop.listeners.append(edit)
    workshop.build()
    workshop.listeners.remove(edit)
    assert workshop.list_ran() == ["two", "three"]
    assert workshop.list_kept() == ["one"]
    edited = workshop.build()
    assert workshop.list_ran() == ["two", "three"]
    assert look(edited, make_guest) == {**workshop.texts, "three": "edited"}


def test_an_image_that_names_its_address_is_not_in_its_own_way(workshop: LayeredWorkshop) -> None:
    """Its guest with layers has the address, and cannot be gone on from."""
    assert workshop.site.network is not None
    (kept,) = cache.list_cache(workshop.site)
    address = workshop.site.network.address_of(77)
    net = workshop.site.node.guests.get_config(kept.vmid).nets["net0"]
    workshop.site.node.guests.set_config(kept.vmid, {"net0": render_net(replace(net, ip=str(address)))})
    workshop.describe(layers=f"{LAYERS}temp_ip_address: {address}\n", one="elsewhere")
    workshop.build()
    assert workshop.list_ran() == ALL
    assert workshop.find_leftovers() == []


def test_a_guest_that_another_build_is_in_is_left_alone(workshop: LayeredWorkshop) -> None:
    (kept,) = cache.list_cache(workshop.site)
    assert cache.claim_guest(workshop.site, kept.vmid, "0123456789ab")
    workshop.build()
    assert workshop.list_ran() == ALL
    assert len(cache.list_cache(workshop.site)) == 2
    cache.release_guest(workshop.site, kept.vmid)
