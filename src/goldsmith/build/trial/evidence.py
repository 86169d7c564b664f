"""What can be had of a guest that nobody gets into: its console, and the journal read past its network."""

from __future__ import annotations

from goldsmith.base.errors import GoldsmithError
from goldsmith.build.facts import Site
from goldsmith.pve.attach import AttachShell
from goldsmith.pve.shell import Shell

CONSOLE_LINES = 100
JOURNAL_LINES = 60
JOURNAL_TIMEOUT = 20.0


def read_evidence(site: Site, vmid: int) -> str:
    """Return the end of a guest's console log and of its journal; empty where neither can be had."""
    parts = {
        f"console of guest {vmid}": _read_console(site, vmid),
        f"journal of guest {vmid}": _read_journal(site, vmid),
    }
    return "\n\n".join(f"{title}:\n{text}" for title, text in parts.items() if text)


def _read_console(site: Site, vmid: int) -> str:
    if site.find_console_log is None:
        return ""
    return _say(site.shell, ["tail", "-n", str(CONSOLE_LINES), "--", str(site.find_console_log(vmid))])


def _read_journal(site: Site, vmid: int) -> str:
    """Read it from inside, by LXC's own way in, which needs neither network nor sshd."""
    inside = AttachShell(f"guest {vmid}", site.shell, site.lxc_path, vmid)
    return _say(inside, ["journalctl", "--boot", "--no-pager", "--quiet", "--lines", str(JOURNAL_LINES)])


def _say(shell: Shell, argv: list[str]) -> str:
    try:
        done = shell.run(argv, timeout=JOURNAL_TIMEOUT, check=False)
    except GoldsmithError:
        return ""  # evidence only: that it cannot be had must not hide what it is about
    return done.stdout.replace("\r", "").strip() if done.returncode == 0 else ""
