"""Finished layers are gone on from, and a stale one never is: with real guests, snapshots and playbooks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goldsmith.base.errors import Interrupted, PlaybookFailed
from goldsmith.base.events import Event, StepStarted
from goldsmith.build.cache import guests as cache
from goldsmith.build.facts import Site
from goldsmith.build.journal import Entry, Journal
from goldsmith.build.run import Built
from tests.lxc.guests import Guests, RunningNode
from tests.lxc.images import Workshop, open_site

pytestmark = pytest.mark.root

LAYER = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.raw: "echo '{text}' >> /opt/{name}; date +%N >> /opt/{name}.runs"
"""
VARIABLES = (
    "layers: [{name: one, playbook: one.yml}, {name: two, playbook: two.yml}, {name: three, playbook: three.yml}]\n"
)


@pytest.fixture
def workshop(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_site(node) as site:
        made = Workshop(tmp_path_factory.mktemp("project"), site)
        write(made)
        drop_layers(site)  # those of other tests
        yield made
        drop_layers(site)


def drop_layers(site: Site) -> None:
    for guest in site.pve.list_guests():
        if cache.TAGS[1] in guest.tags:
            cache.drop_guest(site, guest.vmid)


def write(workshop: Workshop, name: str = "golden", **texts: str) -> None:
    workshop.write_image("[]", f"template_name: {name}\n{VARIABLES}")
    for layer in ("one", "two", "three"):
        (workshop.directory / f"{layer}.yml").write_text(
            LAYER.format(name=layer, text=texts.get(layer, "{{ word | default('x') }}"))
        )


def list_ran(workshop: Workshop) -> list[str]:
    """Names of the layers that the last build has run."""
    ran = [event.step.removeprefix("layer ") for event in workshop.told
           if isinstance(event, StepStarted) and event.step.startswith("layer ")]  # fmt: skip
    workshop.told.clear()
    return ran


def look(built: Built, make_guest: Guests) -> dict[str, str]:
    """What the layers have left in a guest of the version."""
    guest = make_guest(ostemplate=f"local:vztmpl/{built.template.name}", start=True).wait_booted()
    return {name: guest.sh(f"cat /opt/{name}") for name in ("one", "two", "three")}


def test_nothing_is_built_when_nothing_has_changed(workshop: Workshop) -> None:
    first = workshop.build()
    assert list_ran(workshop) == ["one", "two", "three"]
    (kept,) = cache.list_cache(workshop.site)
    assert [checkpoint.layer for checkpoint in kept.checkpoints] == ["one", "two"]
    assert not kept.in_use
    assert not workshop.site.node.guests.get_status(kept.vmid).running
    again = workshop.build()
    assert not again.is_new
    assert (again.version, again.template) == (first.version, first.template)
    assert list_ran(workshop) == []
    workshop.site.shell.remove(first.template)
    assert workshop.build().template == first.template
    assert workshop.site.shell.exists(first.template)
    assert workshop.find_leftovers() == []


def test_only_layers_from_the_change_on_are_built(workshop: Workshop, make_guest: Guests) -> None:
    first = workshop.build()
    list_ran(workshop)
    write(workshop, three="changed")
    second = workshop.build()
    assert list_ran(workshop) == ["three"]
    assert look(second, make_guest) == {"one": "x", "two": "x", "three": "changed"}
    write(workshop, two="changed")
    third = workshop.build()
    assert list_ran(workshop) == ["two", "three"]
    assert look(third, make_guest) == {"one": "x", "two": "changed", "three": "x"}
    write(workshop, one="changed")
    workshop.build()
    assert list_ran(workshop) == ["one", "two", "three"]
    write(workshop, one="changed", three="again")
    assert look(workshop.build(), make_guest) == {"one": "changed", "two": "x", "three": "again"}
    assert list_ran(workshop) == ["three"]
    (kept,) = cache.list_cache(workshop.site)
    assert [checkpoint.layer for checkpoint in kept.checkpoints] == ["one", "two"]
    assert len({built.version.tag for built in (first, second, third)}) == 3
    assert workshop.find_leftovers() == []


@pytest.mark.parametrize("error", [Interrupted, PlaybookFailed])
def test_a_build_that_ends_early_keeps_what_is_finished(workshop: Workshop, error: type[Exception]) -> None:
    if error is PlaybookFailed:
        write(workshop, three="x'; exit 3; echo '")

    def interrupt(event: Event) -> None:
        if error is Interrupted and isinstance(event, StepStarted) and event.step == "layer three":
            raise Interrupted

    workshop.listeners.append(interrupt)
    with pytest.raises(error):
        workshop.build()
    workshop.listeners.remove(interrupt)
    (kept,) = cache.list_cache(workshop.site)
    assert [checkpoint.layer for checkpoint in kept.checkpoints] == ["one", "two"]
    assert not kept.in_use
    assert not workshop.site.node.guests.get_status(kept.vmid).running
    assert workshop.find_leftovers() == []
    list_ran(workshop)
    write(workshop)
    workshop.build()
    assert list_ran(workshop) == ["three"]


def test_what_a_killed_build_was_in_is_given_back(workshop: Workshop) -> None:
    """As after kill -9: a guest with finished layers that a journal names and a mark claims, running."""
    workshop.build()
    (kept,) = cache.list_cache(workshop.site)
    assert cache.claim_guest(workshop.site, kept.vmid, "0123456789ab")
    assert not cache.claim_guest(workshop.site, kept.vmid, "ba9876543210")
    site = workshop.site
    site.node.tasks.wait(site.node.guests.start(kept.vmid))
    folder = workshop.state / "runs" / "0123456789ab"
    folder.mkdir(parents=True)
    Journal(folder, Entry("0123456789ab", "build", site.name, "golden", (kept.vmid,))).write()
    list_ran(workshop)
    write(workshop, three="changed")
    workshop.build()
    assert list_ran(workshop) == ["three"]


def test_a_guest_that_another_build_is_in_is_left_alone(workshop: Workshop) -> None:
    workshop.build()
    (kept,) = cache.list_cache(workshop.site)
    assert cache.claim_guest(workshop.site, kept.vmid, "0123456789ab")
    list_ran(workshop)
    write(workshop, three="changed")
    workshop.build()
    assert list_ran(workshop) == ["one", "two", "three"]
    assert len(cache.list_cache(workshop.site)) == 2
    cache.release_guest(workshop.site, kept.vmid)


def test_another_image_with_the_same_layers_copies_them(workshop: Workshop, make_guest: Guests) -> None:
    workshop.build()
    list_ran(workshop)
    write(workshop, name="other", three="other")
    other = workshop.build()
    assert list_ran(workshop) == ["three"]
    assert look(other, make_guest) == {"one": "x", "two": "x", "three": "other"}
    assert sorted(guest.image for guest in cache.list_cache(workshop.site)) == ["golden", "other"]
    write(workshop, name="other", three="once more")
    workshop.build()
    assert list_ran(workshop) == ["three"]
    assert workshop.find_leftovers() == []


def test_packages_are_built_again_when_that_is_wanted(workshop: Workshop) -> None:
    variables = "layers: [{apps: [tree]}, {name: two, playbook: two.yml}]\n"
    workshop.write_image("[]", f"template_name: golden\n{variables}")
    workshop.build()
    assert list_ran(workshop) == ["apps", "two"]
    assert workshop.build(refresh=True).is_new
    assert list_ran(workshop) == ["apps", "two"]
    assert not workshop.build().is_new


def test_a_kept_guest_is_a_copy_and_the_layers_stay(workshop: Workshop) -> None:
    workshop.build()
    list_ran(workshop)
    write(workshop, three="changed")
    workshop.build(keep=True)
    assert list_ran(workshop) == ["three"]
    (kept,) = cache.list_cache(workshop.site)
    assert [checkpoint.layer for checkpoint in kept.checkpoints] == ["one", "two"]
    site = workshop.site
    (guest,) = [guest for guest in site.pve.list_guests() if "goldsmith-build" in guest.tags]
    site.node.tasks.wait(site.node.guests.destroy(guest.vmid, force=True))


def test_where_the_storage_makes_no_snapshots_nothing_is_kept(workshop: Workshop) -> None:
    with (workshop.directory / "vars.yml").open("a") as file:
        file.write("temp_disk_size: plain:4\n")
    workshop.build()
    assert cache.list_cache(workshop.site) == []
    assert not workshop.build().is_new


def test_what_is_edited_while_a_build_runs_is_never_taken_for_what_was_built(
    workshop: Workshop, make_guest: Guests
) -> None:
    def edit(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "keep layer one":
            write(workshop, three="edited")

    workshop.listeners.append(edit)
    workshop.build()
    workshop.listeners.remove(edit)
    assert list_ran(workshop) == ["one", "two", "three"]
    assert cache.list_cache(workshop.site) == []
    edited = workshop.build()
    assert list_ran(workshop) == ["one", "two", "three"]
    assert look(edited, make_guest)["three"] == "edited"


def test_an_image_that_names_its_address_is_not_in_its_own_way(workshop: Workshop) -> None:
    assert workshop.site.network is not None
    address = workshop.site.network.address_of(77)
    with (workshop.directory / "vars.yml").open("a") as file:
        file.write(f"temp_ip_address: {address}\n")
    workshop.build()
    (workshop.directory / "one.yml").write_text(LAYER.format(name="one", text="changed"))
    list_ran(workshop)
    workshop.build()
    assert list_ran(workshop) == ["one", "two", "three"]
    assert workshop.find_leftovers() == []
