"""A person who has a token of a Proxmox and no shell there: from a playbook to a running server, at the command line.

The embedded node is that Proxmox, and the machine on which is built as well.
"""

from __future__ import annotations

import json
import re

import pytest

from goldsmith.node import daemon
from tests.journey.conftest import Journey
from tests.lxc.images import SMALL

pytestmark = pytest.mark.root

PROXMOX = """
proxmox_api_host: "{host}:{port}"
proxmox_api_token_id: "{token}"
proxmox_ca_file: "{ca_file}"
proxmox_shell: none
proxmox_storage: plain
"""
IMAGE = """
template_name: web
temp_ip_address: dhcp
temp_bridge: vmbr0
temp_disk_size: "local:4"
publish: [plain, local]
"""
INVENTORY = """
all:
  vars:
{proxmox}
  hosts:
    web1:
      {{image: web, version: "{tag}", address: {address}, memory: 256, template_storage: plain, checks: [{{port: 22}}]}}
"""


def test_from_a_playbook_to_a_server_with_a_token_alone(journey: Journey) -> None:
    journey.use_node()
    access = daemon.start(journey.node.settings)
    proxmox = PROXMOX.format(
        host=access.address.host, port=access.address.port, token=access.token_id, ca_file=access.address.ca_file
    )
    journey.secrets["PROXMOX_API_TOKEN_SECRET"] = access.token_secret.reveal()
    journey.write_image(SMALL, proxmox + IMAGE, name="web")

    planned = journey.goldsmith("build", "--check", "web").stdout
    assert "upload to pve:plain" in planned.replace(access.address.host, "pve")
    assert "proxmox_shell is none; built here, as this machine has what the embedded node needs" in planned
    assert (
        "ok       shell: none is wanted: proxmox_shell is none; built here" in journey.goldsmith("doctor", "web").stdout
    )
    done = journey.goldsmith("build", "--test", "web")
    version, volid = done.stdout.splitlines()
    assert re.fullmatch(rf"plain:vztmpl/{version.replace(':', '-')}-[0-9a-f]{{12}}\.tar\.zst", volid)

    where = json.loads(journey.goldsmith("images", "where", "--json", code=4).stdout)["places"]
    states = {one["storage"]: [t["state"] for t in one["templates"] if t["version"] == version] for one in where}
    assert states == {"plain": ["published"], "local": ["missing"]}
    published = journey.goldsmith("publish")
    assert published.stdout.splitlines() == [
        f"{version} {volid} pve", f"{version} {volid.replace('plain:', 'local:')} pve"
    ]  # fmt: skip
    assert "1 sent" in published.stderr
    assert "missing" not in journey.goldsmith("images", "where").stdout
    assert "nothing is to be removed" in journey.goldsmith("images", "withdraw", "--yes").stderr

    network = journey.node.settings.network.rpartition(".")[0].rpartition(".")[0]
    text = "\n".join(f"    {line}" for line in proxmox.strip().splitlines())
    tag = version.partition(":")[2]
    (journey.project / "inventory" / "hosts.yml").write_text(
        INVENTORY.format(proxmox=text, tag=tag, address=f"{network}.3.9/16")
    )
    assert journey.goldsmith("deploy", "--yes").stdout == f"web1 {version}\n"
    assert "web1" in journey.goldsmith("status").stdout
    refused = journey.goldsmith("drift", code=5).stderr
    assert "comparing the files of web1 needs root's shell on pve, and there is none (proxmox_shell: none)" in refused
    for storage in ("plain", "local"):
        content = journey.node.api.nodes("pve").storage(storage).content
        journey.node.do(content(volid.replace("plain:", f"{storage}:")).delete())
