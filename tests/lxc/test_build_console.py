"""A whole build, and a test of what it made, through the console: its guest's network is unplugged all the time."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator

import pytest

from goldsmith.base.events import Event, Notice, StepFinished, StepStarted
from goldsmith.build import guest as ssh_ways
from goldsmith.build.cache import guests as cache
from goldsmith.provision.downloads.store import Store
from goldsmith.pve.properties import render_net
from goldsmith.verify.outcome import State
from tests.lxc.guests import RunningNode
from tests.lxc.images import Workshop, open_site
from tests.lxc.layers import drop_layers
from tests.lxc.trials import Trials

pytestmark = pytest.mark.root
CONSOLE = "guest_connection: console\ntest_connection: console\nhygiene_limits: {time-to-ready: 60}\n"
LAYERS = """
layers:
  - {name: base, playbook: base.yml}
  - {name: top, playbook: top.yml}
"""
NO_NETWORK = {"etc/systemd/system/networking.service": "/dev/null"}
BYTES = bytes(range(256)) * 500
BASE = """
- hosts: all
  gather_facts: false
  tasks:
    - name: No sshd
      ansible.builtin.raw: "apt-get -q purge -y openssh-server"
"""
TOP = """
- hosts: all
  tasks:
    - name: All bytes
      ansible.builtin.copy: {src: bytes, dest: /opt/bytes, mode: "0644"}
    - ansible.builtin.command: cat /sys/class/net/eth0/carrier
      register: plugged
      changed_when: false
      failed_when: plugged.stdout == '1'
"""
OWN = f"""
import pytest

def test_what_the_playbook_did(host):
    assert host.backend.NAME == "direct"
    assert host.check_output("sha256sum /opt/bytes").startswith("{hashlib.sha256(BYTES).hexdigest()}")
    assert not host.package("openssh-server").is_installed
    assert "inet " not in host.check_output("ip -4 addr show dev eth0")

@pytest.mark.destructive
def test_a_reboot(host, guest):
    host.check_output("touch /run/gone")
    guest.reboot()
    assert not host.file("/run/gone").exists
"""


@pytest.fixture(scope="module")
def workshop(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_site(node) as site:
        project = tmp_path_factory.mktemp("project")
        workshop = Workshop(project, site, downloads=Store(project / "downloads"))
        workshop.write_image("[]", CONSOLE + LAYERS)
        (workshop.directory / "base.yml").write_text(BASE)
        (workshop.directory / "top.yml").write_text(TOP)
        (workshop.directory / "files").mkdir()
        (workshop.directory / "files" / "bytes").write_bytes(BYTES)

        def unplug(event: Event) -> None:
            if isinstance(event, StepStarted) and event.step == "start, wait for its console":
                configs = {one.vmid: site.node.guests.get_config(one.vmid) for one in site.node.guests.list_guests()}
                (vmid,) = [vmid for vmid, config in configs.items() if config.raw.get("cmode") == "shell"]
                if "link_down" not in (net := render_net(configs[vmid].nets["net0"])):  # others' layers may be there
                    site.node.guests.set_config(vmid, {"net0": f"{net},link_down=1"})

        workshop.listeners.append(unplug)
        yield workshop
        drop_layers(site)


@pytest.fixture(autouse=True)
def no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that goes by ssh is even tried."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("ssh is used")

    for name in ("open_ssh_shell", "note_host_key"):
        monkeypatch.setattr(ssh_ways, name, refuse)


def test_an_image_is_built_and_tested_where_no_network_leads_to_its_guests(workshop: Workshop) -> None:
    trials = Trials(workshop)
    trials.write_tests(OWN)
    built = workshop.build()
    steps = {event.step: event.result for event in workshop.told if isinstance(event, StepFinished)}
    assert steps["start, wait for its console"] == "through its console on pve"
    assert steps["keep layer base"].startswith("again there after")
    told = [event.message for event in workshop.told if isinstance(event, Notice)]
    assert "downloads of packages are not shared with other builds: that needs ssh to the guest" in told
    names = subprocess.run(["tar", "--zstd", "-tf", built.template], capture_output=True, text=True, check=True).stdout
    assert "opt/bytes\n" in names
    assert "etc/vzdump" not in names  # so that the console's mode is no part of it
    assert "goldsmith." not in names

    (tested,) = trials.test(trials.spoil(built.version, NO_NETWORK))
    verdict = tested.verdict
    assert {outcome.name: f"{outcome.message}\n{outcome.detail}" for outcome in verdict.list_in(State.FAILED)} == {}
    passed = {outcome.name for outcome in verdict.list_in(State.PASSED)}
    assert {"boot", "test_own.py::test_what_the_playbook_did", "test_own.py::test_a_reboot"} <= passed
    assert verdict.portrait.packages


def test_the_next_build_goes_on_from_the_layer_that_was_kept(workshop: Workshop) -> None:
    (workshop.directory / "files" / "bytes").write_bytes(BYTES + b"more")
    workshop.told.clear()
    workshop.build()
    begun = [event.step for event in workshop.told if isinstance(event, StepStarted)]
    assert "go on from layer base" in begun
    assert "layer base" not in begun
    assert [guest for guest in workshop.site.pve.list_guests() if cache.TAGS[1] not in guest.tags] == []
    assert workshop.find_leftovers() == []
