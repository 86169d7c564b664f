"""Clients that others have written judge the embedded node, unchanged: one made of OpenAPI, and proxmoxer's helpers.

The generated client (clientapi-pve) is taken from the package index once, and kept in the tests' cache; see also
tests/lxc/test_ansible_modules.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from proxmoxer import ProxmoxAPI
from proxmoxer.tools import Files, Tasks

from goldsmith.node.client import ClientAccess
from goldsmith.pve.client import open_pve
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount

from .embedded import CACHE, PACKAGE, connect

pytestmark = pytest.mark.root
GENERATED = "clientapi-pve==2026.5.24"
BESIDE = ("python-dateutil==2.9.0.post0", "six==1.17.0")
"""What it needs that is not here already."""
SCRIPT = Path(__file__).with_name("judge_openapi.py")


@pytest.fixture(scope="session")
def generated_client() -> Path:
    """A folder with the generated client, to be used as PYTHONPATH."""
    folder = CACHE / GENERATED.replace("==", "-")
    if not folder.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(folder),
            GENERATED,
            *BESIDE,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the package index does not give {GENERATED}: {done.stderr.strip()[-200:]}")
    return folder


def test_a_generated_client_runs_a_container(embedded_access: ClientAccess, generated_client: Path) -> None:
    address = embedded_access.address
    with open_pve(connect(embedded_access)) as pve:
        node = pve.node(address.node)
        template = node.storage.ensure_appliance("local", PACKAGE).volid
        spec = ContainerSpec(vmid=188, ostemplate=template, rootfs=Mount("local:1"), hostname="judged", memory=128)
        node.tasks.wait(node.guests.create_container(spec))
    url = f"https://{address.host}:{address.port}"
    argv = [sys.executable, str(SCRIPT), url, str(address.ca_file), address.node, "188"]
    token = f"{embedded_access.token_id}={embedded_access.token_secret.reveal()}\n"
    done = subprocess.run(
        argv, input=token, env={"PYTHONPATH": str(generated_client)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told.pop("version").startswith("8.")
    assert told == {
        "hostname": "judged", "start": "OK", "status": "running", "stop": "OK", "destroy": "OK",
        "left": [],
    }  # fmt: skip


def test_proxmoxers_helpers(embedded_access: ClientAccess, tmp_path: Path) -> None:
    """Uploading with a checksum, waiting for a task, reading its log."""
    address = embedded_access.address
    user, _, token = embedded_access.token_id.partition("!")
    api = ProxmoxAPI(
        address.host, port=address.port, user=user, token_name=token, verify_ssl=str(address.ca_file),
        token_value=embedded_access.token_secret.reveal(),
    )  # fmt: skip
    image = tmp_path / "judged.iso"
    image.write_bytes(b"no real image" * 1000)
    files = Files(api, address.node, "local")
    status = files.upload_local_file_to_storage(str(image), do_checksum_check=True)
    assert status["exitstatus"] == "OK"
    volumes = api.nodes(address.node).storage("local").content.get(content="iso")
    assert [volume["volid"] for volume in volumes] == ["local:iso/judged.iso"]
    upid = status["upid"]
    assert Tasks.decode_upid(upid)["type"] == "imgcopy"
    log = Tasks.decode_log(api.nodes(address.node).tasks(upid).log.get())
    assert "TASK OK" in log
    api.nodes(address.node).storage("local").content("iso/judged.iso").delete()
