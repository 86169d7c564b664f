"""What is written inside guests: texts as seen on Proxmox VE 8.4."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from passlib.hash import sha512_crypt

from goldsmith.node.lxc.config import Options
from goldsmith.node.lxc.guestfs import GuestRoot
from goldsmith.node.lxc.interfaces import render_networkd, update_interfaces
from goldsmith.node.lxc.ostype import find_arch, find_ostype, find_version
from goldsmith.node.lxc.properties import Net
from goldsmith.node.lxc.setup import (
    HostKeys,
    add_authorized_keys,
    clear_machine_id,
    has_valid_keys,
    render_hosts,
    set_root_password,
    update_block,
    write_start_files,
)
from tests.unit.node.lxc.ours import Ours

STATIC = "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=10.77.0.100/24,gw=10.77.0.1,type=veth"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("etc/network", "root", "usr/lib/systemd/system", "usr/share/zoneinfo/Europe", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/debian_version").write_text("12.1\n")
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    (tmp_path / "usr/lib/systemd/system/container-getty@.service").touch()
    (tmp_path / "usr/share/zoneinfo/Europe/Berlin").touch()
    return tmp_path


def write(root: Path, **values: str) -> None:
    options = Options({"ostype": "debian", "hostname": "web.lab.test", "net0": STATIC, **values})
    with GuestRoot(root, Ours()) as guest:
        write_start_files(guest, options, "10.77.0.1")


def test_files_before_a_start(root: Path) -> None:
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/resolv.conf").write_text("nameserver 192.0.2.9\n")
    write(root, timezone="Europe/Berlin", searchdomain="lab.test example.org")
    assert (root / "etc/hostname").read_text() == "web\n"
    assert (root / "etc/hosts").read_text() == (
        "127.0.0.1 localhost\n# --- BEGIN PVE ---\n127.0.0.1 localhost.localnet localhost\n"
        "::1 localhost.localnet localhost\n10.77.0.100 web.lab.test web\n# --- END PVE ---\n"
    )
    assert (root / "etc/resolv.conf").read_text() == (
        "# --- BEGIN PVE ---\nsearch lab.test example.org\nnameserver 10.77.0.1\n# --- END PVE ---\n"
    )
    assert (root / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Berlin")
    assert sorted(path.name for path in (root / "etc/systemd/system/getty.target.wants").iterdir()) == [
        "container-getty@1.service", "container-getty@2.service",
    ]  # fmt: skip


def test_writing_twice_changes_nothing(root: Path) -> None:
    write(root)
    first = {path: path.read_text() for path in (root / "etc").rglob("*") if path.is_file()}
    write(root)
    assert {path: path.read_text() for path in (root / "etc").rglob("*") if path.is_file()} == first


def test_an_unknown_distribution_is_left_alone(root: Path) -> None:
    write(root, ostype="unmanaged")
    assert not (root / "etc/hostname").exists()


def test_hosts_without_a_fixed_address() -> None:
    options = Options({"hostname": "web.lab.test", "net0": "name=eth0,hwaddr=x,ip=dhcp"})
    assert "127.0.1.1 web.lab.test web\n" in render_hosts(options)
    assert "127.0.1.1 web.a.b web\n" in render_hosts(Options({"hostname": "web", "searchdomain": "a.b"}))


def test_a_block_is_renewed_in_place() -> None:
    text = update_block("a\n", "one\n")
    assert text == "a\n# --- BEGIN PVE ---\none\n# --- END PVE ---\n"
    assert update_block(text + "b\n", r"t\wo" + "\n") == "a\n# --- BEGIN PVE ---\nt\\wo\n# --- END PVE ---\nb\n"
    assert update_block("old\n", "new\n", replace=True) == "# --- BEGIN PVE ---\nnew\n# --- END PVE ---\n"


def net(text: str) -> Net:
    return Net.parse("net0", text)


@pytest.mark.parametrize(
    ("text", "stanza"),
    [
        (STATIC, "auto eth0\niface eth0 inet static\n\taddress 10.77.0.100/24\n\tgateway 10.77.0.1\n"),
        ("name=eth0,ip=dhcp", "auto eth0\niface eth0 inet dhcp\n"),
        ("name=eth0", "auto eth0\niface eth0 inet manual\n"),
        ("name=eth0,ip=dhcp,ip6=auto", "auto eth0\niface eth0 inet dhcp\n\niface eth0 inet6 auto\n"),
        ("name=eth0,ip6=fd00::2/64,gw6=fe80::1", "iface eth0 inet6 static\n\taddress fd00::2/64\n\tgateway fe80::1\n"),
        ("name=eth0,ip=10.0.0.2/32,gw=10.9.9.9", "\tpost-up ip route add 10.9.9.9 dev eth0\n"),
    ],
)
def test_interfaces(text: str, stanza: str) -> None:
    assert stanza in update_interfaces("", [net(text)])


def test_interfaces_of_others_stay_and_ours_are_renewed() -> None:
    old = (
        "# mine\nauto lo eth0\niface lo inet loopback\n\n# bridge\nauto br0\niface br0 inet manual\n"
        "\tbridge_ports none\n\niface eth0 inet dhcp\n\nsource /etc/network/interfaces.d/*\n"
    )
    new = update_interfaces(old, [net(STATIC)])
    assert new.count("iface eth0") == 1
    assert "# bridge\nauto br0\n\niface br0 inet manual\n\tbridge_ports none\n" in new
    assert "source /etc/network/interfaces.d/*" in new
    assert update_interfaces(new, [net(STATIC)]) == new


def test_networkd_of_ubuntu() -> None:
    text = render_networkd(net(STATIC))
    assert "[Match]\nName = eth0\n" in text
    assert "DHCP = no\nIPv6AcceptRA = false\nAddress = 10.77.0.100/24\nGateway = 10.77.0.1\n" in text
    assert "DHCP = ipv4\n" in render_networkd(net("name=eth0,ip=dhcp"))


def test_detection(root: Path) -> None:
    header = b"\x7fELF\x02\x01" + bytes(12) + (183).to_bytes(2, "little")
    (root / "bin/sh").write_bytes(header)
    with GuestRoot(root, Ours()) as guest:
        assert (find_ostype(guest), find_version(guest), find_arch(guest)) == ("debian", "12", "arm64")
        (root / "etc/os-release").write_text("ID=strange\n")
        assert find_ostype(guest) == "debian"
        (root / "etc/debian_version").unlink()
        assert find_ostype(guest) is None


def test_identity(root: Path) -> None:
    (root / "etc/ssh").mkdir()
    (root / "etc/ssh/ssh_host_dsa_key").write_text("the template's")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\nbin:*:19000:0:99999:7:::\n")
    (root / "root/.ssh").mkdir()
    (root / "root/.ssh/authorized_keys").write_text("ssh-ed25519 AAAA old\n")
    lines: list[str] = []
    with GuestRoot(root, Ours()) as guest:
        HostKeys().write(guest, "web.lab.test", lines.append)
        clear_machine_id(guest)
        set_root_password(guest, sha512_crypt.using(rounds=5000).hash("secret"))
        add_authorized_keys(guest, "ssh-ed25519 BBBB new")
    names = sorted(path.name for path in (root / "etc/ssh").iterdir())
    assert names == [f"ssh_host_{kind}_key{end}" for kind in ("ecdsa", "ed25519", "rsa") for end in ("", ".pub")]
    assert load_ssh_private_key((root / "etc/ssh/ssh_host_rsa_key").read_bytes(), None) is not None
    assert (root / "etc/ssh/ssh_host_rsa_key").stat().st_mode & 0o777 == 0o600
    assert lines[0] == "Creating SSH host key 'ssh_host_rsa_key' - this may take some time ..."
    assert lines[1].startswith("done: SHA256:")
    assert lines[1].endswith(" root@web")
    assert (root / "etc/machine-id").read_text() == ""
    root_line, bin_line = (root / "etc/shadow").read_text().splitlines()
    hashed = root_line.split(":")[1]
    assert hashed.startswith("$6$")
    assert "rounds" not in hashed
    assert sha512_crypt.verify("secret", hashed)
    assert root_line.endswith(":0:99999:7:::")
    assert bin_line == "bin:*:19000:0:99999:7:::"
    assert "old\n# --- BEGIN PVE ---\nssh-ed25519 BBBB new\n" in (root / "root/.ssh/authorized_keys").read_text()


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("", True),
        ("ssh-ed25519 AAAAC3Nz me@x", True),
        ("# note\n\nssh-rsa AAAA==\n", True),
        ('command="x y" ssh-rsa AAAA', False),
        ("from=1 ssh-rsa AAAA", True),
        ("hello", False),
        ("ssh-ed25519 AAAA\nhello", False),
    ],
)
def test_public_keys_are_checked(text: str, valid: bool) -> None:
    assert has_valid_keys(text) is valid
