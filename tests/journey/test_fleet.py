"""A person's fleet, from an inventory to servers that are replaced, at the command line."""

from __future__ import annotations

import json

import pytest

from .conftest import Journey

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.raw: "echo {text} > /etc/golden"
"""
INVENTORY = """
all:
  children:
    web:
      hosts:
        web1:
          image: golden
          version: "{tag}"
          address: {address}
          memory: 256
          checks: [{{port: 22}}]
          data: [{{path: /srv/data, volume: "local:1"}}]
          backup: {{storage: plain, keep: 2}}
"""


def build(journey: Journey, text: str) -> None:
    journey.write_image(PLAYBOOK.format(text=text), "template_name: golden\n")
    journey.goldsmith("build", "lxc")


def declare(journey: Journey, tag: str) -> None:
    network = journey.node.settings.network.rpartition(".")[0].rpartition(".")[0]
    folder = journey.project / "inventory"
    folder.mkdir(exist_ok=True)
    (folder / "hosts.yml").write_text(INVENTORY.format(tag=tag, address=f"{network}.3.5/16"))


def list_tags(journey: Journey) -> list[str]:
    told = json.loads(journey.goldsmith("--json", "images", "list", "golden").stdout)
    return sorted(version["tag"] for version in told["images"])


def test_from_an_inventory_to_a_replaced_server_and_back(journey: Journey) -> None:
    build(journey, "one")
    build(journey, "two")
    one, two = list_tags(journey)
    journey.goldsmith("node", "start")
    try:
        declare(journey, one)
        planned = journey.goldsmith("plan", code=3)
        assert f"web1    create  from golden:{one}" in planned.stdout
        refused = journey.goldsmith("deploy", code=2)
        assert "nobody can be asked" in refused.stderr
        untested = journey.goldsmith("deploy", "--yes", code=8)
        assert "has not" in untested.stderr or "tested" in untested.stderr
        done = journey.goldsmith("deploy", "--yes", "--untested")
        assert done.stdout == f"web1 golden:{one}\n"
        again = journey.goldsmith("plan")
        assert "nothing is to be done" in again.stderr
        declare(journey, two)
        looked = journey.goldsmith("deploy", "--check", "web")
        assert "back up guest" in looked.stdout
        assert "nothing was changed" in looked.stderr
        journey.goldsmith("deploy", "--yes", "--untested")
        told = json.loads(journey.goldsmith("--json", "status").stdout)["servers"][0]
        assert (told["drift"], told["note"]) == (None, None)
        journey.goldsmith("drift", "web1")
        assert json.loads(journey.goldsmith("--json", "status").stdout)["servers"][0]["drift"] == "none"
        status = journey.goldsmith("status").stdout
        assert f"golden:{two}" in status
        assert f"golden:{one} (guest" in status
        dry = journey.goldsmith("rollback", "web1", "--dry-run")
        assert f"to golden:{one}, which is kept as guest" in dry.stdout
        back = journey.goldsmith("rollback", "web1", "--yes")
        assert back.stdout == f"web1 golden:{one}\n"
        assert (
            journey.goldsmith("plan", code=3).stdout.splitlines()[1].startswith(f"web1    replace  from golden:{one}")
        )
        inventory = journey.project / "inventory/hosts.yml"
        web3 = f"        web3: {{image: golden, version: '{two}', memory: 256}}\n"
        text = inventory.read_text().replace("web1:", "web2:").replace(".3.5/", ".3.6/")
        inventory.write_text(text.replace("      hosts:\n", f"      hosts:\n{web3}"))
        side_by_side = journey.goldsmith("deploy", "web2", "web3", "--yes", "--untested", "--serial", "2")
        assert sorted(side_by_side.stdout.splitlines()) == [f"web2 golden:{two}", f"web3 golden:{two}"]
        declare(journey, two)
        mistaken = (journey.project / "inventory/hosts.yml").read_text().replace("memory: 256", "memori: 256")
        (journey.project / "inventory/hosts.yml").write_text(mistaken)
        wrong = journey.goldsmith("plan", code=2)
        assert "inventory/hosts.yml:10: web1: unknown variable 'memori'; did you mean 'memory'?" in wrong.stderr
    finally:
        journey.goldsmith("node", "stop", "--force")


pytestmark = pytest.mark.root
