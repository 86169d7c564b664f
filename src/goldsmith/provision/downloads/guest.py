"""In the guest: its apt is told of the proxy, as long as a playbook runs, and of nothing afterwards."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from goldsmith.base.errors import GoldsmithError
from goldsmith.pve.shell import Shell

FOLDER = Path(__file__).parent
CONFIGURATION = "/etc/apt/apt.conf.d/000goldsmith-build"
SCRIPT = "/etc/apt/goldsmith-build-proxy"
TIMEOUT = 20.0


def render_script(port: int) -> str:
    """Render what the guest's apt runs to learn of the proxy, at a port of the guest's own loopback address."""
    return (FOLDER / "detect.sh").read_text(encoding="utf-8").replace("@PORT@", str(port))


def render_installation(port: int) -> str:
    """Render what puts it into the guest."""
    template = (FOLDER / "install.sh").read_text(encoding="utf-8")
    return template.replace("@SCRIPT@\n", render_script(port))


def install_proxy(shell: Shell, port: int) -> str:
    """Tell the guest's apt of the proxy; return why it is not told, empty where it is, or where there is no apt.

    :raises ShellFailed: the guest cannot be reached, or nothing can be written there.
    """
    done = shell.run(["sh", "-s"], text=render_installation(port), timeout=TIMEOUT)
    return done.stdout.strip()


def remove_proxy(shell: Shell) -> None:
    """Let the guest's apt forget it. Where the guest has gone, sealing or the guest's end does."""
    with suppress(GoldsmithError):
        shell.run(["rm", "-f", CONFIGURATION, SCRIPT], timeout=TIMEOUT)
