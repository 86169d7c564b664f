"""A node that plays Proxmox VE 9.1 pulls a version from Debian's docker-registry itself, and runs a guest of it.

For a run that wants it, and for good, where it is published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
import zstandard
from proxmoxer import ResourceException

from goldsmith.artifacts.pulling import ensure_reference, measure_archive, name_pull_tag
from goldsmith.artifacts.repository import NewVersion, Repository, Version
from goldsmith.base.errors import ApiFailed, PermissionMissing, TaskFailed, UsageError
from goldsmith.base.events import Event, Events, LogLine, Notice
from goldsmith.build.carry import TemplateClash, name_archive, name_template
from goldsmith.build.facts import Site
from goldsmith.build.foreign import Carrier, find_foreign
from goldsmith.build.journal import open_journal
from goldsmith.build.pull import ensure_pulled, find_pulled
from goldsmith.build.templates import Bringing, ensure_version
from goldsmith.build.undo import Undo
from goldsmith.cli.main import run
from goldsmith.definition.image import Image
from goldsmith.definition.variables import Variables
from goldsmith.node import daemon
from goldsmith.pve.absent import AbsentShell
from tests.contract.registry import RealRegistry
from tests.lxc.guests import Guests, RunningNode
from tests.lxc.images import open_site
from tests.lxc.limited import grant, open_limited
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


# --- published


VARIABLES = """
template_name: debian
proxmox_api_host: "{host}:{port}"
proxmox_api_token_id: "{token}"
proxmox_ca_file: "{ca_file}"
proxmox_shell: none
proxmox_pull: true
repository: oci://{registry}/golden
temp_ip_address: dhcp
publish: local
"""


@dataclass
class Shop:
    """A project whose versions are in a registry, at the command line."""

    node: RunningNode
    registry: RealRegistry
    said: pytest.CaptureFixture[str]

    @property
    def repository(self) -> Repository:
        return self.registry.open("golden")

    def goldsmith(self, *words: str) -> Any:
        """Run a command and return the document that it said."""
        return json.loads(self._run(*words))

    def publish(self, *words: str) -> dict[str, str]:
        """Publish, and return how it went with each version."""
        told = [json.loads(line) for line in self._run("publish", *words, "--untested").splitlines()]
        return {one["version"]: one["state"] for one in told if one["event"] == "published"}

    def _run(self, *words: str) -> str:
        assert run([*words, "--json"]) == 0, self.said.readouterr()
        return self.said.readouterr().out

    def list_templates(self) -> set[str]:
        """The names of all that is called like a version."""
        cache = self.node.path(self.node.template).parent
        return {path.name for path in cache.iterdir() if path.name.startswith("debian-2026")}

    def count_sent(self, version: Version) -> int:
        """How many times the registry has handed out layers of a version."""
        return sum(len(self.registry.list_calls("GET", layer.digest)) for layer in version.layers)


@pytest.fixture
def shop(
    node: RunningNode, registry: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:  # fmt: skip
    """Of a node as it is; with `newer`, of one that pulls. What was published is gone afterwards."""
    access, folder = daemon.start(node.settings), tmp_path / "images/debian"
    text = VARIABLES.format(
        host=access.address.host, port=access.address.port, token=access.token_id, ca_file=access.address.ca_file,
        registry=registry.host,
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "vars.yml").write_text(text)
    (folder / "playbook.yml").write_text("- hosts: all\n  tasks: []\n")
    monkeypatch.chdir(tmp_path)
    for name, value in {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PROXMOX_API_TOKEN_SECRET", access.token_secret.reveal())
    made = Shop(node, registry, capsys)
    yield made
    for name in made.list_templates():
        node.path(f"local:vztmpl/{name}").unlink()


def test_a_version_is_published_by_pulling_runs_and_is_withdrawn(
    newer: RunningNode, shop: Shop, make_guest: Guests, tmp_path: Path
) -> None:
    old = store_debian(shop.repository, newer.path(newer.template))
    volid = f"local:vztmpl/{name_archive(old)}"
    (planned,) = shop.goldsmith("publish", str(old), "--untested", "--check")["plan"]
    assert (planned["action"], planned["volid"]) == ("pull", volid)
    assert planned["reason"] == f"it is not there yet; the node pulls it from oci://{shop.registry.host}/golden"
    assert shop.list_templates() == set()
    assert shop.publish(str(old)) == {str(old): "pulled"}
    assert shop.list_templates() == {name_archive(old)}
    assert newer.path(volid).stat().st_size in measure_archive(old)
    sent = shop.count_sent(old)
    assert shop.publish(str(old)) == {str(old): "there"}
    assert shop.count_sent(old) == sent

    told: list[Event] = []
    with open_bringing(newer, tmp_path / "work", told) as bringing:  # with a shell, so that it is read again
        assert ensure_version(old, shop.repository, bringing) == volid
    assert [event for event in told if isinstance(event, LogLine | Notice)] == []
    guest = make_guest(ostemplate=volid, start=True).wait_booted()
    assert guest.config["ostype"] == "debian"

    new = put(shop.repository, "debian", b"two")
    assert shop.publish(str(new)) == {str(new): "pulled"}
    (place,) = shop.goldsmith("images", "where")["places"]
    states = {one["volid"].rpartition("/")[2]: one["state"] for one in place["templates"]}
    assert {name_archive(old): "published", name_archive(new): "published"}.items() <= states.items()
    assert set(states.values()) == {"published", "stranger"}
    shop.goldsmith("images", "withdraw", "--keep-last", "1", "--yes")
    assert shop.list_templates() == {name_archive(new)}
    assert guest.sh("cat /etc/debian_version"), "it does not need what it was made of"


def test_a_node_that_cannot_pull_is_sent_what_is_published(shop: Shop) -> None:
    version = put(shop.repository, "debian")
    assert run(["publish", str(version), "--untested"]) == 0
    told = shop.said.readouterr()
    assert f"{version} is sent to pve:local: pve runs " in told.err
    assert "cannot pull, which Proxmox VE can since 9.1" in told.err
    assert "1 sent" in told.err
    assert shop.list_templates() == {name_template(version)}
    assert shop.publish(str(version)) == {str(version): "there"}


def test_what_was_sent_is_not_pulled_when_the_node_can(node: RunningNode, shop: Shop) -> None:
    version = put(shop.repository, "debian")
    shop.publish(str(version))
    replace(node.settings, version="9.1.4").save()
    node.restart()
    try:
        assert shop.publish(str(version)) == {str(version): "there"}
        assert shop.list_templates() == {name_template(version)}
    finally:
        node.settings.save()
        node.restart()


def flip(content: bytes, at: int) -> bytes:
    """Change a bit, and leave the size."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_what_is_damaged_in_the_registry_is_not_published_and_the_rest_is(newer: RunningNode, shop: Shop) -> None:
    torn, whole = put(shop.repository, "debian", b"torn"), put(shop.repository, "debian", b"whole")
    digits = torn.layers[0].digest.partition(":")[2]
    (blob,) = shop.registry.folder.glob(f"data/**/blobs/sha256/{digits[:2]}/{digits}/data")
    blob.write_bytes(flip(blob.read_bytes(), 50))
    assert run(["publish", str(torn), str(whole), "--untested"]) == 5
    told = shop.said.readouterr()
    assert f"{torn} is not on pve:local: " in told.err
    assert "skopeo failed" in told.err
    assert f"it is pve that pulls: it must reach {shop.registry.host}" in told.err
    assert "Traceback" not in told.err
    assert told.out == f"{whole} local:vztmpl/{name_archive(whole)} pve\n"
    assert shop.list_templates() == {name_archive(whole)}
    assert list(newer.path(newer.template).parents[2].glob(".upload/*")) == []


def test_an_archive_that_somebody_changed_is_neither_used_nor_overwritten(
    newer: RunningNode, shop: Shop, tmp_path: Path
) -> None:
    """Where there is a shell: each blob in it is read, and there must be the version's and no others."""
    version, other = put(shop.repository, "debian", b"one" * 9999), put(shop.repository, "debian", b"other" * 9999)
    told: list[Event] = []
    with open_site(newer) as site:
        path = newer.path(ensure_pulled(version, shop.repository, site, "local", Events()).volid)
        content = path.read_bytes()
        different = newer.path(ensure_pulled(other, shop.repository, site, "local", Events()).volid).read_bytes()
        layer = version.layers[-1].digest.partition(":")[2]
        header = content.index(f"blobs/sha256/{layer}".encode())
        for spoiled, why in (
            (flip(content, header + 520), f"blob sha256:{layer} is damaged"),
            (flip(content, header), "it cannot be read"),
            (different, "is missing"),
        ):
            path.write_bytes(spoiled)
            with pytest.raises(TemplateClash, match=why):
                ensure_pulled(version, shop.repository, site, "local", Events())
            assert path.read_bytes() == spoiled
        with open_bringing(newer, tmp_path / "work", told) as bringing:
            assert ensure_version(version, shop.repository, bringing).endswith(f"{bringing.journal.run_id}.tar")
        path.write_bytes(content)
        assert find_pulled(version, site, "local") is not None
    (notice,) = [event.message for event in told if isinstance(event, Notice)]
    assert notice.endswith("is missing; it is not used")


def test_who_may_not_let_the_node_into_the_network_is_told_what_that_takes(newer: RunningNode, shop: Shop) -> None:
    version = put(shop.repository, "debian")
    with open_limited(newer) as site:
        grant(newer, [
            'pveum role add GoldsmithStore --privs "Datastore.AllocateTemplate Datastore.Audit"',
            f"pveum acl modify /storage/local --roles GoldsmithStore --users {site.pve.user.partition('!')[0]}",
            f"pveum acl modify /storage/local --roles GoldsmithStore --tokens {site.pve.user}",
        ])  # fmt: skip
        with pytest.raises(PermissionMissing) as refused:
            ensure_pulled(version, shop.repository, replace(site, shell=AbsentShell("pve")), "local", Events())
    assert "Sys.AccessNetwork on /nodes/pve" in refused.value.hint
    assert shop.list_templates() == set()
