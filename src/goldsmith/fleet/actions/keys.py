"""SSH host keys that stay with a server: handed over on its node, where root alone can read them, and nowhere else."""

from __future__ import annotations

from io import BytesIO
from pathlib import PurePosixPath

from goldsmith.base.events import Notice
from goldsmith.fleet.goals import NEW, OLD, HostKeysKept, HostKeysPlaced
from goldsmith.fleet.work import Work

FOLDER = PurePosixPath("/run/goldsmith-keys")
"""On the node: in memory, gone with its next start."""
PACK = "cd /etc/ssh && tar -c ssh_host_*_key ssh_host_*_key.pub | base64 -w0"
UNPACK = "umask 077; base64 -d | tar -C /etc/ssh -xp && systemctl try-restart ssh.service sshd.service 2>/dev/null; :"


def get_file(work: Work) -> PurePosixPath:
    """Return where a replacement's keys lie on the node."""
    return FOLDER / work.record.run


def keep_keys(_goal: HostKeysKept, work: Work) -> str:
    """Put the old guest's keys on the node. One that does not run cannot give them: that is told, and no fault."""
    file, old = get_file(work), work.find_guest(OLD)
    if work.site.shell.exists(file):
        return "they are there"
    if not old or not work.is_running(old):
        told = f"{work.server.name}: the old guest does not run, and its host keys are not carried over"
        work.events.emit(Notice(message=told, level="warning"))
        return "not kept"
    packed = work.shell(old).run(["sh", "-c", PACK]).stdout
    work.site.shell.run(["install", "-d", "-m", "0700", str(FOLDER)])
    work.site.shell.put(BytesIO(packed.encode()), file, mode=0o600)
    return "on the node"


def place_keys(_goal: HostKeysPlaced, work: Work) -> str:
    """Give the new guest the keys, and have its sshd use them."""
    file = get_file(work)
    if not work.site.shell.exists(file):
        return "there are none"
    with work.site.shell.open_read(file) as stream:
        packed = stream.read().decode()
    work.shell(work.get_guest(NEW)).run(["sh", "-c", UNPACK], text=packed)
    return "as before"


def drop_keys(work: Work) -> None:
    """Remove the keys from the node."""
    if work.server.variables.keep_host_keys and work.site.has_shell:
        work.site.shell.remove(get_file(work))
