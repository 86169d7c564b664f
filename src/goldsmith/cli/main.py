"""The entry point: runs a command and turns whatever happens into words and an exit code. Only this module exits."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from goldsmith import __version__
from goldsmith.base.errors import GoldsmithError, Interrupted, UsageError
from goldsmith.base.files import write_atomic
from goldsmith.base.secrets import Masker
from goldsmith.cli.options import Lazy, LazyGroup
from goldsmith.cli.output import describe_error, render_error, say_json, tell
from goldsmith.cli.project import state_directory

UNEXPECTED = 70
"""Exit code of a fault in goldsmith itself (EX_SOFTWARE of sysexits.h)."""
READER_GONE = 1
"""As click has it."""

SURROUNDINGS = {
    errno.ENOSPC: "make room there, then run the command again",
    errno.EDQUOT: "the quota is used up: make room there, then run the command again",
    errno.EROFS: "the file system is mounted read-only",
    errno.EACCES: "look at the owner and the mode of it and of the folders above it",
    errno.EPERM: "look at the owner and the mode of it and of the folders above it",
    errno.EIO: "the disk, or what it is reached by, has a fault: see the kernel's log (dmesg)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
"""Errors of the system that are no fault of goldsmith, and what a person can do about them."""

COMMANDS = {
    "build": Lazy("goldsmith.cli.build:build", "Build images: from playbook to version and template."),
    "explain": Lazy(
        "goldsmith.cli.explain:explain",
        "Say of each layer of an image whether a build would use it again, and why not.",
    ),
    "test": Lazy("goldsmith.cli.test:test", "Test stored versions on fresh guests."),
    "shell": Lazy("goldsmith.cli.shell:shell", "Look around in a throw-away guest of a version."),
    "enter": Lazy(
        "goldsmith.cli.enter:enter",
        "Run a command in a guest as root, by the API alone: no network leads there, and no ssh.",
    ),
    "validate": Lazy("goldsmith.cli.validate:validate", "Check everything that can be checked without a node."),
    "doctor": Lazy(
        "goldsmith.cli.doctor:doctor", "Say what the node of an image lacks, before anything is built there."
    ),
    "variables": Lazy("goldsmith.cli.variables:variables", "Say what the variables of vars.yml mean."),
    "plan": Lazy("goldsmith.cli.plan:plan", "Compare what is declared, stored and running: one line for each server."),
    "status": Lazy(
        "goldsmith.cli.plan:status",
        "Show the fleet at a glance: what runs where, how old it is, what it should be, what is kept for a rollback.",
    ),
    "deploy": Lazy(
        "goldsmith.cli.deploy:deploy",
        "Do what `goldsmith plan` shows: make, replace and reconfigure servers, one after another.",
    ),
    "rebuild": Lazy(
        "goldsmith.cli.deploy:rebuild", "Replace servers, also where they run the version that they should."
    ),
    "rollback": Lazy("goldsmith.cli.recovery:rollback", "Bring the version before back, with the data as it is now."),
    "resume": Lazy(
        "goldsmith.cli.recovery:resume_command",
        "Finish replacements that were interrupted, whichever machine had begun them.",
    ),
    "abort": Lazy(
        "goldsmith.cli.recovery:abort_command",
        "Undo replacements that were interrupted: the servers are what they were before, with their data.",
    ),
    "backup": Lazy("goldsmith.cli.backup:backup", "Back up servers as the inventory says, and read the backups back."),
    "restore": Lazy(
        "goldsmith.cli.backup:restore", "Bring a server back to what it was when a backup was made, data and all."
    ),
    "drill": Lazy(
        "goldsmith.cli.backup:drill_command",
        "Try backups out: restore the newest one into a guest that is cut off from its network, check it, remove it.",
    ),
    "drift": Lazy(
        "goldsmith.cli.drift:drift",
        "Say what differs in running servers from the versions that they were made from: files, packages, accounts, "
        "units.",
    ),
    "publish": Lazy("goldsmith.cli.publish:publish", "Bring tested versions into the storages of nodes, as templates."),
    "images": Lazy(
        "goldsmith.cli.images:images", "List, compare, promote, copy and remove the versions that were built."
    ),
    "cache": Lazy(
        "goldsmith.cli.cache:cache", "List and remove what builds use again: finished layers, and downloaded packages."
    ),
    "node": Lazy("goldsmith.cli.node:node", "Run the embedded node, for machines without a Proxmox."),
    "clean": Lazy(
        "goldsmith.cli.clean:clean", "Remove what killed builds and tests have left, and guests that were kept."
    ),
    "init": Lazy("goldsmith.cli.init:init", "Make a new project."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="The options above may also stand after a command's name.",
)
@click.version_option(__version__, prog_name="goldsmith", message="%(prog)s %(version)s")
def goldsmith() -> None:
    """Golden images for Proxmox VE: from an Ansible playbook to tested, versioned servers."""


def run(arguments: list[str] | None = None) -> int:
    """Run a command line (that of the process by default) and return its exit code."""
    _ensure_streams()
    code = _run(sys.argv[1:] if arguments is None else arguments, Masker())
    try:
        sys.stdout.flush()
    except OSError:
        _forget_stdout()
        return code or READER_GONE
    return code


def _run(arguments: list[str], masker: Masker) -> int:
    try:
        code = goldsmith.main(arguments, prog_name="goldsmith", standalone_mode=False, obj=masker)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        tell(error.message)
        return UsageError.exit_code
    except (GoldsmithError, click.ClickException) as error:
        return _report(_as_ours(error), arguments)
    except (KeyboardInterrupt, click.Abort):
        return _report(Interrupted(), arguments)
    except OSError as error:
        if error.errno not in SURROUNDINGS:
            return _report_crash(error, masker, arguments)
        return _report(_describe_os_error(error), arguments)
    except Exception as error:
        return _report_crash(error, masker, arguments)


def _describe_os_error(error: OSError) -> GoldsmithError:
    where = f"{error.filename}: " if error.filename else ""
    return GoldsmithError(f"{where}{error.strerror}", hint=SURROUNDINGS.get(error.errno or 0, ""))


def _as_ours(error: GoldsmithError | click.ClickException) -> GoldsmithError:
    """Return click's refusal of a command line in our words."""
    if isinstance(error, GoldsmithError):
        return error
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else "goldsmith --help"
    message = error.format_message().strip()
    return UsageError(message[:1].lower() + message[1:].removesuffix("."), hint=hint)


def _report(error: GoldsmithError, arguments: list[str]) -> int:
    """Tell of an error where it is looked for; where nobody can hear it any more the code has to do."""
    with suppress(OSError):
        if "--json" in arguments:
            say_json(describe_error(error))
        else:
            tell(render_error(error))
    return error.exit_code


def _report_crash(error: Exception, masker: Masker, arguments: list[str]) -> int:
    trace = masker.mask("".join(traceback.format_exception(error)))
    if os.environ.get("GOLDSMITH_DEBUG"):
        tell(trace.rstrip())
    last = trace.rstrip().splitlines()[-1]
    told = GoldsmithError(f"goldsmith itself has failed: {last}", hint=_keep_crash(trace, arguments))
    told.exit_code = UNEXPECTED
    return _report(told, arguments)


def _keep_crash(trace: str, arguments: list[str]) -> str:
    """Write the traceback down and return what a person is told about it."""
    now = datetime.now(UTC)
    path = state_directory() / "crashes" / f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}.txt"
    about = f"goldsmith {__version__}, Python {sys.version.split()[0]}, command {' '.join(arguments[:1])}\n\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, about + trace, mode=0o600)
    except OSError as error:
        return f"its traceback could not be written to {path} ({error.strerror}); GOLDSMITH_DEBUG=1 shows it"
    return f"this is a fault of goldsmith; please report it with {path}"


def _ensure_streams() -> None:
    """Have streams to write to: a program may be started with some of them closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as we run


def _forget_stdout() -> None:
    """Let what is still unwritten go nowhere: Python would complain about it at its exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(run())
