"""The variables of images/NAME/vars.yml that goldsmith itself knows; other names go to the playbook.

Each is written once, here: its type, default, meaning and examples; docs and the JSON Schema are made of it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from goldsmith.definition.fields import (
    Address,
    ApiHost,
    Directory,
    Disk,
    Interface,
    Location,
    Matching,
    Packages,
    Seconds,
    SecretText,
    TestConnection,
    Text,
    Truth,
    Uid,
    VmId,
)
from goldsmith.definition.hygiene import Limits, Reasons, Users
from goldsmith.definition.layers import PERIOD_FORM, Layers, Period
from goldsmith.definition.values import (
    API_USER,
    CIDR_FORM,
    DISK_FORM,
    FINGERPRINT,
    HOSTNAME,
    NAME,
    STORAGE,
    STRATEGY,
    TOKEN_ID,
    USER,
)

Hostname = Annotated[str, Matching(HOSTNAME, "is not a host name", longest=253)]


def _known(description: str, accepted: str, *examples: object, default: Any = None, otherwise: str = "") -> Any:
    """Declare a variable: what it means, the form it takes (shown when a value is refused) and examples.

    :param otherwise: what happens without it, in words, where the default alone does not say so.
    """
    return Field(
        default,
        description=description,
        examples=list(examples),
        json_schema_extra={"accepted": accepted, "otherwise": otherwise},
    )


class Variables(BaseModel):
    """The known variables of one image, as written: where a value is missing, its default or None."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    proxmox_api_host: ApiHost | None = _known(
        "The Proxmox VE node whose API is used. Everything else about the node (proxmox_api_*, proxmox_ca_file, "
        "proxmox_fingerprint) counts only together with it.",
        "a host name or address, with :port where it is not 8006",
        "pve.example.com",
        "10.0.0.5:8006",
        otherwise="the image is built on the embedded node of this machine",
    )
    proxmox_api_user: Annotated[str, Matching(API_USER, "is not user@realm")] = _known(
        "The user who owns the API token.", "user@realm", "root@pam", "goldsmith@pve", default="root@pam"
    )
    proxmox_api_token_id: Annotated[str, Matching(TOKEN_ID, "is not a token id")] | None = _known(
        "The API token's id. Needed with proxmox_api_host.",
        "the token's name, or user@realm!name",
        "ci",
        "root@pam!ci",
    )
    proxmox_api_token_secret: SecretText | None = _known(
        "The API token's secret. Needed with proxmox_api_host. Better kept in the environment or in vault.yml.",
        "the secret that Proxmox showed when the token was made",
    )
    proxmox_ca_file: Text | None = _known(
        "Certificate authority of the node, where the system does not know it.",
        "path of a PEM file; ~ is your home, other paths are relative to the image's folder",
        "pve-root-ca.pem",
        otherwise="the authorities that this machine trusts",
    )
    proxmox_fingerprint: Annotated[str, Matching(FINGERPRINT, "is not a SHA-256 fingerprint")] | None = _known(
        "SHA-256 fingerprint of the node's certificate. Without proxmox_ca_file it is trusted instead of an "
        "authority; with it both must hold.",
        "32 pairs of hex digits with colons, as Proxmox shows them under Certificates",
        otherwise="an authority must have signed the certificate",
    )
    proxmox_node: Hostname | None = _known(
        "The cluster's node on which the build guest is made.",
        "a node's name",
        "pve",
        otherwise="the node that answers",
    )
    proxmox_storage: Annotated[str, Matching(STORAGE, "is not a storage id")] = _known(
        "The storage that holds the base image, and the build guest's disk where temp_disk_size names no other.",
        "a storage id",
        "local",
        default="local",
    )
    base_image: Text = _known(
        "What is built upon: a template of the storage, by its name or as the newest of a package (what the storage "
        "lacks is downloaded from the node's appliance index), or a version of another image of the repository.",
        "a template's name or package, a volume id, or image:NAME, image:NAME:TAG or image:NAME:CHANNEL",
        "debian-12-standard",
        "debian-13-standard_13.1-2_amd64.tar.zst",
        "local:vztmpl/my-base.tar.zst",
        "image:debian-12-base:stable",
        default="debian-12-standard",
    )
    temp_vmid: VmId | None = _known(
        "The build guest's id. It must be free, and no server's in the inventory.",
        "a whole number from 100 to 999999999",
        900,
        otherwise="the first free one from 900 on",
    )
    temp_hostname: Hostname | None = _known(
        "The build guest's host name.",
        "a host name: letters, digits and - in parts of at most 63, with dots between them",
        "lxc-build",
        otherwise="the image's name with -build",
    )
    temp_disk_size: Disk | None = _known(
        "The build guest's disk.", DISK_FORM, "local:8", "local-lvm:4.5", otherwise="8 GiB on proxmox_storage"
    )
    temp_ip_address: Interface | None = _known(
        "The build guest's address. Needed with proxmox_api_host. No server in the inventory may have it.",
        CIDR_FORM,
        "10.10.10.254/24",
        otherwise="on the embedded node, one from its own network",
    )
    temp_gateway: Address | None = _known(
        "The build guest's gateway; must lie in the network of temp_ip_address. Needed with proxmox_api_host: "
        "a guest without one cannot install packages.",
        "an IPv4 address in the network of temp_ip_address, and not that address itself",
        "10.10.10.1",
        otherwise="on the embedded node, the gateway of its own network",
    )
    dump_dir: Directory | None = _known(
        "Directory on the node where the finished template is stored.",
        "an absolute path",
        "/var/lib/vz/template/cache",
        otherwise="the template directory of the node's storage, so that it can be used at once",
    )
    template_name: Annotated[str, Matching(NAME, "is not a template name", longest=100)] | None = _known(
        "Name of the template and of the image's versions; the date is added.",
        "lower-case letters and digits, with single . _ or - between them, at most 100",
        "debian-12-docker",
        otherwise="the name of the image's folder",
    )
    template_user: Annotated[str, Matching(USER, "is not a login name")] = _known(
        "The account that the image gets. It must not be one that Debian has itself, like root.",
        "lower-case letters, digits, _ and -, at most 32, not beginning with a digit",
        "ops",
        default="ops",
    )
    template_password: SecretText | None = _known(
        "The new account's temporary password; the image holds only a hash. Better kept in the environment "
        "or in vault.yml.",
        "text in one line, in quotes if it could be read as something else",
        otherwise="a random one, kept beside the project in .goldsmith/",
    )
    template_uid: Uid = _known("The new account's user id.", "a whole number from 100 to 60000", 1000, default=1000)
    apps: Packages = _known(
        "Packages to install.",
        "a list of package names, with =version or :architecture where wanted",
        ["git", "htop"],
        default=(),
        otherwise="none",
    )
    force_reset_password: Truth = _known(
        "Whether the account must change its password at the first login.", "true or false", True, default=True
    )
    git_email: Text | None = _known(
        "E-mail address in the account's git configuration.", "text", "ops@example.com", otherwise="none is set"
    )
    git_user: Text | None = _known("Name in the account's git configuration.", "text", "Ops", otherwise="none is set")
    ssh_key_file: Text | None = _known(
        "Public key that may log in to the new account.",
        "path of a file with one OpenSSH public key; ~ is your home, other paths are relative to the image's folder",
        "~/.ssh/id_ed25519.pub",
        otherwise="your own ~/.ssh/id_ed25519.pub (or id_ecdsa.pub, id_rsa.pub); where there is none, a key pair is "
        "made in .goldsmith/",
    )
    layers: Layers = _known(
        "Stages of the provisioning, each built upon the one before and kept on the node: when something changes, only "
        "the layers from there on are built again. The playbook of a layer has `hosts: all`, like playbook.yml.",
        "a list of mappings: exactly one of playbook (a path in the image's folder), role and apps (a list of "
        "packages); and, where wanted, name, variables and refresh_after",
        [{"name": "tools", "apps": ["curl", "git"]}, {"role": "docker"}, {"playbook": "accounts.yml"}],
        default=(),
        otherwise="playbook.yml, divided after the packages that it installs first, where that is safe",
    )
    refresh_after: Period | None = _known(
        "How old a layer of packages may become before it is built again, so that it gets newer ones.",
        PERIOD_FORM,
        "7d",
        otherwise="it is built again only when something that it is made of has changed, or with --refresh",
    )
    share_downloads: Truth | None = _known(
        "Whether packages that the build guest's apt downloads over http are fetched through this machine, which keeps "
        "them for other builds.",
        "true or false",
        False,
        otherwise="they are where the guest answers this machine within 5 ms: one that is farther away is usually "
        "nearer to its mirror",
    )
    ansible_strategy: Annotated[str, Matching(STRATEGY, "is not a strategy's name")] = _known(
        "Ansible's strategy. mitogen_linear is the fastest; linear is Ansible's own, for modules that mitogen breaks.",
        "mitogen_linear, linear, or another strategy plugin that is installed",
        "linear",
        default="mitogen_linear",
    )
    repository: Location | None = _known(
        "Where versions are stored: an OCI image layout in a directory, or a place in an OCI registry.",
        "path of a directory (~ is your home, other paths are relative to the project), or oci://host[:port]/path in "
        "small letters",
        "/srv/goldsmith/repository",
        "oci://registry.example.org/golden",
        otherwise="repository/ beside images/",
    )
    require_signature: Truth = _known(
        "Whether only versions that somebody in signers_file has signed are promoted to a channel and deployed.",
        "true or false",
        True,
        default=False,
    )
    signers_file: Text | None = _known(
        "Who may sign versions of this image: an allowed signers file, as ssh-keygen(1) and git have it.",
        "path of a file; ~ is your home, other paths are relative to the project",
        "inventory/signers",
        otherwise="allowed_signers beside images/",
    )
    hygiene_skip: Reasons = _known(
        "Built-in checks of the tests that do not apply to this image, each with the reason. "
        "The reason is part of the image's test report.",
        "a mapping from names of checks to reasons",
        {"no-world-writable": "the spool folder is meant to be open"},
        default={},
        otherwise="all checks are made",
    )
    hygiene_users: Users = _known(
        "Accounts with a user id of 1000 or more that the image is meant to have, besides template_user.",
        "a list of login names",
        ["deploy", "backup-agent"],
        default=(),
        otherwise="none",
    )
    hygiene_limits: Limits = _known(
        "Upper limits for what the tests measure: time-to-ready (seconds), disk-used and memory-used (MiB), "
        "upgrade-state (packages that could be upgraded).",
        "a mapping from time-to-ready, disk-used, memory-used or upgrade-state to numbers",
        {"time-to-ready": 20, "disk-used": 1500},
        default={},
        otherwise="they are told, and judge nothing",
    )
    test_timeout: Seconds = _known(
        "How long one of the image's own tests may take, its fixtures and reboots included, before it is stopped and "
        "counts as failed.",
        "a whole number of seconds from 1 to 86400",
        60,
        default=300,
    )
    test_connection: TestConnection = _known(
        "How tests enter their guests. ssh: as root, over the network. direct: by LXC's own way in, through the node, "
        "for an image without sshd, or one whose network does not come up where it is tested.",
        "ssh or direct",
        "direct",
        default="ssh",
    )


KNOWN = tuple(Variables.model_fields)
SECRETS = frozenset({"proxmox_api_token_secret", "template_password"})
"""The variables whose values must not be seen; each may come from an environment variable of its name in capitals."""


def accepted_form(name: str) -> str:
    """Return the form in which a known variable is accepted, for an error about it."""
    extra = Variables.model_fields[name].json_schema_extra
    return str(extra["accepted"]) if isinstance(extra, dict) else ""
