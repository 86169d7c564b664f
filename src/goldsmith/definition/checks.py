"""Variables that make sense only together, and the files that they name. Pure but for looking at those files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from goldsmith.definition.bases import Download, LocalFile, OciImage, parse_base
from goldsmith.definition.image import Origin
from goldsmith.definition.values import DHCP
from goldsmith.definition.variables import Variables, accepted_form

TOKEN = ("proxmox_api_token_id", "proxmox_api_token_secret")
DEBIAN_ACCOUNTS = frozenset(
    {
        "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data",
        "backup", "list", "irc", "gnats", "nobody", "_apt", "sshd", "messagebus", "systemd-network",
    }
)  # fmt: skip
"""Accounts of a Debian base system (base-passwd's passwd.master, and those of openssh-server, dbus and systemd)."""
CERTIFICATE_MARK = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and at which variable it is to be shown."""

    name: str
    message: str


@dataclass(frozen=True)
class Situation:
    """The values that could be read, and what is known about each name."""

    variables: Variables
    origins: dict[str, Origin]
    """Where the given ones stand."""
    faulty: frozenset[str]
    """Names with a mistake already: nothing more is said about them."""
    complete: bool
    """Whether everything was readable: otherwise what seems to be missing may be there."""

    def has(self, *names: str) -> bool:
        """Tell whether all these values are known."""
        return all(getattr(self.variables, name) is not None and name not in self.faulty for name in names)

    def lacks(self, name: str) -> bool:
        """Tell whether a value is surely missing."""
        return self.complete and name not in self.faulty and getattr(self.variables, name) is None

    def where(self, name: str) -> str:
        """Return a name with its place: `temp_ip_address (vars.yml:7)`."""
        origin = self.origins.get(name)
        return f"{name} ({origin.file.name}:{origin.line})" if origin and origin.line else name


def find_mistakes(situation: Situation) -> list[Mistake]:
    """Return every mistake that several variables make together."""
    return [mistake for check in CHECKS for mistake in check(situation)]


def _check_host(situation: Situation) -> Iterator[Mistake]:
    if situation.has("proxmox_api_host"):
        # a guest on a foreign network must be told where it is and how it gets out
        token = () if situation.has("proxmox_api_password") else TOKEN
        for name in filter(situation.lacks, (*token, *_list_place(situation))):
            yield Mistake(name, f"{name} is missing; {situation.where('proxmox_api_host')} needs it")


def _list_place(situation: Situation) -> tuple[str, ...]:
    """List what says where a guest is: nothing has to, where the network tells it, or where nobody has to find it."""
    if situation.variables.temp_ip_address == DHCP:
        return ("temp_ip_address",)
    if situation.lacks("temp_ip_address") and situation.variables.guest_connection == "console":
        return ()
    return ("temp_ip_address", "temp_gateway")


def _check_one_way_in(situation: Situation) -> Iterator[Mistake]:
    """Find a token beside a password: which one was meant cannot be told."""
    for name in TOKEN:
        if situation.has("proxmox_api_host", "proxmox_api_password", name):
            message = f"there is {situation.where(name)} as well; give a token or a password, not both"
            yield Mistake("proxmox_api_password", f"proxmox_api_password: {message}")
            return


def _check_fingerprints(situation: Situation) -> Iterator[Mistake]:
    """Find hosts and fingerprints that do not pair."""
    if not situation.has("proxmox_api_host", "proxmox_fingerprint"):
        return
    pins, hosts = situation.variables.proxmox_fingerprint or (), situation.variables.proxmox_api_host or ()
    if len(pins) != len(hosts):
        message = f"there are {len(pins)}, but {len(hosts)} in {situation.where('proxmox_api_host')}; give one for each"
        yield Mistake("proxmox_fingerprint", f"proxmox_fingerprint: {message}")


def _check_token_user(situation: Situation) -> Iterator[Mistake]:
    names = ("proxmox_api_token_id", "proxmox_api_user")
    if not situation.has(*names) or "proxmox_api_user" not in situation.origins:
        return
    user, bang, _ = (situation.variables.proxmox_api_token_id or "").partition("!")
    if bang and user != situation.variables.proxmox_api_user:
        message = f"the token belongs to {user}, but {situation.where('proxmox_api_user')} is another"
        yield Mistake("proxmox_api_token_id", f"proxmox_api_token_id: {message}")


def _check_gateway(situation: Situation) -> Iterator[Mistake]:
    gateway, interface = situation.variables.temp_gateway, situation.variables.temp_ip_address
    if not situation.has("temp_gateway") or gateway is None:
        return
    if interface == DHCP:
        message = f"makes no sense with {situation.where('temp_ip_address')}: the network tells it"
        yield Mistake("temp_gateway", f"temp_gateway {message}")
    if situation.lacks("temp_ip_address") and not situation.has("proxmox_api_host"):
        yield Mistake("temp_gateway", "temp_gateway makes no sense without temp_ip_address")
    if situation.has("temp_ip_address") and isinstance(interface, IPv4Interface):
        fault = _find_gateway_fault(gateway, interface, situation.where("temp_ip_address"))
        if fault:
            yield Mistake("temp_gateway", f"temp_gateway {gateway} {fault}")


def _find_gateway_fault(gateway: IPv4Address, interface: IPv4Interface, where: str) -> str | None:
    network = interface.network
    if gateway not in network:
        return f"lies outside the network {network} of {where}"
    if gateway == interface.ip:
        return f"is the guest's own address, {where}"
    if network.prefixlen < 31 and gateway in (network.network_address, network.broadcast_address):
        return f"is not a host's address in the network {network} of {where}"
    return None


def _check_user(situation: Situation) -> Iterator[Mistake]:
    user = situation.variables.template_user
    if situation.has("template_user") and user in DEBIAN_ACCOUNTS:
        yield Mistake("template_user", f"template_user '{user}' is an account that Debian has itself")


def _check_base(situation: Situation) -> Iterator[Mistake]:
    if not situation.has("base_image"):
        return
    base = parse_base(situation.variables.base_image)
    if isinstance(base, Download) and situation.lacks("base_checksum"):
        yield Mistake(
            "base_image", "base_image is a URL without base_checksum (sha256:...): what is behind it may change"
        )
    if situation.has("base_checksum") and not isinstance(base, Download | LocalFile):
        where = situation.where("base_image")
        meant = f"{where} is pinned by @sha256:... behind it" if isinstance(base, OciImage) else f"{where} is no file"
        yield Mistake("base_checksum", f"base_checksum makes no sense: {meant}")


def _check_shell(situation: Situation) -> Iterator[Mistake]:
    """Find what only a shell on the node can do, where there is none."""
    if not situation.has("proxmox_api_host", "proxmox_shell") or situation.variables.proxmox_shell != "none":
        return
    where = situation.where("proxmox_shell")
    if situation.has("dump_dir"):
        yield Mistake(
            "dump_dir", f"dump_dir is a directory on the node, and there is no shell to write it with: {where}"
        )
    if situation.has("test_connection") and situation.variables.test_connection == "direct":
        message = f"test_connection: direct leads through a shell on the node, and there is none: {where}"
        yield Mistake("test_connection", message)


CHECKS: tuple[Callable[[Situation], Iterator[Mistake]], ...] = (
    _check_host,
    _check_one_way_in,
    _check_fingerprints,
    _check_token_user,
    _check_gateway,
    _check_user,
    _check_base,
    _check_shell,
)


def find_ca_fault(file: Path) -> str | None:
    """Return what is wrong with a file of certificates, or None."""
    try:
        if not file.is_file():
            return "is no file" if file.exists() else "does not exist"
        with file.open("rb") as stream:
            return None if CERTIFICATE_MARK in stream.read(1 << 20) else "holds no certificate in PEM form"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def find_base_fault(file: Path) -> str | None:
    """Return what is wrong with a template file, or None; only whether there is something to read."""
    try:
        if not file.is_file():
            return "is no file" if file.exists() else "does not exist"
        with file.open("rb") as stream:
            return None if stream.read(1) else "is empty"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def get_form(name: str) -> str:
    """Return the form of a variable, for an error about it; empty for a name that is not known."""
    return accepted_form(name) if name in Variables.model_fields else ""
