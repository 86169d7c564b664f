"""The variables of images/NAME/vars.yml that goldsmith itself knows; other names go to the playbook.

Each is written once, here: its type, default, meaning and examples; docs and the JSON Schema are made of it.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from goldsmith.base.secrets import Secret
from goldsmith.definition.values import (
    CIDR_FORM,
    DISK_FORM,
    HOSTNAME,
    NAME,
    PACKAGE,
    STORAGE,
    USER,
    DiskSize,
    parse_disk_size,
    parse_interface,
)

API_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?\Z|\[[0-9A-Fa-f:]+\](:\d{1,5})?\Z")
API_USER = re.compile(r"[^\s:/@]+@[A-Za-z][A-Za-z0-9._-]+\Z")
TOKEN_ID = re.compile(r"([^\s:/@]+@[A-Za-z][A-Za-z0-9._-]+!)?[A-Za-z][A-Za-z0-9._-]+\Z")
FINGERPRINT = re.compile(r"([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}\Z")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {_kind(value)}, not text; put it in quotes if it is meant as text")
    return value


def _kind(value: Any) -> str:
    names = {bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return "empty" if value is None else names.get(type(value), type(value).__name__)


def _matching(pattern: re.Pattern[str], refused: str) -> BeforeValidator:
    """Accept text of a pattern; `refused` says what it is not."""

    def check(value: Any) -> str:
        text = _text(value)
        if not pattern.match(text):
            raise ValueError(f"{text!r} {refused}")
        return text

    return BeforeValidator(check)


def _disk(value: Any) -> DiskSize:
    return value if isinstance(value, DiskSize) else parse_disk_size(_text(value))


def _interface(value: Any) -> IPv4Interface:
    return value if isinstance(value, IPv4Interface) else parse_interface(_text(value))


def _address(value: Any) -> IPv4Address:
    if isinstance(value, IPv4Address):
        return value
    try:
        return IPv4Address(_text(value))
    except ValueError as error:
        raise ValueError(f"{value!r} is not an IPv4 address") from error


def _number(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal():  # Ansible's environment and Jinja give numbers as text
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"is {_kind(value)}, not a whole number")
    return value


def _truth(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if (
        isinstance(value, str) and value.lower() in words
    ):  # what Ansible's `bool` filter takes, less the surprising rest
        return words[value.lower()]
    if not isinstance(value, bool):
        raise ValueError(f"is {_kind(value)}, not a truth value")
    return value


def _packages(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"is {_kind(value)}, not a list")
    wrong = [item for item in value if not isinstance(item, str) or not PACKAGE.match(item)]
    if wrong:
        raise ValueError(f"{', '.join(map(repr, wrong))} cannot be the name of a package")
    return tuple(value)


def _directory(value: Any) -> PurePosixPath:
    path = PurePosixPath(_text(value) if not isinstance(value, PurePosixPath) else value)
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{str(path)!r} is not an absolute path")
    return path


Hostname = Annotated[str, _matching(HOSTNAME, "is not a host name"), StringConstraints(max_length=253)]
Text = Annotated[str, BeforeValidator(_text), StringConstraints(min_length=1)]
VmId = Annotated[int, BeforeValidator(_number), Field(ge=100, le=999_999_999)]
Uid = Annotated[int, BeforeValidator(_number), Field(ge=1, le=60_000)]
Truth = Annotated[bool, BeforeValidator(_truth)]
Interface = Annotated[IPv4Interface, BeforeValidator(_interface), WithJsonSchema({"type": "string"})]
Address = Annotated[IPv4Address, BeforeValidator(_address), WithJsonSchema({"type": "string", "format": "ipv4"})]
Disk = Annotated[DiskSize, BeforeValidator(_disk), WithJsonSchema({"type": "string"})]
Directory = Annotated[PurePosixPath, BeforeValidator(_directory), WithJsonSchema({"type": "string"})]
Packages = Annotated[tuple[str, ...], BeforeValidator(_packages)]
SecretText = Annotated[Secret, WithJsonSchema({"type": "string", "writeOnly": True})]


def _known(description: str, accepted: str, *examples: object, default: Any = None) -> Any:
    """Declare a variable: what it means, the form it takes (shown when a value is refused) and examples."""
    return Field(default, description=description, examples=list(examples), json_schema_extra={"accepted": accepted})


class Variables(BaseModel):
    """The known variables of one image, as written: where a value is missing, its default or None."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    proxmox_api_host: Annotated[str, _matching(API_HOST, "is not a host")] | None = _known(
        "The Proxmox VE node whose API is used. Without it the image is built on the embedded node of this machine.",
        "a host name or address, with :port where it is not 8006",
        "pve.example.com",
        "10.0.0.5:8006",
    )
    proxmox_api_user: Annotated[str, _matching(API_USER, "is not user@realm")] = _known(
        "The user who owns the API token.", "user@realm", "root@pam", "goldsmith@pve", default="root@pam"
    )
    proxmox_api_token_id: Annotated[str, _matching(TOKEN_ID, "is not a token id")] | None = _known(
        "The API token's id.", "the token's name, or user@realm!name", "ci", "root@pam!ci"
    )
    proxmox_api_token_secret: SecretText | None = _known(
        "The API token's secret. Better kept in the environment (PROXMOX_API_TOKEN_SECRET) or in vault.yml.",
        "the secret that Proxmox showed when the token was made",
    )
    proxmox_ca_file: Text | None = _known(
        "Certificate authority of the node, where the system does not know it.",
        "path of a PEM file, relative to the image's folder",
        "pve-root-ca.pem",
    )
    proxmox_fingerprint: Annotated[str, _matching(FINGERPRINT, "is not a SHA-256 fingerprint")] | None = _known(
        "SHA-256 fingerprint of the node's certificate, trusted instead of an authority.",
        "32 pairs of hex digits with colons, as Proxmox shows them under Certificates",
    )
    proxmox_node: Hostname | None = _known(
        "The cluster's node on which the build guest is made. Default: the node that answers.", "a node's name", "pve"
    )
    proxmox_storage: Annotated[str, _matching(STORAGE, "is not a storage id")] = _known(
        "The storage that holds the base image, and the build guest's disk where temp_disk_size names no other.",
        "a storage id",
        "local",
        default="local",
    )
    base_image: Text = _known(
        "The template to build on: its name in the storage or in the node's appliance index, where the newest match "
        "is taken and downloaded if the storage lacks it.",
        "a template's name or the beginning of one, or a volume id",
        "debian-12-standard",
        "debian-13-standard_13.1-2_amd64.tar.zst",
        "local:vztmpl/my-base.tar.zst",
        default="debian-12-standard",
    )
    temp_vmid: VmId | None = _known(
        "The build guest's id. Default: the first free one from 900 on.", "a whole number from 100 to 999999999", 900
    )
    temp_hostname: Hostname | None = _known(
        "The build guest's host name. Default: the image's name with -build.", "a host name", "lxc-build"
    )
    temp_disk_size: Disk | None = _known(
        "The build guest's disk. Default: 8 GiB on proxmox_storage.", DISK_FORM, "local:8", "local-lvm:4.5"
    )
    temp_ip_address: Interface | None = _known(
        "The build guest's address. Default on the embedded node: one from its own network, chosen with the id.",
        CIDR_FORM,
        "10.10.10.254/24",
    )
    temp_gateway: Address | None = _known(
        "The build guest's gateway; must lie in the network of temp_ip_address.", "an IPv4 address", "10.10.10.1"
    )
    dump_dir: Directory | None = _known(
        "Directory on the node where the finished template is stored. Default: the template directory of the node's "
        "storage, so that it can be used at once.",
        "an absolute path",
        "/var/lib/vz/template/cache",
    )
    template_name: Annotated[str, _matching(NAME, "is not a template name")] | None = _known(
        "Name of the template and of the image's versions; the date is added. Default: the image's folder.",
        "lower-case letters, digits and . _ - between them",
        "debian-12-docker",
    )
    template_user: Annotated[str, _matching(USER, "is not a login name")] = _known(
        "The account that the image gets.",
        "lower-case letters, digits, _ and -, at most 32",
        "ops",
        default="ops",
    )
    template_password: SecretText | None = _known(
        "The new account's temporary password; the image holds only a hash. Better kept in the environment "
        "(TEMPLATE_PASSWORD) or in vault.yml. Default: a random one, kept beside the project in .goldsmith/.",
        "text",
    )
    template_uid: Uid = _known("The new account's user id.", "a whole number from 1 to 60000", 1000, default=1000)
    apps: Packages = _known("Packages to install.", "a list of package names", ["git", "htop"], default=())
    force_reset_password: Truth = _known(
        "Whether the account must change its password at the first login.", "true or false", True, default=True
    )
    git_email: Text | None = _known("E-mail address in the account's git configuration.", "text", "ops@example.com")
    git_user: Text | None = _known("Name in the account's git configuration.", "text", "Ops")
    ssh_key_file: Text | None = _known(
        "Public key that may log in to the new account. Default: your own ~/.ssh/id_ed25519.pub (or id_ecdsa, "
        "id_rsa); where there is none, a key pair is made in .goldsmith/.",
        "path of a public key file; ~ is your home, other paths are relative to the image's folder",
        "~/.ssh/id_ed25519.pub",
    )
    ansible_strategy: Annotated[str, _matching(re.compile(r"[a-z_.]+\Z"), "is not a strategy's name")] = _known(
        "Ansible's strategy. mitogen_linear is the fastest; linear is Ansible's own, for modules that mitogen breaks.",
        "mitogen_linear, linear, or another strategy plugin that is installed",
        "linear",
        default="mitogen_linear",
    )
    repository: Text | None = _known(
        "Where versions are stored: an OCI image layout. Default: repository/ beside images/.",
        "path of a directory, relative to the project",
        "/srv/goldsmith/repository",
    )


KNOWN = tuple(Variables.model_fields)
SECRETS = frozenset({"proxmox_api_token_secret", "template_password"})
"""The variables whose values must not be seen; each may come from an environment variable of its name in capitals."""


def accepted_form(name: str) -> str:
    """Return the form in which a known variable is accepted, for an error about it."""
    extra = Variables.model_fields[name].json_schema_extra
    return str(extra["accepted"]) if isinstance(extra, dict) else ""
