"""Where images are built."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path, PurePosixPath

import pytest

from goldsmith.base.errors import NodeServiceError, NodeUnreachable, UsageError
from goldsmith.base.events import Events
from goldsmith.build.facts import GuestNetwork, read_facts
from goldsmith.cli import site as site_module
from goldsmith.cli.asking import Asker
from goldsmith.cli.proxmox import choose_node, connect_proxmox, split_host
from goldsmith.cli.site import (
    STATE_VARIABLE,
    Sites,
    check_host,
    load_node_settings,
    look_without_node,
    open_running,
    open_site,
)
from goldsmith.definition.image import Image
from goldsmith.definition.load import Surroundings, load_image
from goldsmith.node.client import find_node
from goldsmith.node.host import Host
from goldsmith.node.settings import DEFAULT_STATE, NodeSettings
from goldsmith.pve.client import NodeState
from goldsmith.pve.shell import LocalShell
from tests.unit.cli.nodes import make_settings

PROXMOX = """
proxmox_api_host: "127.0.0.1:1"
proxmox_api_token_id: ci
proxmox_api_token_secret: hunter2
temp_ip_address: 10.10.10.254/24
temp_gateway: 10.10.10.1
"""


def make_image(tmp_path: Path, text: str = "") -> Image:
    folder = tmp_path / "images/lxc"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vars.yml").write_text(text)
    (folder / "playbook.yml").write_text("- hosts: all\n  tasks: []\n")
    return load_image(folder, Surroundings({}, tmp_path))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeSettings:
    """A node that was there before, and is not running."""
    made = make_settings(tmp_path / "node")
    made.state.mkdir()
    made.save()
    monkeypatch.setenv(STATE_VARIABLE, str(made.state))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return made


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("pve", "pve", 8006), ("pve.example.com:443", "pve.example.com", 443), ("10.0.0.5:8006", "10.0.0.5", 8006),
     ("[fd00::1]", "fd00::1", 8006), ("[fd00::1]:99", "fd00::1", 99)],
)  # fmt: skip
def test_an_api_host_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert split_host(text) == (host, port)


def nodes(*names: str) -> list[NodeState]:
    return [NodeState(name, True) for name in names]


@pytest.mark.parametrize(
    ("names", "host", "named", "chosen"),
    [
        (["pve"], "10.0.0.5", None, "pve"),
        (["pve1", "pve2"], "pve2.example.com", None, "pve2"),
        (["pve1", "pve2"], "pve2", None, "pve2"),
        (["pve1", "pve2"], "pve2", "pve1", "pve1"),
    ],
)
def test_the_node_is_the_named_one_the_only_one_or_the_one_that_answers(
    names: list[str], host: str, named: str | None, chosen: str
) -> None:
    assert choose_node(nodes(*names), host, named) == chosen


@pytest.mark.parametrize(
    ("names", "host", "named", "message"),
    [
        (["pve1", "pve2"], "10.0.0.5", None, "10.0.0.5 is a cluster, and none of its nodes has that name"),
        (["pve"], "pve", "pve9", "there is no node 'pve9'"),
        ([], "pve", None, "pve is a cluster, and none of its nodes has that name"),
    ],
)
def test_a_node_that_cannot_be_told_is_asked_for(names: list[str], host: str, named: str | None, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_node(nodes(*names), host, named)
    assert caught.value.message == message
    assert all(name in caught.value.hint for name in names)
    assert caught.value.hint.endswith("set proxmox_node to one of them")


def test_without_a_wish_the_default_node_is_meant() -> None:
    assert load_node_settings({}).state == DEFAULT_STATE


def test_another_node_gets_a_bridge_and_a_network_of_its_own(tmp_path: Path) -> None:
    one, two = (load_node_settings({STATE_VARIABLE: str(tmp_path / name)}) for name in ("one", "two"))
    default = NodeSettings()
    assert len({one.host_bridge, two.host_bridge, default.host_bridge}) == 3
    assert len({one.network, two.network, default.network}) == 3
    assert len(one.host_bridge) <= 15
    assert one == load_node_settings({STATE_VARIABLE: str(tmp_path / "one")})


def test_an_existing_node_keeps_its_settings(settings: NodeSettings) -> None:
    assert load_node_settings() == settings


def test_what_the_machine_lacks_is_listed_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = Host(missing_programs=("lxc-start", "nft"), kernel="5.4.0", free_disk=1 << 40)
    monkeypatch.setattr(site_module, "look_at_host", lambda _: lacking)
    with pytest.raises(NodeServiceError) as caught:
        check_host(NodeSettings(state=tmp_path))
    assert caught.value.exit_code == 9
    assert "programs: not installed: lxc-start, nft\n  apt-get install lxc nftables" in caught.value.detail
    assert "kernel: Linux 5.4.0 is too old" in caught.value.detail


def test_an_image_without_a_host_is_built_on_the_embedded_node(settings: NodeSettings, tmp_path: Path) -> None:
    image = make_image(tmp_path)
    with open_site(image, events=Events()) as site:
        assert (site.kind, site.node.name, site.compress, site.bridge) == ("embedded", "pve", "0", "vmbr0")
        assert site.network == GuestNetwork(IPv4Interface(settings.network))
        assert isinstance(site.shell, LocalShell)
        assert site.version.startswith("8.")
        assert site.name == f"embedded:{settings.state}:pve"
        facts = read_facts(site, "local", "debian-12-standard_x.tar.zst")
    assert find_node(settings.state) is None
    known, blind = replace(facts, templates=None), look_without_node(image)
    assert replace(blind, template_directory=PurePosixPath("/")) == replace(
        known, template_directory=PurePosixPath("/")
    )


def test_several_images_share_a_node(settings: NodeSettings, tmp_path: Path) -> None:
    with ExitStack() as stack:
        sites = Sites(stack, Events())
        assert sites.of(make_image(tmp_path)) is sites.of(make_image(tmp_path, "apps: [git]"))
        assert find_node(settings.state) is not None
    assert find_node(settings.state) is None


def test_looking_starts_nothing(settings: NodeSettings, tmp_path: Path) -> None:
    image = make_image(tmp_path)
    with open_running(image, Events()) as site:
        assert site is None
    with open_site(image, events=Events()), open_running(image, Events()) as site:
        assert site is not None
        assert site.kind == "embedded"
    assert find_node(settings.state) is None


def test_a_proxmox_is_reached_as_the_variables_say(tmp_path: Path) -> None:
    image = make_image(tmp_path, f"{PROXMOX}proxmox_fingerprint: '{':'.join(['AB'] * 32)}'\n")
    connection = connect_proxmox(image, Asker(Events()), tmp_path)
    assert (connection.host, connection.port, connection.token_user) == ("127.0.0.1", 1, "root@pam")
    assert connection.token_secret.reveal() == "hunter2"
    assert connection.fingerprint == ":".join(["AB"] * 32)
    facts = look_without_node(image)
    assert (facts.kind, facts.network, facts.compress) == ("proxmox", None, "zstd")


def test_a_proxmox_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(NodeUnreachable, match=r"127\.0\.0\.1"),
        open_site(make_image(tmp_path, PROXMOX), events=Events()),
    ):
        pass
