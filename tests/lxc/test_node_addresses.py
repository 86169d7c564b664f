"""An address that goes from one guest to the next."""

from __future__ import annotations

import time

import pytest

from tests.lxc.guests import Guests, RunningNode, has_answer, wait_until

pytestmark = pytest.mark.root


def test_an_address_answers_at_once_when_another_guest_has_it(node: RunningNode, make_guest: Guests) -> None:
    address = node.address(make_guest.claim())
    net0 = f"name=eth0,bridge=vmbr0,ip={address}/16,gw={node.settings.gateway}"
    for _ in range(2):
        guest, begun = make_guest(net0=net0, start=True), time.monotonic()
        wait_until(lambda: has_answer(address, seconds=0.3), seconds=60, what="answer")
        assert time.monotonic() - begun < 8, "the machine still sends to the guest before"
        node.do(guest.api.delete(force=1))
