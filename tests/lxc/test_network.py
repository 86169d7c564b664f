"""Temporary guests on networks of all kinds: addresses by DHCP, and machines that remember an older guest."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from goldsmith.base.events import Event, StepFinished, StepStarted
from goldsmith.build.link import derive_mac
from tests.lxc.guests import RunningNode
from tests.lxc.images import SMALL, Workshop, open_site

pytestmark = pytest.mark.root


@pytest.fixture
def workshop(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_site(node) as site:
        yield Workshop(tmp_path_factory.mktemp("project"), site)


def test_an_address_by_dhcp_is_learned_from_the_node(workshop: Workshop) -> None:
    workshop.write_image(SMALL, "template_name: golden\ntemp_ip_address: dhcp\n")
    built = workshop.build()
    assert built.version.tag
    started = [event.result for event in workshop.told
               if isinstance(event, StepFinished) and event.step.startswith("start")]  # fmt: skip
    assert started[0].startswith("root@10.")
    assert workshop.find_leftovers() == []


def test_a_machine_that_remembers_another_guest_is_set_right(workshop: Workshop, node: RunningNode) -> None:
    """The address had another MAC; this machine holds on to it, as a router does that nobody has told."""
    network = workshop.site.network
    assert network is not None
    address = network.gateway.network.network_address + 777
    bridge = node.settings.host_bridge
    workshop.write_image(
        SMALL, f"template_name: golden\ntemp_ip_address: {address}/{network.gateway.network.prefixlen}\n"
    )

    wrong, known = "02:00:00:00:00:99", list[str]()

    def remember(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step.startswith("start"):
            run("ip", "neigh", "replace", str(address), "lladdr", wrong, "dev", bridge, "nud", "reachable")
        elif isinstance(event, StepFinished) and event.step.startswith("start"):
            known.append(run("ip", "neigh", "show", str(address)))

    workshop.listeners.append(remember)
    workshop.build()
    (seconds,) = [event.seconds for event in workshop.told
                  if isinstance(event, StepFinished) and event.step.startswith("start")]  # fmt: skip
    assert wrong not in known[0]
    assert derive_mac(f"address {address}") in known[0], "whichever guest has the address next has this MAC, too"
    print("start with a stale neighbour:", seconds)


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
