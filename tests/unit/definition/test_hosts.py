"""What the servers of an inventory have is never given to a build guest."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from textwrap import dedent

import pytest

from goldsmith.base.errors import DefinitionError
from goldsmith.definition.hosts import Reserved, check_not_reserved, load_reserved
from goldsmith.definition.image import Image, Origin
from goldsmith.definition.variables import Variables

INVENTORY = """\
all:
  vars:
    ansible_user: ops
    address: 10.0.0.9/24
  hosts:
    10.0.0.1:
    db:
      vmid: 110
      ansible_host: 10.0.0.2
  children:
    web:
      hosts:
        web1: {vmid: "111", ip_address: 10.0.0.3/24, address: "{{ elsewhere }}"}
        web2: {vmid: 112, ansible_host: web2.example.com}
        web3: {vmid: ~, ansible_host: !vault "$ANSIBLE_VAULT;1.1;AES256"}
      children:
        inner: {hosts: {web4: {ansible_host: 10.0.0.4, other: [1]}}}
    empty:
lonely:
  hosts: 10.0.0.5
"""


def write(directory: Path, text: str) -> Path:
    file = directory / "hosts.yml"
    file.write_text(dedent(text))
    return file


def test_vmids_and_addresses_of_all_groups_are_reserved(tmp_path: Path) -> None:
    reserved = load_reserved(write(tmp_path, INVENTORY))
    assert reserved.vmids == {110, 111, 112}
    assert reserved.addresses == {IPv4Address(f"10.0.0.{last}") for last in (1, 2, 3, 4, 5, 9)}


@pytest.mark.parametrize("text", ["", "---\n", "all:\n", "all: {hosts: , children: , vars: }"])
def test_an_empty_inventory_reserves_nothing(text: str, tmp_path: Path) -> None:
    assert load_reserved(write(tmp_path, text)) == Reserved()


def test_a_missing_inventory_reserves_nothing(tmp_path: Path) -> None:
    assert load_reserved(tmp_path / "hosts.yml") == Reserved()


def test_all_vmids_that_a_server_may_have_are_reserved(tmp_path: Path) -> None:
    text = "all:\n  hosts:\n    a: {vmid: [111, 211]}\n    b: {vmid: 300-302, address: dhcp}\n"
    assert load_reserved(write(tmp_path, text)).vmids == {111, 211, 300, 301, 302}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("all:\n  hosts:\n    web:\n      vmid: 11\n", 4, "the vmid 11 is none"),
        ("all:\n  hosts:\n    web:\n      vmid: yes\n", 4, "the vmid True is none"),
        ("all:\n  hosts:\n    web: {vmid: [110, 11]}\n", 3, "the vmid [110, 11] is none"),
        ("all:\n  hosts:\n    web: {vmid: 200-100}\n", 3, "the vmid '200-100' is none"),
        ("all:\n  hosts:\n    web:\n      address: web1\n", 4, "address 'web1' is no address"),
        ("all:\n  hosts:\n    web:\n      ansible_host: 10\n", 4, "ansible_host 10 is no address"),
        ("all:\n  hosts:\n    - web\n", 2, "hosts is no mapping"),
        ("all:\n  hosts:\n    web: 110\n", 3, "'web' is no mapping"),
        ("all:\n  host:\n    web:\n", 2, "unknown key 'host' in the group 'all'"),
        ("all: web\n", 1, "the group 'all' is no mapping"),
        ("all:\n  children: [web]\n", 2, "children is no mapping"),
        ("- web\n", 0, "the inventory is no mapping"),
        ("all:\n  hosts: {\n", 3, "is not YAML"),
        ("[web]\nweb1 ansible_host=10.0.0.1\n", 2, "is not YAML"),
        ("all:\n  hosts:\n    web:\n    web:\n", 4, "'web' was given on line 3 already"),
    ],
)
def test_what_is_no_inventory_is_refused_with_its_line(text: str, line: int, message: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(DefinitionError) as caught:
        load_reserved(file)
    [problem] = caught.value.problems
    assert (problem.file, problem.line) == (file, line)
    assert message in problem.message


def test_all_mistakes_of_an_inventory_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_reserved(write(tmp_path, "all:\n  hosts:\n    a: {vmid: 1}\n    b: {vmid: 2, address: x}\n  x: 1\n"))
    assert [problem.line for problem in caught.value.problems] == [3, 4, 4, 5]


def image(variables: Variables) -> Image:
    directory = Path("/project/images/lxc")
    origins = {"temp_vmid": Origin(directory / "vars.yml", 3), "temp_ip_address": Origin(directory / "vault.yml", 7)}
    return Image("lxc", directory, Path("/project"), variables, origins=origins)


RESERVED = Reserved(frozenset({110}), frozenset({IPv4Address("10.0.0.2")}))


def test_an_image_that_takes_what_a_server_has_is_refused() -> None:
    wanted = Variables(temp_vmid=110, temp_ip_address=IPv4Interface("10.0.0.2/24"))
    with pytest.raises(DefinitionError) as caught:
        check_not_reserved(image(wanted), RESERVED)
    assert [str(problem) for problem in caught.value.problems] == [
        "/project/images/lxc/vars.yml:3: temp_vmid 110 belongs to a server in the inventory "
        "(accepted: an id that no server has, or none to have one chosen)",
        "/project/images/lxc/vault.yml:7: temp_ip_address 10.0.0.2 belongs to a server in the inventory "
        "(accepted: an address that no server has)",
    ]


@pytest.mark.parametrize(
    "wanted", [Variables(), Variables(temp_vmid=111, temp_ip_address=IPv4Interface("10.0.0.3/24"))]
)
def test_an_image_that_takes_nothing_of_a_server_passes(wanted: Variables) -> None:
    check_not_reserved(image(wanted), RESERVED)
