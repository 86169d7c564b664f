"""The user's own tests on real guests: as testinfra's users write them, hanging, rebooting, destructive; and ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.base.events import Event, Events
from goldsmith.build.credentials import ensure_credentials
from goldsmith.build.play import make_play
from goldsmith.pve.target import Target
from goldsmith.verify.hygiene.policy import make_policy
from goldsmith.verify.hygiene.run import run_hygiene
from goldsmith.verify.outcome import State
from goldsmith.verify.session import collect_groups, run_session
from goldsmith.verify.settle import wait_settled
from goldsmith.verify.subject import open_subject
from goldsmith.verify.tests import get_user_tests
from tests.lxc.benches import FROM_THE_DOCUMENTATION, Bench, list_bad
from tests.lxc.guests import Guests, RunningNode
from tests.lxc.images import Workshop, open_site
from tests.lxc.subjects import make_key, open_guest

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def subject(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    guests = Guests(node)
    try:
        yield open_guest(guests, tmp_path_factory.mktemp("subject")).subject
    finally:
        guests.remove_all()


@pytest.fixture
def bench(subject: Target, tmp_path: Path) -> Bench:
    return Bench(tmp_path, subject)


def test_a_file_of_testinfras_documentation_runs_unchanged(bench: Bench) -> None:
    with open_subject(bench.subject) as shell:
        install = "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y nginx"
        shell.run(["sh", "-c", install], timeout=120)
    outcomes = bench.run(FROM_THE_DOCUMENTATION)
    assert list_bad(outcomes) == {}
    assert set(outcomes) == {"test_passwd_file", "test_nginx_is_installed", "test_nginx_running_and_enabled"}


def test_a_hanging_command_is_stopped_at_the_limit_with_its_output_kept(bench: Bench) -> None:
    begun = time.monotonic()
    outcomes = bench.run(
        "def test_hangs(host):\n    print('before it hangs')\n    host.run('sleep 300')\n"
        "def test_after(host):\n    assert host.user('root').exists\n",
        test_timeout=2.0,
    )
    assert time.monotonic() - begun < 20
    assert list(list_bad(outcomes)) == ["test_hangs"]
    assert outcomes["test_hangs"].message == "stopped: it did not end within 2 s"
    assert "before it hangs" in outcomes["test_hangs"].detail
    assert "before it hangs" in bench.log.read_text()


def test_a_test_may_reboot_its_guest(bench: Bench) -> None:
    outcomes = bench.run("""
def test_reboot(host, guest):
    host.run_expect([0], "touch /run/gone /root/kept")
    guest.reboot()
    assert not host.file("/run/gone").exists
    assert host.file("/root/kept").exists
    assert host.check_output("systemctl is-system-running") == "running"
def test_after(host):
    assert host.service("ssh").is_running
""")
    assert list_bad(outcomes) == {}


def test_a_guest_that_does_not_come_back_fails_the_test(bench: Bench) -> None:
    outcomes = bench.run("""
def test_reboot(host, guest):
    host.run_expect([0], "mkdir -p /run/x && mount --bind /bin/true $(readlink -f /sbin/reboot)")
    host.run_expect([0], "mount --bind /bin/true /usr/bin/systemctl")
    guest.reboot(timeout=3)
""")
    bad = outcomes["test_reboot"]
    assert bad.state is State.FAILED
    assert bad.message == "the guest has not come back 3 s after its reboot: it is still up"
    assert list_bad(bench.run("def test_it(host): host.run('umount /usr/bin/systemctl')\n")) == {}


# --- the image that goldsmith ships


@pytest.fixture(scope="module")
def workshop(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_site(node) as site:
        made = Workshop(tmp_path_factory.mktemp("project"), site)
        made.take_default_image()
        yield made


def test_the_default_image_passes_its_own_tests_and_all_checks(
    workshop: Workshop, make_guest: Guests, tmp_path: Path
) -> None:
    image = workshop.load()
    built = workshop.build(image)
    tests = get_user_tests(image, make_play(image, ensure_credentials(image)).variables)
    shared, destructive = collect_groups(tests)
    assert [shared.name, destructive.name] == ["shared", "test_image.py::test_a_reboot_changes_nothing_that_matters"]
    template = f"local:vztmpl/{built.template.name}"
    opened = [open_guest(make_guest, tmp_path, template=template) for _ in range(2)]
    policy = make_policy(
        image, made_after=built.version.created.timestamp(), own_keys=frozenset({make_key(tmp_path)}), ready_seconds=2.0
    )
    told: list[Event] = []
    events = Events(told.append)
    with open_subject(opened[0].subject) as first, open_subject(opened[1].subject) as second:
        assert wait_settled(first).is_well
        assert wait_settled(second).is_well
        begun = time.monotonic()
        outcomes, portrait = run_hygiene([first, second], policy, events=events)
        print(f"hygiene: {time.monotonic() - begun:.2f} s")
    begun = time.monotonic()
    outcomes += run_session(tests, shared, opened[0].subject, events=events, log=tmp_path / "shared.log")
    print(f"shared tests: {time.monotonic() - begun:.2f} s")
    outcomes += run_session(tests, destructive, opened[1].subject, events=events, log=tmp_path / "destructive.log")
    assert {one.name: f"{one.message}\n{one.detail}" for one in outcomes if one.state is State.FAILED} == {}
    assert {"test_image.py::test_packages_are_installed[git]", shared.tests[0]} <= {one.name for one in outcomes}
    assert len(told) == len(outcomes)
    assert {"git", "htop", "curl"} <= {package.name for package in portrait.packages}
