"""Units for systemd that have goldsmith look for drift once a day."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from goldsmith.base.errors import UsageError
from goldsmith.base.files import write_atomic
from goldsmith.cli.options import Settings

SERVICE, TIMER = "goldsmith-drift.service", "goldsmith-drift.timer"
HEAD = "# Written by `goldsmith drift --timer`; it writes this file anew."
SERVICE_TEXT = """{head}
[Unit]
Description=Does a server differ from the version that it was made from?
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={project}
ExecStart={command}
"""
TIMER_TEXT = """{head}
[Unit]
Description=Look for drift once a day

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=true

[Install]
WantedBy=timers.target
"""


def render_units(settings: Settings, arguments: Sequence[str]) -> dict[str, str]:
    """Return the units by file name. The service fails when something differs: `OnFailure=` can tell somebody.

    :param arguments: what comes after `drift`.
    """
    program = shutil.which("goldsmith", path=str(Path(sys.executable).parent)) or shutil.which("goldsmith")
    words = [program or f"{sys.executable} -m goldsmith"]
    if settings.vault_password_file is not None:
        words += ["--vault-password-file", _quote(str(settings.vault_password_file.absolute()))]
    command = " ".join([*words, "drift", *map(_quote, arguments)])
    project = str(settings.project.absolute()).replace("%", "%%")
    return {
        SERVICE: SERVICE_TEXT.format(head=HEAD, project=project, command=command),
        TIMER: TIMER_TEXT.format(head=HEAD),
    }


def _quote(word: str) -> str:
    """Quote a word of ExecStart (systemd.service(5), "Command lines")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or any(mark in word for mark in " \t';#") else word


def write_units(folder: Path, units: dict[str, str]) -> None:
    """Write units into a folder.

    :raises UsageError: it is none, or a file of that name is not ours.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no directory", hint="systemd reads /etc/systemd/system")
    for name in units:
        path = folder / name
        if path.exists() and not path.read_text(errors="replace").startswith(HEAD):
            raise UsageError(f"{path} was not written by goldsmith, and stays as it is", hint="move it away first")
    for name, text in units.items():
        write_atomic(folder / name, text, mode=0o644)
