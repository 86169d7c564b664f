"""The variables of images/NAME/vars.yml that goldsmith itself knows; other names go to the playbook.

Each is written once, here: its type, default, meaning and examples; docs and the JSON Schema are made of it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from goldsmith.definition.bases import BASE_FORM, CHECKSUM_FORM
from goldsmith.definition.declare import accepted, declare
from goldsmith.definition.fields import (
    Address,
    Address6,
    ApiHosts,
    BaseName,
    Checksum,
    Directory,
    Disk,
    Fingerprints,
    GuestConnection,
    Interface6,
    InterfaceOrDhcp,
    Location,
    Matching,
    Mtu,
    NodeShell,
    Packages,
    Places,
    Seconds,
    SecretText,
    TestConnection,
    Text,
    Truth,
    Uid,
    Vlan,
    VmId,
    VmIds,
    WithoutShell,
)
from goldsmith.definition.hygiene import Limits, Reasons, Users
from goldsmith.definition.layers import PERIOD_FORM, Layers, Period
from goldsmith.definition.values import (
    API_USER,
    BRIDGE,
    CIDR_FORM,
    DISK_FORM,
    HOSTNAME,
    NAME,
    POOL_ID,
    STORAGE,
    STRATEGY,
    TOKEN_ID,
    USER,
)

Hostname = Annotated[str, Matching(HOSTNAME, "is not a host name", longest=253)]


class Variables(BaseModel):
    """The known variables of one image, as written: where a value is missing, its default or None."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    proxmox_api_host: ApiHosts | None = declare(
        "The Proxmox VE node whose API is used, or several of one cluster: where one cannot be reached, the next is "
        "asked. Everything else about the node (the other proxmox_ variables) counts only together with it.",
        "a host name or address, with :port where it is not 8006, or a list of them",
        "pve.example.com",
        ["10.0.0.5", "10.0.0.6:8006"],
        otherwise="the image is built on the embedded node of this machine",
    )
    proxmox_api_user: Annotated[str, Matching(API_USER, "is not user@realm")] = declare(
        "The user who owns the API token, or who logs in with proxmox_api_password.",
        "user@realm",
        "root@pam",
        "goldsmith@pve",
        default="root@pam",
    )
    proxmox_api_token_id: Annotated[str, Matching(TOKEN_ID, "is not a token id")] | None = declare(
        "The API token's id. With proxmox_api_host a token is needed, or a password.",
        "the token's name, or user@realm!name",
        "ci",
        "root@pam!ci",
    )
    proxmox_api_token_secret: SecretText | None = declare(
        "The API token's secret. Better kept in the environment or in vault.yml.",
        "the secret that Proxmox showed when the token was made",
    )
    proxmox_api_password: SecretText | None = declare(
        "The password of proxmox_api_user, for those who may have no token. Better kept in the environment or in "
        "vault.yml.",
        "text in one line",
    )
    proxmox_api_totp: SecretText | None = declare(
        "The code that the second factor of proxmox_api_user shows at the moment (TOTP). It is meant for the "
        "environment; one code opens the API for as long as a command runs.",
        "the digits of the code",
        otherwise="asked for at the terminal, where the node wants one",
    )
    proxmox_ca_file: Text | None = declare(
        "Certificate authority of the node, where the system does not know it.",
        "path of a PEM file; ~ is your home, other paths are relative to the image's folder",
        "pve-root-ca.pem",
        otherwise="the authorities that this machine trusts",
    )
    proxmox_fingerprint: Fingerprints | None = declare(
        "SHA-256 fingerprint of the node's certificate. Without proxmox_ca_file it is trusted instead of an "
        "authority; with it both must hold. For several nodes in proxmox_api_host a list in the same order.",
        "32 pairs of hex digits with colons, as Proxmox shows them under Certificates, or a list of them",
        otherwise="an authority must have signed the certificate, or the fingerprint is shown and asked for at the "
        "first contact, as ssh does, and remembered",
    )
    proxmox_node: Hostname | None = declare(
        "The cluster's node on which the build guest is made.",
        "a node's name",
        "pve",
        otherwise="the node that answers",
    )
    proxmox_shell: NodeShell = declare(
        "Whether there is a shell on the node. ssh: one is opened for what the node's API has no way to do. none: "
        "there is none, and everything goes through the API; see without_shell.",
        "ssh or none",
        "none",
        default="ssh",
    )
    proxmox_shell_user: Annotated[str, Matching(USER, "is not a login name")] = declare(
        "Who logs in to the node over ssh, for what its API has no way to do: placing a finished template, and reading "
        "a dump back. Your own keys, agent, configuration and known hosts count. Another user than root becomes root "
        "through sudo.",
        "a login name",
        "ops",
        default="root",
    )
    proxmox_sudo_password: SecretText | None = declare(
        "The password that sudo asks proxmox_shell_user for on the node. It is never stored or shown. Better kept in "
        "the environment or in vault.yml.",
        "text in one line",
        otherwise="where sudo wants one, it is asked for once at the terminal",
    )
    without_shell: WithoutShell | None = declare(
        "How an image gets to its node with proxmox_shell: none. upload: it is built on the embedded node of this "
        "machine, which needs root here, and its template is uploaded. backup: it is built on the Proxmox itself and "
        "stays there as a protected backup, from which guests are made; its version in the repository has no files.",
        "upload or backup",
        "backup",
        otherwise="upload where this machine has what the embedded node needs, else backup",
    )
    proxmox_pull: Truth = declare(
        "Whether the node pulls versions from the registry itself (Proxmox VE 9.1 and later, repository: oci://...), "
        "instead of their being sent to it. It takes no login, so the registry must let the node read.",
        "true or false",
        True,
        default=False,
    )
    proxmox_storage: Annotated[str, Matching(STORAGE, "is not a storage id")] = declare(
        "The storage that holds the base image, and the build guest's disk where temp_disk_size names no other.",
        "a storage id",
        "local",
        default="local",
    )
    base_image: BaseName = declare(
        "What is built upon: a template of the storage, by its name or as the newest of a package (what the storage "
        "lacks is downloaded from the node's appliance index); a version of another image of the repository; a file "
        "that the node downloads, or that lies here (its path relative to the image's folder; ~ is your home); or a "
        "container image of a registry.",
        BASE_FORM,
        "debian-12-standard",
        "debian-13-standard_13.1-2_amd64.tar.zst",
        "local:vztmpl/my-base.tar.zst",
        "image:debian-12-base:stable",
        "https://example.com/templates/my-base.tar.zst",
        "./my-base.tar.zst",
        "oci://registry.example.org/base/debian-systemd:12",
        default="debian-12-standard",
    )
    base_checksum: Checksum | None = declare(
        "Digest of the file that base_image names. A URL needs it: what is behind one may change, and would be in all "
        "images then. It is part of the layers' keys.",
        CHECKSUM_FORM,
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        otherwise="a file on this machine is digested",
    )
    temp_vmid: VmId | None = declare(
        "The build guest's id. It must be free, and no server's in the inventory.",
        "a whole number from 100 to 999999999",
        900,
        otherwise="the first free one of proxmox_vmids",
    )
    proxmox_vmids: VmIds | None = declare(
        "The ids from which temporary guests get theirs, where temp_vmid names none.",
        "a range, the first and the last of them with - between, from 100 to 999999999",
        "900-949",
        otherwise="900-999",
    )
    proxmox_pool: Annotated[str, Matching(POOL_ID, "is not the name of a pool")] | None = declare(
        "The pool that temporary guests are put into: privileges on it are enough for them then.",
        "a pool's name",
        "golden",
        otherwise="none",
    )
    temp_hostname: Hostname | None = declare(
        "The build guest's host name.",
        "a host name: letters, digits and - in parts of at most 63, with dots between them",
        "lxc-build",
        otherwise="the image's name with -build",
    )
    temp_disk_size: Disk | None = declare(
        "The build guest's disk.", DISK_FORM, "local:8", "local-lvm:4.5", otherwise="8 GiB on proxmox_storage"
    )
    temp_ip_address: InterfaceOrDhcp | None = declare(
        "The build guest's address. Needed with proxmox_api_host. No server in the inventory may have it. With dhcp "
        "the network gives one, which the node tells (Proxmox VE 8.1 and later).",
        f"{CIDR_FORM}, or dhcp",
        "10.10.10.254/24",
        "dhcp",
        otherwise="on the embedded node, one from its own network",
    )
    temp_gateway: Address | None = declare(
        "The build guest's gateway; must lie in the network of temp_ip_address. Needed with proxmox_api_host: "
        "a guest without one cannot install packages.",
        "an IPv4 address in the network of temp_ip_address, and not that address itself",
        "10.10.10.1",
        otherwise="on the embedded node, the gateway of its own network; with dhcp, what the network says",
    )
    temp_ip6_address: Interface6 | None = declare(
        "The build guest's IPv6 address, besides that of IPv4, over which goldsmith connects.",
        "an IPv6 address with its prefix length, auto (the router announces it) or dhcp",
        "2001:db8::fe/64",
        "auto",
        otherwise="none is set",
    )
    temp_gateway6: Address6 | None = declare(
        "The build guest's IPv6 gateway.", "an IPv6 address", "2001:db8::1", otherwise="none is set"
    )
    temp_bridge: Annotated[str, Matching(BRIDGE, "is not the name of a bridge")] | None = declare(
        "The bridge that the build guest is connected to, or a vnet of the node's SDN.",
        "the name of a bridge or vnet",
        "vmbr1",
        otherwise="vmbr0",
    )
    temp_vlan: Vlan | None = declare(
        "The VLAN that the build guest is put into.", "a whole number from 1 to 4094", 42, otherwise="none"
    )
    temp_mtu: Mtu | None = declare(
        "Largest packet of the build guest's network device, in bytes.",
        "a whole number from 64 to 65535",
        1450,
        otherwise="the bridge's own",
    )
    temp_firewall: Truth = declare(
        "Whether the node's firewall filters what the build guest sends and gets.", "true or false", True, default=False
    )
    dump_dir: Directory | None = declare(
        "Directory on the node where the finished template is stored.",
        "an absolute path",
        "/var/lib/vz/template/cache",
        otherwise="the template directory of the node's storage, so that it can be used at once",
    )
    template_name: Annotated[str, Matching(NAME, "is not a template name", longest=100)] | None = declare(
        "Name of the template and of the image's versions; the date is added.",
        "lower-case letters and digits, with single . _ or - between them, at most 100",
        "debian-12-docker",
        otherwise="the name of the image's folder",
    )
    template_user: Annotated[str, Matching(USER, "is not a login name")] = declare(
        "The account that the image gets. It must not be one that Debian has itself, like root.",
        "lower-case letters, digits, _ and -, at most 32, not beginning with a digit",
        "ops",
        default="ops",
    )
    template_password: SecretText | None = declare(
        "The new account's temporary password; the image holds only a hash. Better kept in the environment "
        "or in vault.yml.",
        "text in one line, in quotes if it could be read as something else",
        otherwise="a random one, kept beside the project in .goldsmith/",
    )
    template_uid: Uid = declare("The new account's user id.", "a whole number from 100 to 60000", 1000, default=1000)
    apps: Packages = declare(
        "Packages to install.",
        "a list of package names, with =version or :architecture where wanted",
        ["git", "htop"],
        default=(),
        otherwise="none",
    )
    force_reset_password: Truth = declare(
        "Whether the account must change its password at the first login.", "true or false", True, default=True
    )
    git_email: Text | None = declare(
        "E-mail address in the account's git configuration.", "text", "ops@example.com", otherwise="none is set"
    )
    git_user: Text | None = declare("Name in the account's git configuration.", "text", "Ops", otherwise="none is set")
    ssh_key_file: Text | None = declare(
        "Public key that may log in to the new account.",
        "path of a file with one OpenSSH public key; ~ is your home, other paths are relative to the image's folder",
        "~/.ssh/id_ed25519.pub",
        otherwise="your own ~/.ssh/id_ed25519.pub (or id_ecdsa.pub, id_rsa.pub); where there is none, a key pair is "
        "made in .goldsmith/",
    )
    layers: Layers = declare(
        "Stages of the provisioning, each built upon the one before and kept on the node: when something changes, only "
        "the layers from there on are built again. The playbook of a layer has `hosts: all`, like playbook.yml.",
        "a list of mappings: exactly one of playbook (a path in the image's folder), role and apps (a list of "
        "packages); and, where wanted, name, variables and refresh_after",
        [{"name": "tools", "apps": ["curl", "git"]}, {"role": "docker"}, {"playbook": "accounts.yml"}],
        default=(),
        otherwise="playbook.yml, divided after the packages that it installs first, where that is safe",
    )
    refresh_after: Period | None = declare(
        "How old a layer of packages may become before it is built again, so that it gets newer ones.",
        PERIOD_FORM,
        "7d",
        otherwise="it is built again only when something that it is made of has changed, or with --refresh",
    )
    guest_connection: GuestConnection = declare(
        "How the build guest is entered. ssh: as root, over the network. console: through its console in Proxmox's "
        "API, where no network leads from this machine to the guest; temp_ip_address may be missing then, and the "
        "guest asks for an address by DHCP. With a token that needs Proxmox VE 9.1, with a password any version.",
        "ssh or console",
        "console",
        default="ssh",
    )
    share_downloads: Truth | None = declare(
        "Whether packages that the build guest's apt downloads over http are fetched through this machine, which keeps "
        "them for other builds.",
        "true or false",
        False,
        otherwise="they are where the guest answers this machine within 5 ms: one that is farther away is usually "
        "nearer to its mirror",
    )
    ansible_strategy: Annotated[str, Matching(STRATEGY, "is not a strategy's name")] = declare(
        "Ansible's strategy. mitogen_linear is the fastest; linear is Ansible's own, for modules that mitogen breaks.",
        "mitogen_linear, linear, or another strategy plugin that is installed",
        "linear",
        default="mitogen_linear",
    )
    repository: Location | None = declare(
        "Where versions are stored: an OCI image layout in a directory, or a place in an OCI registry.",
        "path of a directory (~ is your home, other paths are relative to the project), or oci://host[:port]/path in "
        "small letters",
        "/srv/goldsmith/repository",
        "oci://registry.example.org/golden",
        otherwise="repository/ beside images/",
    )
    publish: Places = declare(
        "Where `goldsmith publish` brings tested versions as templates: storages of the image's Proxmox, or of the "
        "embedded node. A shared storage gets each once; one that every node has for itself gets them on each node, or "
        "on the one that is named before it.",
        "a storage, or NODE:STORAGE, or a list of them",
        "nas",
        ["nas", "pve2:local"],
        default=(),
        otherwise="`goldsmith publish` is told by --storage",
    )
    require_signature: Truth = declare(
        "Whether only versions that somebody in signers_file has signed are promoted to a channel and deployed.",
        "true or false",
        True,
        default=False,
    )
    signers_file: Text | None = declare(
        "Who may sign versions of this image: an allowed signers file, as ssh-keygen(1) and git have it.",
        "path of a file; ~ is your home, other paths are relative to the project",
        "inventory/signers",
        otherwise="allowed_signers beside images/",
    )
    hygiene_skip: Reasons = declare(
        "Built-in checks of the tests that do not apply to this image, each with the reason. "
        "The reason is part of the image's test report.",
        "a mapping from names of checks to reasons",
        {"no-world-writable": "the spool folder is meant to be open"},
        default={},
        otherwise="all checks are made",
    )
    hygiene_users: Users = declare(
        "Accounts with a user id of 1000 or more that the image is meant to have, besides template_user.",
        "a list of login names",
        ["deploy", "backup-agent"],
        default=(),
        otherwise="none",
    )
    hygiene_limits: Limits = declare(
        "Upper limits for what the tests measure: time-to-ready (seconds), disk-used and memory-used (MiB), "
        "upgrade-state (packages that could be upgraded).",
        "a mapping from time-to-ready, disk-used, memory-used or upgrade-state to numbers",
        {"time-to-ready": 20, "disk-used": 1500},
        default={},
        otherwise="they are told, and judge nothing",
    )
    test_timeout: Seconds = declare(
        "How long one of the image's own tests may take, its fixtures and reboots included, before it is stopped and "
        "counts as failed.",
        "a whole number of seconds from 1 to 86400",
        60,
        default=300,
    )
    test_connection: TestConnection = declare(
        "How tests enter their guests. ssh: as root, over the network. direct: by LXC's own way in, through a shell on "
        "the node, for an image without sshd, or one whose network does not come up where it is tested. console: the "
        "same through the API's console, where there is no shell on the node either.",
        "ssh, direct or console",
        "direct",
        default="ssh",
    )


KNOWN = tuple(Variables.model_fields)
SECRETS = frozenset(
    {
        "proxmox_api_password",
        "proxmox_api_token_secret",
        "proxmox_api_totp",
        "proxmox_sudo_password",
        "template_password",
    }
)
"""The variables whose values must not be seen; each may come from an environment variable of its name in capitals."""


def accepted_form(name: str) -> str:
    """Return the form in which a known variable is accepted, for an error about it."""
    return accepted(Variables, name)
