"""HTTP as Proxmox VE 8.4 speaks it (observed answers, sections 1 and 2)."""

from __future__ import annotations

import json
import os
import ssl
import urllib.request

import pytest
import requests
from proxmoxer import AuthenticationError, ResourceException

from tests.contract.node.conftest import Served


def reason(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason}"


def test_success_and_its_type(served: Served) -> None:
    response = served.request("GET", "/api2/json/version")
    assert reason(response) == "200 OK"
    assert response.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert response.json()["data"]["release"] == "8.4"


def test_failure_has_its_reason_in_the_status_line_and_in_the_body(served: Served) -> None:
    response = served.request("GET", "/api2/json/nodes/pve/lxc/999/config")
    text = "Configuration file 'nodes/pve/lxc/999.conf' does not exist"
    assert reason(response) == f"500 {text}"
    assert response.json() == {"data": None, "message": text + "\n"}


def test_extjs_always_answers_200(served: Served) -> None:
    good = served.request("GET", "/api2/extjs/version").json()
    assert good["success"] == 1
    bad = served.request("GET", "/api2/extjs/nodes/pve/lxc/999/config")
    assert bad.status_code == 200
    body = bad.json()
    assert (body["data"], body["success"], body["status"]) == (None, 0, 500)
    assert body["message"] == "Configuration file 'nodes/pve/lxc/999.conf' does not exist\n"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, "401 No ticket"),
        (
            {"Authorization": "PVEAPIToken=root@pam!nosuch=11111111-2222-3333-4444-555555555555"},
            "401 Authentication failed!",
        ),
        ({"Authorization": "PVEAPIToken=gibberish"}, "401 Authentication failed!"),
        ({"Authorization": "PVEAPIToken=nobody@pve!x=1"}, "401 Authentication failed!"),
    ],
)
def test_strangers_get_an_empty_401(served: Served, header: dict[str, str], expected: str) -> None:
    response = served.request("GET", "/api2/json/version", headers=header)
    assert reason(response) == expected
    assert response.content == b""


def test_a_wrong_secret_of_a_real_token(served: Served) -> None:
    response = served.request(
        "GET", "/api2/json/version", headers={"Authorization": f"PVEAPIToken={served.access.token_id}=wrong"}
    )
    assert reason(response) == "401 Authentication failed!"


@pytest.mark.parametrize(
    ("verb", "path"), [("GET", "/nosuch"), ("POST", "/version"), ("POST", "/nodes/pve/lxc/100/exec")]
)
def test_what_there_is_not(served: Served, verb: str, path: str) -> None:
    response = served.request(verb, f"/api2/json{path}")
    assert reason(response) == f"501 Method '{verb} {path}' not implemented"


def test_another_node(served: Served) -> None:
    with pytest.raises(ResourceException) as caught:
        served.api.nodes("nosuch").lxc.get()
    assert caught.value.status_code == 500
    assert caught.value.content == (
        "hostname lookup 'nosuch' failed - failed to get address info for: nosuch: Name or service not known"
    )


def test_all_bad_parameters_are_told_at_once(served: Served) -> None:
    with pytest.raises(ResourceException) as caught:
        served.api.nodes("pve").lxc.post(
            vmid=5, nosuch=1, net0="bridge=vmbr0", hostname="bad_host!", memory="x", cores=0, features="nope=1",
            password="abc", lock="bogus",
        )  # fmt: skip
    assert caught.value.status_code == 400
    assert caught.value.content == "Parameter verification failed."
    assert caught.value.errors == {
        "ostemplate": "property is missing and it is not optional",
        "vmid": "invalid format - value does not look like a valid VM ID\n",
        "nosuch": "property is not defined in schema and the schema does not allow additional properties",
        "net0": "invalid format - format error\nnet0.name: property is missing and it is not optional\n",
        "hostname": "invalid format - value does not look like a valid DNS name\n",
        "memory": "type check ('integer') failed - got 'x'",
        "cores": "value must have a minimum value of 1",
        "features": (
            "invalid format - format error\nfeatures.nope: property is not defined in schema and the schema does not "
            "allow additional properties\n"
        ),
        "password": "value must be at least 5 characters long",
        "lock": (
            "value 'bogus' does not have a value in the enumeration 'backup, create, destroyed, disk, fstrim, migrate, "
            "mounted, rollback, snapshot, snapshot-delete'"
        ),
    }


def test_the_body_of_a_400(served: Served) -> None:
    response = served.request("POST", "/api2/json/nodes/pve/lxc", data={"vmid": "99", "ostemplate": "x"})
    assert reason(response) == "400 Parameter verification failed."
    assert response.json() == {
        "data": None,
        "message": "Parameter verification failed.\n",
        "errors": {"vmid": "invalid format - value does not look like a valid VM ID\n"},
    }


@pytest.mark.parametrize("word", ["yes", "true", "on", "2"])
def test_flags_in_forms_are_digits(served: Served, word: str) -> None:
    response = served.request(
        "POST", "/api2/json/nodes/pve/lxc", data={"vmid": "100", "ostemplate": "x", "onboot": word}
    )
    assert response.json()["errors"] == {"onboot": f"type check ('boolean') failed - got '{word}'"}


def test_flags_in_json_are_flags(served: Served) -> None:
    response = served.request("GET", "/api2/json/access/users", params={"full": 1})
    assert response.status_code == 200
    created = served.request("POST", "/api2/json/access/users", json={"userid": "json@pve", "enable": False})
    assert created.json() == {"data": None}
    assert served.api.access.users("json@pve").get()["enable"] == 0
    served.api.access.users("json@pve").delete()


def test_broken_json_and_other_types(served: Served) -> None:
    headers = {**dict(served.request("GET", "/api2/json/version").request.headers), "Content-Type": "application/json"}
    broken = served.request("POST", "/api2/json/access/users", data="{", headers=headers)
    assert broken.status_code == 500
    assert broken.reason.startswith("malformed JSON string")
    text = served.request(
        "POST", "/api2/json/access/users", data="x", headers={**headers, "Content-Type": "text/plain"}
    )
    assert reason(text) == "506 upload 'Content-Type 'text/plain' not implemented"


def test_the_certificate_is_the_one_that_is_announced(served: Served) -> None:
    address = served.access.address
    seen = ssl.get_server_certificate((address.host, address.port))
    assert address.ca_file.read_text().strip() == seen.strip()
    context = ssl.create_default_context(cafile=address.ca_file)
    request = urllib.request.Request(f"https://localhost:{address.port}/api2/json/access/ticket")
    with urllib.request.urlopen(request, context=context) as response:
        assert json.load(response) == {"data": None}


def test_strangers_cannot_read_what_is_secret(served: Served) -> None:
    state = served.settings.state
    secret = served.access.token_secret.reveal()
    readable = [path for path in state.rglob("*") if path.is_file() and path.stat().st_mode & 0o044]
    assert not [path for path in readable if secret.encode() in path.read_bytes()]
    assert secret not in (state / "access.json").read_text()
    for name in ("access.json", "authkey", "tls/pve-ssl.key", f"client/{os.getuid()}.json"):
        assert (state / name).stat().st_mode & 0o077 == 0, name


def test_a_wrong_password(served: Served) -> None:
    with pytest.raises(AuthenticationError):
        served.login(password="wrong")
    response = requests.post(
        f"{served.url}/api2/json/access/ticket", data={"username": "root@pam", "password": "wrong"},
        verify=served.ca_file, timeout=30,
    )  # fmt: skip
    assert reason(response) == "401 authentication failure"
    assert response.json() == {"data": None, "message": "authentication failure\n"}


def test_a_ticket_needs_its_csrf_token_for_changes(served: Served) -> None:
    answer = requests.post(
        f"{served.url}/api2/json/access/ticket", data={"username": "root@pam", "password": "correct horse"},
        verify=served.ca_file, timeout=30,
    ).json()["data"]  # fmt: skip
    assert set(answer["cap"]) == {"dc", "access", "storage", "vms", "mapping", "nodes", "sdn"}
    assert answer["ticket"].startswith("PVE:root@pam:")
    headers = {"Cookie": f"PVEAuthCookie={answer['ticket']}"}
    assert served.request("GET", "/api2/json/version", headers=headers).status_code == 200
    refused = served.request("POST", "/api2/json/pools", data={"poolid": "p"}, headers=headers)
    assert reason(refused) == "401 Permission denied - invalid csrf token"
    headers["CSRFPreventionToken"] = answer["CSRFPreventionToken"]
    assert served.request("POST", "/api2/json/pools", data={"poolid": "p"}, headers=headers).status_code == 200
    assert served.request("DELETE", "/api2/json/pools/p", headers=headers).status_code == 200
    forged = answer["ticket"].replace("root@pam", "root@pve")
    stranger = served.request("GET", "/api2/json/version", headers={"Cookie": f"PVEAuthCookie={forged}"})
    assert stranger.status_code == 401
