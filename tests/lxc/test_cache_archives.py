"""Layers that are kept as archives, where the storage of the guest makes no snapshots: with real guests and dumps."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from goldsmith.base.errors import GuestError, Interrupted
from goldsmith.base.events import Event, Events, LogLine, Notice, StepStarted
from goldsmith.build.cache import guests as cache
from goldsmith.build.cache.archives import CacheArchive, drop_archive, list_archives, open_archive
from goldsmith.build.cache.prune import PruneRule, plan_prune, prune_cache, read_kept
from goldsmith.build.journal import Entry, Journal, render_mark
from goldsmith.build.sweep import sweep_orphans
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount
from tests.lxc.guests import Guests, RunningNode
from tests.lxc.layers import LayeredWorkshop, look, open_workshop

pytestmark = pytest.mark.root
LAYERS = (
    "layers: [{apps: [tree]}, {name: two, playbook: two.yml}, {name: three, playbook: three.yml}]\n"
    "temp_disk_size: plain:4\n"  # a directory with raw images
)
KEPT = ["apps", "two"]


@pytest.fixture(scope="module")
def shared(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LayeredWorkshop]:
    with open_workshop(node, tmp_path_factory, LAYERS, KEPT) as workshop:
        yield workshop


@pytest.fixture
def workshop(shared: LayeredWorkshop) -> LayeredWorkshop:
    """The project with archives of layers apps and two of the image."""
    shared.ensure()
    return shared


def find_archives(workshop: LayeredWorkshop, image: str = "golden") -> dict[str, CacheArchive]:
    return {archive.layer: archive for archive in list_archives(workshop.site) if archive.image == image}


def list_files(node: RunningNode) -> list[str]:
    """What is in the folder of dumps but logs."""
    folder = node.node.storage("local").folder("backup")
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".log")


def test_layers_from_the_change_on_are_built_upon_an_archive(workshop: LayeredWorkshop, make_guest: Guests) -> None:
    kept = find_archives(workshop)
    assert workshop.list_kept() == KEPT
    assert cache.list_cache(workshop.site) == []
    assert workshop.find_leftovers() == []
    volumes = {volume.volid: volume for volume in workshop.site.node.storage.list_content("local", "backup")}
    assert all(volumes[archive.volid].protected for archive in kept.values())
    workshop.describe(three="changed")
    first = workshop.build()
    assert not workshop.build().is_new
    assert workshop.list_ran() == ["three"]
    assert look(first, make_guest) == {"two": "x", "three": "changed"}
    assert find_archives(workshop)["two"].since == kept["two"].since
    workshop.describe(two="changed")
    second = workshop.build()
    assert workshop.list_ran() == ["two", "three"]
    assert look(second, make_guest) == {"two": "changed", "three": "x"}
    again = find_archives(workshop)
    assert workshop.list_kept() == KEPT
    assert again["apps"].volid == kept["apps"].volid
    assert again["two"].volid != kept["two"].volid
    assert again["two"].since[0] == kept["apps"].since[0]
    assert workshop.find_leftovers() == []


def test_another_image_goes_on_from_the_same_archives_and_takes_none_away(
    workshop: LayeredWorkshop, make_guest: Guests
) -> None:
    before = {layer: archive.volid for layer, archive in find_archives(workshop).items()}
    two = workshop.texts["two"]
    workshop.describe(name="other", three="other")
    other = workshop.build()
    assert workshop.list_ran() == ["three"]
    assert look(other, make_guest) == {"two": two, "three": "other"}
    workshop.describe(name="other", two="other")
    workshop.build()
    assert workshop.list_ran() == ["two", "three"]
    workshop.describe(two=two)
    assert {layer: archive.volid for layer, archive in find_archives(workshop).items()} == before
    own = find_archives(workshop, "other")
    assert list(own) == ["two"]
    drop_archive(workshop.site, own["two"].volid)


def test_a_guest_with_snapshots_can_be_made_of_an_archive(workshop: LayeredWorkshop) -> None:
    """The disk goes to another storage from one build to the next."""
    workshop.describe(layers=LAYERS.replace("plain", "local"), three="elsewhere")
    workshop.build()
    assert workshop.list_ran() == ["three"]
    (kept,) = cache.list_cache(workshop.site)
    assert kept.disk.startswith("local:")
    assert [checkpoint.layer for checkpoint in kept.checkpoints] == ["two"]
    assert kept.checkpoints[0].since == find_archives(workshop)["two"].since
    cache.drop_guest(workshop.site, kept.vmid)


def test_packages_are_built_again_when_that_is_wanted(workshop: LayeredWorkshop) -> None:
    before = find_archives(workshop)
    workshop.build(refresh=True)
    assert workshop.list_ran() == ["apps", "two", "three"]
    assert workshop.list_kept() == KEPT
    after = find_archives(workshop)
    assert all(after[layer].key == before[layer].key for layer in KEPT)
    assert all(after[layer].since[0] > before[layer].since[0] for layer in KEPT)
    assert not workshop.build().is_new


def test_a_dump_that_is_cut_off_is_no_archive(workshop: LayeredWorkshop, node: RunningNode) -> None:
    before, files = list_archives(workshop.site), list_files(node)

    def interrupt(event: Event) -> None:
        if isinstance(event, LogLine) and "creating vzdump archive" in event.line:
            raise Interrupted

    workshop.describe(two="cut off")
    workshop.listeners.append(interrupt)
    with pytest.raises(Interrupted):
        workshop.build()
    workshop.listeners.remove(interrupt)
    assert [one.volid for one in list_archives(workshop.site)] == [one.volid for one in before]
    assert list_files(node) == files
    assert workshop.find_leftovers() == []


def test_a_whole_dump_is_no_archive_before_it_says_so(workshop: LayeredWorkshop) -> None:
    """As after kill -9 between dump and notes: a journal names the storage, and the dump has the build's mark."""
    before, site = list_archives(workshop.site), workshop.site
    spec = ContainerSpec(vmid=980, ostemplate=before[0].volid, restore=True, rootfs=Mount("plain:4"))
    site.node.tasks.wait(site.node.guests.create_container(spec))
    dump = site.node.backups.create(
        980, storage="local", notes=f"**goldsmith** makes golden\n\n{render_mark('0123456789ab')}"
    )
    site.node.tasks.wait(site.node.guests.destroy(980))
    assert list_archives(site) == before
    folder = workshop.state / "runs" / "0123456789ab"
    folder.mkdir(parents=True)
    Journal(folder, Entry("0123456789ab", "build", site.name, "golden", dump_storage="local")).write()
    sweep_orphans(site, workshop.state, Events())
    assert site.node.storage.find_volume(dump.volid) is None
    assert list_archives(site) == before
    assert workshop.find_leftovers() == []


def test_an_archive_of_another_size_is_none(workshop: LayeredWorkshop, node: RunningNode) -> None:
    archives = find_archives(workshop)
    path = node.path(archives["two"].volid)
    os.truncate(path, archives["two"].size + 1)
    assert list_archives(workshop.site) == [archives["apps"]]
    os.truncate(path, archives["two"].size)
    assert find_archives(workshop) == archives


def test_a_dump_that_fails_keeps_no_layer_and_ends_no_build(workshop: LayeredWorkshop, node: RunningNode) -> None:
    folder = node.node.storage("local").folder("backup")
    away = folder.with_name("away")

    def hide(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "keep layer two":
            folder.rename(away)
        elif isinstance(event, StepStarted) and event.step == "layer three":
            away.rename(folder)

    workshop.describe(two="not kept")
    workshop.listeners.append(hide)
    assert workshop.build().is_new
    workshop.listeners.remove(hide)
    told = [event.message for event in workshop.told if isinstance(event, Notice) and event.level == "warning"]
    assert all(text.startswith("layer two is not kept, the next build makes it again: ") for text in told)
    assert len(told) == 1
    assert workshop.find_leftovers() == []


def test_an_archive_that_goes_while_a_build_begins_is_told(workshop: LayeredWorkshop, node: RunningNode) -> None:
    path = node.path(find_archives(workshop)["two"].volid)
    away = path.with_name("away")

    def remove(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "base image debian-12-standard":
            path.rename(away)

    workshop.describe(three="too late")
    workshop.listeners.append(remove)
    with pytest.raises(GuestError, match="which had layer two, is gone") as caught:
        workshop.build()
    workshop.listeners.remove(remove)
    away.rename(path)
    assert caught.value.hint == "run the command again"
    digesting = ["pgrep", "-f", f"sha256sum.*{node.settings.state}"]
    assert subprocess.run(digesting, capture_output=True, text=True, check=False).stdout == ""  # of the base image
    assert workshop.find_leftovers() == []


def test_an_archive_that_a_build_uses_is_not_removed(workshop: LayeredWorkshop) -> None:
    site, archive = workshop.site, find_archives(workshop)["two"]
    rule = PruneRule(frozenset({archive.volid}))
    (asked,) = plan_prune(read_kept(site), rule, now=0)
    with open_archive(site, archive.volid, "0123456789ab"):
        with open_archive(site, archive.volid, "ba9876543210"):
            pass
        assert plan_prune(read_kept(site), rule, now=0) == []
        assert not prune_cache(site, asked, state=workshop.state)
    assert prune_cache(site, asked, state=workshop.state)
    assert [one.layer for one in list_archives(site)] == ["apps"]
    with open_archive(site, archive.volid, "0123456789ab") as gone:
        assert gone is None
