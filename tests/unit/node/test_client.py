"""How programs find a node; its certificate; starting it as root through sudo."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography import x509

from goldsmith.base.errors import NodeServiceError
from goldsmith.node import daemon
from goldsmith.node.access.store import AccessStore, hash_secret
from goldsmith.node.certificate import ensure_certificate, get_fingerprint
from goldsmith.node.client import announce, find_access, find_node, grant, withdraw
from goldsmith.node.settings import NodeSettings


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    (tmp_path / "tls").mkdir()
    ensure_certificate(tmp_path / "tls", "pve")
    return NodeSettings(state=tmp_path, with_guests=False)


def test_a_node_is_found_while_its_process_lives(settings: NodeSettings) -> None:
    assert find_node(settings.state) is None
    announce(settings, 8007)
    address = find_node(settings.state)
    assert address is not None
    assert (address.port, address.pid, address.node) == (8007, os.getpid(), "pve")
    assert address.fingerprint == get_fingerprint(address.ca_file)
    path = settings.state / "client" / "node.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pstart": 1}))
    assert find_node(settings.state) is None
    withdraw(settings)
    assert find_node(settings.state) is None


def test_a_user_gets_a_token_of_his_own_once(settings: NodeSettings) -> None:
    announce(settings, 8007)
    uid = os.getuid()
    assert find_access(settings.state) is None
    grant(settings, uid, os.getgid())
    access = find_access(settings.state)
    assert access is not None
    assert access.token_id == f"root@pam!cli-{uid}"
    store = AccessStore(settings.state / "access.json")
    assert store.load().get_token("root@pam", f"cli-{uid}").hashed == hash_secret(access.token_secret)
    grant(settings, uid, os.getgid())
    assert find_access(settings.state) == access
    with store.change() as everything:
        everything.users["root@pam"].tokens.clear()
    grant(settings, uid, os.getgid())
    renewed = find_access(settings.state)
    assert renewed is not None
    assert renewed.token_secret != access.token_secret
    assert (settings.state / "client" / f"{uid}.json").stat().st_mode & 0o777 == 0o600


def test_a_certificate_is_for_the_loopback_and_is_kept(tmp_path: Path) -> None:
    path, key = ensure_certificate(tmp_path, "pve")
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "pve"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert key.stat().st_mode & 0o777 == 0o600
    before = get_fingerprint(path)
    ensure_certificate(tmp_path, "pve")
    assert get_fingerprint(path) == before
    assert len(before.split(":")) == 32


def test_the_command_for_sudo_says_everything(settings: NodeSettings) -> None:
    command = daemon.elevated_command("start", settings, sudo=["sudo", "-n"])
    assert command[:2] == ["sudo", "-n"]
    assert Path(str(command[2])).is_absolute()
    assert command[3:6] == ["-m", "goldsmith.node.daemon", "start"]
    assert json.loads(str(command[-1]))["state"] == str(settings.state)


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    settings = NodeSettings(state=tmp_path / "state", with_guests=False)
    settings.state.mkdir()
    (settings.state / "storage").write_text("in the way")
    with pytest.raises(NodeServiceError, match="ended at its start") as caught:
        daemon.start(settings)
    assert "storage" in caught.value.detail
    assert daemon.status(settings) is None
    assert daemon.stop(settings) is False


def test_settings_stay_those_of_the_first_start(tmp_path: Path) -> None:
    settings = NodeSettings(state=tmp_path, port=9000, host_bridge="gsx0")
    settings.save()
    assert NodeSettings.load(tmp_path) == settings
