"""The modules and the inventory of Ansible's community.proxmox collection, as released, against an embedded node.

The collection is taken from the `ansible` package (a few files of it), once, and kept in the tests' cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.node.client import ClientAccess, find_access
from tests.lxc.conftest import CACHE
from tests.lxc.guests import Guests, RunningNode

pytestmark = [pytest.mark.root, pytest.mark.slow]
RELEASE = "12.3.0"
PREFIX = "ansible_collections/community/proxmox/"
PLAYBOOKS = Path(__file__).parent / "ansible"


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to be used as ANSIBLE_COLLECTIONS_PATH."""
    kept = CACHE / f"collections-{RELEASE}"
    if not (kept / PREFIX / "MANIFEST.json").exists():
        folder = tmp_path_factory.mktemp("download")
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), f"ansible=={RELEASE}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the package index does not give ansible {RELEASE}: {done.stderr.strip()[-200:]}")
        with zipfile.ZipFile(next(folder.glob("ansible-*.whl"))) as wheel:
            wheel.extractall(kept, [name for name in wheel.namelist() if name.startswith(PREFIX)])
    return kept


@pytest.fixture(autouse=True, scope="module")
def told_at_once(node: RunningNode) -> Iterator[None]:
    """Guests are made here within the ten seconds in which a Proxmox has no name for them; the modules want one."""
    replace(node.settings, told_every=0.0).save()
    node.restart()
    yield
    node.settings.save()
    node.restart()


def get_access(node: RunningNode) -> ClientAccess:
    access = find_access(node.settings.state)
    assert access is not None
    return access


def environment(node: RunningNode, collections: Path, home: Path) -> dict[str, str]:
    """What Ansible needs to reach the node; the secret is nowhere but here."""
    access = get_access(node)
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable, "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "REQUESTS_CA_BUNDLE": str(access.address.ca_file), "PROXMOX_TOKEN_ID": access.token_id.partition("!")[2],
        "PROXMOX_TOKEN_SECRET": access.token_secret.reveal(),
    }  # fmt: skip


def run_ansible(argv: list[str], env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert env["PROXMOX_TOKEN_SECRET"] not in done.stdout + done.stderr
    return done.stdout


def test_modules(node: RunningNode, make_guest: Guests, collections: Path, tmp_path: Path) -> None:
    first = make_guest.claim()
    others = [make_guest.claim(), make_guest.claim()]
    assert others == [first + 1, first + 2]
    given = {
        "node_port": get_access(node).address.port, "template": node.template, "first": first,
        "address": node.address(first), "gateway": str(node.settings.gateway),
    }  # fmt: skip
    command = [
        "ansible-playbook",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        json.dumps(given),
        str(PLAYBOOKS / "guests.yml"),
    ]
    run_ansible(command, environment(node, collections, tmp_path), tmp_path)
    assert {first, *others}.isdisjoint(int(guest["vmid"]) for guest in node.lxc.get())


def test_inventory(node: RunningNode, make_guest: Guests, collections: Path, tmp_path: Path) -> None:
    guest = make_guest(tags="blue;web", start=True)
    source = tmp_path / "lab.proxmox.yml"
    env = environment(node, collections, tmp_path)
    source.write_text(
        "plugin: community.proxmox.proxmox\n"
        f"url: https://127.0.0.1:{get_access(node).address.port}\n"
        "user: root@pam\n"
        f"token_id: {env['PROXMOX_TOKEN_ID']}\n"
        "validate_certs: true\n"
        "want_facts: true\n"
    )
    text = run_ansible(["ansible-inventory", "-i", str(source), "--list"], env, tmp_path)
    hosts = json.loads(text, object_hook=lambda value: value.get("__ansible_unsafe", value))
    facts = hosts["_meta"]["hostvars"][f"t{guest.vmid}.test"]
    assert facts["proxmox_status"] == "running"
    assert facts["proxmox_vmid"] == guest.vmid
    assert facts["proxmox_tags_parsed"] == ["blue", "web"]
    assert f"t{guest.vmid}.test" in hosts["proxmox_all_lxc"]["hosts"]
