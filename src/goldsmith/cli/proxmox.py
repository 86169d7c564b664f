"""A Proxmox as an image's variables name it: its API, the node that is meant, and root's shell there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path

from goldsmith.base.errors import UsageError
from goldsmith.base.secrets import Secret
from goldsmith.build.facts import Site
from goldsmith.cli.asking import Asker
from goldsmith.cli.trust import KnownNodes, pin_endpoint
from goldsmith.definition.image import Image
from goldsmith.definition.values import API_HOST
from goldsmith.pve.absent import AbsentShell
from goldsmith.pve.client import NodeState, Pve, open_pve
from goldsmith.pve.connection import DEFAULT_PORT, Connection, Endpoint
from goldsmith.pve.deferred import DeferredShell
from goldsmith.pve.shell import CommandShell
from goldsmith.pve.ssh import SshAccess, open_ssh_shell


def list_endpoints(image: Image) -> list[Endpoint]:
    """Return where the API of an image's Proxmox answers, in the order in which it is tried."""
    variables = image.variables
    hosts, pins = variables.proxmox_api_host or (), variables.proxmox_fingerprint or ()
    return [Endpoint(*split_host(host), pin) for host, pin in zip_longest(hosts, pins)]


def split_host(text: str) -> tuple[str, int]:
    """Split `pve`, `pve:8006` or `[fd00::1]:8006` into host and port.

    :raises UsageError: it is none of these.
    """
    found = API_HOST.match(text)
    if found is None:
        raise UsageError(f"'{text}' is not a host")
    return found[1].strip("[]"), int(found["port"] or DEFAULT_PORT)


def identify_proxmox(image: Image) -> object:
    """Return what is equal of images that are built on the same node, by the same user."""
    variables = image.variables
    names = ("api_host", "api_user", "api_token_id", "node", "shell", "shell_user", "pull")
    return tuple(getattr(variables, f"proxmox_{name}") for name in names)


def connect_proxmox(image: Image, asker: Asker, state: Path) -> Connection:
    """Return how to talk to the Proxmox that an image's variables name.

    :raises CertificateError: a certificate was not accepted, or is another than the one that was.
    """
    variables, endpoints = image.variables, list_endpoints(image)
    if image.ca_file is None:
        endpoints = [pin_endpoint(endpoint, KnownNodes(state), asker) for endpoint in endpoints]
    first = endpoints[0]
    return Connection(
        first.host,
        first.port,
        user=variables.proxmox_api_user,
        token_id=variables.proxmox_api_token_id or "",
        token_secret=variables.proxmox_api_token_secret or Secret(""),
        password=variables.proxmox_api_password or Secret(""),
        ca_file=image.ca_file,
        fingerprint=first.fingerprint,
        others=tuple(endpoints[1:]),
        second_factor=lambda: _get_code(image, asker),
    )


def _get_code(image: Image, asker: Asker) -> Secret:
    """Return the code of the moment: as given, else as asked for. What is given is good for one login only."""
    user = image.variables.proxmox_api_user
    code = image.variables.proxmox_api_totp or asker.ask_secret(f"Code of the second factor of {user}")
    if code is None:
        raise UsageError(
            f"{user} logs in with a second factor, and nobody can be asked for its code",
            hint="set PROXMOX_API_TOTP to the code of the moment, or use an API token",
        )
    return code


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
def open_proxmox(image: Image, asker: Asker, state: Path) -> Iterator[Site]:
    """Use the Proxmox that an image's variables name while the block runs."""
    with ExitStack() as stack:
        pve = stack.enter_context(open_pve(connect_proxmox(image, asker, state)))
        version = str(pve.version())
        node = choose_node(pve.nodes(), pve.endpoint.host, image.variables.proxmox_node)
        shell = (
            AbsentShell(node)
            if image.variables.proxmox_shell == "none"
            else DeferredShell(node, lambda: stack.enter_context(open_node_shell(image, pve, node, asker)))
        )
        pulls = image.variables.proxmox_pull
        yield Site(
            pve=pve, node=pve.node(node), shell=shell, kind="proxmox", version=version, compress="zstd", pulls=pulls
        )  # fmt: skip


@contextmanager
def open_node_shell(image: Image, pve: Pve, node: str, asker: Asker) -> Iterator[CommandShell]:
    """Use root's shell on a node over ssh while the block runs, with the user's own keys, agent and known hosts."""
    user = image.variables.proxmox_shell_user
    access = SshAccess(pve.find_address(node), user, sudo_password=image.variables.proxmox_sudo_password)
    with open_ssh_shell(access, lambda: asker.ask_sudo_password(f"Password of {user} for sudo on {node}")) as shell:
        yield shell
