"""Where an image is built: the embedded node of this machine, or the Proxmox that its variables name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Interface
from pathlib import Path, PurePosixPath
from typing import Any

from goldsmith.base.digest import digest_bytes
from goldsmith.base.errors import NodeServiceError, UsageError
from goldsmith.base.events import Events
from goldsmith.base.secrets import Secret
from goldsmith.build.facts import GuestNetwork, NodeFacts, Site
from goldsmith.cli.node_users import open_node
from goldsmith.cli.project import state_directory
from goldsmith.definition.image import Image
from goldsmith.definition.values import API_HOST
from goldsmith.node.client import ClientAccess, find_access, find_node
from goldsmith.node.context import Node
from goldsmith.node.host import judge_host, look_at_host
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.settings import DEFAULT_STATE, NodeSettings
from goldsmith.pve.client import NodeState, Pve, open_pve
from goldsmith.pve.connection import DEFAULT_PORT, Connection
from goldsmith.pve.shell import LocalShell
from goldsmith.pve.ssh import SshAccess, open_ssh_shell

STATE_VARIABLE = "GOLDSMITH_NODE_STATE"
"""Environment variable: the state directory of the embedded node that is meant."""

FILE_STORAGE = "plain"
"""Of the embedded node: a plain directory: quicker, and its files can be read also while the node rests."""


def load_node_settings(environment: Mapping[str, str] = os.environ) -> NodeSettings:
    """Return the settings of the embedded node that is meant: an existing one's own, else those it would start with.

    A node elsewhere than in the default directory gets a bridge and a network of its own, so that it disturbs no other.
    """
    state = Path(environment.get(STATE_VARIABLE) or DEFAULT_STATE).absolute()
    try:
        return NodeSettings.load(state)
    except FileNotFoundError:
        return NodeSettings(state=state) if state == DEFAULT_STATE else _choose_settings(state)
    except PermissionError as error:
        hint = f"{STATE_VARIABLE} says where it is; its directory must let everybody through (mode 711)"
        raise NodeServiceError(
            f"the embedded node on {state} cannot be entered: {error.strerror}", hint=hint
        ) from error


def _choose_settings(state: Path) -> NodeSettings:
    """Return settings for one more node; they depend on its directory alone."""
    digits = digest_bytes(str(state).encode()).partition(":")[2]
    number = 100 + int(digits[:6], 16) % 100
    return NodeSettings(state=state, host_bridge=f"gs{digits[:10]}", network=f"10.{number}.0.1/16")


def check_host(settings: NodeSettings) -> None:
    """Check that the machine has what the embedded node needs.

    :raises NodeServiceError: it lacks something; all of it is in `detail`.
    """
    if not settings.with_guests:
        return
    lacking = [finding for finding in judge_host(look_at_host(settings), settings) if finding.level == "error"]
    if lacking:
        detail = "\n".join(f"{finding.subject}: {finding.message}\n  {finding.hint}" for finding in lacking)
        raise NodeServiceError(
            "this machine lacks what the embedded node needs",
            detail=detail,
            hint="`make install` installs programs; `goldsmith node doctor` says more",
        )


def connect_embedded(access: ClientAccess) -> Connection:
    """Return how to talk to the embedded node: its certificate is pinned."""
    address = access.address
    return Connection(
        address.host,
        address.port,
        token_id=access.token_id,
        token_secret=access.token_secret,
        fingerprint=address.fingerprint,
    )


def connect_proxmox(image: Image) -> Connection:
    """Return how to talk to the Proxmox that an image's variables name."""
    variables = image.variables
    host, port = split_host(variables.proxmox_api_host or "")
    return Connection(
        host,
        port,
        user=variables.proxmox_api_user,
        token_id=variables.proxmox_api_token_id or "",
        token_secret=variables.proxmox_api_token_secret or Secret(""),
        ca_file=image.ca_file,
        fingerprint=variables.proxmox_fingerprint,
    )


def split_host(text: str) -> tuple[str, int]:
    """Split `pve`, `pve:8006` or `[fd00::1]:8006` into host and port.

    :raises UsageError: it is none of these.
    """
    found = API_HOST.match(text)
    if found is None:
        raise UsageError(f"'{text}' is not a host")
    return found[1].strip("[]"), int(found["port"] or DEFAULT_PORT)


def choose_node(nodes: list[NodeState], host: str, named: str | None) -> str:
    """Return the cluster's node to build on: the one that is named, the only one, or the one that `host` is.

    :raises UsageError: it cannot be told, or there is no such node.
    """
    names = [node.name for node in nodes]
    wanted = named or (names[0] if len(names) == 1 else host.partition(".")[0])
    if wanted in names:
        return wanted
    known = f"the nodes of {host} are {', '.join(names)}" if names else f"{host} shows no nodes: the token may see none"
    what = f"there is no node '{named}'" if named else f"{host} is a cluster, and none of its nodes has that name"
    raise UsageError(what, hint=f"{known}; set proxmox_node to one of them")


@contextmanager
def open_embedded(settings: NodeSettings, state: Path, events: Events) -> Iterator[Site]:
    """Use the embedded node while the block runs; it is started where it does not run, and then stopped again.

    :raises NodeServiceError: the machine lacks something that it needs, or it does not start.
    """
    if find_node(settings.state) is None:
        check_host(settings)
    with open_node(settings, state, events) as access, open_pve(connect_embedded(access)) as pve:
        yield make_embedded(settings, access, pve)


def make_embedded(settings: NodeSettings, access: ClientAccess, pve: Pve) -> Site:
    """Return the running embedded node as a site."""
    return Site(
        pve=pve,
        node=pve.node(access.address.node),
        shell=LocalShell(),
        kind="embedded",
        version=str(pve.version()),
        compress="0",
        network=GuestNetwork(IPv4Interface(settings.network)),
        bridge=settings.bridge,
        identity=str(settings.state),
        file_storage=FILE_STORAGE,
        **locate_logs(settings),
    )


def locate_logs(settings: NodeSettings) -> dict[str, Any]:
    """Return where the embedded node has its guests' consoles, and LXC's own directory of them (fields of `Site`)."""
    node = Node(settings)
    return {
        "lxc_path": str(Runtime(node, 0).lxcpath),
        "find_console_log": lambda vmid: PurePosixPath(Runtime(node, vmid).console_log),
    }


@contextmanager
def open_proxmox(image: Image) -> Iterator[Site]:
    """Use the Proxmox that an image's variables name while the block runs.

    Its shell is root's over ssh, with the user's own keys, agent and known hosts.
    """
    with ExitStack() as stack:
        pve = stack.enter_context(open_pve(connect_proxmox(image)))
        version = str(pve.version())
        node = choose_node(pve.nodes(), pve.connection.host, image.variables.proxmox_node)
        shell = stack.enter_context(open_ssh_shell(SshAccess(pve.connection.host)))
        yield Site(pve=pve, node=pve.node(node), shell=shell, kind="proxmox", version=version, compress="zstd")


class Sites:
    """The nodes that a command uses. Each is opened when it is first needed, and closed with the stack."""

    def __init__(self, stack: ExitStack, events: Events) -> None:
        self._stack, self._events = stack, events
        self._open: dict[object, Site] = {}

    def embedded(self) -> Site:
        """Return the embedded node."""
        if None not in self._open:
            opened = open_embedded(load_node_settings(), state_directory(), self._events)
            self._open[None] = self._stack.enter_context(opened)
        return self._open[None]

    def of(self, image: Image) -> Site:
        """Return where an image is built."""
        if image.variables.proxmox_api_host is None:
            return self.embedded()
        key = (connect_proxmox(image), image.variables.proxmox_node)
        if key not in self._open:
            self._open[key] = self._stack.enter_context(open_proxmox(image))
        return self._open[key]


@contextmanager
def open_site(image: Image, *, events: Events) -> Iterator[Site]:
    """Use the node on which an image is built while the block runs."""
    with ExitStack() as stack:
        yield Sites(stack, events).of(image)


def look_without_node(image: Image) -> NodeFacts:
    """Return what is known of an image's node without asking it: enough to plan by, though not all of it is known."""
    variables = image.variables
    if variables.proxmox_api_host is not None:
        host, _ = split_host(variables.proxmox_api_host)
        return NodeFacts(
            kind="proxmox",
            node=variables.proxmox_node or host,
            bridge="vmbr0",
            compress="zstd",
            dump_storage=variables.proxmox_storage,
            template_directory=PurePosixPath("/var/lib/vz/template/cache"),
        )
    settings = load_node_settings()
    return NodeFacts(
        kind="embedded",
        node=settings.name,
        bridge=settings.bridge,
        network=GuestNetwork(IPv4Interface(settings.network)),
        dump_storage=FILE_STORAGE,
        template_directory=PurePosixPath(settings.state / FILE_STORAGE / "template" / "cache"),
    )


@contextmanager
def open_running(image: Image, events: Events) -> Iterator[Site | None]:
    """Use an image's node as long as nothing has to be started for it: None where the embedded node does not run."""
    if image.variables.proxmox_api_host is not None:
        with open_site(image, events=events) as site:
            yield site
        return
    settings = load_node_settings()
    access = find_access(settings.state)
    if access is None:
        yield None
        return
    with open_pve(connect_embedded(access)) as pve:
        yield make_embedded(settings, access, pve)
