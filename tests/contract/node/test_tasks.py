"""Tasks over the API (observed answers, section 5), and a server that is killed."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import pytest
from proxmoxer import ResourceException

from goldsmith.node import daemon
from goldsmith.node.client import find_node
from tests.contract.node.conftest import Served

UPID = r"UPID:pve:[0-9A-F]{8}:[0-9A-F]{8}:[0-9A-F]{8}:imgdel:local:root@pam!cli-\d+:"


def some_task(node: Served) -> str:
    return str(node.api.nodes("pve").storage("local").content("local:iso/none.iso").delete())


def test_a_tasks_life(served: Served) -> None:
    upid = some_task(served)
    assert re.fullmatch(UPID, upid)
    status = served.wait(upid)
    assert status == {
        "upid": upid, "node": "pve", "pid": int(upid.split(":")[2], 16), "pstart": int(upid.split(":")[3], 16),
        "starttime": int(upid.split(":")[4], 16), "type": "imgdel", "id": "local", "user": "root@pam",
        "tokenid": served.access.token_id.partition("!")[2], "status": "stopped", "exitstatus": "OK",
    }  # fmt: skip
    assert abs(status["starttime"] - time.time()) < 60
    entry = next(task for task in served.api.nodes("pve").tasks.get() if task["upid"] == upid)
    assert (entry["status"], entry["endtime"] >= entry["starttime"]) == ("OK", True)
    assert served.api.nodes("pve").tasks(upid).delete() is None


def test_logs_come_in_pieces(served: Served) -> None:
    upid = some_task(served)
    served.wait(upid)
    path = f"/api2/json/nodes/pve/tasks/{upid}/log"
    whole = served.request("GET", path).json()
    assert whole["total"] == len(whole["data"]) == 2
    assert whole["data"][1] == {"n": 2, "t": "TASK OK"}
    assert served.request("GET", path, params={"start": 1, "limit": 1}).json()["data"] == whole["data"][1:]


def test_what_is_no_task(served: Served) -> None:
    node = served.api.nodes("pve")
    with pytest.raises(ResourceException) as caught:
        node.tasks("nonsense").status.get()
    assert caught.value.errors == {"upid": "unable to parse worker upid"}
    unknown = f"UPID:pve:00000001:00000001:00000001:vzstart:1:{served.access.token_id}:"
    with pytest.raises(ResourceException) as caught:
        node.tasks(unknown).status.get()
    assert caught.value.errors == {"upid": "no such task"}
    answer = served.request("GET", f"/api2/json/nodes/pve/tasks/{unknown}/log").json()
    assert answer == {"total": 1, "data": {"n": 1, "t": "unable to open file - No such file or directory"}}


def test_the_list_is_filtered(served: Served) -> None:
    served.wait(some_task(served))
    missing = served.api.nodes("pve").lxc(999).status.start.post()
    assert served.wait(missing)["exitstatus"] == "Configuration file 'nodes/pve/lxc/999.conf' does not exist"
    tasks = served.api.nodes("pve").tasks
    assert {task["type"] for task in tasks.get(typefilter="vzstart")} == {"vzstart"}
    assert [task["upid"] for task in tasks.get(vmid=999)] == [missing]
    assert all(task["status"] != "OK" for task in tasks.get(errors=1))
    assert missing not in [task["upid"] for task in tasks.get(statusfilter="ok")]
    assert len(tasks.get(limit=1)) == 1
    assert tasks.get(source="active") == []
    assert missing in [task["upid"] for task in served.api.cluster.tasks.get()]


def test_results_survive_a_killed_server(own_node: Served) -> None:
    upid = some_task(own_node)
    own_node.wait(upid)
    pid = own_node.access.address.pid
    own_node.kill()
    assert daemon.status(own_node.settings) is None
    own_node.start()
    assert own_node.access.address.pid != pid
    assert own_node.wait(upid)["exitstatus"] == "OK"
    assert own_node.wait(some_task(own_node))["exitstatus"] == "OK"


def test_a_second_start_changes_nothing(own_node: Served) -> None:
    again = daemon.start(own_node.settings)
    assert (again.address, again.token_id) == (own_node.access.address, own_node.access.token_id)
    assert again.token_secret == own_node.access.token_secret


def test_a_taken_port_is_passed_over(own_node: Served) -> None:
    first = own_node.access.address.port
    assert daemon.stop(own_node.settings) is True
    assert daemon.stop(own_node.settings) is False
    with socket.socket() as other:
        other.bind(("127.0.0.1", first))
        other.listen()
        own_node.start()
        assert own_node.access.address.port > first
        assert own_node.api.version.get()


def test_a_file_left_by_a_killed_server_is_no_server(own_node: Served) -> None:
    about = json.loads((own_node.settings.state / "client" / "node.json").read_text())
    own_node.kill()
    assert (own_node.settings.state / "client" / "node.json").exists()
    assert find_node(own_node.settings.state) is None
    assert about["port"] == own_node.access.address.port


def test_only_loopback_is_listened_on(served: Served) -> None:
    port = f":{served.access.address.port:04X}"
    with Path("/proc/net/tcp").open() as file:
        local = [line.split()[1] for line in file if line.split()[1].endswith(port) and line.split()[3] == "0A"]
    assert local == [f"0100007F{port}"]


def test_the_node_starts_in_under_a_second(own_node: Served) -> None:
    daemon.stop(own_node.settings)
    begun = time.monotonic()
    own_node.start()
    assert time.monotonic() - begun < 1.5, "aim: one second on an idle machine"
