"""What the user wrote becomes an image, or one error with every mistake in it."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goldsmith.base.errors import DefinitionError
from goldsmith.base.secrets import Secret
from goldsmith.definition.image import Image, Origin
from goldsmith.definition.load import Surroundings, load_image
from goldsmith.definition.source import parse_source
from goldsmith.definition.values import DiskSize
from goldsmith.definition.variables import KNOWN, SECRETS, Variables

from .making import Place, make_public

COMPLETE = """\
proxmox_api_host: pve.example.com:8006
proxmox_api_user: goldsmith@pve
proxmox_api_token_id: goldsmith@pve!ci
proxmox_api_token_secret: 11111111-2222-3333-4444-555555555555
proxmox_fingerprint: {fingerprint}
proxmox_node: pve
proxmox_storage: local
base_image: debian-13-standard
temp_vmid: 900
temp_hostname: lxc-build
temp_disk_size: local-lvm:4.5
temp_ip_address: 10.10.10.254/24
temp_gateway: 10.10.10.1
dump_dir: /var/lib/vz/template/cache
template_name: debian-12-docker
template_user: admin
template_password: "s3cret"
template_uid: 1001
apps: [git, htop, "nginx=1.22.1-9+deb12u1"]
force_reset_password: no
git_email: ops@example.com
git_user: Ops
ansible_strategy: linear
repository: ~/images
docker_version: "27"
users: [{{name: "{{{{ item }}}}", on: yes}}]
""".format(fingerprint=":".join(["AB"] * 32))


NETWORK = """\
proxmox_api_host: [pve1, "pve2:443"]
proxmox_api_password: unmistakable
proxmox_vmids: 700-709
proxmox_pool: golden
proxmox_shell_user: ops
temp_ip_address: dhcp
temp_ip6_address: auto
temp_bridge: vnet1
temp_vlan: 42
temp_mtu: "1450"
temp_firewall: yes
"""


def test_a_network_that_gives_addresses_and_a_password_for_several_hosts(place: Place) -> None:
    place.write(NETWORK)
    image = place.load()
    variables = image.variables
    assert variables.proxmox_api_host == ("pve1", "pve2:443")
    assert (image.vmids, image.fixed_address) == (range(700, 710), None)
    assert str(variables.proxmox_vmids) == "700-709"
    assert (variables.temp_ip_address, variables.temp_ip6_address) == ("dhcp", "auto")
    assert (variables.temp_bridge, variables.temp_vlan, variables.temp_mtu) == ("vnet1", 42, 1450)
    assert variables.temp_firewall
    assert "unmistakable" not in repr(image)


def test_a_complete_file_is_read_as_it_stands(place: Place) -> None:
    place.write(COMPLETE)
    image = place.load()
    assert image.variables == Variables(
        proxmox_api_host="pve.example.com:8006",
        proxmox_api_user="goldsmith@pve",
        proxmox_api_token_id="goldsmith@pve!ci",
        proxmox_api_token_secret=Secret("11111111-2222-3333-4444-555555555555"),
        proxmox_fingerprint=":".join(["AB"] * 32),
        proxmox_node="pve",
        base_image="debian-13-standard",
        temp_vmid=900,
        temp_hostname="lxc-build",
        temp_disk_size=DiskSize("local-lvm", 9 << 29),
        temp_ip_address=IPv4Interface("10.10.10.254/24"),
        temp_gateway=IPv4Address("10.10.10.1"),
        dump_dir=PurePosixPath("/var/lib/vz/template/cache"),
        template_name="debian-12-docker",
        template_user="admin",
        template_password=Secret("s3cret"),
        template_uid=1001,
        apps=("git", "htop", "nginx=1.22.1-9+deb12u1"),
        force_reset_password=False,
        git_email="ops@example.com",
        git_user="Ops",
        ansible_strategy="linear",
        repository=str(place.home / "images"),
    )
    assert image.extra == {"docker_version": "27", "users": [{"name": "{{ item }}", "True": True}]}
    assert image.name == "debian-12-docker"
    assert image.repository == str(place.home / "images")
    assert image.origins["temp_vmid"] == Origin(place.directory / "vars.yml", 9)
    assert [secret.reveal() for secret in image.secrets] == ["11111111-2222-3333-4444-555555555555", "s3cret"]


def test_an_empty_file_is_an_image_of_defaults(place: Place) -> None:
    image = place.load()
    project = place.root / "project"
    assert image == Image("lxc", place.directory, project, Variables())
    assert image.playbook == place.directory / "playbook.yml"
    assert image.repository == str(project / "repository")
    assert image.signers_file == project / "allowed_signers"
    assert image.ca_file is None
    assert str(image.problem("temp_vmid", "is taken")) == f"{place.directory}/vars.yml: is taken"


def test_versions_may_be_stored_in_a_registry(place: Place) -> None:
    place.write(
        "repository: oci://registry.example.org:5000/golden\nsigners_file: ~/signers\nrequire_signature: true\n"
    )
    image = place.load()
    assert image.repository == "oci://registry.example.org:5000/golden"
    assert image.signers_file == place.home / "signers"
    assert image.variables.require_signature is True


def test_a_login_in_the_place_of_a_repository_is_not_shown(place: Place) -> None:
    place.write("repository: oci://ops:hunter2@registry.example.org/golden\n")
    assert "hunter2" not in "".join(place.fail())


def test_a_variable_without_a_value_has_its_default(place: Place) -> None:
    place.write("".join(f"{name}:\n" for name in KNOWN))
    assert place.load().variables == Variables()


def test_a_folder_outside_images_lies_in_its_project(tmp_path: Path) -> None:
    directory = tmp_path / "web"
    directory.mkdir()
    for name in ("vars.yml", "playbook.yml"):
        (directory / name).touch()
    image = load_image(directory / ".." / "web", Surroundings({}, tmp_path))
    assert (image.name, image.directory, image.project) == ("web", directory.resolve(), tmp_path.resolve())


HOST = "proxmox_api_host: pve\nproxmox_api_token_id: ci\nproxmox_api_token_secret: x1\n"
NET = "temp_ip_address: 10.10.10.254/24\ntemp_gateway: 10.10.10.1\n"
TEXT = "is a number, not text; put it in quotes if it is meant as text"
BAD: list[tuple[str, str]] = [
    (
        "proxmox_api_host: https://pve",
        "vars.yml:1: proxmox_api_host: 'https://pve' is not a host (accepted: a host name",
    ),
    ("proxmox_api_host: pve:70000", "vars.yml:1: proxmox_api_host: 70000 is not a port"),
    ("proxmox_api_host: 10", f"vars.yml:1: proxmox_api_host {TEXT}"),
    ("proxmox_api_user: root", "vars.yml:1: proxmox_api_user: 'root' is not user@realm (accepted: user@realm)"),
    ("proxmox_api_token_id: a!b", "vars.yml:1: proxmox_api_token_id: 'a!b' is not a token id"),
    ("proxmox_api_token_secret: 12345678", f"vars.yml:1: proxmox_api_token_secret {TEXT} (accepted: the secret"),
    ("proxmox_ca_file: ca.pem", "vars.yml:1: proxmox_ca_file: {here}/ca.pem does not exist (accepted: path of a PEM"),
    ("proxmox_ca_file: .", "vars.yml:1: proxmox_ca_file: {here} is no file"),
    ("proxmox_ca_file: vars.yml", "vars.yml:1: proxmox_ca_file: {here}/vars.yml holds no certificate in PEM form"),
    ("proxmox_fingerprint: AB:CD", "vars.yml:1: proxmox_fingerprint: 'AB:CD' is not a SHA-256 fingerprint"),
    ("proxmox_node: a_b", "vars.yml:1: proxmox_node: 'a_b' is not a host name"),
    ("proxmox_storage: [local]", "vars.yml:1: proxmox_storage is a list, not text (accepted: a storage id)"),
    ("proxmox_storage: 1x", "vars.yml:1: proxmox_storage: '1x' is not a storage id"),
    ("base_image: ''", "vars.yml:1: base_image is empty; leave the variable out for its default"),
    (
        "x_port: 1\nbase_image: https://example.org/a.tar.zst",
        "vars.yml:2: base_image is a URL without base_checksum (sha256:...): what is behind it may change (accepted: a",
    ),
    ("base_image: https://example.org/a.zip", "'https://example.org/a.zip' is not a template file: its name must end"),
    ("base_image: https://ops:hunter2@example.org/a.tar.zst", "vars.yml:1: base_image is a URL with a login in it"),
    ("base_image: https:///a.tar.zst", "base_image: 'https:///a.tar.zst' names no host"),
    ("base_image: ftp://example.org/a.tar.zst", "ftp is not a way to a base image; http, https and oci are"),
    ("base_image: http:/example.org/a.tar.zst", "is http://example.org/a.tar.zst meant?"),
    ("base_image: docker://debian:12", "base_image: 'docker://debian:12' is not in a form that is known; is oci://deb"),
    ("base_image: oci:registry/a:1", "is oci://registry/a:1 meant?"),
    ("base_image: oci://debian:12", "lacks the registry's host: Docker's own images are oci://docker.io/library/NAME"),
    ("base_image: oci://example.org/debian", "has neither tag nor digest; write :latest where that is meant"),
    ("base_image: oci://example.org/Debian:12", "has capital letters in the image's path; registries take small ones"),
    ("base_image: oci://example.org/debian@sha256:12", "has a digest that is not sha256: and 64 hex digits in small"),
    ("base_image: oci://ops:hunter2@example.org/debian:12", "vars.yml:1: base_image holds a login; registries know"),
    ("base_image: ./base.tar.zst", "vars.yml:1: base_image: {here}/base.tar.zst does not exist (accepted: a template"),
    ("base_image: ~/base.tar.zst", "vars.yml:1: base_image: {home}/base.tar.zst does not exist"),
    ("base_image: ./vars.yml", "base_image: './vars.yml' is not a template file: its name must end with .tar.zst"),
    ("base_image: files/base.tar.zst", "'files/base.tar.zst' has a / in it; the path of a file begins with ./ or / o"),
    (f"base_checksum: {'ab' * 32}", "vars.yml:1: base_checksum: lacks its algorithm: write sha256: before the digits"),
    ("base_checksum: sha512:abcd", "base_checksum: 'sha512:abcd' is no SHA-256; others are not taken, as the digest"),
    ("base_checksum: sha256:abcd", "base_checksum: 'sha256:abcd' has 4 characters after sha256:, not 64 hex digits"),
    (f"base_checksum: sha256:{'ab' * 32}", "vars.yml:1: base_checksum makes no sense: base_image is no file"),
    (
        f"base_image: oci://example.org/debian:12\nbase_checksum: sha256:{'ab' * 32}",
        "vars.yml:2: base_checksum makes no sense: base_image (vars.yml:1) is pinned by @sha256:... behind it",
    ),
    ("temp_vmid: 99", "vars.yml:1: temp_vmid: 99 is too small (accepted: a whole number from 100 to 999999999)"),
    ("temp_vmid: 1000000000", "vars.yml:1: temp_vmid: 1000000000 is too large"),
    ("temp_vmid: nine", "vars.yml:1: temp_vmid is text, not a whole number"),
    ("temp_vmid: yes", "vars.yml:1: temp_vmid is a truth value, not a whole number"),
    ("temp_vmid: 900.5", "vars.yml:1: temp_vmid is a fraction, not a whole number"),
    ("temp_hostname: a b", "vars.yml:1: temp_hostname: 'a b' is not a host name"),
    ("temp_hostname: " + "a." * 130 + "b", "vars.yml:1: temp_hostname is longer than 253 characters"),
    ("temp_disk_size: 8", "vars.yml:1: temp_disk_size is a number, not text"),
    (
        "temp_disk_size: local:8G",
        "temp_disk_size: the size '8G' is not a number of GiB (without a unit) (accepted: <sto",
    ),
    (
        "temp_disk_size: local:0",
        "temp_disk_size: the size 0 is not between 0.5 and 8192 GiB (accepted: <storage>:<size",
    ),
    ("temp_disk_size: '8'", "temp_disk_size: '8' names no storage before a colon"),
    (
        "temp_ip_address: 10.10.10.254",
        "temp_ip_address: '10.10.10.254' lacks a prefix length (accepted: an IPv4 address",
    ),
    (
        "temp_ip_address: 10.10.10.300/24",
        "temp_ip_address: '10.10.10.300/24' is not an IPv4 address with a prefix length",
    ),
    ("temp_ip_address: 10.10.10.0/24", "temp_ip_address: 10.10.10.0 is not a host's address in 10.10.10.0/24"),
    ("temp_ip_address: fe80::1/64", "temp_ip_address: 'fe80::1/64' is not an IPv4 address with a prefix length"),
    ("temp_ip_address: DHCP", "temp_ip_address: 'DHCP' lacks a prefix length"),
    ("temp_ip6_address: fe80::1", "temp_ip6_address: 'fe80::1' lacks a prefix length (accepted: an IPv6 address"),
    ("temp_ip6_address: 10.0.0.1/8", "temp_ip6_address: '10.0.0.1/8' is not an IPv6 address with a prefix length"),
    ("temp_gateway6: 10.0.0.1", "temp_gateway6: '10.0.0.1' is not an IPv6 address"),
    ("temp_vlan: 4095", "temp_vlan: 4095 is too large"),
    ("temp_bridge: a name with spaces", "temp_bridge: 'a name with spaces' is not the name of a bridge"),
    ("proxmox_vmids: 900", "proxmox_vmids is a number, not text"),
    ("proxmox_vmids: 900-", "proxmox_vmids: '900-' is not a range like 900-999"),
    ("proxmox_vmids: 99-200", "proxmox_vmids: '99-200' is not a range between 100 and 999999999"),
    ("proxmox_vmids: 300-200", "proxmox_vmids: '300-200' is not a range between 100 and 999999999"),
    (
        "temp_ip_address: dhcp\ntemp_gateway: 10.0.0.1",
        "vars.yml:2: temp_gateway makes no sense with temp_ip_address (vars.yml:1): the network tells it",
    ),
    (
        "proxmox_api_host: [a, b]\ntemp_ip_address: dhcp\nproxmox_api_password: unmistakable\n"
        f"proxmox_fingerprint: {':'.join(['AB'] * 32)}\n",
        "vars.yml:4: proxmox_fingerprint: there are 1, but 2 in proxmox_api_host (vars.yml:1); give one for each",
    ),
    (
        "proxmox_api_host: [a, a]",
        "vars.yml:1: proxmox_api_host is a list in which something stands twice",
    ),
    (
        f"{HOST}{NET}proxmox_api_password: unmistakable",
        "proxmox_api_password: there is proxmox_api_token_id (vars.yml:2) as well; give a token or a password, not",
    ),
    ("guest_connection: direct", "vars.yml:1: guest_connection is 'direct', not ssh or console (accepted: ssh or con"),
    ("temp_gateway: gate", "temp_gateway: 'gate' is not an IPv4 address (accepted: an IPv4 address in the network"),
    ("temp_gateway: 10.10.10.1", "vars.yml:1: temp_gateway makes no sense without temp_ip_address"),
    ("dump_dir: dump", "dump_dir: 'dump' is not an absolute path"),
    ("dump_dir: /srv/../etc", "dump_dir: '/srv/../etc' is not an absolute path"),
    ("template_name: Debian 12", "template_name: 'Debian 12' is not a template name (accepted: lower-case"),
    ("template_name: a..b", "template_name: 'a..b' is not a template name"),
    ("template_user: Ops", "template_user: 'Ops' is not a login name"),
    ("template_user: root", "vars.yml:1: template_user 'root' is an account that Debian has itself"),
    ('template_password: "a\\nb"', "vars.yml:1: template_password holds a line break or another control character"),
    ("template_password: 1234", f"vars.yml:1: template_password {TEXT}"),
    ("template_uid: 33", "template_uid: 33 is too small (accepted: a whole number from 100 to 60000)"),
    ("apps: git", "vars.yml:1: apps is text, not a list (accepted: a list of package names"),
    ("apps: [git, Git, 3]", "vars.yml:1: apps: 'Git', 3 cannot be the name of a package"),
    ("apps: [[git]]", "vars.yml:1: apps: ['git'] cannot be the name of a package"),
    ("force_reset_password: maybe", "force_reset_password is text, not a truth value (accepted: true or false)"),
    ("git_email: {a: b}", "vars.yml:1: git_email is a mapping, not text"),
    ('git_user: "a\\0b"', "vars.yml:1: git_user holds a line break or another control character"),
    ("ssh_key_file: key.pub", "vars.yml:1: ssh_key_file: {here}/key.pub does not exist (accepted: path of a file with"),
    ("ssh_key_file: ~/key.pub", "vars.yml:1: ssh_key_file: {home}/key.pub does not exist"),
    ("ssh_key_file: " + "x" * 300, "cannot be read: File name too long"),
    ("ansible_strategy: a-b", "ansible_strategy: 'a-b' is not a strategy's name"),
    ("repository: 1", f"vars.yml:1: repository {TEXT}"),
    ("repository: docker://registry.example.org/golden", "is neither a directory nor oci://host[:port]/path"),
    ("repository: oci://registry.example.org/Golden", "is neither a directory nor oci://host[:port]/path"),
    ("repository: oci://ops:hunter2@registry.example.org/golden", "vars.yml:1: repository holds a login; registries"),
    ("temp_vmdi: 900", "vars.yml:1: unknown variable 'temp_vmdi'; did you mean 'temp_vmid'? (accepted: a whole number"),
    ("temp-vmid: 900", "'temp-vmid' is no name of a variable; did you mean 'temp_vmid'? (accepted: a whole number"),
    ("my-name: 1", "vars.yml:1: 'my-name' is no name of a variable (accepted: letters, digits and _"),
    ("ansible_host: 10.0.0.1", "vars.yml:1: 'ansible_host' is set by goldsmith itself for the build guest"),
    ("class: a", "vars.yml:1: 'class' is a word of Ansible or Python and cannot name a variable"),
    (HOST, "vars.yml: temp_gateway is missing; proxmox_api_host (vars.yml:1) needs it (accepted: an IPv4 address in"),
    (HOST, "vars.yml: temp_ip_address is missing; proxmox_api_host (vars.yml:1) needs it (accepted: an IPv4 address"),
    (
        f"proxmox_api_host: pve\n{NET}",
        "vars.yml: proxmox_api_token_id is missing; proxmox_api_host (vars.yml:1) needs it",
    ),
    (f"{NET}proxmox_api_host: pve", "proxmox_api_token_secret is missing; proxmox_api_host (vars.yml:3) needs it"),
    (HOST + NET + "proxmox_api_user: a@pam\n# token of\nproxmox_api_token_id: b@pam!ci", "was given on line 2 already"),
    (
        "proxmox_api_user: a@pam\nproxmox_api_token_id: b@pam!ci",
        "vars.yml:2: proxmox_api_token_id: the token belongs to b@pam, but proxmox_api_user (vars.yml:1) is another",
    ),
    (
        "temp_gateway: 10.10.11.1\n\ntemp_ip_address: 10.10.10.254/24",
        "vars.yml:1: temp_gateway 10.10.11.1 lies outside the network 10.10.10.0/24 of temp_ip_address (vars.yml:3)",
    ),
    (
        "temp_ip_address: 10.10.10.1/24\ntemp_gateway: 10.10.10.1",
        "vars.yml:2: temp_gateway 10.10.10.1 is the guest's own address, temp_ip_address (vars.yml:1)",
    ),
    (
        "temp_ip_address: 10.10.10.1/24\ntemp_gateway: 10.10.10.255",
        "vars.yml:2: temp_gateway 10.10.10.255 is not a host's address in the network 10.10.10.0/24",
    ),
    (
        f"{HOST}{NET}proxmox_shell: none\ndump_dir: /srv/templates",
        "dump_dir is a directory on the node, and there is no shell to write it with: proxmox_shell (vars.yml:",
    ),
    (
        f"{HOST}{NET}proxmox_shell: none\ntest_connection: direct",
        "test_connection: direct leads through a shell on the node, and there is none: proxmox_shell (vars.yml:",
    ),
    ("proxmox_shell: bash", "vars.yml:1: proxmox_shell is 'bash', not ssh or none (accepted: ssh or none)"),
    ("without_shell: pray", "vars.yml:1: without_shell is 'pray', not upload or backup"),
    ('publish: ["nas", "pve2:"]', "vars.yml:1: publish: 'pve2:' is neither a storage nor NODE:STORAGE"),
    ("publish: []", "vars.yml:1: publish is an empty list; leave the variable out for its default"),
    ("- a\n", "vars.yml:1: is not a list of `name: value` lines (accepted: an Ansible vars file)"),
    ("a: [\n", "vars.yml:2: is not YAML"),
]


def test_a_guest_that_is_entered_through_its_console_needs_no_address(place: Place) -> None:
    place.write(f"{HOST}guest_connection: console\n")
    variables = place.load().variables
    assert (variables.guest_connection, variables.temp_ip_address) == ("console", None)
    place.write(f"{HOST}guest_connection: console\ntemp_ip_address: 10.10.10.254/24\n")
    assert any("temp_gateway is missing" in line for line in place.fail())


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_a_mistake_is_shown_with_its_line_and_the_accepted_form(text: str, problem: str, place: Place) -> None:
    place.write(text)
    wanted = problem.replace("{here}", str(place.directory)).replace("{home}", str(place.home))
    found = place.fail()
    assert any(wanted in line for line in found), found


def test_a_value_that_is_not_bad_passes(place: Place) -> None:
    for text in (HOST + NET, "temp_ip_address: 10.10.10.1/31\ntemp_gateway: 10.10.10.0", "temp_ip_address: 10.1.1.1/8"):
        place.write(text)
        place.load()


def test_all_mistakes_of_all_files_come_in_one_error(place: Place) -> None:
    place.write("temp_vmdi: 1\ntemp_disk_size: 8G\napps: git\n", vault="template_uid: x\nmy-secret: y\n")
    (place.directory / "playbook.yml").unlink()
    assert [line.partition(" ")[0] for line in place.fail()] == [
        "playbook.yml:",
        "vars.yml:1:",
        "vars.yml:2:",
        "vars.yml:3:",
        "vault.yml:1:",
        "vault.yml:2:",
    ]


def test_one_mistake_is_told_once(place: Place) -> None:
    """What follows from a mistake is none of its own: no missing address where the address is only wrong."""
    place.write(f"{HOST}temp_ip_address: 10.10.10.254\ntemp_gateway: 10.10.10.1\n")
    [problem] = place.fail()
    assert "temp_ip_address: '10.10.10.254' lacks a prefix length" in problem


def test_the_error_says_how_many_there_are_and_what_to_do(place: Place) -> None:
    place.write("temp_vmid: 1\n")
    with pytest.raises(DefinitionError) as caught:
        place.load()
    assert caught.value.message == "1 problem in what is configured"
    assert caught.value.hint.startswith("nothing was created; correct the lines above")


def test_a_folder_without_its_files_says_which(place: Place, tmp_path: Path) -> None:
    for name in ("vars.yml", "playbook.yml"):
        (place.directory / name).unlink()
    assert place.fail() == [
        "playbook.yml: does not exist (accepted: an Ansible playbook with `hosts: all`)",
        "vars.yml: does not exist",
    ]
    for directory, reason in ((tmp_path / "none", "does not exist"), (Path(__file__), "is no folder")):
        with pytest.raises(DefinitionError) as caught:
            load_image(directory, Surroundings({}, tmp_path))
        assert caught.value.problems[0].message == reason


def test_a_playbook_that_is_a_folder_is_none(place: Place) -> None:
    (place.directory / "playbook.yml").unlink()
    (place.directory / "playbook.yml").mkdir()
    assert "playbook.yml: is no file" in place.fail()[0]


def test_a_folder_whose_name_cannot_name_a_template_needs_template_name(tmp_path: Path) -> None:
    directory = tmp_path / "images" / "My Image"
    directory.mkdir(parents=True)
    (directory / "playbook.yml").touch()
    (directory / "vars.yml").touch()
    with pytest.raises(DefinitionError) as caught:
        load_image(directory, Surroundings({}, tmp_path))
    assert "the folder's name 'My Image' cannot name a template; set template_name" in str(caught.value.problems[0])
    (directory / "vars.yml").write_text("template_name: mine\n")
    assert load_image(directory, Surroundings({}, tmp_path)).name == "mine"


def test_an_authority_is_found_beside_the_variables_and_at_home(place: Place) -> None:
    for directory, named in ((place.directory, "ca.pem"), (place.home, "~/ca.pem")):
        (directory / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
        place.write(f"proxmox_ca_file: {named}\n")
        assert place.load().ca_file == directory / "ca.pem"


def test_loading_changes_nothing(place: Place) -> None:
    place.write(COMPLETE)
    before = sorted((path, path.stat().st_mtime_ns) for path in place.root.rglob("*"))
    place.load()
    assert sorted((path, path.stat().st_mtime_ns) for path in place.root.rglob("*")) == before


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["{{", "{{ apps }}", "~", "~/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(KNOWN), value=VALUES)
def test_any_value_gives_an_image_or_a_clear_error(place: Place, name: str, value: Any) -> None:
    import yaml  # type: ignore[import-untyped]

    place.write(yaml.safe_dump({name: value}))
    outcome: Image | DefinitionError
    try:
        outcome = place.load()
    except DefinitionError as error:
        outcome = error
    if isinstance(outcome, DefinitionError):
        assert all(problem.file.name == "vars.yml" and problem.message for problem in outcome.problems)
        assert not (name in SECRETS and isinstance(value, str) and len(value) > 12 and value in outcome.detail)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text()
    | st.lists(st.sampled_from(["a", ":", " ", "\n", "- ", "&a", "*a", "[", "{", "}", "!", "'", "<<"])).map("".join)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(DefinitionError):
        parse_source(text, Path("vars.yml"))


def test_a_plain_image_needs_neither_ansible_nor_jinja(place: Place) -> None:
    place.write(COMPLETE.replace("{{ item }}", "item"))
    program = (
        "import sys; from pathlib import Path; from goldsmith.definition.load import Surroundings, load_image;"
        f"load_image(Path({str(place.directory)!r}), Surroundings({{}}, Path({str(place.home)!r})));"
        "print(sorted(name for name in ('ansible', 'jinja2', 'cryptography') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_a_plain_image_is_loaded_at_once(place: Place) -> None:
    (place.home / ".ssh" / "id_rsa.pub").write_text(make_public())
    place.write(COMPLETE)
    place.load()
    durations = []
    for _ in range(5):
        begun = time.perf_counter()
        place.load()
        durations.append(time.perf_counter() - begun)
    assert min(durations) < 0.03
