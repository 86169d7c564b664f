"""The one tree of errors. Each class owns its exit code; messages say what happened, to which thing, and what to do.

GoldsmithError              1   anything goldsmith stops for
├── DefinitionError         2   what the user wrote is wrong (file, line, accepted form; all problems at once)
├── UsageError              2   the command line is wrong
├── Interrupted           130   Ctrl-C or SIGTERM; everything was undone first
├── LockTaken               3   somebody else is at it
├── ProgramError            4   a program goldsmith started
│   ├── ProgramMissing          is not installed
│   ├── ProgramFailed           ended with an error
│   └── ProgramTimedOut         did not end in time
├── PveError                5   the Proxmox node
│   ├── NodeUnreachable         does not answer
│   ├── CertificateError        shows a certificate that is not trusted
│   ├── AuthenticationFailed    does not know the user, password or token
│   ├── PermissionMissing       refuses for lack of a privilege
│   ├── ApiFailed               answers a call with an error
│   ├── TaskFailed              ended a task with an error
│   ├── ShellFailed             ran a command that failed
│   │   └── ShellMissing        has no shell for us, because the configuration says so
│   └── ConsoleFailed           does not lead to a container's console, or no longer
├── GuestError              6   a guest
│   ├── GuestUnready            did not become ready in time
│   └── NotOurs                 or address is in use and goldsmith did not make it: never touched
├── ProvisionError          7   Ansible
│   └── PlaybookFailed          a task failed
├── RepositoryError         8   the artifact repository
│   ├── VersionNotFound
│   ├── VersionExists
│   └── RepositoryDamaged       a blob's content is not what its name promises
├── NodeServiceError        9   the embedded node cannot be started or lacks something
├── TestsFailed            10   a version did not pass its tests
└── FleetError             11   a server of the fleet
    ├── BackupFailed            its backup was not made, or is not whole: nothing was destroyed
    ├── DataMissing             data that it is to keep is not where it should be: nothing was destroyed
    ├── ChecksFailed            the new guest does not do what it must
    └── RolledBack              its replacement failed; what was there before runs again
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


class GoldsmithError(Exception):
    """Base of every expected failure.

    `message` says what happened and to which thing, `hint` what to do next, `detail` holds longer evidence
    (last lines of output, a task's log). No member ever holds a secret.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in what the user wrote. `line` counts from 1; 0 means the file as a whole."""

    file: Path
    line: int
    message: str
    accepted: str = field(default="", compare=False)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{where}: {self.message}" + (f" (accepted: {self.accepted})" if self.accepted else "")


class DefinitionError(GoldsmithError):
    """What the user wrote cannot be used; carries every problem found, in file and line order."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        count = len(self.problems)
        super().__init__(
            f"{count} problem{'s' if count != 1 else ''} in what is configured",
            detail="\n".join(str(problem) for problem in self.problems),
            hint="nothing was created; correct the lines above and run the command again",
        )


class UsageError(GoldsmithError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class Interrupted(GoldsmithError):
    """Ctrl-C or SIGTERM. Raised inside the work so that everything created is undone on the way out."""

    exit_code = 130

    def __init__(self, signal_name: str = "SIGINT") -> None:
        super().__init__(f"interrupted by {signal_name}")


class LockTaken(GoldsmithError):
    """Another process holds a lock for longer than we wait."""

    exit_code = 3


class ProgramError(GoldsmithError):
    """A program that goldsmith started."""

    exit_code = 4


class ProgramMissing(ProgramError):
    """A program is not installed."""

    def __init__(self, program: str, *, hint: str = "") -> None:
        super().__init__(f"{program} is not installed", hint=hint or "run `make install`, then try again")
        self.program = program


class ProgramFailed(ProgramError):
    """A program ended with a non-zero code. `command` can be pasted into a shell; output is already masked."""

    def __init__(self, command: str, returncode: int, output: str) -> None:
        ended = f"was killed by signal {-returncode}" if returncode < 0 else f"ended with code {returncode}"
        super().__init__(f"{command.split(' ', 1)[0]} {ended}", detail=f"$ {command}\n{output}".rstrip())
        self.command = command
        self.returncode = returncode
        self.output = output


class ProgramTimedOut(ProgramError):
    """A program did not end within its time limit (seconds) and was killed with all its children."""

    def __init__(self, command: str, seconds: float, output: str) -> None:
        name = command.split(" ", 1)[0]
        super().__init__(f"{name} did not end within {seconds:g} s and was stopped", detail=f"$ {command}\n{output}")
        self.command = command
        self.seconds = seconds


class PveError(GoldsmithError):
    """Something between goldsmith and a Proxmox node."""

    exit_code = 5


class NodeUnreachable(PveError):
    """No connection, or it broke, or no answer came in time."""


class CertificateError(PveError):
    """The node's certificate is neither signed by a trusted authority nor the pinned one."""


class AuthenticationFailed(PveError):
    """401: unknown user, wrong password or token secret, expired ticket."""


class ApiFailed(PveError):
    """An API call was answered with an error.

    `status` is the HTTP status, `reason` Proxmox's own sentence, `errors` its text for each refused parameter.
    """

    def __init__(self, call: str, status: int, reason: str, errors: dict[str, str] | None = None) -> None:
        self.call = call
        self.status = status
        self.reason = reason.strip()
        self.errors = {name: text.strip() for name, text in (errors or {}).items()}
        said = "; ".join([self.reason, *(f"{name}: {text}" for name, text in self.errors.items())])
        super().__init__(f"{call}: {said}" if said else f"{call}: HTTP {status}")


class PermissionMissing(ApiFailed):
    """403: the user or token lacks a privilege; `reason` names path and privilege as Proxmox does."""


class TaskFailed(PveError):
    """A task on the node ended with an error; `detail` is the tail of its log."""

    def __init__(self, upid: str, what: str, exitstatus: str, log_tail: str) -> None:
        super().__init__(
            f"{what} failed on the node: {exitstatus}", detail=log_tail, hint=f"the whole log: task {upid}"
        )
        self.upid = upid
        self.exitstatus = exitstatus


class ShellFailed(PveError):
    """A command on the node's own shell failed, or the shell cannot be reached or may not become root."""


class ShellMissing(ShellFailed):
    """A shell on the node is needed, and the configuration says that there is none (`proxmox_shell: none`)."""


class ConsoleFailed(PveError):
    """A guest's console or agent cannot be entered, or has ended; what ran there has been ended, or soon is."""


class GuestError(GoldsmithError):
    """Something about a guest."""

    exit_code = 6


class GuestUnready(GuestError):
    """A guest did not boot, get an address or answer in time."""


class BootFailed(GuestError):
    """A guest made from a version does not come up. `detail` holds its console, and what else could be had."""


class NotOurs(GuestError):
    """A vmid or address is taken by something goldsmith did not make. It is never touched."""


class ProvisionError(GoldsmithError):
    """Ansible could not be run."""

    exit_code = 7


class PlaybookFailed(ProvisionError):
    """A task of the playbook failed. `task`, `host`, `log` (path of the full log) say where to look."""

    def __init__(self, *, task: str, host: str, said: str, log: Path, tail: str = "") -> None:
        super().__init__(f"task '{task}' failed on {host}: {said}", detail=tail, hint=f"the whole log: {log}")
        self.task = task
        self.host = host
        self.said = said
        self.log = log


class RepositoryError(GoldsmithError):
    """Something about the artifact repository."""

    exit_code = 8


class VersionNotFound(RepositoryError):
    """The repository holds no such version or channel."""


class VersionExists(RepositoryError):
    """A version of that name is there already. Versions are immutable."""


class FilesElsewhere(RepositoryError):
    """A version's files are not in the repository: it is a backup on its node, where there was no shell to read it."""


class RepositoryDamaged(RepositoryError):
    """A blob is missing, or its content does not have the digest that it is named by."""


class NodeServiceError(GoldsmithError):
    """The embedded node cannot be started, or the machine lacks something that it needs."""

    exit_code = 9


class TestsFailed(GoldsmithError):
    """A version was tested and has failed. The verdict has been stored."""

    __test__ = False  # pytest would take it for a test by its name
    exit_code = 10


class FleetError(GoldsmithError):
    """Something about a server of the fleet."""

    exit_code = 11


class BackupFailed(FleetError):
    """A backup was not made, or is not whole. Nothing has been destroyed."""


class DataMissing(FleetError):
    """Data that a server is to keep is not where it should be. Nothing has been destroyed."""


class ChecksFailed(FleetError):
    """A guest that was made does not do what it must; `detail` says what it does."""


class RolledBack(FleetError):
    """A replacement has failed, and what was there before runs again. `__cause__` is why it failed."""
