"""A Proxmox on which there is no shell: images get there by the API, are tested, deployed and published there.

The embedded node plays both: the machine on which is built, and a Proxmox that somebody knows by a token alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from goldsmith.artifacts.export import digest_template, measure_template, write_template
from goldsmith.artifacts.tree import read_tree
from goldsmith.base.digest import digest_file
from goldsmith.base.errors import ConsoleFailed, FilesElsewhere, FleetError, PveError, ShellMissing, TaskFailed
from goldsmith.base.events import Event, Events, Transfer
from goldsmith.build.carry import name_template, open_cargo, upload
from goldsmith.build.delivery import Delivery, choose_delivery, make_local
from goldsmith.build.doctor.examine import examine
from goldsmith.build.facts import Site
from goldsmith.build.kept import find_backup, get_backup, remove_backup
from goldsmith.build.publish.places import Place
from goldsmith.build.publish.plan import plan_publish
from goldsmith.build.publish.run import run_publish
from goldsmith.build.run import Built, prepare_build, prepare_stages, run_build
from goldsmith.build.steps import KeepBackup, UploadTemplate
from goldsmith.build.trial.run import Subject, run_trials
from goldsmith.cli.site import open_own
from goldsmith.definition.image import Image
from goldsmith.pve.absent import AbsentShell
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount
from goldsmith.verify.outcome import Outcome, State
from tests.lxc.fleets import PLAYBOOK, Lab
from tests.lxc.guests import Guest, Guests, RunningNode
from tests.lxc.images import Workshop, open_site
from tests.lxc.limited import grant, open_limited
from tests.lxc.trials import Trials, list_failed

pytestmark = pytest.mark.root

VARIABLES = """
template_name: golden
proxmox_api_host: pve.example.com
proxmox_api_token_id: ci
proxmox_api_token_secret: x
proxmox_shell: none
without_shell: {way}
proxmox_storage: {storage}
temp_disk_size: "local:4"
temp_ip_address: dhcp
temp_bridge: vmbr0
publish: [plain, "pve:local"]
"""


@dataclass
class Yard:
    """An image, the machine that builds it (`workshop.site`), and the Proxmox without a shell."""

    workshop: Workshop
    proxmox: Site
    told: list[Event] = field(default_factory=list)

    @property
    def events(self) -> Events:
        return Events(self.told.append)

    def write(self, text: str, way: str = "upload") -> Image:
        storage = "plain" if way == "upload" else "local"  # which has the base image
        self.workshop.write_image(PLAYBOOK.format(text=text), VARIABLES.format(way=way, storage=storage))
        return self.workshop.load()

    def build(self, image: Image) -> Built:
        """Build here, upload there."""
        local, delivery = make_local(image), choose(image)
        workshop, site = self.workshop, self.workshop.site
        stages = prepare_stages(local, self.events)
        plan = prepare_build(local, site, stages, state=workshop.state, events=self.events, delivery=delivery)
        (step,) = [step for step in plan.steps if isinstance(step, UploadTemplate)]
        assert (step.node, step.storage) == ("pve", "plain")
        assert step.reason.startswith("proxmox_shell is none; built here, as without_shell says so")
        return run_build(
            plan, site=site, events=self.events, state=workshop.state, log=workshop.log, target=self.proxmox
        )

    def build_there(self, text: str, site: Site) -> Built:
        """Build on the Proxmox, and leave a backup there."""
        workshop, image = self.workshop, self.write(text, "backup")
        stages = prepare_stages(image, self.events)
        plan = prepare_build(image, site, stages, state=workshop.state, events=self.events, delivery=choose(image))
        (step,) = [step for step in plan.steps if isinstance(step, KeepBackup)]
        assert "the version in the repository has no files" in step.reason
        return run_build(plan, site=site, events=self.events, state=workshop.state, log=workshop.log)

    def list_templates(self, storage: str = "plain") -> dict[str, int]:
        return {one.name: one.size for one in self.proxmox.node.storage.list_content(storage, "vztmpl")}


def choose(image: Image) -> Delivery:
    delivery = choose_delivery(image, "pve", [])
    assert delivery is not None
    return delivery


def hide_shell(site: Site) -> Site:
    """A node as a Proxmox on which we have no shell, and whose network nobody has told us."""
    return replace(site, shell=AbsentShell("pve"), kind="proxmox", network=None, compress="zstd")


@pytest.fixture(scope="module")
def yard(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with open_site(node) as by_root, open_limited(node) as limited:
        yard = Yard(Workshop(tmp_path_factory.mktemp("project"), by_root), hide_shell(limited))
        image = yard.write("one")
        before = examine(image, yard.proxmox, choose(image))
        grant(node, next(finding.hint for finding in before if "pveum" in finding.hint).splitlines())
        yield yard
        for storage in ("plain", "local"):
            for volume in by_root.node.storage.list_content(storage, "vztmpl"):
                if volume.name.startswith("golden-"):
                    by_root.node.storage.delete_volume(volume.volid)


@pytest.fixture(scope="module")
def built(yard: Yard) -> Built:
    return yard.build(yard.write("one"))


def test_nothing_is_missing_for_somebody_with_what_doctor_prints(yard: Yard) -> None:
    image = yard.write("one")
    findings = examine(image, yard.proxmox, choose(image))
    assert [finding for finding in findings if finding.level != "ok"] == []
    (shell,) = [finding.message for finding in findings if finding.subject == "shell"]
    assert shell.startswith("none is wanted: proxmox_shell is none; built here")
    missing = {"VM.Backup", "VM.Snapshot"} & yard.proxmox.pve.find_privileges("/vms/900")
    assert missing == set(), "nobody dumps there"


def test_the_template_is_uploaded_whole_under_a_name_of_its_own(yard: Yard, built: Built, node: RunningNode) -> None:
    version, repository = built.version, Trials(yard.workshop).repository
    assert built.template == f"plain:vztmpl/{name_template(version)}"
    assert yard.list_templates()[name_template(version)] == measure_template(version)
    content = node.path(str(built.template)).read_bytes()
    assert "sha256:" + hashlib.sha256(content).hexdigest() == digest_template(repository, version)
    yard.told.clear()
    again = yard.build(yard.write("one"))
    assert (again.is_new, again.template) == (False, built.template)
    assert [event for event in yard.told if isinstance(event, Transfer)] == []
    yard.workshop.site.node.storage.delete_volume(str(built.template))
    assert yard.build(yard.write("one")).template == built.template
    assert name_template(version) in yard.list_templates()


def test_a_file_of_that_name_with_another_content_is_never_used(yard: Yard, built: Built, node: RunningNode) -> None:
    path = node.path(str(built.template))
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    try:
        with pytest.raises(PveError, match=f"has 1000 bytes, and what is to have that name has {len(content)}"):
            yard.build(yard.write("one"))
    finally:
        path.write_bytes(content)


def test_a_checksum_that_is_wrong_leaves_nothing(yard: Yard, built: Built) -> None:
    before = yard.list_templates()
    with open_cargo(Trials(yard.workshop).repository, built.version, name="golden-wrong.tar.zst") as cargo:
        wrong = replace(cargo, digest=built.version.digest)
        with pytest.raises(TaskFailed, match="checksum"):
            upload(wrong, yard.proxmox, "plain", yard.events)
    assert yard.list_templates() == before


def test_an_upload_that_is_broken_off_leaves_nothing_and_the_next_one_works(yard: Yard, built: Built) -> None:
    before = yard.list_templates()

    class Broken(Exception):
        """What ends it in the middle."""

    def hear(event: Event) -> None:
        if isinstance(event, Transfer) and event.done:
            raise Broken

    with open_cargo(Trials(yard.workshop).repository, built.version, name="golden-again.tar.zst") as cargo:
        with pytest.raises(Broken):
            upload(cargo, yard.proxmox, "plain", Events(hear))
        assert yard.list_templates() == before
        arrived = upload(cargo, yard.proxmox, "plain", yard.events)
    assert arrived.size == cargo.size


def test_a_version_is_published_to_two_storages_with_and_without_a_shell(
    yard: Yard, built: Built, node: RunningNode
) -> None:
    """A shell sees more: a file that somebody has changed, and left its size, is found."""
    version, repository = built.version, Trials(yard.workshop).repository
    places = (Place("pve", "plain", available=1 << 40), Place("pve", "local", available=1 << 40))
    volids = [f"{place.storage}:vztmpl/{name_template(version)}" for place in places]

    def publish(site: Site) -> list[str]:
        lying = {place: site.node.storage.list_content(place.storage, "vztmpl") for place in places}
        plan = plan_publish([version], places, lying)
        with open_cargo(repository, version) as cargo:
            done = run_publish(
                plan, {str(version): cargo}, lambda _: open_own(site), state=yard.workshop.state, events=yard.events
            )
            return [f"{one.state} {one.message}" for one in sorted(done, key=lambda one: one.publication.volid)]

    for site in (yard.proxmox, yard.workshop.site):
        for volid in volids:
            yard.workshop.site.node.storage.delete_volume(volid)
        assert publish(site) == ["sent it is not there yet"] * 2
        assert publish(site) == ["there it is there"] * 2
        wanted = digest_template(repository, version)
        assert {digest_file(node.path(volid)) for volid in volids} == {wanted}
    with node.path(volids[1]).open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    first, second = publish(yard.workshop.site)
    assert first.startswith("failed local:vztmpl/golden-")
    assert f"and {version} has {wanted}" in first
    assert second == "there it is there"
    yard.workshop.site.node.storage.delete_volume(volids[1])


def test_versions_are_tested_there_from_what_was_uploaded(yard: Yard, built: Built) -> None:
    trials, image, before = Trials(yard.workshop), yard.write("one"), yard.list_templates()
    (tested,) = run_trials([Subject(image, built.version, trials.repository, yard.proxmox)], trials.around())
    assert [one for one in tested.verdict.outcomes if isinstance(one, Outcome) and one.state == "error"] == []
    assert tested.verdict.state is State.PASSED, list_failed(tested.verdict)
    assert [event for event in yard.workshop.told if isinstance(event, Transfer)] == []
    assert yard.list_templates() == before


def test_servers_are_made_and_replaced_there(yard: Yard, built: Built) -> None:
    """Data is kept, and the backup is read back by being restored. What would need a shell is refused at once.

    The second version was not uploaded by its build: it is brought, and goes again.
    """
    by_root = hide_shell(yard.workshop.site)
    lab = Lab(replace(yard.workshop, site=by_root), yard.workshop.project / "inventory")
    with_network = Lab(yard.workshop, lab.folder)
    lab.hosts["db1"] = {
        "image": "golden", "address": with_network.address(7), "template_storage": "plain",
        "checks": [{"port": 22}], "data": [{"path": "/srv/data", "volume": "local:1"}],
        "backup": {"storage": "local", "keep": {"last": 2}}, "memory": 256,
    }  # fmt: skip
    with_network.hosts = lab.hosts
    try:
        before = yard.list_templates()
        first = lab.deploy("db1", built.version)
        with_network.run("db1", "echo precious > /srv/data/word")
        assert yard.list_templates() == before
        second = Trials(yard.workshop).spoil(built.version, {"etc/golden": b"two\n"})
        replaced = lab.deploy("db1", second)
        assert yard.list_templates() == before
        assert with_network.run("db1", "cat /etc/golden /srv/data/word") == "two\nprecious"
        assert lab.list_guests() == {first.vmid: "goldsmith-previous", replaced.vmid: "goldsmith-server running"}
        lab.hosts["db1"]["keep_host_keys"] = True
        with pytest.raises(FleetError, match="db1: keep_host_keys needs root's shell on pve"):
            lab.deploy("db1", built.version)
        with pytest.raises(ShellMissing, match="drift needs root's shell on pve"):
            by_root.need_shell("drift")
    finally:
        with_network.clear()


@pytest.fixture(scope="module")
def kept(yard: Yard) -> Iterator[Built]:
    """A version that is a backup on a Proxmox whose console lets a token in."""
    kept = yard.build_there("kept", open_minded(yard))
    yield kept
    remove_backup(kept.version, open_minded(yard))
    assert find_backup(kept.version, open_minded(yard)) is None


def open_minded(yard: Yard) -> Site:
    """Without a shell; its consoles let tokens in, as since 9.1."""
    return replace(hide_shell(yard.workshop.site), kind="embedded")


def test_an_image_may_stay_there_as_a_protected_backup(
    yard: Yard, kept: Built, node: RunningNode, make_guest: Guests
) -> None:
    """It carries what it is in its notes; guests of it are made with `restore`, and have ids and keys of their own."""
    site, version, repository = open_minded(yard), kept.version, Trials(yard.workshop).repository
    volume = get_backup(version, site)
    assert volume.protected
    assert (kept.template, version.backup, version.size) == (volume.volid, volume.volid, volume.size)
    assert volume.notes.splitlines()[0].startswith(f"{version}: a golden image of goldsmith, built upon debian-12")
    assert yard.workshop.find_leftovers() == []
    assert "openssh-server" in {package.name for package in repository.read_record(version).packages}
    again = yard.build_there("kept", site)
    assert (again.version, again.template, again.is_new) == (version, kept.template, False), "nothing has changed"
    guest = Guest(node, make_guest.claim())
    spec = ContainerSpec(vmid=guest.vmid, ostemplate=volume.volid, restore=True, unique=True, rootfs=Mount("local:4"))
    site.node.tasks.wait(site.node.guests.create_container(spec))
    assert not (guest.rootfs() / "etc/ssh/ssh_host_ed25519_key").exists(), "it makes its own keys"
    guest.start().wait_booted()
    assert guest.sh("cat /etc/golden") == "kept"
    assert len(guest.sh("cat /etc/machine-id")) == 32


def test_what_wants_its_files_is_refused(yard: Yard, kept: Built, tmp_path: Path) -> None:
    version, repository = kept.version, Trials(yard.workshop).repository
    for use in (
        lambda: read_tree(repository, version),
        lambda: write_template(repository, version, tmp_path / "template.tar.zst"),
        lambda: digest_template(repository, version),
    ):
        with pytest.raises(FilesElsewhere, match=f"{version} is the backup local:backup/vzdump-lxc-"):
            use()
    assert not list(tmp_path.iterdir())


def test_it_is_tested_there_through_the_console(yard: Yard, kept: Built) -> None:
    trials, site = Trials(yard.workshop), open_minded(yard)
    image = yard.write("kept", "backup")
    with pytest.raises(ConsoleFailed, match="cannot be entered"):  # a token, before 9.1
        list(run_trials([Subject(image, kept.version, trials.repository, hide_shell(site))], trials.around()))
    (tested,) = run_trials([Subject(image, kept.version, trials.repository, site)], trials.around())
    failed = [one for one in list_failed(tested.verdict) if "time-to-ready" not in str(one)]  # a console is slower
    assert failed == []
    assert [one for one in tested.verdict.outcomes if isinstance(one, Outcome) and one.state == "error"] == []
    assert {guest.vmid for guest in site.node.guests.list_guests()} == set()


def test_servers_are_made_of_it_and_replaced_by_it(yard: Yard, built: Built, kept: Built) -> None:
    site = open_minded(yard)
    lab = Lab(replace(yard.workshop, site=site), yard.workshop.project / "inventory")
    inside = Lab(yard.workshop, lab.folder)
    lab.hosts["db1"] = {
        "image": "golden", "address": inside.address(8), "template_storage": "plain", "checks": [{"port": 22}],
        "data": [{"path": "/srv/data", "volume": "local:1"}], "backup": {"storage": "local", "keep": {"last": 2}},
        "memory": 256,
    }  # fmt: skip
    inside.hosts = lab.hosts
    try:
        first = lab.deploy("db1", built.version)
        inside.run("db1", "echo precious > /srv/data/word")
        second = lab.deploy("db1", kept.version)
        assert inside.run("db1", "cat /etc/golden /srv/data/word") == "kept\nprecious"
        config = site.node.guests.get_config(second.vmid)
        assert "cmode" not in config.raw
        assert (config.hostname, config.memory, config.unprivileged) == ("db1", 256, True)
        assert lab.plan("db1", kept.version).action == "nothing"
        assert lab.list_guests() == {first.vmid: "goldsmith-previous", second.vmid: "goldsmith-server running"}
        lost = replace(kept.version, backup="local:backup/vzdump-lxc-100-2020_01_01-00_00_00.tar.zst")
        with pytest.raises(PveError, match=r"is the backup local:backup/vzdump-lxc-100-2020.* and pve has none that"):
            get_backup(lost, site)
    finally:
        lab.clear()
