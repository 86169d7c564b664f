"""The image that goldsmith ships, built for real; then guests made from it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from passlib.hash import sha512_crypt

from goldsmith.artifacts.diff import diff_trees
from goldsmith.artifacts.repository import open_repository
from goldsmith.artifacts.tree import read_trees
from goldsmith.base.events import ImageBuilt, PlaybookTask, StepFinished, StepStarted, Transfer, Undone
from goldsmith.build.run import Built
from tests.lxc.guests import Guest, Guests, RunningNode, wait_until
from tests.lxc.images import PASSWORD, Workshop, open_site

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def workshop(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_site(node) as site:
        made = Workshop(tmp_path_factory.mktemp("project"), site)
        made.take_default_image()
        key = made.project / "me"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        with (made.directory / "vars.yml").open("a") as file:
            file.write(f"ssh_key_file: {key}.pub\ntemplate_uid_note: extra\nservice_token: not-for-artifacts\n")
        yield made


@pytest.fixture(scope="module")
def built(workshop: Workshop) -> Built:
    return workshop.build()


@pytest.fixture(scope="module")
def content(built: Built) -> dict[str, tarfile.TarInfo]:
    """Everything in the template, by path."""
    with open_archive(Path(built.template)) as archive:
        return {member.name.removeprefix("./").rstrip("/"): member for member in archive}


def open_archive(path: Path) -> tarfile.TarFile:
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
        return tarfile.open(fileobj=io.BytesIO(stream.read()))


def start_from(built: Built, make_guest: Guests) -> Guest:
    return make_guest(ostemplate=f"local:vztmpl/{built.template.name}", start=True).wait_booted()


def test_a_guest_of_the_image_has_what_the_variables_say(built: Built, workshop: Workshop, make_guest: Guests) -> None:
    guest = start_from(built, make_guest)
    assert guest.sh("systemctl is-system-running") == "running"
    assert guest.sh("id ops").startswith("uid=1000(ops) gid=1000(ops)")
    assert "sudo" in guest.sh("id -nG ops").split()
    shadow = guest.sh("getent shadow ops").split(":")
    assert sha512_crypt.verify(PASSWORD, shadow[1])
    assert shadow[2] == "0"  # must change it at the first login
    assert guest.sh("cat /home/ops/.ssh/authorized_keys") == (workshop.project / "me.pub").read_text().strip()
    modes = guest.sh("stat -c '%a %U' /home/ops/.ssh /home/ops/.ssh/authorized_keys")
    assert modes.split() == ["700", "ops", "600", "ops"]
    as_user = "setpriv --reuid=ops --regid=ops --init-groups env HOME=/home/ops"
    config = guest.sh(f"{as_user} git config --global user.name; {as_user} git config --global user.email")
    assert config.split("\n") == ["Ops", "ops@example.com"]
    for package in ("curl", "git", "htop", "sudo"):
        assert guest.sh(f"dpkg-query -W -f '${{db:Status-Status}}' {package}") == "installed"
    address = guest.on.address(guest.vmid)
    login = ["ssh", "-F", "none", "-i", str(workshop.project / "me"), "-o", "StrictHostKeyChecking=no", "-o"]
    login += ["UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", f"ops@{address}", "true"]
    said = subprocess.run(login, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert "password" in (said.stderr + said.stdout).lower()  # let in by the key, then asked for a new password
    assert "Permission denied" not in said.stderr


def test_two_guests_of_one_image_have_keys_and_ids_of_their_own(built: Built, make_guest: Guests) -> None:
    guests = [start_from(built, make_guest) for _ in range(2)]
    keys = [guest.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1] for guest in guests]
    ids = [guest.sh("cat /etc/machine-id") for guest in guests]
    assert keys[0] != keys[1]
    assert ids[0] != ids[1]
    assert all(len(text) == 32 for text in ids)


def test_host_keys_are_made_at_boot_also_where_no_node_makes_them(built: Built, make_guest: Guests) -> None:
    guest = make_guest(ostemplate=f"local:vztmpl/{built.template.name}")
    for key in (guest.rootfs() / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    guest.start().wait_booted()
    assert guest.sh("ls /etc/ssh/ssh_host_ed25519_key.pub /etc/ssh/ssh_host_rsa_key.pub")
    assert guest.sh("systemctl is-active ssh") == "active"


def test_nothing_of_the_build_guest_is_in_the_image(content: dict[str, tarfile.TarInfo]) -> None:
    files = {name: member for name, member in content.items() if member.isreg()}

    def below(*folders: str) -> list[str]:
        return [name for name in content for folder in folders if name.startswith(f"{folder}/")]

    def with_content(*folders: str) -> list[str]:
        return [name for name in below(*folders) if name in files and files[name].size]

    assert files["etc/machine-id"].size == 0
    assert not [name for name in content if name.startswith("etc/ssh/ssh_host_")]
    assert not below("root/.ssh", "tmp", "var/tmp", "root/.ansible", "home/ops/.ansible")
    assert not with_content("var/log", "var/lib/apt/lists", "var/cache/apt", "var/lib/dhcp", "var/backups", "run")
    assert not below("var/log/journal")
    unwanted = [
        "etc/dpkg/dpkg.cfg.d/zz-goldsmith-build", "etc/apt/apt.conf.d/zz-goldsmith-build", "root/.bash_history",
        "var/lib/systemd/random-seed", "etc/vzdump/pct.conf", "etc/shadow-",
    ]  # fmt: skip
    assert not [name for name in unwanted if name in content]
    assert "etc/apt/sources.list" in content
    assert "var/lib/apt/lists/partial" in content  # apt needs it


def test_the_network_of_the_build_guest_is_not_in_the_image(built: Built, workshop: Workshop) -> None:
    with open_archive(Path(built.template)) as archive:
        for name in ("etc/hosts", "etc/hostname", "etc/network/interfaces", "etc/resolv.conf"):
            file = archive.extractfile(name)
            assert file is not None
            text = file.read().decode()
            assert "-build" not in text
            assert "PVE" not in text
            assert workshop.site.network is not None
            assert str(workshop.site.network.address_of(900).ip).rpartition(".")[0] not in text


def test_the_record_says_what_the_version_was_made_of(built: Built, workshop: Workshop) -> None:
    repository = open_repository(workshop.load().repository)
    record = repository.read_record(built.version)
    assert record.image == "debian-12-golden"
    assert record.base_name.startswith("debian-12-standard_")
    assert len(record.base_digest) == len("sha256:") + 64
    assert record.variables["template_user"] == "ops"
    assert record.variables["service_token"] == "(withheld)"
    assert {"goldsmith", "ansible-core", "mitogen"} <= record.tools.keys()
    assert {"git", "curl", "htop"} <= {package.name for package in record.packages}
    assert record.node_kind == "embedded"
    assert 0 < record.seconds < 600
    assert repository.verify() == []
    text = b"".join(
        path.read_bytes() for path in repository.path.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20
    )
    assert PASSWORD.encode() not in text
    assert b"not-for-artifacts" not in text


def test_the_events_tell_the_whole_story(built: Built, workshop: Workshop) -> None:
    steps = [event for event in workshop.told if isinstance(event, StepStarted)][:12]
    assert [step.index for step in steps] == list(range(1, 13))
    assert {step.total for step in steps} == {12}
    assert len([event for event in workshop.told if isinstance(event, StepFinished)]) >= 12
    tasks = [event.task for event in workshop.told if isinstance(event, PlaybookTask)]
    assert "Install packages" in tasks
    assert [event for event in workshop.told if isinstance(event, Transfer) and event.done == event.total]
    undone = [event.what for event in workshop.told if isinstance(event, Undone)]
    assert undone == ["the dump"]
    (announced,) = [event for event in workshop.told if isinstance(event, ImageBuilt)][:1]
    assert (announced.version, announced.template) == (built.version.reference, str(built.template))
    assert PASSWORD not in str(workshop.told)


def test_nothing_is_left_on_the_node_or_this_machine(built: Built, workshop: Workshop) -> None:
    assert built.version.name == "debian-12-golden"
    assert workshop.find_leftovers() == []


def test_a_second_build_is_the_same_and_overwrites_nothing(built: Built, workshop: Workshop) -> None:
    """All layers of the image that goldsmith ships; the first build has unpacked its base, the second copies that."""
    first = Path(built.template).read_bytes()
    second = workshop.build(refresh=True)
    repository = open_repository(workshop.load().repository)
    assert diff_trees(*read_trees(repository, [built.version, second.version])) == []
    assert [layer.digest for layer in second.version.layers] == [layer.digest for layer in built.version.layers]
    assert Path(second.template).read_bytes() == first
    assert second.template.name == built.template.name.replace(".tar.zst", ".2.tar.zst")
    assert second.version.tag == built.version.tag.replace(".1", ".2")
    assert Path(built.template).read_bytes() == first
    wait_until(lambda: not workshop.find_leftovers(), what="nothing left")


def test_a_build_that_goes_on_from_a_kept_layer_is_the_same_too(built: Built, workshop: Workshop) -> None:
    """The last of this module: the versions go, so that something is built of what has not changed."""
    repository = open_repository(workshop.load().repository)
    versions = repository.list_versions(built.version.name)
    repository.store.prune([(version.name, version.tag) for version in versions])
    workshop.told.clear()
    again = workshop.build()
    assert "layer packages" not in [event.step for event in workshop.told if isinstance(event, StepStarted)]
    assert [layer.digest for layer in again.version.layers] == [layer.digest for layer in built.version.layers]
