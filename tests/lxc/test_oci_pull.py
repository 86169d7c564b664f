"""A node that plays Proxmox VE 9.1 pulls a version from Debian's docker-registry itself, and runs a guest of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import pytest
import zstandard
from proxmoxer import ResourceException

from goldsmith.artifacts.pulling import ensure_reference, name_pull_tag
from goldsmith.artifacts.repository import NewVersion, Repository, Version
from goldsmith.base.errors import ApiFailed, TaskFailed, UsageError
from goldsmith.base.events import Event, Events, LogLine, Notice
from goldsmith.build.facts import Site
from goldsmith.build.foreign import Carrier, find_foreign
from goldsmith.build.journal import open_journal
from goldsmith.build.templates import Bringing, ensure_version
from goldsmith.build.undo import Undo
from goldsmith.definition.image import Image
from goldsmith.definition.variables import Variables
from tests.contract.registry import RealRegistry
from tests.lxc.guests import Guests, RunningNode
from tests.lxc.images import open_site
from tests.unit.artifacts.making import make_record, put

pytestmark = pytest.mark.root


@pytest.fixture
def newer(node: RunningNode) -> Iterator[RunningNode]:
    """The node, playing 9.1 for the length of a test."""
    replace(node.settings, version="9.1.4").save()
    node.restart()
    yield node
    node.settings.save()
    node.restart()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    made = RealRegistry(tmp_path / "registry")
    made.start()
    yield made
    made.kill()


def store_debian(repository: Repository, template: Path) -> Version:
    """The base template as a version: layers of a whole Debian."""
    with template.open("rb") as file, repository.open_writer() as writer:
        plain = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        layers = writer.add_layers(cast(BinaryIO, plain))
        return writer.put(NewVersion(name="debian", layers=layers, record=make_record()))


def bring_squashed(site: Site, base: str, folder: Path) -> str:
    """Bring an image as one that somebody else has made: laid together into a template."""
    found = find_foreign(Image("golden", folder, folder, Variables(base_image=base)), site)
    assert found is not None
    assert found.stored is None  # it lies in another registry than the image's own
    carrier = Carrier(site, "local", folder / "state", Events(), lambda _: None)
    return carrier.ensure(found).volid


def test_a_version_is_pulled_by_the_node_and_runs(
    newer: RunningNode, registry: RealRegistry, make_guest: Guests, tmp_path: Path
) -> None:
    repository = registry.open("golden")
    version = store_debian(repository, newer.path(newer.template))
    reference = ensure_reference(repository, version)
    assert reference == f"{registry.host}/golden/debian:{version.tag}-{version.digest[7:23]}"
    assert ensure_reference(repository, version) == reference
    with open_site(newer) as site:
        assert site.pve.version().text == "9.1.4"
        volume = site.node.storage.pull_image("local", reference, "pulled")
        assert (volume.volid, volume.format) == ("local:vztmpl/pulled.tar", "tar")
        with pytest.raises(UsageError, match="files are never overwritten"):
            site.node.storage.pull_image("local", reference, "pulled")
        squashed = bring_squashed(site, f"oci://{reference}", tmp_path)
        try:
            for volid in (volume.volid, squashed):
                guest = make_guest(ostemplate=volid, start=True).wait_booted()
                assert guest.sh("ls -l /dev/null >/dev/null; dpkg --print-architecture").endswith("amd64")
                assert guest.config["ostype"] == "debian"
        finally:
            for volid in (volume.volid, squashed):
                site.node.storage.delete_volume(volid)
    assert repository.store.prune([("debian", version.tag)])[0] == [("debian", version.tag)]
    assert repository.store.list_tags("debian") == []  # the tag for pulling does not keep it


@contextmanager
def open_bringing(node: RunningNode, state: Path, told: list[Event]) -> Iterator[Bringing]:
    """Who wants templates on a site whose node is to pull them."""
    events = Events(told.append)
    with (
        open_site(node) as site,
        open_journal(state, "test", site=site.name, image="debian") as journal,
        Undo(events, journal) as undo,
    ):
        yield Bringing(replace(site, pulls=True), "local", journal, undo, events)


def test_a_run_has_its_version_pulled_and_removed_again(
    newer: RunningNode, registry: RealRegistry, make_guest: Guests, tmp_path: Path
) -> None:
    repository, told = registry.open("golden"), list[Event]()
    version = store_debian(repository, newer.path(newer.template))
    with open_bringing(newer, tmp_path / "state", told) as bringing:
        volid = ensure_version(version, repository, bringing)
        assert volid.endswith(f"{bringing.journal.run_id}.tar")
        assert make_guest(ostemplate=volid, start=True).wait_booted().config["ostype"] == "debian"
        assert [event for event in told if isinstance(event, LogLine) and event.source == "pull"]
    with open_site(newer) as site:
        assert site.node.storage.find_volume(volid) is None


def test_a_node_that_cannot_pull_is_sent_the_version(node: RunningNode, registry: RealRegistry, tmp_path: Path) -> None:
    repository, told = registry.open("golden"), list[Event]()
    version = put(repository)
    with open_bringing(node, tmp_path / "state", told) as bringing:
        assert ensure_version(version, repository, bringing).endswith(".tar.zst")
    (notice,) = [event.message for event in told if isinstance(event, Notice)]
    assert "cannot pull, which Proxmox VE can since 9.1; it is sent" in notice


def test_what_cannot_be_pulled_or_run_leaves_nothing(newer: RunningNode, registry: RealRegistry) -> None:
    with open_site(newer) as site:
        with pytest.raises(TaskFailed, match="skopeo failed"):
            site.node.storage.pull_image("local", f"{registry.host}/golden/none:1", "none")
        with pytest.raises(ApiFailed, match="does not match the regex pattern"):
            site.node.storage.pull_image("local", f"{registry.host}/golden/none@sha256:{'0' * 64}", "none")
    cache = newer.path(newer.template).parent
    assert not [path for path in cache.iterdir() if "none" in path.name]
    assert list(cache.parents[1].glob(".upload/*")) == []


def test_a_node_of_before_9_1_does_not_know_how(node: RunningNode) -> None:
    with pytest.raises(ResourceException) as caught:
        node.api.nodes("pve").storage("local")("oci-registry-pull").post(reference="x/y:1")
    assert caught.value.status_code == 501


def test_a_tag_for_pulling_names_version_and_digest(registry: RealRegistry) -> None:
    version = put(registry.open("golden"))
    assert name_pull_tag(version) == f"{version.tag}-{version.digest[7:23]}"
