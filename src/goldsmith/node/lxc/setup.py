"""What the node writes inside a guest: once when it is made, and before every start. Texts as Proxmox VE 8.4.

Before every start: host name, hosts, resolver, network, time zone, terminals. Once: the root password (a hash),
authorized keys, SSH host keys, an empty machine id. A distribution that we do not know is left as it is.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from goldsmith.node.lxc.config import Options
from goldsmith.node.lxc.guestfs import GuestRoot
from goldsmith.node.lxc.interfaces import write_network

MANAGED = frozenset({"debian", "devuan", "ubuntu", "alpine"})
"""Distributions whose files are written; Proxmox knows more, these are those that our tests start."""
BEGIN, END = "# --- BEGIN PVE ---", "# --- END PVE ---"
_BLOCK = re.compile(rf"^{BEGIN}\n.*?^{END}\n?", re.MULTILINE | re.DOTALL)
_KEY_TYPES: dict[str, Callable[[], PrivateKeyTypes]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 3072),
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
"""SSH host keys as ssh-keygen(1) makes them by default."""


def update_block(text: str, content: str, *, replace: bool = False) -> str:
    """Return a text with the node's own block renewed; `replace` drops everything else where there was none yet."""
    block = f"{BEGIN}\n{content}{END}\n" if content else ""
    if _BLOCK.search(text):
        return _BLOCK.sub(lambda _: block, text, count=1)
    if replace or not text:
        return block
    return text + ("" if text.endswith("\n") else "\n") + block


def write_block(root: GuestRoot, path: str, content: str, *, replace: bool = False, mode: int = 0o644) -> None:
    """Renew the node's block in a file of the guest."""
    old = root.read(path)
    new = update_block(old, content, replace=replace)
    if new != old or not root.has_file(path):
        root.write(path, new, mode)


def write_start_files(root: GuestRoot, options: Options, nameserver: str) -> None:
    """Write what the options say into the guest, before a start.

    :param nameserver: the resolver's address for guests whose options name none.
    """
    ostype = options.get("ostype", "unmanaged")
    if ostype not in MANAGED:
        return
    _write_hostname(root, options)
    _write_resolver(root, options, nameserver)
    write_network(root, ostype, options.nets())
    _write_timezone(root, options.get("timezone"))
    _write_terminals(root, options.number("tty", 2))


def find_static_address(options: Options) -> str | None:
    """Return the first network device's fixed address, IPv4 before IPv6."""
    for net in options.nets()[:1]:
        for address in (net.get("ip"), net.get("ip6")):
            if "/" in address:
                return str(ip_interface(address).ip)
    return None


def render_hosts(options: Options) -> str:
    """Render the node's block of /etc/hosts."""
    name = options.get("hostname", "localhost")
    short = name.partition(".")[0]
    domains = re.split(r"[\s,;]+", options.get("searchdomain").strip())
    names = [name, short] if "." in name else [*(f"{name}.{domain}" for domain in domains if domain), name]
    address = find_static_address(options) or ("127.0.1.1" if short != "localhost" else "")
    lines = ["127.0.0.1 localhost.localnet localhost", "::1 localhost.localnet localhost"]
    return "".join(line + "\n" for line in [*lines, *([f"{address} {' '.join(names)}"] if address else [])])


def _write_hostname(root: GuestRoot, options: Options) -> None:
    root.write("/etc/hostname", options.get("hostname", "localhost").partition(".")[0] + "\n")
    write_block(root, "/etc/hosts", render_hosts(options))


def _write_resolver(root: GuestRoot, options: Options, nameserver: str) -> None:
    domains = re.split(r"[\s,;]+", options.get("searchdomain").strip())
    servers = re.split(r"[\s,;]+", options.get("nameserver", nameserver).strip())
    content = f"search {' '.join(domains)}\n" if any(domains) else ""
    content += "".join(f"nameserver {server}\n" for server in servers if server)
    write_block(root, "/etc/resolv.conf", content, replace=True)


def _write_timezone(root: GuestRoot, zone: str) -> None:
    if zone == "host":
        link = Path("/etc/localtime")
        zone = str(link.resolve()).partition("/zoneinfo/")[2] if link.is_symlink() else ""
    if zone and root.has_file(f"/usr/share/zoneinfo/{zone}"):
        root.link("/etc/localtime", f"/usr/share/zoneinfo/{zone}")


def _write_terminals(root: GuestRoot, count: int) -> None:
    unit = next(
        (path for path in ("/usr/lib/systemd/system", "/lib/systemd/system")
         if root.has_file(f"{path}/container-getty@.service")), None,
    )  # fmt: skip
    if unit is None:
        return
    wants = "/etc/systemd/system/getty.target.wants"
    for number in range(1, 7):
        name = f"container-getty@{number}.service"
        if number <= count and not root.has_link(f"{wants}/{name}"):
            root.link(f"{wants}/{name}", f"{unit}/container-getty@.service")
        elif number > count and root.has_link(f"{wants}/{name}"):
            root.remove(f"{wants}/{name}")


@dataclass(frozen=True)
class HostKey:
    """A new SSH host key: name of its type, private and public file, fingerprint."""

    kind: str
    private: bytes
    public: bytes
    fingerprint: str


def make_host_key(kind: str) -> HostKey:
    """Make an SSH host key; RSA takes a tenth of a second or more."""
    key = _KEY_TYPES[kind]()
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    private = key.private_bytes(*formats)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return HostKey(kind, private, public, "SHA256:" + base64.b64encode(digest).decode().rstrip("="))


class HostKeys:
    """Host keys being made beside other work: OpenSSL computes them outside Python's lock."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="hostkey")
        self._keys: list[Future[HostKey]] = [self._pool.submit(make_host_key, kind) for kind in _KEY_TYPES]
        self._pool.shutdown(wait=False)

    def write(self, root: GuestRoot, hostname: str, log: Callable[[str], None]) -> None:
        """Put the keys in place of whatever keys the template had, where it has SSH at all."""
        if not root.has_folder("/etc/ssh"):
            return
        comment = f"root@{hostname.partition('.')[0]}"
        for name in root.list_names("/etc/ssh"):
            if re.fullmatch(r"ssh_host_\w+_key(\.pub)?", name):
                root.remove(f"/etc/ssh/{name}")
        for future in self._keys:
            key = future.result()
            name = f"ssh_host_{key.kind}_key"
            log(f"Creating SSH host key '{name}' - this may take some time ...")
            root.write(f"/etc/ssh/{name}", key.private, 0o600)
            root.write(f"/etc/ssh/{name}.pub", key.public + f" {comment}\n".encode(), 0o644)
            log(f"done: {key.fingerprint} {comment}")


def clear_machine_id(root: GuestRoot) -> None:
    """Empty the machine id, so that systemd makes a new one at the next boot (machine-id(5)).

    Empty, not `uninitialized`: that would make the boot a first boot, which presets every unit anew.
    """
    if root.has_file("/etc/machine-id"):
        root.write("/etc/machine-id", "")
    if root.has_file("/var/lib/dbus/machine-id") and not root.has_link("/var/lib/dbus/machine-id"):
        root.remove("/var/lib/dbus/machine-id")


def set_root_password(root: GuestRoot, hashed: str) -> None:
    """Write a password hash into /etc/shadow; `*` lets nobody in by password (PVE without `password`)."""
    if not root.has_file("/etc/shadow"):
        return
    days = int(time.time() // 86400)

    def renew(match: re.Match[str]) -> str:
        return f"root:{hashed}:{days}:{match[1]}"

    root.write(
        "/etc/shadow", re.sub(r"^root:[^:\n]*:[^:\n]*:(.*)$", renew, root.read("/etc/shadow"), flags=re.MULTILINE)
    )


def add_authorized_keys(root: GuestRoot, keys: str) -> None:
    """Put keys into the node's block of root's authorized_keys; keys that the template had stay."""
    root.make_folder("/root/.ssh", 0o700)
    write_block(root, "/root/.ssh/authorized_keys", keys.strip() + "\n", mode=0o600)


_PUBLIC_KEY = re.compile(
    r"(?:\S+\s+)?(?:ssh-(?:dss|rsa|ed25519)|ecdsa-sha2-nistp\d+|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
    r"\s+[A-Za-z0-9+/]+=*(?:\s.*)?"
)


def has_valid_keys(text: str) -> bool:
    """Tell whether every line that says something is an SSH public key."""
    lines = [line.strip() for line in text.splitlines()]
    return all(_PUBLIC_KEY.fullmatch(line) for line in lines if line and not line.startswith("#"))
