"""Which strategy a play runs with: mitogen's where it can, else Ansible's own.

mitogen keeps one Python alive in the guest instead of starting one for each task.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from goldsmith.provision.tools import find_version

MITOGEN_SUPPORTS = ((2, 10), (2, 21))
"""First and last ansible-core that mitogen 0.3.54 knows (ansible_mitogen/loaders.py, transport_config.py). It patches
Ansible's inside, so that a newer Ansible has to be met by a newer mitogen first."""
FALLBACK = "linear"


@dataclass(frozen=True)
class Strategy:
    """A strategy's name, the folder of its plugin (None: Ansible's own), and why it is not the one asked for."""

    name: str
    plugins: Path | None = None
    reason: str = ""
    is_fault: bool = True
    """Whether that is something to be mended."""

    @property
    def is_mitogen(self) -> bool:
        """Whether mitogen does the connecting."""
        return self.name.startswith("mitogen")


def choose_strategy(wanted: str, *, with_console: bool = False) -> Strategy:
    """Return the wanted strategy where it can run, else `linear` with the reason.

    :param with_console: the guest is entered through its console, where mitogen, which goes by ssh, has no way.
    """
    if not wanted.startswith("mitogen"):
        return Strategy(wanted)
    if with_console:
        why = "mitogen needs ssh, and the guest is entered through its console"
        return Strategy(FALLBACK, reason=f"{why}: {FALLBACK} is used instead of {wanted}", is_fault=False)
    plugins, ansible = find_mitogen_plugins(), find_version("ansible-core")
    if plugins is None:
        return Strategy(FALLBACK, reason=f"mitogen is not installed: {FALLBACK} is used instead of {wanted}")
    if not supports_ansible(ansible):
        mitogen = find_version("mitogen")
        why = f"mitogen {mitogen} is not known to work with ansible-core {ansible}"
        return Strategy(FALLBACK, reason=f"{why}: {FALLBACK} is used instead of {wanted}")
    return Strategy(wanted, plugins)


def find_mitogen_plugins() -> Path | None:
    """Find the folder of mitogen's strategy plugins without importing it (its import pulls in Ansible)."""
    try:
        folder = distribution("mitogen").locate_file("ansible_mitogen/plugins/strategy")
    except PackageNotFoundError:
        return None
    return Path(str(folder)) if Path(str(folder)).is_dir() else None


def supports_ansible(version: str) -> bool:
    """Tell whether mitogen is known to work with this version of ansible-core, e.g. `2.19.14`."""
    found = re.match(r"(\d+)\.(\d+)", version)
    first, last = MITOGEN_SUPPORTS
    return found is not None and first <= (int(found[1]), int(found[2])) <= last
