"""How programs on this machine find the node and get in: files in the state directory's `client/`.

    client/node.json     where it listens and its certificate's fingerprint; there while it runs, readable by all
           ca.pem        its certificate
           <uid>.json    the token of one user of the machine, readable by that user only

Whoever may start the node (as root, or through sudo) gets a token of root@pam. It is no root@pam ticket: it cannot
mount the machine's directories into guests.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from goldsmith import __version__
from goldsmith.base.files import write_atomic
from goldsmith.base.secrets import Secret
from goldsmith.node.access.store import ROOT, AccessStore
from goldsmith.node.certificate import get_fingerprint
from goldsmith.node.settings import NodeSettings
from goldsmith.node.tasks import get_start_ticks

HOST = "127.0.0.1"
"""The only address that the node listens on."""


@dataclass(frozen=True)
class NodeAddress:
    """A running node: its process, where it listens, its certificate, the goldsmith version that it runs.

    `fingerprint` is SHA-256, `AB:CD:...`.
    """

    pid: int
    host: str
    port: int
    node: str
    fingerprint: str
    version: str
    ca_file: Path


@dataclass(frozen=True)
class ClientAccess:
    """What a client needs. `token_id` is `root@pam!cli-1000`."""

    address: NodeAddress
    token_id: str
    token_secret: Secret


def _folder(state: Path) -> Path:
    return state / "client"


def announce(settings: NodeSettings, port: int) -> None:
    """Say where the node listens; called by the server itself once it does."""
    folder, certificate = _folder(settings.state), settings.state / "tls" / "pve-ssl.pem"
    folder.mkdir(mode=0o711, exist_ok=True)
    write_atomic(folder / "ca.pem", certificate.read_text(), mode=0o644)
    pid = os.getpid()
    about = {
        "pid": pid, "pstart": get_start_ticks(pid), "host": HOST, "port": port, "node": settings.name,
        "fingerprint": get_fingerprint(certificate), "version": __version__,
    }  # fmt: skip
    write_atomic(folder / "node.json", json.dumps(about), mode=0o644)


def withdraw(settings: NodeSettings) -> None:
    """Take back what `announce` said."""
    (_folder(settings.state) / "node.json").unlink(missing_ok=True)


def find_node(state: Path) -> NodeAddress | None:
    """Return the running node of a state directory; a file left by a killed one does not count."""
    try:
        about = json.loads((_folder(state) / "node.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    if get_start_ticks(about["pid"]) != about.pop("pstart"):
        return None
    return NodeAddress(**{"version": "", **about}, ca_file=_folder(state) / "ca.pem")


def grant(settings: NodeSettings, uid: int, gid: int) -> None:
    """Let a user of the machine in: make a token for him, unless his still is one."""
    path, name = _folder(settings.state) / f"{uid}.json", f"cli-{uid}"
    store = AccessStore(settings.state / "access.json")
    user = store.load().find_user(ROOT)
    if path.exists() and user is not None and name in user.tokens:
        return
    secret = store.set_token(ROOT, name, privsep=False, comment="made by goldsmith node start")
    write_atomic(path, json.dumps({"token_id": f"{ROOT}!{name}", "token_secret": secret.reveal()}), mode=0o600)
    if os.geteuid() == 0:
        os.chown(path, uid, gid)


def find_access(state: Path, uid: int | None = None) -> ClientAccess | None:
    """Return how the calling user gets into the running node; None where it does not run or he has no token."""
    address = find_node(state)
    path = _folder(state) / f"{os.getuid() if uid is None else uid}.json"
    if address is None or not path.exists():
        return None
    about = json.loads(path.read_text())
    return ClientAccess(address, about["token_id"], Secret(about["token_secret"]))
