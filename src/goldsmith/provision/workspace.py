"""What one run of Ansible is given: a private directory with inventory and variables, and an environment.

DIR/                    mode 0700, in TMPDIR; removed whatever happens
  inventory.yml         exactly one host: the user's servers are out of reach
  variables.yml         extra variables, secrets in clear (mode 0600, as every file here)
  ansible.cfg           empty; used where the project has none, so that ~/.ansible.cfg changes no image
  env/settings          ansible-runner's own
  mirror/               the project, where a playbook is run that is no file in it, see `mirror`
  tmp/                  Ansible's local temporary files; mitogen's sockets
  s/                    ssh's sockets (elsewhere where DIR's path is too long for a socket)
"""

from __future__ import annotations

import configparser
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.base.private import open_private_directory, write_private
from goldsmith.base.process import build_environment
from goldsmith.provision.access import Access, AnyAccess, ConsoleAccess
from goldsmith.provision.mirror import place_playbook
from goldsmith.provision.play import Play
from goldsmith.provision.processes import MARK, end_marked
from goldsmith.provision.strategy import Strategy
from goldsmith.provision.variables import render_variables, split_variables
from goldsmith.pve.target import ConsoleTarget, Target

PREFIX = "goldsmith-play-"
PLUGINS = Path(__file__).with_name("plugins") / "connection"
CONSOLE = "goldsmith_console"
"""The file there, and so the name of our connection plugin."""
SOCKETS = "s"
SOCKET_ROOM = 50
"""Longest path of a directory for sockets: theirs have at most 107 bytes (unix(7)), and ssh adds 17 in making one."""
PASSED_ON = (
    "ANSIBLE_VAULT_PASSWORD_FILE",
    "ANSIBLE_VAULT_IDENTITY_LIST",
    "ANSIBLE_ROLES_PATH",
    "ANSIBLE_COLLECTIONS_PATH",
)
"""What counts of the user's environment: where encrypted group_vars and installed content are found."""
POLL = 0.1
"""Seconds between two looks of ansible-runner at whether it is to stop."""


@dataclass(frozen=True)
class Workspace:
    """The directory of one run."""

    root: Path
    sockets: Path
    playbook: Path
    """What is run."""

    @property
    def mark(self) -> str:
        """What the run's processes are known by; see `processes`."""
        return str(self.sockets)

    @property
    def inventory(self) -> Path:
        """The inventory file."""
        return self.root / "inventory.yml"

    @property
    def variables(self) -> Path:
        """The file of extra variables."""
        return self.root / "variables.yml"

    @property
    def temporary(self) -> Path:
        """For Ansible's temporary files on this machine."""
        return self.root / "tmp"

    def write(self, name: str, text: str) -> Path:
        """Write a file that only we can read."""
        return write_private(self.root / name, text)


@contextmanager
def open_workspace(play: Play) -> Iterator[Workspace]:
    """Make the private directory with the play's variables; it is gone after the block.

    Directories of runs that were killed go too: they hold secrets.
    """
    with ExitStack() as stack:
        root = stack.enter_context(open_private_directory(PREFIX, before_removal=_end_deserted))
        sockets = root / SOCKETS
        if len(os.fsencode(sockets)) > SOCKET_ROOM:
            sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gs-", dir="/tmp")))
            (root / SOCKETS).symlink_to(sockets)  # for who removes it when we are killed
        sockets.mkdir(mode=0o700, exist_ok=True)
        workspace = Workspace(root, sockets, place_playbook(play, root))
        workspace.temporary.mkdir(mode=0o700)
        workspace.write("variables.yml", render_variables(split_variables(play.variables)[0]))
        workspace.write("ansible.cfg", "")
        workspace.write("env/settings", json.dumps({"pexpect_timeout": POLL, "suppress_output_file": True}))
        yield workspace


def _end_deserted(root: Path) -> None:
    """End what a killed run has left running, and remove its sockets, wherever they are."""
    sockets = (root / SOCKETS).resolve()
    end_marked(str(sockets))
    shutil.rmtree(sockets, ignore_errors=True)


def write_inventory(workspace: Workspace, access: AnyAccess, *, interpreter: str, strategy: Strategy) -> None:
    """Write the inventory of one guest.

    The interpreter is a variable of all hosts, so that group_vars may name another one; all else is the host's own,
    which wins over the user's group_vars and ansible.cfg.
    """
    variables = {"ansible_python_interpreter": interpreter}
    text = render_inventory(access.target.host, render_connection(access, strategy), variables)
    workspace.write("inventory.yml", text)


def render_inventory(host: str, connection: Mapping[str, Any], variables: Mapping[str, Any] | None = None) -> str:
    """Render an inventory of one host: its own variables, and those of all hosts. JSON is YAML."""
    return json.dumps({"all": {"hosts": {host: dict(connection)}, "vars": dict(variables or {})}})


def render_connection(access: AnyAccess, strategy: Strategy) -> dict[str, Any]:
    """Return the host variables of how the guest is reached; each in all its spellings, of which the last would win."""
    if isinstance(access, ConsoleAccess):
        return _render_console(access)
    target = access.target
    sharing = [*access.sharing, "-o", f"ControlPath={access.control}"] if strategy.is_mitogen else access.sharing
    spellings: dict[tuple[str, ...], Any] = {
        ("ansible_connection",): "ssh",
        ("ansible_host", "ansible_ssh_host"): target.address,
        ("ansible_port", "ansible_ssh_port"): target.port,
        ("ansible_user", "ansible_ssh_user"): target.user,
        ("ansible_private_key_file", "ansible_ssh_private_key_file"): str(target.private_key),
        ("ansible_host_key_checking", "ansible_ssh_host_key_checking"): True,
        ("ansible_pipelining", "ansible_ssh_pipelining"): True,
        ("ansible_ssh_args",): shlex.join(sharing),
        ("ansible_ssh_common_args",): shlex.join(access.trust),
        ("ansible_ssh_extra_args",): "",
        ("ansible_control_path",): str(access.control).replace("%", "%%"),
        ("mitogen_ssh_compression",): False,  # a build guest is near: compressing takes longer than sending
    }
    return {name: value for names, value in spellings.items() for name in names}


def _render_console(access: ConsoleAccess) -> dict[str, Any]:
    """Return the host variables of a guest that is entered through its console, by a plugin of ours."""
    address = access.target.address
    return {
        "ansible_connection": CONSOLE,
        "ansible_goldsmith_socket": str(access.target.shell.socket),
        "ansible_pipelining": True,
        **({"ansible_host": address} if address else {}),
    }


def open_access(workspace: Workspace, target: Target | ConsoleTarget) -> AnyAccess:
    """Return the way to the target, its shared connection's socket in the workspace."""
    if isinstance(target, ConsoleTarget):
        return ConsoleAccess(target, workspace.mark)
    return Access(target, workspace.sockets / "guest", workspace.mark)


def build_ansible_environment(workspace: Workspace, play: Play, strategy: Strategy) -> dict[str, str]:
    """Return the environment of `ansible-playbook`: nothing of ours but what is named, and no secret.

    A setting here wins over the user's ansible.cfg (Ansible: environment before file), so only what must be ours is.
    """
    own_config = play.project / "ansible.cfg"
    config = own_config if own_config.is_file() else workspace.root / "ansible.cfg"
    environment = build_environment({name: os.environ[name] for name in PASSED_ON if name in os.environ})
    environment |= {
        MARK: workspace.mark,
        "TMPDIR": str(workspace.temporary if _fits(workspace.temporary) else workspace.sockets),
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(workspace.temporary),  # else it makes ~/.ansible, also for a mere look
        "ANSIBLE_INVENTORY_ENABLED": "yaml",
        "ANSIBLE_LOCAL_TEMP": str(workspace.temporary),
        "ANSIBLE_LOG_PATH": os.devnull,  # its log would be unmasked
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_HOST_KEY_CHECKING": "true",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(workspace.sockets),  # of hosts that a task is delegated to
        "ANSIBLE_CACHE_PLUGIN": "memory",  # a cache on disk would hold the facts of an earlier guest of this name
        "ANSIBLE_STRATEGY": strategy.name,
        "MITOGEN_CPU_COUNT": "1",  # processes that connect: there is one guest
    }
    if strategy.plugins is not None:
        environment["ANSIBLE_STRATEGY_PLUGINS"] = str(strategy.plugins)
    settings = read_ansible_cfg(config)
    own = settings.get("connection_plugins", _search_default("connection"))
    environment["ANSIBLE_CONNECTION_PLUGINS"] = f"{PLUGINS}:{own}"
    if "gathering" not in settings:
        environment["ANSIBLE_GATHERING"] = "smart"  # once, not once for each play
    if not {"roles_path", "ANSIBLE_ROLES_PATH"} & {*settings, *environment}:
        environment["ANSIBLE_ROLES_PATH"] = _search_path(play.project / "roles", "roles")
    if not {"collections_path", "collections_paths", "ANSIBLE_COLLECTIONS_PATH"} & {*settings, *environment}:
        environment["ANSIBLE_COLLECTIONS_PATH"] = _search_path(play.project / "collections", "collections")
    return environment


def _search_default(kind: str) -> str:
    """Return where Ansible looks for plugins of a kind by default (its configuration's `DEFAULT_..._PLUGIN_PATH`)."""
    return f"~/.ansible/plugins/{kind}:/usr/share/ansible/plugins/{kind}"


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory)) <= SOCKET_ROOM


def _search_path(project: Path, kind: str) -> str:
    """Return the project's folder, then Ansible's own defaults (which a setting of ours would hide)."""
    return ":".join([str(project), f"~/.ansible/{kind}", f"/usr/share/ansible/{kind}"])


def read_ansible_cfg(config: Path) -> Mapping[str, str]:
    """Read `[defaults]` of an ansible.cfg; one that cannot be read is Ansible's to complain about."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(";",))
    try:
        parser.read(config, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}
    return dict(parser["defaults"]) if parser.has_section("defaults") else {}
