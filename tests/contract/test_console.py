"""The console of a container, as xterm.js uses it: a client that was written after pve-xtermjs is the judge."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI, ResourceException

from goldsmith.node.access import tickets
from goldsmith.node.access.tickets import Tickets
from goldsmith.node.client import ClientAccess
from tests.contract.embedded import PACKAGE
from tests.contract.xtermjs import BINARY, PING, PONG, Refused, Xterm

pytestmark = pytest.mark.root
VMID = 180
PATH = f"/nodes/pve/lxc/{VMID}"


@dataclass
class Consoles:
    """A running container, and who looks at it."""

    access: ClientAccess
    api: Any
    waited: dict[str, Any]
    """An answer of termproxy that nobody has followed; and when that was."""
    since: float

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"PVEAPIToken={self.access.token_id}={self.access.token_secret.reveal()}"}

    def ask(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.nodes("pve").lxc(VMID).termproxy.post()
        return answer

    def client(self) -> Xterm:
        address = self.access.address
        return Xterm(address.host, address.port, self.header, str(address.ca_file))

    def open(self) -> Xterm:
        answer = self.ask()
        return self.client().connect(PATH, answer).log_in(answer)

    def wait(self, upid: str) -> dict[str, Any]:
        task = self.api.nodes("pve").tasks(upid)
        while (status := task.status.get())["status"] != "stopped":
            time.sleep(0.02)
        found: dict[str, Any] = status
        return found


@pytest.fixture(scope="module")
def consoles(embedded_access: ClientAccess) -> Iterator[Consoles]:
    address = embedded_access.address
    user, _, token = embedded_access.token_id.partition("!")
    api = ProxmoxAPI(
        address.host, port=address.port, user=user, token_name=token, timeout=30,
        token_value=embedded_access.token_secret.reveal(), verify_ssl=str(address.ca_file),
    )  # fmt: skip
    found = Consoles(embedded_access, api, {}, 0.0)
    volumes = api.nodes("pve").storage("local").content.get(content="vztmpl")
    template = next(volume["volid"] for volume in volumes if PACKAGE in volume["volid"])
    made = api.nodes("pve").lxc.post(
        vmid=VMID, ostemplate=template, hostname="console", rootfs="local:2", cmode="shell", unprivileged=1, memory=256
    )
    assert found.wait(made)["exitstatus"] == "OK"
    assert found.wait(api.nodes("pve").lxc(VMID).status.start.post())["exitstatus"] == "OK"
    found.waited, found.since = found.ask(), time.monotonic()
    yield found
    found.wait(api.nodes("pve").lxc(VMID).delete(force=1))


def test_what_is_answered_has_the_form_of_the_schema(consoles: Consoles) -> None:
    answer = consoles.ask()
    assert set(answer) == {"user", "ticket", "port", "upid"}
    assert answer["user"] == consoles.access.token_id
    assert 5900 <= int(answer["port"]) <= 5999
    assert answer["ticket"].startswith("PVEVNC:")
    assert ":vncproxy:180:" in answer["upid"]


def test_a_root_shell_answers(consoles: Consoles) -> None:
    client = consoles.open()
    assert client.protocol == "binary"
    client.wait_for("# ")
    client.type("id -u; hostname; echo $((6*7))-answered\r")
    shown = client.wait_for("42-answered\r\n")
    assert "\r\n0\r\nconsole\r\n" in shown
    client.close()


def test_a_second_client_sees_the_same_terminal_and_the_first_one_may_leave(consoles: Consoles) -> None:
    first = consoles.open()
    first.type("MINE=kept; echo first-$((1+1))\r")
    first.wait_for("first-2\r\n")
    second = consoles.open()
    second.type("echo second-$MINE\r")
    assert "second-kept\r\n" in second.wait_for("second-kept\r\n")
    first.wait_for("second-kept\r\n")
    first.close()
    second.type("echo alone-$((2+2))\r")
    second.wait_for("alone-4\r\n")
    second.close()
    third = consoles.open()
    third.type("echo third-$MINE\r")
    third.wait_for("third-kept\r\n")
    third.close()


def test_a_window_is_resized_and_pings_are_answered_or_ignored(consoles: Consoles) -> None:
    client = consoles.open()
    client.send("1:101:37:")
    client.send("2")
    client.type("stty size; echo sized-$((3+3))\r")
    assert "37 101\r\n" in client.wait_for("sized-6\r\n")
    client.send(b"are you there", PING)
    kind, body = client.frame()
    while kind == BINARY:
        kind, body = client.frame()
    assert (kind, body) == (PONG, b"are you there")
    client.close()


def test_a_message_may_come_in_pieces_and_several_may_come_in_one(consoles: Consoles) -> None:
    client = consoles.open()
    for piece in ("0:17:echo in-", "$((5+", "5))\r", "0:5:echo 0:12: o-$((8+8))\r1:80:24:"):
        client.send(piece)
    client.wait_for("in-10\r\n")
    client.wait_for("o-16\r\n")
    client.close()


def test_a_wrong_ticket_makes_no_websocket(consoles: Consoles) -> None:
    answer = consoles.ask()
    for wrong in ("PVEVNC:00000000::AAAA", answer["ticket"][:-3] + "abc", ""):
        with pytest.raises(Refused) as caught:
            consoles.client().connect(PATH, answer, ticket=wrong)
        assert caught.value.status in (400, 401)


def test_a_ticket_is_good_for_its_own_port_only(consoles: Consoles) -> None:
    one, other = consoles.ask(), consoles.ask()
    with pytest.raises(Refused) as caught:
        consoles.client().connect(PATH, one, port=other["port"])
    assert caught.value.status == 401
    client = consoles.client().connect(PATH, one)
    client.send(f"{one['user']}:{other['ticket']}\n")
    assert not client.show()
    client.close()
    assert consoles.wait(one["upid"])["exitstatus"] == "authentication request failed"


def test_a_ticket_of_a_minute_ago_is_no_good(consoles: Consoles, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = consoles.ask()
    now = time.time()
    monkeypatch.setattr(tickets.time, "time", lambda: now - 60)
    state = Path(consoles.access.address.ca_file).parents[1]
    old = Tickets(state / "authkey").make_console_ticket(answer["user"], f"/vms/{VMID}", int(answer["port"]))
    monkeypatch.undo()
    with pytest.raises(Refused) as caught:
        consoles.client().connect(PATH, answer, ticket=old)
    assert caught.value.status == 401


def test_who_lacks_the_privilege_is_refused_both_calls(consoles: Consoles) -> None:
    access = consoles.api.access
    access.users.post(userid="looker@pve")
    made = access.users("looker@pve").token("look").post(privsep=0)
    access.acl.put(path="/vms", roles="PVEAuditor", users="looker@pve")
    address = consoles.access.address
    looker = ProxmoxAPI(
        address.host, port=address.port, user="looker@pve", token_name="look", token_value=made["value"],
        verify_ssl=str(address.ca_file),
    )  # fmt: skip
    try:
        with pytest.raises(ResourceException) as refused:
            looker.nodes("pve").lxc(VMID).termproxy.post()
        assert refused.value.status_code == 403
        assert "VM.Console" in str(refused.value)
        answer, client = consoles.ask(), consoles.client()
        client.headers = {"Authorization": f"PVEAPIToken=looker@pve!look={made['value']}"}
        with pytest.raises(Refused) as caught:
            client.connect(PATH, answer)
        assert caught.value.status == 403
    finally:
        access.users("looker@pve").delete()


def test_without_a_mode_a_terminal_of_the_guest_is_shown(consoles: Consoles) -> None:
    client, guest = consoles.open(), consoles.api.nodes("pve").lxc(VMID)
    consoles.wait(guest.status.stop.post())
    while client.show():  # the terminal ends with the guest
        pass
    client.close()
    guest.config.put(cmode="tty")  # `console` differs by two words, see tests/unit/node/lxc/test_console.py
    consoles.wait(guest.status.start.post())
    client = consoles.open()
    client.type("\r")
    client.wait_for("console login:")
    client.close()


def test_a_worker_that_nobody_follows_gives_up_after_ten_seconds(consoles: Consoles) -> None:
    status = consoles.wait(consoles.waited["upid"])
    assert status["exitstatus"] == "failed waiting for client: timed out"
    assert time.monotonic() - consoles.since < 25
    with pytest.raises(Refused) as caught:
        consoles.client().connect(PATH, consoles.waited)
    assert caught.value.status == 500
