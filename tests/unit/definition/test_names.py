"""A slip of the finger in a known name is seen; a name of one's own is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from goldsmith.definition.names import find_meant, find_name_fault
from goldsmith.definition.variables import KNOWN


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("temp_vmdi", 900, "temp_vmid"),
        ("Temp_VMID", 900, "temp_vmid"),
        ("tmp_vmid", 900, "temp_vmid"),
        ("git_mail", "a@b", "git_email"),
        ("git_emial", "a@b", "git_email"),
        ("sshkey_file", "x", "ssh_key_file"),
        ("temp_ipaddress", "x", "temp_ip_address"),
        ("temp_gatway", "x", "temp_gateway"),
        ("dumpdir", "/x", "dump_dir"),
        ("proxmox_host", "pve", "proxmox_api_host"),
        ("proxmox_token_id", "ci", "proxmox_api_token_id"),
        ("template_username", "ops", "template_user"),
        ("template_passwd", "x", "template_password"),
        ("template_users", "ops", "template_user"),
        ("app", ["git"], "apps"),
        ("respository", "x", "repository"),
    ],
)
def test_a_known_name_mistyped_is_recognised(name: str, value: Any, meant: str) -> None:
    assert find_meant(name, value) == meant
    assert str(find_name_fault(name, value)) == f"unknown variable '{name}'; did you mean '{meant}'?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("template_users", ["ops", "dev"]),
        ("template_users", {"ops": 1}),
        ("app", "shop"),
        ("app", {"name": "shop"}),
        ("apps_extra", ["vim"]),
        ("my_apps", ["vim"]),
        ("git_email_2", "a@b"),
        ("repositories", ["main"]),
        ("apt_repository", "x"),
        ("template_gid", 1000),
        ("template_home", "/home/x"),
        ("template_shell", "/bin/zsh"),
        ("temp_dir", "/tmp"),
        ("git_repo", "x"),
        ("git_name", "x"),
        ("ssh_keys", []),
        ("hostname", "x"),
        ("packages", []),
        ("docker_version", "27"),
        ("ansible_python_interpreter", "/usr/bin/python3"),
        ("ansible_become_method", "sudo"),
        ("_private", 1),
    ],
)
def test_a_name_of_ones_own_is_left_alone(name: str, value: Any) -> None:
    assert find_name_fault(name, value) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2nd", "'2nd' is no name of a variable"),
        ("", "'' is no name of a variable"),
        ("größe", "'größe' is no name of a variable"),
        ("a b", "'a b' is no name of a variable"),
        ("git-email", "'git-email' is no name of a variable; did you mean 'git_email'?"),
        ("for", "'for' is a word of Ansible or Python and cannot name a variable"),
        ("hostvars", "'hostvars' is a word of Ansible or Python and cannot name a variable"),
        ("ansible_user", "'ansible_user' is set by goldsmith itself for the build guest"),
    ],
)
def test_what_cannot_name_a_variable_is_refused(name: str, message: str) -> None:
    assert str(find_name_fault(name, "x")) == message


def test_every_known_name_with_two_letters_swapped_is_recognised() -> None:
    """Swapped in the middle of the name, as fingers do; a swap of equal letters changes nothing."""
    for known in KNOWN:
        for at in range(1, len(known) - 1):
            slip = known[:at] + known[at + 1] + known[at] + known[at + 2 :]
            if slip not in KNOWN and known != "apps":
                assert find_meant(slip, "x") is not None, slip
