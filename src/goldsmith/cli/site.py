"""Where an image is built: the embedded node of this machine, or a Proxmox (`cli.proxmox`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path, PurePosixPath
from typing import Any

from goldsmith.base.digest import digest_bytes
from goldsmith.base.errors import NodeServiceError
from goldsmith.base.events import Events
from goldsmith.build.facts import GuestNetwork, NodeFacts, Site
from goldsmith.cli.asking import Asker
from goldsmith.cli.node_users import open_node
from goldsmith.cli.options import Settings
from goldsmith.cli.project import state_directory
from goldsmith.cli.proxmox import identify_proxmox, list_endpoints, open_proxmox
from goldsmith.definition.image import Image
from goldsmith.node.client import ClientAccess, find_access, find_node
from goldsmith.node.context import Node
from goldsmith.node.host import judge_host, look_at_host
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.settings import DEFAULT_STATE, NodeSettings
from goldsmith.pve.client import Pve, open_pve
from goldsmith.pve.connection import Connection
from goldsmith.pve.shell import LocalShell

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


class Sites:
    """The nodes that a command uses. Each is opened when it is first needed, and closed with the stack."""

    def __init__(self, stack: ExitStack, events: Events, settings: Settings | None = None) -> None:
        """Open nothing yet. :param settings: what the command line said of asking; by default only what is there."""
        self._stack, self._events = stack, events
        quiet, given = (settings.json, settings.ask_become_pass) if settings is not None else (False, False)
        self._asker = Asker(events, quiet=quiet, has_given=given)
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
        key = identify_proxmox(image)
        if key not in self._open:
            self._open[key] = self._stack.enter_context(open_proxmox(image, self._asker, state_directory()))
        return self._open[key]


@contextmanager
def open_own(site: Site) -> Iterator[Site]:
    """Use a site by a connection of one's own while the block runs: one is not for several threads."""
    with open_pve(site.pve.connection) as pve:
        yield replace(site, pve=pve, node=pve.node(site.node.name))


@contextmanager
def open_site(image: Image, *, events: Events, settings: Settings | None = None) -> Iterator[Site]:
    """Use the node on which an image is built while the block runs."""
    with ExitStack() as stack:
        yield Sites(stack, events, settings).of(image)


def look_without_node(image: Image) -> NodeFacts:
    """Return what is known of an image's node without asking it: enough to plan by, though not all of it is known."""
    variables = image.variables
    if variables.proxmox_api_host is not None:
        return NodeFacts(
            kind="proxmox",
            node=variables.proxmox_node or list_endpoints(image)[0].host,
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
def open_running(image: Image, events: Events, settings: Settings | None = None) -> Iterator[Site | None]:
    """Use an image's node as long as nothing has to be started for it: None where the embedded node does not run."""
    if image.variables.proxmox_api_host is not None:
        with open_site(image, events=events, settings=settings) as site:
            yield site
        return
    node = load_node_settings()
    access = find_access(node.state)
    if access is None:
        yield None
        return
    with open_pve(connect_embedded(access)) as pve:
        yield make_embedded(node, access, pve)
