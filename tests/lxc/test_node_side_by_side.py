"""Two nodes on one machine, with guests of the same numbers, do not see each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.base.errors import NodeServiceError
from goldsmith.base.process import run
from goldsmith.node import network
from goldsmith.node.settings import NodeSettings
from tests.lxc.conftest import ensure_template
from tests.lxc.guests import Guest, Guests, RunningNode, has_answer, wait_until

pytestmark = pytest.mark.root


def test_two_nodes(node: RunningNode, make_guest: Guests, tmp_path: Path) -> None:
    first = make_guest(start=True).wait_booted()
    settings = replace(
        node.settings,
        state=tmp_path / "other",
        port=node.settings.port + 500,
        network=f"10.{200 + node.settings.port % 50}.0.1/16",
        host_bridge=node.settings.host_bridge.replace("gst", "gsu"),
        disk_size=8 << 30,
    )
    other = RunningNode(settings)
    try:
        other.start()
        other.template = ensure_template(other)
        guests = Guests(other, [first.vmid])
        other.do(guests.request(first.vmid))
        second = Guest(other, first.vmid).start().wait_booted()
        assert second.run("cat", "/etc/machine-id") != first.run("cat", "/etc/machine-id")
        assert wait_until(lambda: has_answer(other.address(second.vmid)), what="other guest")
        assert has_answer(node.address(first.vmid))
        guests.remove_all()
        assert first.status == "running"
    finally:
        other.remove()
    assert first.run("id", "-u") == "0"
    assert has_answer(node.address(first.vmid))


def test_a_network_that_overlaps_is_refused(node: RunningNode, tmp_path: Path) -> None:
    settings = NodeSettings(state=tmp_path, host_bridge="gsv0", network=node.settings.network)
    with pytest.raises(NodeServiceError, match="overlaps with"):
        network.ensure_network(settings)
    assert not Path("/sys/class/net/gsv0").exists()


def test_the_network_is_made_whole_again(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True).wait_booted()
    table = network.table_name(node.settings)
    run(["nft", "delete", "table", "ip", table])
    run(["ip", "address", "flush", "dev", node.settings.host_bridge])
    network.ensure_network(node.settings)
    assert has_answer(node.address(guest.vmid))
    assert "masquerade" in run(["nft", "list", "table", "ip", table]).stdout
    mirror = "grep -rhoE '//[^/ ]+' /etc/apt/sources.list /etc/apt/sources.list.d | head -1 | tr -d /"
    assert guest.sh(f"getent hosts $({mirror})", check=False)
