"""Inventories as Ansible reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.base.errors import DefinitionError
from goldsmith.provision.inventory import parse_inventory, read_inventory

HOSTS = """\
all:
  vars: {bridge: vmbr1}
  children:
    web:
      hosts:
        web1: {image: golden, order: "{{ later }}"}
      children:
        inner: {hosts: {web2: }}
"""


def test_groups_and_variables_are_merged(tmp_path: Path) -> None:
    folder = tmp_path / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text(HOSTS)
    (folder / "group_vars/web.yml").write_text("memory: 1024\n")
    web1, web2 = read_inventory(folder / "hosts.yml", tmp_path)
    assert (web1.name, web1.groups) == ("web1", ("web",))
    assert web1.variables == {"bridge": "vmbr1", "image": "golden", "memory": 1024, "order": "{{ later }}"}
    assert (web2.name, web2.groups) == ("web2", ("inner", "web"))


def test_an_old_inventory_works_as_well(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[web]\nweb1 image=golden vmid=111\n")
    (host,) = read_inventory(tmp_path / "hosts", tmp_path)
    assert (host.groups, host.variables) == (("web",), {"image": "golden", "vmid": 111})


def test_what_ansible_refuses_is_a_mistake_in_the_inventory(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yml"
    file.write_text("all:\n  hosts: [web1\n")
    with pytest.raises(DefinitionError) as refused:
        read_inventory(file, tmp_path)
    (problem,) = refused.value.problems
    assert str(file) in str(problem)


def test_a_group_below_itself_ends() -> None:
    hosts = parse_inventory({"a": {"children": ["b"]}, "b": {"children": ["a"], "hosts": ["x"]}})
    assert [(host.name, host.groups) for host in hosts] == [("x", ("a", "b"))]
