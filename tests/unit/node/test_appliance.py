"""Templates made from the machine's own apt sources: which sources, which options, which command."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.node.appliance import APPLIANCES, check_keyring, get_appliance, plan_command
from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.mirror import Mirror, find_mirror, parse_mirror

TARGETS = """https://packages.example.org/tools/|bookworm
http://mirror.example/debian/|bookworm
http://mirror.example/debian/|bookworm-updates
http://mirror.example/security/|bookworm-security
"""
PROXY = 'Acquire::http::Proxy "http://proxy.example:3128";'
SECRET_PROXY = 'Acquire::https::Proxy "http://me:secret@proxy.example:3128";'


def test_the_mirror_is_the_one_that_has_updates_too() -> None:
    mirror = parse_mirror(TARGETS, "")
    assert (mirror.main, mirror.security) == ("http://mirror.example/debian", "http://mirror.example/security")


def test_a_machine_that_says_nothing_gets_no_mirror() -> None:
    assert parse_mirror("", "") == Mirror()
    other = "mirror+file:/nowhere/debian.list/|bookworm\nhttp://archive.example/ubuntu/|noble\n"
    assert parse_mirror(other, "") == Mirror()


def test_a_list_of_mirrors_stands_for_its_first(tmp_path: Path) -> None:
    (tmp_path / "debian.list").write_text(
        "# nearest first\nhttps://one.example/debian\tpriority:1\nhttps://two.example\n"
    )
    uri = f"mirror+file:{tmp_path}/debian.list/"
    assert parse_mirror(f"{uri}|bookworm\n{uri}|bookworm-updates\n", "").main == "https://one.example/debian"


def test_addresses_with_passwords_are_not_written_into_templates() -> None:
    assert parse_mirror("http://me:secret@mirror.example/debian/|bookworm\n", "").main == ""
    mirror = parse_mirror(TARGETS, f'APT::Architecture "amd64";\n{PROXY}\n{SECRET_PROXY}\nAcquire::Languages "none";\n')
    assert mirror.options == (PROXY, SECRET_PROXY)
    assert mirror.kept_options() == [PROXY]


def test_the_command_has_the_suites_and_no_secret(tmp_path: Path) -> None:
    mirror = parse_mirror(TARGETS, f"{PROXY}\n{SECRET_PROXY}\n")
    command = [str(word) for word in plan_command(APPLIANCES[1], mirror, tmp_path, Path("/out.tar.zst"))]
    assert "secret" not in " ".join(command)
    assert "secret" in (tmp_path / "apt.conf").read_text()
    assert (tmp_path / "apt.conf").stat().st_mode & 0o777 == 0o600
    assert "secret" not in (tmp_path / "kept.conf").read_text()
    assert command[-5:-3] == ["trixie", "/out.tar.zst"]
    suites = [line.split()[3] for line in command[-3:]]
    assert suites == ["trixie", "trixie-updates", "trixie-security"]
    assert any("python3-apt" in word for word in command)


def test_this_machines_apt_can_be_asked() -> None:
    assert find_mirror().main.startswith("http")


def test_names_are_proxmoxs() -> None:
    names = [appliance.template("amd64") for appliance in APPLIANCES]
    assert all(
        name.startswith("debian-1") and "-standard_1" in name and name.endswith("_amd64.tar.zst") for name in names
    )
    assert get_appliance(names[0], "amd64") == APPLIANCES[0]
    with pytest.raises(ParameterFault) as caught:
        get_appliance(names[0], "arm64")
    assert caught.value.errors == {"template": "no such template"}


def test_missing_keys_are_told_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "debian-archive-bookworm-stable.gpg").touch()
    check_keyring("bookworm", tmp_path)
    with pytest.raises(ApiFault, match="debian-archive-keyring"):
        check_keyring("trixie", tmp_path)
